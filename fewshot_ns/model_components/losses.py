"""Loss terms as pure functions: tensors in, scalar out."""

from __future__ import annotations

from typing import Any, Literal, Optional, Sequence, Tuple

import torch
from pytorch_msssim import ssim
from torch import Tensor
from torch.autograd.function import once_differentiable

_PLANE_AXES = (-1, -2)


def _quads(distance: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    if distance.ndim != 2 or distance.shape[-1] != 4:
        raise ValueError(f"expected distances of quads (Q, 4) = (p0, p1, n0, n1), got {tuple(distance.shape)}")
    p0, p1, n0, n1 = distance.unbind(-1)
    return p0, p1, n0, n1


def mean_or_zero(values: Tensor) -> Tensor:
    """Mean of values of any shape; zero, with a gradient, where there are none."""
    return values.mean() if values.numel() else values.sum()


def _weighted_mean(values: Tensor, weights: Optional[Tensor]) -> Tensor:
    """Mean of values (R,) by weights (R, 1) or None; zero where all weights are."""
    if weights is None:
        return mean_or_zero(values)
    total = weights.sum()
    # The inverse of less than the smallest normal number is infinite.
    some = total.abs() >= torch.finfo(total.dtype).tiny
    return (weights[:, 0] * values).sum() / torch.where(some, total, torch.ones_like(total))


def colour_loss(rgb: Tensor, target: Tensor, weights: Optional[Tensor] = None) -> Tensor:
    """Squared error of colours (R, 3), summed over the channels and averaged over the rays.

    Three times the usual mean squared error; the weights of RegNeRF, FreeNeRF and SparseNeRF refer to this.

    Args:
        rgb: (R, 3) rendered.
        target: (R, 3) photographed.
        weights: (R, 1) how much each ray counts in the average (multi-scale scenes); None: all the same.
    """
    error = ((rgb - target) ** 2).sum(-1)
    return _weighted_mean(error, weights)


def charbonnier_loss(rgb: Tensor, target: Tensor, weights: Optional[Tensor] = None, offset: float = 1e-3) -> Tensor:
    """Smooth absolute error of colours (depth-mipnerf): mean over rays and channels of sqrt(difference^2 + offset).

    Args:
        rgb: (R, 3) rendered.
        target: (R, 3) photographed.
        weights: (R, 1) how much each ray counts in the average (multi-scale scenes); None: all the same.
        offset: added under the root, not squared; perfect colours cost its root.
    """
    squared = (rgb - target) ** 2 + offset
    # The root of nothing has no finite gradient.
    error = squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt().mean(-1)
    return _weighted_mean(error, weights)


def structural_dissimilarity(rgb: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM of an image, with a Gaussian window of 11 pixels (Wang et al. 2004), less where the image is smaller.

    Args:
        rgb: (H, W, 3) in [0, 1] or beyond.
        target: (H, W, 3) in [0, 1].
    """
    side = min(11, *target.shape[:2])
    # The library drops a side of one pixel; with a window of one, the same pixels twice change nothing.
    times = [2 if length == 1 else 1 for length in target.shape[:2]]
    images = (image.permute(2, 0, 1)[None].repeat(1, 1, *times) for image in (rgb, target))
    return 1.0 - ssim(*images, data_range=1.0, win_size=side - (side + 1) % 2)


def edge_aware_smoothness(distance: Tensor, image: Tensor, shown: Tensor, edge: float = 10.0) -> Tensor:
    """Mean step of inverse depth between neighbours, less at edges of the photo (Godard et al. 2017, section 3.3).

    Args:
        distance: (H, W).
        image: (H, W, 3) in [0, 1].
        shown: (H, W) bool, pixels that show something; a pair of neighbours counts where both do.
        edge: how much an edge of the photo frees depth.

    Returns:
        Mean over rows plus mean over columns of exp(-edge |step of grey|) |step of u|; u is inverse depth in multiples
        of its mean. 0 where no pair counts.
    """
    inverse = 1.0 / torch.where(shown, distance, torch.ones_like(distance)).clamp(min=1e-6)
    inverse = inverse / (inverse.detach() * shown).sum().clamp(min=1e-12) * shown.sum()
    grey = image.mean(dim=-1)
    total = distance.new_zeros(())
    for axis in (0, 1):
        length = shown.shape[axis] - 1
        both = shown.narrow(axis, 1, length) & shown.narrow(axis, 0, length)
        weight = torch.exp(-edge * grey.diff(dim=axis).abs()) * both
        total = total + (weight * inverse.diff(dim=axis).abs()).sum() / both.sum().clamp(min=1)
    return total


def silhouette_loss(opacity: Tensor, alpha: Tensor) -> Tensor:
    """Mean absolute difference of opacity (..., 1) and the photos' alpha (..., 1), both 0 to 1; an alpha that is no
    number costs nothing."""
    apart = opacity - alpha
    return mean_or_zero(torch.where(alpha.isfinite(), apart, torch.zeros_like(apart)).abs())


def depth_ranking_loss(distance: Tensor, margin: float | Tensor = 1e-4) -> Tensor:
    """Local depth ranking (SparseNeRF, eq. 5): the pixel that the prior calls nearer must not be rendered farther.

    Args:
        distance: (Q, 4) rendered distances of quads (p0 nearer, p1 farther, n0 neighbour of p0, n1 neighbour of p1).
        margin: by how much p0 has to be nearer, units of distance; one for all quads or (Q,).

    Returns:
        Scalar mean of max(D(p0) - D(p1) + margin, 0); zero for no quads.
    """
    p0, p1, _, _ = _quads(distance)
    return (p0 - p1 + margin).clamp(min=0.0).sum() / max(len(distance), 1)


def depth_gap_slope(distance: Tensor, gaps: Tensor, views: Tensor) -> Tensor:
    """How much farther p1 is rendered than p0 per unit of the gap that the prior sees between them, view by view.

    Args:
        distance: (Q, 4) as in `depth_ranking_loss`.
        gaps: (Q,) gap in the prior between p0 and p1, not negative; a pair whose gap is no number does not count.
        views: (Q,) view of each quad, integers from 0.

    Returns:
        (Q,) slope of the least-squares line through the origin over all pairs of the quad's view; zero where the
        pairs say nothing or contradict the prior as a whole.
    """
    p0, p1, _, _ = _quads(distance)
    gaps = torch.where(gaps.isfinite(), gaps, torch.zeros_like(gaps))
    sums = torch.zeros(2, int(views.max()) + 1 if len(views) else 0, dtype=distance.dtype, device=distance.device)
    products = torch.stack([gaps * (p1 - p0), gaps * gaps]).to(sums)
    along, square = sums.index_add(1, views, products)
    # Without any gap both sums are zero, and so is the slope.
    return (along / square.clamp(min=torch.finfo(square.dtype).tiny)).clamp(min=0.0)[views]


def margins_of(slope: Tensor, gaps: Tensor) -> Tensor:
    """(Q,) slope (Q,) times the prior's gap (Q,) between the pixels of a pair; zero where the gap is no number."""
    return torch.where(gaps.isfinite(), slope * gaps, torch.zeros_like(gaps))


def depth_continuity_loss(distance: Tensor, margin: float = 1e-4) -> Tensor:
    """Spatial continuity (SparseNeRF, eq. 6): pixels with neighbouring priors are rendered at neighbouring distances.

    Args:
        distance: (Q, 4) as in `depth_ranking_loss`.
        margin: difference that costs nothing, units of distance.

    Returns:
        Scalar mean of max(|D(p0) - D(n0)| - margin, 0) plus the same for p1 and n1; zero for no quads.
    """
    p0, p1, n0, n1 = _quads(distance)
    apart = ((p0 - n0).abs() - margin).clamp(min=0.0) + ((p1 - n1).abs() - margin).clamp(min=0.0)
    return apart.sum() / max(len(distance), 1)


def occlusion_loss(density: Tensor, num_samples: int, extra_mask: Optional[Tensor] = None) -> Tensor:
    """Occlusion regularisation (FreeNeRF, eq. 5): density near the cameras is penalised.

    Args:
        density: (R, S) ordered from near to far.
        num_samples: how many of the first samples count.
        extra_mask: (R, S) bool, further samples that count (the white/black prior of DTU).

    Returns:
        Scalar mean over all rays and all samples of the masked density.
    """
    mask = torch.arange(density.shape[-1], device=density.device) < num_samples
    if extra_mask is not None:
        mask = mask | extra_mask
    return mean_or_zero(density * mask)


def background_coloured(rgb: Tensor, num_samples: int) -> Tensor:
    """FreeNeRF's prior for DTU: nearly white or black samples close to the camera are table and background.

    Args:
        rgb: (R, S, 3) colours of the samples, ordered from near to far.
        num_samples: how many of the first samples count.

    Returns:
        (R, S) bool, the `extra_mask` of `occlusion_loss`.
    """
    mean = rgb.mean(-1)
    first = torch.arange(rgb.shape[1], device=rgb.device) < num_samples
    return first & ((mean > 0.99) | (mean < 0.01))


def neighbour_differences(values: Tensor, norm: Literal["l1", "l2"] = "l2") -> Tensor:
    """Difference of each pixel to the pixels right of and below it (RegNeRF, eq. 6).

    Args:
        values: (..., H, W).
        norm: sum of absolute or of squared differences.

    Returns:
        (..., H - 1, W - 1).
    """
    here, right, below = values[..., :-1, :-1], values[..., :-1, 1:], values[..., 1:, :-1]
    if norm == "l1":
        return (here - right).abs() + (here - below).abs()
    if norm == "l2":
        return (here - right) ** 2 + (here - below) ** 2
    raise ValueError(f"expected norm 'l1' or 'l2', got {norm!r}")


def patch_smoothness_loss(distance: Tensor, opacity: Tensor) -> Tensor:
    """Depth smoothness on patches of unseen views (RegNeRF, eq. 6), weighted by opacity.

    Args:
        distance: (P, H, W) rendered distances of square neighbourhoods of pixels.
        opacity: (P, H, W) their accumulations; no gradient flows into them.

    Returns:
        Scalar mean over patches and pixels, squared units of distance.
    """
    return mean_or_zero(opacity.detach()[..., :-1, :-1] * neighbour_differences(distance))


def distortion_per_ray(t: Tensor, weights: Tensor) -> Tensor:
    """Compactness of the weights along each ray (mip-NeRF 360, eq. 15), in O(S).

    Args:
        t: (R, S + 1) fenceposts, ascending.
        weights: (R, S).

    Returns:
        (R,), units of t.
    """
    middle, length = 0.5 * (t[..., 1:] + t[..., :-1]), t[..., 1:] - t[..., :-1]
    weight_before = weights.cumsum(-1) - weights
    moment_before = (weights * middle).cumsum(-1) - weights * middle
    between = 2.0 * (weights * (middle * weight_before - moment_before)).sum(-1)
    within = (weights**2 * length).sum(-1) / 3.0
    return between + within


def distortion_loss(t: Tensor, weights: Tensor) -> Tensor:
    """Scalar mean over rays of `distortion_per_ray`."""
    return mean_or_zero(distortion_per_ray(t, weights))


def plane_smoothness_loss(planes: Sequence[Tensor]) -> Tensor:
    """Total variation of feature planes: mean squared difference of neighbouring texels, summed over levels and axes.

    Args:
        planes: L tensors (3, C, H, W), each of its own size; at least one. A side of one texel has no differences.

    Returns:
        Scalar.
    """
    return torch.stack([_TotalVariation.apply(plane) for plane in planes]).sum()  # type: ignore[arg-type]


class _TotalVariation(torch.autograd.Function):
    """Of one plane; what torch makes of the slices by itself costs three times as much."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor) -> Tensor:
        differences = [plane.diff(dim=axis) for axis in _PLANE_AXES]
        ctx.save_for_backward(plane, *differences)
        return torch.stack([mean_or_zero(part.square()) for part in differences]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        plane, *differences = ctx.saved_tensors
        total = torch.zeros_like(plane)
        for axis, part in zip(_PLANE_AXES, differences, strict=True):
            if part.numel():
                step = part * (2.0 / part.numel() * gradients[0])
                total.narrow(axis, 1, part.shape[axis]).add_(step)
                total.narrow(axis, 0, part.shape[axis]).sub_(step)
        return total

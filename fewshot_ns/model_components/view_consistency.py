"""Whether unseen views agree with the photos: their points, warped into the photos, and the error of the colours.

The smallest error over the photos counts, as in Monodepth2 (Godard et al., ICCV 2019, section 3.3); what is warped are
points that a radiance field renders in views that nobody photographed.
"""

from __future__ import annotations

from typing import Literal, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView, sample
from fewshot_ns.model_components.depth_losses import masked_mean

ConsistencyTarget = Literal["depth", "colour", "both"]

_WIDTH = 0.01
"""Colour difference below which the error is quadratic rather than absolute."""


def farthest_visible(mask: Tensor, z_depth: Tensor, sigma: Tensor, tolerance: float) -> Tensor:
    """How deep a photo sees at each of its pixels.

    Args:
        mask: (H, W) bool, where the photo shows the scene.
        z_depth: (H, W) measured planar depth, world units, 0 where there is none.
        sigma: (H, W) its standard deviation, world units, 0 where unknown.
        tolerance: fraction of the measured depth by which a visible point may lie behind it.

    Returns:
        (H, W) largest planar depth of a visible point, world units: infinite where no depth is known, 0 outside of the
        mask.
    """
    behind = torch.where(z_depth > 0, z_depth * (1.0 + tolerance) + sigma, torch.inf)
    return torch.where(mask, behind, torch.zeros_like(behind))


def warped_colours(points: Tensor, view: StereoView, farthest: Tensor) -> Tuple[Tensor, Tensor]:
    """Colours that a photo shows where world points lie in it.

    Args:
        points: (N, 3) world points; the colours are differentiable by them.
        view: the photo and its camera.
        farthest: (H, W) of `farthest_visible`.

    Returns:
        (N, 3) colours, of points outside of the photo those of some pixel, and (N,) bool whether the photo sees the
        point: before the camera, in image and mask, and not behind the photo's own depth.
    """
    position, z_depth = view.project(points)
    reach = sample(farthest, position.detach(), mode="nearest")
    return sample(view.image, position), view.contains(position) & (z_depth <= reach)


def colour_error(rgb: Tensor, colours: Tensor) -> Tensor:
    """(..., N) smooth absolute error (Charbonnier) of colours (..., N, 3), mean over channels; 0 for equal colours."""
    return (((rgb - colours) ** 2 + _WIDTH**2).sqrt() - _WIDTH).mean(-1)


def smallest_error(rgb: Tensor, colours: Tensor, visible: Tensor) -> Tuple[Tensor, Tensor]:
    """Error of each pixel in the photo that agrees with it best, of those that see it.

    Args:
        rgb: (N, 3) rendered colours.
        colours: (V, N, 3) colours of the V photos where the pixels' points lie.
        visible: (V, N) bool, which photos see the points.

    Returns:
        (N,) errors, 0 where no photo sees the point, and (N,) bool, where one does.
    """
    error = torch.where(visible, colour_error(rgb, colours), torch.inf)
    seen = visible.any(dim=0)
    return torch.where(seen, error.min(dim=0).values, 0.0), seen


def view_consistency_loss(
    points: Tensor,
    rgb: Tensor,
    opacity: Tensor,
    views: Sequence[StereoView],
    farthest: Sequence[Tensor],
    target: ConsistencyTarget = "both",
) -> Tensor:
    """Disagreement of rendered pixels of unseen views with the photos that see them.

    Args:
        points: (N, 3) world points at the pixels' rendered depths.
        rgb: (N, 3) rendered colours.
        opacity: (N, 1) accumulations, which weigh the pixels; no gradient flows into them.
        views: at least one photo, of any sizes.
        farthest: of each photo, (H, W) of `farthest_visible`.
        target: what takes the gradient: depth, by where the points lie in the photos; the rendered colours; or both.

    Returns:
        Scalar mean over the pixels that a photo sees, units of colour; zero with a zero gradient where there are none.
    """
    points = points.detach() if target == "colour" else points
    rgb = rgb.detach() if target == "depth" else rgb
    warped = [warped_colours(points, view, limit) for view, limit in zip(views, farthest, strict=True)]
    colours, visible = (torch.stack(list(parts)) for parts in zip(*warped, strict=True))
    error, seen = smallest_error(rgb, colours, visible)
    return masked_mean(opacity.detach()[:, 0] * error, seen)

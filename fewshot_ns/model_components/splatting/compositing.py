"""Gaussians over each other, from near to far, with gradients written by hand: each fragment is touched a few times."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Tuple

import torch
from torch import Tensor

from fewshot_ns.model_components.splatting.fragments import (
    LEAST_ALPHA,
    Footprints,
    Fragments,
    Rows,
    bands,
    fragments_of,
    rows_of,
)

MOST_ALPHA = 0.999
"""Opacity that nothing exceeds at a pixel."""
LEAST_TRANSMITTANCE = 1e-4
"""A pixel is done before the Gaussian that would leave less of what lies behind it."""


class _Composited(NamedTuple):
    """What the fragments of a band come to."""

    fragments: Fragments
    across: Tensor
    """(M,) column of the pixel's centre minus the Gaussian's."""
    down: Tensor
    """(L,) the same of rows, of each row of the band."""
    order: Tensor
    """(M,) fragment that comes at each place when they are ordered by pixel, then by depth."""
    pixels: Tensor
    """(H * W + 1,) where the fragments of each pixel begin in that order."""
    alpha: Tensor
    """(M,) opacity, in that order."""
    clamped: Tensor
    """(M,) bool, whether it would be more than the most, in that order."""
    transmittance: Tensor
    """(M,) what the nearer ones let through, in that order; 0 of fragments that do not count."""


def composite(
    footprints: Footprints,
    features: Tensor,
    width: int,
    height: int,
    tile_size: int = 16,
    max_fragments: int = 4_000_000,
) -> Tuple[Tensor, Tensor]:
    """Composites features of Gaussians at the centre of every pixel.

    With opacities a_i of Gaussians from near to far, a pixel is sum_i f_i a_i T_i, T_i = prod_{j < i} (1 - a_j)
    (Kerbl et al. 2023, eq. 3). Gradients reach means, conics, opacities and features.

    Args:
        footprints: N Gaussians from near to far.
        features: (N, D) such as colour and depth.
        width: pixels.
        height: pixels.
        tile_size: see `Footprints.radii`.
        max_fragments: pairs of pixel and Gaussian that are held at a time; of larger images the gradient computes
            them again.

    Returns:
        (H, W, D) features and (H, W) opacity.
    """
    image, opacity = _Composite.apply(*footprints, features, (width, height, tile_size, max_fragments))
    return image, opacity


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means: Tensor,
        conics: Tensor,
        opacities: Tensor,
        radii: Tensor,
        features: Tensor,
        options: Tuple[int, int, int, int],
    ) -> Tuple[Tensor, Tensor]:
        width, height, tile_size, max_fragments = options
        footprints = Footprints(means, conics, opacities, radii)
        rows = rows_of(footprints, width, height, tile_size)
        parts = list(bands(rows, height, max_fragments))
        with_ones = torch.cat([features, torch.ones_like(features[:, :1])], dim=-1)
        kept: List[_Composited] = []
        image = with_ones.new_zeros(height * width, with_ones.shape[1])
        for part in parts:
            found = _composited(footprints, part, width, height)
            gaussian = found.fragments.gaussian.index_select(0, found.order)
            image += _matrix(found.pixels, gaussian, _weights(found), len(means)) @ with_ones
            kept.append(found)
            if len(parts) > 1:
                kept.clear()
        ctx.save_for_backward(means, conics, opacities, radii, with_ones)
        ctx.options, ctx.parts, ctx.kept = options, parts, kept
        image = image.reshape(height, width, -1)
        return image[..., :-1].contiguous(), image[..., -1].contiguous()

    @staticmethod
    def backward(ctx: Any, image_gradient: Tensor, opacity_gradient: Tensor) -> Any:  # type: ignore[override]
        means, conics, opacities, radii, features = ctx.saved_tensors
        width, height, _, _ = ctx.options
        footprints = Footprints(means, conics, opacities, radii)
        gradient = torch.cat([image_gradient, opacity_gradient[..., None]], dim=-1).reshape(height * width, -1)
        moments = means.new_zeros(len(means), 6)
        of_features = torch.zeros_like(features)
        for index, part in enumerate(ctx.parts):
            found = ctx.kept[index] if ctx.kept else _composited(footprints, part, width, height)
            weights, of_alpha = _alpha_gradient(found, features, gradient)
            by_gaussian = _starts(found.fragments.gaussian, len(means))
            # Back from the order of the pixels to that of the Gaussians, in which sums over one are sums of neighbours.
            weights = torch.empty_like(weights).scatter_(0, found.order, weights)
            of_features += _matrix(by_gaussian, found.fragments.pixel, weights, height * width) @ gradient
            moments += _moments(found, part, torch.empty_like(of_alpha).scatter_(0, found.order, of_alpha), len(means))
        # With q = dL/da * a of each fragment and a = o exp(-(xx x^2 + yy y^2) / 2 - xy x y).
        q, qx, qy, qxx, qxy, qyy = moments.unbind(-1)
        xx, xy, yy = conics.unbind(-1)
        of_means = torch.stack([xx * qx + xy * qy, xy * qx + yy * qy], dim=-1)
        of_conics = torch.stack([-0.5 * qxx, -qxy, -0.5 * qyy], dim=-1)
        return of_means, of_conics, q / opacities.clamp(min=1e-12), None, of_features[:, :-1], None


def _composited(footprints: Footprints, rows: Rows, width: int, height: int) -> _Composited:
    """Opacity of each fragment, and what the nearer ones let through."""
    fragments = fragments_of(rows, width)
    down = rows.row + 0.5 - footprints.means[:, 1].contiguous().index_select(0, rows.gaussian)
    mean_x = footprints.means[:, 0].contiguous()
    xx, xy, yy = (0.5 * footprints.conics[:, 0], footprints.conics[:, 1], 0.5 * footprints.conics[:, 2])
    # Of a row: -log a = constant + slope x + curvature x^2.
    constant = yy.index_select(0, rows.gaussian) * down * down
    constant -= footprints.opacities.log().index_select(0, rows.gaussian)
    slope = xy.index_select(0, rows.gaussian) * down
    shift = rows.row * width - 0.5 + mean_x.index_select(0, rows.gaussian)
    piece = fragments.piece
    across = fragments.pixel - shift.index_select(0, piece)
    power = across * xx.contiguous().index_select(0, fragments.gaussian)
    power = (power + slope.index_select(0, piece)) * across + constant.index_select(0, piece)
    alpha = torch.exp(-power)
    order = torch.sort(fragments.pixel, stable=True).indices
    alpha = alpha.index_select(0, order)
    clamped = alpha > MOST_ALPHA
    counts = (alpha >= LEAST_ALPHA).to(alpha.dtype)
    alpha = alpha.clamp(max=MOST_ALPHA) * counts
    starts = _starts(fragments.pixel, height * width)
    # In float64, since the sum runs over the whole image and is then taken apart again.
    logarithm = torch.log(1.0 - alpha).double()
    total = logarithm.cumsum(0)
    before = torch.cat([total.new_zeros(1), total])
    number = fragments.pixel.index_select(0, order)
    base = before.index_select(0, starts[:-1].int()).index_select(0, number)
    transmittance = (total - logarithm - base).to(alpha.dtype).exp()
    counts *= (transmittance * (1.0 - alpha) > LEAST_TRANSMITTANCE).to(alpha.dtype)
    return _Composited(fragments, across, down, order, starts, alpha, clamped, transmittance * counts)


def _weights(found: _Composited) -> Tensor:
    return found.alpha * found.transmittance


def _starts(sorted_or_not: Tensor, length: int) -> Tensor:
    """(length + 1,) where each number's entries begin once they are sorted."""
    counts = torch.bincount(sorted_or_not, minlength=length)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


def _matrix(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """Sparse matrix (rows, width) of values whose rows begin at `starts`."""
    size = (len(starts) - 1, width)
    return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)


def _alpha_gradient(found: _Composited, features: Tensor, gradient: Tensor) -> Tuple[Tensor, Tensor]:
    """Weight of each fragment, and dL/da times a.

    Args:
        found: a band.
        features: (N, D) of the Gaussians.
        gradient: (H * W, D) dL/d pixel.

    Returns:
        (M,) each, ordered by pixel.
    """
    number = found.fragments.pixel.index_select(0, found.order)
    gaussian = found.fragments.gaussian.index_select(0, found.order)
    of_weight = torch.zeros_like(found.alpha)
    for channel in range(features.shape[1]):
        feature = features[:, channel].contiguous().index_select(0, gaussian)
        of_weight.addcmul_(feature, gradient[:, channel].contiguous().index_select(0, number))
    weights = _weights(found)
    # What lies behind a fragment: sum_{j > i} w_j dL/dw_j = (all of the pixel) - (up to i).
    running = (weights * of_weight).double().cumsum(0)
    ends = torch.cat([running.new_zeros(1), running]).index_select(0, found.pixels[1:])
    behind = (ends.index_select(0, number) - running).to(of_weight.dtype)
    counts = (found.transmittance > 0) & ~found.clamped
    of_alpha = (found.transmittance * of_weight - behind / (1.0 - found.alpha)) * found.alpha
    return weights, of_alpha * counts


def _moments(found: _Composited, rows: Rows, values: Tensor, number: int) -> Tensor:
    """(N, 6) sums of q, q x, q y, q x^2, q x y, q y^2 over the fragments of each Gaussian, with offsets x, y from it.

    Args:
        found: a band.
        rows: of the band.
        values: (M,) q, ordered by Gaussian.
        number: N.
    """
    if not len(values):
        # torch before 2.1 has no segments of nothing.
        return values.new_zeros(number, 6)
    first = values * found.across
    lengths = rows.count.long()
    columns = torch.stack([values, first, first * found.across], dim=-1)
    q, qx, qxx = torch.segment_reduce(columns, "sum", lengths=lengths, axis=0, unsafe=True).unbind(-1)
    down = found.down
    by_row = torch.stack([q, qx, q * down, qxx, qx * down, q * down * down], dim=-1)
    return by_row.new_zeros(number, 6).index_add_(0, rows.gaussian, by_row)

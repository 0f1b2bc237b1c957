"""Losses that compare a ray's weights with a measured depth: CDF bounds, URF, DS-NeRF and L2; and on inverse depth.

A ray whose depth is not positive, or no number, has none and contributes nothing; where no ray has any, each term is
zero with a zero gradient. Depths and ray parameters have the same unit.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Tuple

import torch
from torch import Tensor


class CDFBounds(NamedTuple):
    """Terms of `cdf_bound_losses`, scalars."""

    empty: Tensor
    """Weight before the surface, squared."""
    before: Tensor
    """Excess of the cumulative weight over its upper bound, just before the surface."""
    behind: Tensor
    """Lack of cumulative weight against its lower bound, behind the surface."""

    @property
    def near(self) -> Tensor:
        """Both bounds around the surface."""
        return self.before + self.behind


def normal_cdf(x: Tensor, mean: Tensor, sigma: float | Tensor) -> Tensor:
    """Cumulative distribution of a Gaussian of standard deviation sigma."""
    return 0.5 * (1.0 + torch.erf((x - mean) / (sigma * math.sqrt(2.0))))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask holds, over the whole batch; zero where it holds nowhere."""
    return torch.where(mask, values, torch.zeros_like(values)).sum() / mask.sum().clamp(min=1)


def known_depth(depth: Tensor) -> Tensor:
    """Bool of the depth's shape, whether a ray has one: positive and finite."""
    return (depth > 0) & depth.isfinite()


def _where(mask: Tensor, values: Tensor) -> Tensor:
    """Values where a mask holds, else 0: before they are squared, so that what is no number has no gradient either."""
    return torch.where(mask, values, torch.zeros_like(values))


def cdf_sets(
    t_mid: Tensor, depth: Tensor, sigma: float | Tensor, far_open: bool = False
) -> Tuple[Tensor, Tensor, Tensor]:
    """Samples in empty space, just before and behind the surface, each (R, S) bool, for `cdf_bound_losses`."""
    valid = known_depth(depth)
    empty = valid & (t_mid < depth - 3.0 * sigma)
    before = valid & (t_mid > depth - 3.0 * sigma) & (t_mid < depth)
    behind = valid & (t_mid > depth)
    return empty, before, behind if far_open else behind & (t_mid < depth + 3.0 * sigma)


def cdf_bound_losses(
    weights: Tensor,
    t_mid: Tensor,
    depth: Tensor,
    sigma: float | Tensor,
    beta: float = 0.0,
    far_open: bool = False,
) -> CDFBounds:
    """Probabilistic bounds on the cumulative weight around a measured depth (depth-mipnerf, eq. 4.2 to 4.4).

    Args:
        weights: (R, S), the only argument that takes a gradient.
        t_mid: (R, S) mid-points of the samples.
        depth: (R, 1) measured depth; not positive where there is none.
        sigma: standard deviation of the measurement, one or (R, 1).
        beta: the upper bound is centred this much before the depth, the lower bound this much behind it.
        far_open: whether all samples behind the depth are bounded, as in the text, not only those up to 3 sigma.

    Returns:
        Means over the samples of each set in the whole batch.
    """
    cumulative = weights.cumsum(-1)
    empty, before, behind = cdf_sets(t_mid, depth, sigma, far_open)
    upper, lower = normal_cdf(t_mid, depth - beta, sigma), normal_cdf(t_mid, depth + beta, sigma)
    return CDFBounds(
        masked_mean(weights**2, empty),
        masked_mean(_where(before, cumulative - upper).clamp(min=0.0) ** 2, before),
        masked_mean(_where(behind, lower - cumulative).clamp(min=0.0) ** 2, behind),
    )


def open_bound_loss(weights: Tensor, t_mid: Tensor, depth: Tensor, sigma: float | Tensor) -> Tensor:
    """Both bounds of `cdf_bound_losses` on all samples before and behind the depth, under one mean; arguments alike."""
    cumulative, expected = weights.cumsum(-1), normal_cdf(t_mid, depth, sigma)
    valid = known_depth(depth)
    before, behind = valid & (t_mid < depth), valid & (t_mid > depth)
    beyond = torch.where(before, cumulative - expected, _where(behind, expected - cumulative))
    return masked_mean(beyond.clamp(min=0.0) ** 2, before | behind)


def urf_losses(
    weights: Tensor, t_mid: Tensor, depth: Tensor, width: float | Tensor, squared_twice: bool = False
) -> Tuple[Tensor, Tensor]:
    """Line-of-sight losses of Urban Radiance Fields (eq. 12 and 13) as depth-mipnerf implements them for comparison.

    The weights near the surface shall follow a Gaussian of height 1 whose standard deviation is the square of a third
    of `width`.

    Args:
        weights: (R, S), the only argument that takes a gradient.
        t_mid: (R, S).
        depth: (R, 1) measured depth; not positive where there is none.
        width: half width of the set around the depth, one or (R, 1).
        squared_twice: squares the near term once more, a variant of the original code.

    Returns:
        empty-space term and near term, means over the samples of each set in the whole batch.
    """
    valid, offset = known_depth(depth), t_mid - depth
    near, empty = valid & (offset.abs() < width), valid & (t_mid < depth - width)
    variance = torch.as_tensor(width, dtype=t_mid.dtype, device=t_mid.device) ** 4 / 81.0 + _URF_VARIANCE
    # The highest value over the batch is taken with all other samples laid on the surface.
    variance = torch.where(near, variance, torch.ones_like(variance))
    gaussian = torch.exp(-0.5 * torch.where(near, offset, torch.zeros_like(offset)) ** 2 / variance)
    target = gaussian / gaussian.max() if gaussian.numel() else gaussian
    on_surface = masked_mean((weights - target) ** 2, near)
    return masked_mean(weights**2, empty), on_surface**2 if squared_twice else on_surface


_URF_VARIANCE = 5e-7
"""Keeps the Gaussian of `urf_losses` from a width of zero."""


def ds_nerf_loss(weights: Tensor, t: Tensor, depth: Tensor, sigma: float | Tensor) -> Tensor:
    """Divergence of a ray's weights from a Gaussian around the measured depth (DS-NeRF, eq. 6).

    Args:
        weights: (R, S).
        t: (R, S + 1) fenceposts.
        depth: (R, 1) measured depth; not positive where there is none.
        sigma: standard deviation of the measurement, one or (R, 1).

    Returns:
        Scalar mean over the rays that have a depth of -sum(log w exp(-(t_mid - depth)^2 / (2 sigma^2)) dt).
    """
    t_mid, length = 0.5 * (t[..., 1:] + t[..., :-1]), t[..., 1:] - t[..., :-1]
    # Without any width the samples at the depth itself count.
    tiny = torch.finfo(t.dtype).tiny
    width = sigma.clamp(min=tiny) if isinstance(sigma, Tensor) else max(sigma, tiny)
    valid = known_depth(depth) & torch.as_tensor(width, device=depth.device).isfinite()
    likelihood = _where(valid, torch.exp(-0.5 * ((t_mid - depth) / width) ** 2) * length)
    per_ray = -(torch.log(weights + _LOG_FLOOR) * likelihood).sum(-1, keepdim=True)
    return masked_mean(per_ray, valid)


_LOG_FLOOR = 1e-7
"""Keeps the logarithm of an empty sample finite."""


def depth_error(rendered: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error of rendered depth (R, 1) against measured depth (R, 1) where valid (R, 1); 0 if nowhere.

    A measured depth that is no number does not count.
    """
    valid = valid & depth.isfinite()
    return masked_mean(_where(valid, rendered - depth) ** 2, valid)


def inverse_depth_error(rendered: Tensor, depth: Tensor, shown: Tensor) -> Tensor:
    """Mean |1 / rendered - 1 / measured| in multiples of the inverse of the median measured depth; 0 if nowhere.

    Args:
        rendered: (R, 1) planar depth; below a hundredth of the median it counts as that.
        depth: (R, 1) measured planar depth, not positive or no number where there is none.
        shown: (R, 1) bool, pixels that show something; others do not count.
    """
    known = known_depth(depth)
    median = torch.where(known, depth, torch.nan).nanmedian().nan_to_num(nan=1.0)
    error = 1.0 / rendered.clamp(min=_NEAREST * median) - 1.0 / torch.where(known, depth, torch.ones_like(depth))
    return median * masked_mean(error.abs(), known & shown)


_NEAREST = 0.01
"""Depths nearer than this fraction of the median are clamped: the inverse of what stands in the camera is no number."""


def correlation_loss(rendered: Tensor, nearness: Tensor, counts: Tensor, views: Tensor, least: int = 16) -> Tensor:
    """1 - Pearson correlation of what is rendered with what maps say, mean over views (SparseGS, FSGS).

    Args:
        rendered: (R,) of each pixel, such as inverse depth.
        nearness: (R,) what the map says of the same, in a scale and with a shift of its own view.
        counts: (R,) bool, pixels that count; one of which the map says no number does not.
        views: (R,) view of each pixel, integers.
        least: pixels that a view needs.

    Returns:
        Scalar from 0 to 2. Views of fewer pixels do not count, nor those in which either quantity is constant (its
        standard deviation below 1e-4 of its mean size); zero with a zero gradient where none does.
    """
    own = (views == views.unique()[:, None]) & counts & nearness.isfinite()
    number = own.sum(dim=-1, keepdim=True)
    ours, theirs = _centred(rendered, own, number), _centred(nearness, own, number)
    variances = [(value**2).sum(dim=-1) / number[:, 0].clamp(min=1) for value in (ours, theirs)]
    used = (number[:, 0] >= least) & (torch.stack(variances).detach() > _CONSTANT**2).all(dim=0)
    deviations = [torch.where(used, variance, torch.ones_like(variance)).sqrt() for variance in variances]
    covariance = (ours * theirs).sum(dim=-1) / number[:, 0].clamp(min=1)
    return masked_mean(1.0 - covariance / (deviations[0] * deviations[1]), used)


_CONSTANT = 1e-4
"""Standard deviation, as a fraction of the mean size, below which a quantity is constant: it has no correlation."""


def _centred(values: Tensor, own: Tensor, number: Tensor) -> Tensor:
    """(V, R) values (R,) less their mean over the pixels of each view, in multiples of their mean size; 0 elsewhere."""
    zero = torch.zeros_like(values)
    mean, size = (
        torch.where(own, value, zero).sum(dim=-1, keepdim=True) / number.clamp(min=1)
        for value in (values, values.detach().abs())
    )
    # A correlation does not depend on the unit, so the unit has no gradient.
    return torch.where(own, values - mean, zero) / torch.where(size > 0, size, torch.ones_like(size))

"""Metric scale for monocular depth: one robust scale and shift per image, in depth or in inverse depth.

Networks of MiDaS' family give inverse depth up to scale and shift, so the line is fitted between their output and
1 / z; networks that give depth are fitted to z. The fit is a least median of squares over pairs of points (Rousseeuw
1984), which half of the points may contradict, and then weighted least squares on its inliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.records.metadata import Polarity

Array = npt.NDArray[np.floating]

_PAIRS = 500
_SCORED = 1000
_REFITS = 5
_INLIER_SIGMAS = 2.5


@dataclass(frozen=True)
class Alignment:
    """z = scale * value + shift, or 1 / z where the network gives inverse depth."""

    polarity: Polarity
    """What the network gives, and so in what space the line lies."""
    scale: float
    shift: float
    num_points: int = 0
    """Points with known depth that the fit saw."""
    inlier_fraction: float = 1.0
    """Share of them that lie on the line."""
    residual: float = 0.0
    """Root mean square of (fitted z - z) / z over the inliers."""
    correlation: Optional[float] = None
    """Of network output and (inverse) depth over the inliers, which are nearly all points where the two have nothing to
    do with each other; None where there are no points."""

    def z_depth(self, values: Array) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Planar depth of a map (H, W), and where the line gives one (a positive, finite number); 0 elsewhere."""
        line = self.scale * np.asarray(values, dtype=np.float64) + self.shift
        with np.errstate(divide="ignore", over="ignore"):
            depth = (1.0 / line if self.polarity == "inverse_depth" else line).astype(np.float32)
        valid = np.isfinite(depth) & (line > 0)
        return np.where(valid, depth, np.float32(0)), valid

    def misfit(self, min_points: int, min_inliers: float, min_correlation: float) -> str:
        """Why the fit is not to be trusted, in words; empty where it is."""
        if self.correlation is None:
            return ""
        if self.num_points < min_points:
            return f"only {self.num_points} points with known depth, {min_points} are needed"
        if not self.scale > 0:
            return f"larger values are on the other side than {self.polarity} says (scale {self.scale:.3g})"
        if self.correlation < min_correlation:
            return f"correlation {self.correlation:.2f}, below {min_correlation:g}"
        if self.inlier_fraction < min_inliers:
            return f"{self.inlier_fraction:.0%} inliers, below {min_inliers:.0%}"
        return ""


def align(values: Array, z_depth: Array, polarity: Polarity, weights: Optional[Array] = None) -> Alignment:
    """Fits scale and shift of a network's output to known depths.

    Args:
        values: (N,) output of the network where the depth is known.
        z_depth: (N,) known planar depth, positive.
        polarity: What the network gives.
        weights: (N,) how much each point counts; None: all the same.
    """
    values, z_depth = np.asarray(values, dtype=np.float64), np.asarray(z_depth, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(values) < 3 or np.ptp(values) == 0:
        return Alignment(polarity, 0.0, 0.0, len(values), 0.0, float("inf"), 0.0)
    target = 1.0 / z_depth if polarity == "inverse_depth" else z_depth
    scale, shift, inliers = fit_line(values, target, weights)
    fitted = Alignment(polarity, scale, shift)
    depth, valid = fitted.z_depth(values)
    kept = inliers & valid
    error = (depth[kept] - z_depth[kept]) / z_depth[kept]
    residual = float(np.sqrt((weights[kept] * error**2).sum() / weights[kept].sum())) if kept.any() else float("inf")
    correlation = _correlation(values[inliers], target[inliers], weights[inliers])
    return Alignment(polarity, scale, shift, len(values), float(inliers.mean()), residual, correlation)


def align_to_range(values: Array, near: float, far: float, polarity: Polarity) -> Alignment:
    """Lays the 2 % and 98 % quantiles of a network's output on near and far, for scenes where nothing else is known.

    Args:
        values: (N,) output of the network.
        near: Planar depth of what is nearest, world units.
        far: Planar depth of what is farthest.
        polarity: What the network gives.

    Raises:
        ValueError: not 0 < near < far.
    """
    if not 0 < near < far:
        raise ValueError(f"expected 0 < near < far to align monocular depth, got {near} and {far}")
    low, high = np.quantile(np.asarray(values, dtype=np.float64), (0.02, 0.98))
    first, last = (1.0 / far, 1.0 / near) if polarity == "inverse_depth" else (near, far)
    scale = (last - first) / max(high - low, 1e-12)
    return Alignment(polarity, float(scale), float(first - scale * low), residual=0.25)


def fit_line(x: Array, y: Array, weights: Array) -> Tuple[float, float, npt.NDArray[np.bool_]]:
    """Robust line y = scale * x + shift.

    Args:
        x: (N,) at least three, not all equal.
        y: (N,).
        weights: (N,) of the final least squares.

    Returns:
        scale, shift, and (N,) which points lie on the line.
    """
    generator = np.random.default_rng(0)
    first, second = generator.integers(len(x), size=(2, _PAIRS))
    if len(x) * (len(x) - 1) // 2 <= _PAIRS:
        first, second = np.triu_indices(len(x), 1)
    distinct = x[first] != x[second]
    first, second = first[distinct], second[distinct]
    if len(first) == 0:
        first, second = np.array([int(x.argmin())]), np.array([int(x.argmax())])
    scales = (y[second] - y[first]) / (x[second] - x[first])
    shifts = y[first] - scales * x[first]
    scored = slice(None) if len(x) <= _SCORED else generator.choice(len(x), _SCORED, replace=False)
    median = np.median(np.abs(scales[:, None] * x[scored] + shifts[:, None] - y[scored]), axis=1)
    best = int(median.argmin())
    scale, shift = float(scales[best]), float(shifts[best])
    # Consistent for normal errors, with the correction for few points of Rousseeuw and Leroy.
    sigma = 1.4826 * (1.0 + 5.0 / max(len(x) - 2, 1)) * float(median[best])
    tolerance = max(_INLIER_SIGMAS * sigma, 1e-9 * float(np.abs(y).max()))
    inliers = np.abs(scale * x + shift - y) <= tolerance
    for _ in range(_REFITS):
        fitted = _least_squares(x[inliers], y[inliers], weights[inliers])
        if fitted is None:
            break
        scale, shift = fitted
        again = np.abs(scale * x + shift - y) <= tolerance
        if (again == inliers).all():
            break
        inliers = again
    return scale, shift, inliers


def _least_squares(x: Array, y: Array, weights: Array) -> Optional[Tuple[float, float]]:
    counted = weights > 0
    if not counted.any() or np.ptp(x[counted]) == 0:
        return None
    scale, shift = np.polyfit(x, y, 1, w=np.sqrt(weights))
    return float(scale), float(shift)


def _correlation(x: Array, y: Array, weights: Array) -> float:
    if len(x) < 2:
        return 0.0
    covariance = np.cov(x, y, aweights=weights)
    spread = float(np.sqrt(covariance[0, 0] * covariance[1, 1]))
    return float(covariance[0, 1]) / spread if spread > 0 else 0.0

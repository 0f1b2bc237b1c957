"""Depth maps in world units, for losses that compare rendered depth with measured depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.depth.encoding import to_z_depth
from fewshot_ns.data.depth.maps import read_valid_depth, resample_depth
from fewshot_ns.data.files.depth_formats import resolve_polarity
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.utils.arrays import array_names, read_arrays

SIGMA_KEY = "sigma"
"""Array of an .npz depth map that holds the standard deviation of each depth, in the units of the depths."""


@dataclass(frozen=True)
class MetricDepth:
    """Depth of one view at the size of its camera."""

    z_depth: npt.NDArray[np.float32]
    """(H, W) planar depth in world units, 0 where not valid."""
    valid: npt.NDArray[np.bool_]
    """(H, W), False where nothing is known."""
    norms: npt.NDArray[np.float32]
    """(H, W) ray distance per unit of planar depth."""
    sigma: Optional[npt.NDArray[np.float32]] = None
    """(H, W) standard deviation of `z_depth`, world units, 0 where not valid; None where the map gives none."""

    @property
    def ray_distance(self) -> npt.NDArray[np.float32]:
        """(H, W) Euclidean distance from the camera's centre in world units, 0 where not valid."""
        return self.z_depth * self.norms


def read_metric_depth(path: Path, encoding: DepthEncoding, norms: npt.NDArray[np.float32]) -> MetricDepth:
    """Reads a depth map of known scale; the nearest pixel is taken, so that no depth lies between two surfaces.

    Args:
        path: A depth map of any resolution.
        encoding: What its numbers mean; needs polarity `distance` and a unit.
        norms: (H, W) ray distance per unit of planar depth at the size of the camera.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a map without scale, or one that cannot be read.
    """
    size = (norms.shape[0], norms.shape[1])
    polarity = resolve_polarity(path, encoding.polarity)
    if polarity != "distance" or encoding.unit is None:
        raise ValueError(
            f"{path}: expected depth of known scale (--depth-polarity distance and --depth-unit, or a depth.json "
            f"beside it), found {polarity} with {'no unit' if encoding.unit is None else f'unit {encoding.unit:g}'}; "
            "`ns-fewshot depth --align ...` gives a monocular prior its scale, `ns-fewshot depth --source stereo` "
            "takes depth from the photos"
        )
    stored, valid = read_valid_depth(path, size, encoding)
    sigma = read_sigma(path)
    values, valid_here = resample_depth(stored, valid, size, nearest=True)
    if sigma is not None:
        if sigma.shape != stored.shape or not (np.isfinite(sigma[valid]) & (sigma[valid] > 0)).all():
            raise ValueError(f"{path}: expected a positive {SIGMA_KEY} for each valid depth, shape {stored.shape}")
        sigma = resample_depth(sigma, valid, size, nearest=True)[0]
        sigma = to_z_depth(sigma * np.float32(encoding.unit), encoding.meaning, norms)
    z_depth = to_z_depth(values * np.float32(encoding.unit), encoding.meaning, norms)
    return MetricDepth(z_depth, valid_here, norms, sigma)


def read_sigma(path: Path) -> Optional[npt.NDArray[np.float32]]:
    """(H, W) float32 standard deviations of an .npz map as stored; None for other files and maps without.

    Raises:
        ValueError: a damaged file, or no real numbers.
    """
    if path.suffix != ".npz":
        return None
    if SIGMA_KEY not in array_names(path, "a readable .npz"):
        return None
    sigma = read_arrays(path, "a readable .npz", [SIGMA_KEY])[SIGMA_KEY]
    if sigma.dtype.kind not in "uif":
        raise ValueError(f"{path}: expected real numbers as {SIGMA_KEY}, found dtype {sigma.dtype}")
    return sigma.astype(np.float32)

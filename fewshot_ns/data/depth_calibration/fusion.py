"""Depth maps of known scale from several sources: sensor depth where it is valid, aligned monocular depth elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.depth.metric import MetricDepth
from fewshot_ns.data.depth_calibration.alignment import Alignment


@dataclass(frozen=True)
class FusedDepth:
    """One view's depth with its uncertainty; units of the world."""

    z_depth: npt.NDArray[np.float32]
    """(H, W) planar depth, 0 where nothing is known."""
    sigma: npt.NDArray[np.float32]
    """(H, W) standard deviation of it, 0 where nothing is known."""
    from_sensor: npt.NDArray[np.bool_]
    """(H, W) True where the depth is the sensor's."""

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(H, W) where a depth is known."""
        return self.z_depth > 0


def fuse(
    values: npt.NDArray[np.float32],
    alignment: Optional[Alignment],
    sensor: Optional[MetricDepth] = None,
    sensor_error: float = 0.01,
) -> FusedDepth:
    """Lays sensor depth over aligned monocular depth.

    Args:
        values: (H, W) output of the monocular network.
        alignment: Its line; None uses the sensor alone (the line did not fit).
        sensor: Depth of the sensor at the same size, or None.
        sensor_error: Standard deviation of sensor depth as a fraction of depth, where its map gives none (0.01 in
            depth-mipnerf's loader).

    Returns:
        Depth, and a standard deviation that is the alignment's relative residual times depth, at least the sensor's.
    """
    z_depth = np.zeros(values.shape, dtype=np.float32)
    sigma = np.zeros_like(z_depth)
    if alignment is not None:
        depth, valid = alignment.z_depth(values)
        z_depth[valid] = depth[valid]
        sigma[valid] = max(alignment.residual, sensor_error) * depth[valid]
    from_sensor = np.zeros(values.shape, dtype=bool)
    if sensor is not None:
        from_sensor = sensor.valid.copy()
        z_depth[from_sensor] = sensor.z_depth[from_sensor]
        measured = sensor_error * sensor.z_depth if sensor.sigma is None else sensor.sigma
        sigma[from_sensor] = measured[from_sensor]
    return FusedDepth(z_depth, sigma, from_sensor)


def sample_nearest(values: npt.NDArray[np.floating], position: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(N,) values of a map (H, W) at the pixels that hold the positions (N, 2) = column / W, row / H in [0, 1)."""
    height, width = values.shape
    column = np.minimum((position[:, 0] * width).astype(int), width - 1)
    row = np.minimum((position[:, 1] * height).astype(int), height - 1)
    return values[row, column]

"""Uniform grids of an image's pixels, each of which is the image of a pinhole camera of its own.

Positions are (row, column) in pixels, counted from the centre of the first pixel, and need not be whole. A pixel
centre at position p has the image coordinate p + 0.5 by nerfstudio's convention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple, TypeVar

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import Size

Number = TypeVar("Number", float, Tensor)


class Intrinsics(NamedTuple):
    """Intrinsics of pinhole cameras, in the order in which nerfstudio's `Cameras` takes them."""

    fx: float
    """Focal length, pixels; fy, cx, cy likewise, pixel centres at +0.5."""
    fy: float
    cx: float
    cy: float
    width: int
    """Columns of the image."""
    height: int
    """Rows of the image."""


@dataclass(frozen=True)
class PixelGrid:
    """A grid of positions at equal steps."""

    start: Tuple[float, float]
    """Position of the first pixel."""
    step: Tuple[float, float]
    """Pixels of the image between neighbours of the grid, rows and columns."""
    size: Size
    """(rows, columns) of the grid."""
    last: Optional[Tuple[float, float]] = None
    """Position of the last pixel, where that is what is exact: positions are then interpolated from both ends."""

    def positions(self) -> Tensor:
        """(rows, columns, 2) float32 (row, column)."""
        axes = []
        for axis, count in enumerate(self.size):
            if self.last is None:
                axes.append(self.start[axis] + self.step[axis] * torch.arange(count))
            else:
                axes.append(torch.linspace(self.start[axis], self.last[axis], count))
        return torch.stack(torch.meshgrid(axes[0].float(), axes[1].float(), indexing="ij"), dim=-1)

    def intrinsics(self, fx: float, fy: float, cx: float, cy: float) -> Intrinsics:
        """Intrinsics of the camera whose pixels are the grid's, from those of the camera of the image; pixels."""
        return grid_camera(fx, fy, cx, cy, self.start, self.step, self.size)

    def cameras(self, cameras: Cameras) -> Cameras:
        """Cameras (...) whose pixels are the grid's in the images of pinhole cameras (...); see `grid_cameras`."""
        start = torch.tensor(self.start, dtype=torch.float64).expand(*cameras.shape, 2)
        return grid_cameras(cameras, start, self.step, self.size)


def grid_camera(
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    start: Tuple[float, float],
    step: Tuple[float, float],
    size: Size,
) -> Intrinsics:
    """Intrinsics of the pinhole camera whose pixels are those of a grid in another's image.

    The ray through its pixel (i, j) is that of the image through the position start + (i, j) * step.

    Args:
        fx: Focal length of the image, pixels; fy, cx, cy likewise, pixel centres at +0.5.
        start: Position (row, column) of the grid's first pixel.
        step: Pixels of the image between neighbours of the grid, rows and columns; > 0, not necessarily whole.
        size: (rows, columns) of the grid.

    Raises:
        ValueError: a step that is not positive, or a grid without pixels.
    """
    _check_grid(step, size)
    return Intrinsics(
        fx / step[1],
        fy / step[0],
        _principal_point(cx, start[1], step[1]),
        _principal_point(cy, start[0], step[0]),
        size[1],
        size[0],
    )


def grid_cameras(cameras: Cameras, start: Tensor, step: Tuple[float, float], size: Size) -> Cameras:
    """Cameras whose pixels are grids in the images of others, each with a start of its own (patches, say).

    Args:
        cameras: (...) pinhole cameras.
        start: (..., 2) position (row, column) of the first pixel of each grid.
        step: Pixels between neighbours of all grids, rows and columns; > 0.
        size: (rows, columns) of all grids.

    Returns:
        (...) cameras at the same poses; metadata and times stay.

    Raises:
        ValueError: cameras that are no pinhole cameras or have distortion, a step that is not positive, or a grid
            without pixels.
    """
    _check_grid(step, size)
    if (cameras.camera_type != CameraType.PERSPECTIVE.value).any():
        raise ValueError("expected perspective cameras, whose grids of pixels are cameras, found another type")
    if cameras.distortion_params is not None and (cameras.distortion_params != 0).any():
        raise ValueError("expected cameras without distortion, whose grids of pixels are cameras, found some with it")
    start = start.to(cameras.device).double()
    row, column = start[..., :1], start[..., 1:]
    return Cameras(
        camera_to_worlds=cameras.camera_to_worlds,
        fx=(cameras.fx.double() / step[1]).to(cameras.fx),
        fy=(cameras.fy.double() / step[0]).to(cameras.fy),
        cx=_principal_point(cameras.cx.double(), column, step[1]).to(cameras.cx),
        cy=_principal_point(cameras.cy.double(), row, step[0]).to(cameras.cy),
        width=torch.full_like(cameras.width, size[1]),
        height=torch.full_like(cameras.height, size[0]),
        camera_type=cameras.camera_type,
        times=cameras.times,
        metadata=cameras.metadata,
    )


def stride_of(size: Size, grid: Size) -> Tuple[int, int]:
    """Whole pixels between neighbours of a grid, rows and columns.

    Args:
        size: (height, width) of the image.
        grid: (rows, columns).

    Raises:
        ValueError: a grid that is empty or larger than the image.
    """
    if not (1 <= grid[0] <= size[0] and 1 <= grid[1] <= size[1]):
        raise ValueError(f"expected a grid of 1x1 to {size[0]}x{size[1]} rays (the image's pixels), got {grid}")
    return size[0] // grid[0], size[1] // grid[1]


def strided_grid(size: Size, grid: Size, uniform: Tensor) -> PixelGrid:
    """A grid at whole strides from a start between pixels (DietNeRF); it covers the image but for the remainder.

    The original's code returns a row or a column too many where the stride is 1 and rounding wants it so; here the size
    is always the one asked for.

    Args:
        size: (height, width) of the image.
        grid: (rows, columns).
        uniform: (2,) numbers in [0, 1) for the start's row and column, which lie in [0, size modulo grid).

    Raises:
        ValueError: see `stride_of`.
    """
    step = stride_of(size, grid)
    return PixelGrid((float(uniform[0]) * (size[0] % grid[0]), float(uniform[1]) * (size[1] % grid[1])), step, grid)


def full_grid(size: Size, grid: Size) -> PixelGrid:
    """A grid from the first to the last pixel of the image, not on whole pixels; one row or column is the first."""
    last = size[0] - 1.0, size[1] - 1.0
    step = _step_between(last[0], grid[0]), _step_between(last[1], grid[1])
    return PixelGrid((0.0, 0.0), step, grid, last)


def crop_grid(centre: Tuple[int, int], side: int, grid: Size) -> PixelGrid:
    """A grid over a square part of the image (the JAX version of DietNeRF: every fourth pixel of 300).

    Args:
        centre: (row, column) of the part's centre.
        side: its side, pixels.
        grid: (rows, columns).
    """
    start = centre[0] - side // 2, centre[1] - side // 2
    return PixelGrid(start, (side / grid[0], side / grid[1]), grid)


def _principal_point(centre: Number, start: Number, step: float) -> Number:
    """Principal point of a grid along an axis: pixel j of the grid lies at the coordinate start + j * step + 0.5."""
    return (centre - start - 0.5) / step + 0.5


def _step_between(last: float, count: int) -> float:
    """Step of `count` positions from 0 to the last; 1 where there is one position, so no step."""
    return last / (count - 1) if count > 1 else 1.0


def _check_grid(step: Tuple[float, float], size: Size) -> None:
    if not (step[0] > 0 and step[1] > 0 and size[0] > 0 and size[1] > 0):
        raise ValueError(f"expected positive steps and sizes of a grid of pixels, got steps {step} and size {size}")

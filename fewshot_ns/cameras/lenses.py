"""Lenses that bend straight lines: where they show a point, and the pinhole cameras of straightened photos."""

from __future__ import annotations

from typing import List, Optional

import cv2
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import Size

_LEAST_SIDE = 2
"""Rows and columns, pixels, below which nothing is left of a photo."""


def bent(points: Tensor, distortion: Tensor) -> Tensor:
    """Where a lens shows points (..., 2) of the plane at distance 1, OpenCV axes.

    Args:
        points: (..., 2).
        distortion: (6,) k1, k2, k3, k4, p1, p2, nerfstudio's order.
    """
    x, y = points.unbind(-1)
    k1, k2, k3, k4, p1, p2 = distortion.unbind()
    square = x * x + y * y
    radial = 1.0 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
    across = x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x)
    down = y * radial + 2.0 * p2 * x * y + p1 * (square + 2.0 * y * y)
    return torch.stack([across, down], dim=-1)


def lens_of(cameras: Cameras, index: int) -> Optional[Tensor]:
    """(6,) lens distortion of a camera, on the CPU; None where it has none."""
    every = cameras.distortion_params
    if every is None or not bool((every[index] != 0).any()):
        return None
    return every[index].cpu().float()


def straightened_cameras(cameras: Cameras, names: List[str]) -> Cameras:
    """The pinhole cameras for which nerfstudio's splatfacto straightens the photos of perspective cameras.

    Pose and centre stay; the new intrinsics and size are those of the largest image whose every pixel the photo shows
    (OpenCV's optimal new camera matrix with alpha 0).

    Args:
        cameras: any (B,); those of another kind than perspective ones are given back as they are.
        names: (B,) of their photos, for the message.

    Returns:
        `cameras` itself where no lens bends anything.

    Raises:
        ValueError: distortion that OpenCV has no such matrix for.
    """
    perspective = bool((cameras.camera_type == CameraType.PERSPECTIVE.value).all())
    if not perspective or all(lens_of(cameras, index) is None for index in range(len(cameras))):
        return cameras
    numbers, sizes = [], []
    for index, name in enumerate(names):
        lens, camera = lens_of(cameras, index), cameras[index]
        size = int(camera.height.item()), int(camera.width.item())
        intrinsics = torch.cat([camera.fx, camera.fy, camera.cx, camera.cy]).double().cpu().numpy()
        if lens is not None:
            intrinsics, size = _optimal(intrinsics, size, lens.double().numpy(), name)
        numbers.append(intrinsics)
        sizes.append(size)
    fx, fy, cx, cy = torch.from_numpy(np.stack(numbers)).to(cameras.fx).split(1, dim=1)
    height, width = torch.tensor(sizes).to(cameras.height).split(1, dim=1)
    return Cameras(
        camera_to_worlds=cameras.camera_to_worlds,
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=width,
        height=height,
        camera_type=cameras.camera_type,
    )


def _optimal(
    intrinsics: npt.NDArray[np.float64], size: Size, lens: npt.NDArray[np.float64], name: str
) -> tuple[npt.NDArray[np.float64], Size]:
    """Intrinsics fx, fy, cx, cy and size (height, width) without the lens."""
    k1, k2, k3, k4, p1, p2 = lens
    if k4 != 0:
        raise ValueError(
            f"{name}: expected lens distortion of k1, k2, k3, p1 and p2 to straighten the photo, found k4 {k4:g}; "
            "straighten the photos beforehand, or take a method that renders rays"
        )
    fx, fy, cx, cy = intrinsics
    # OpenCV's first pixel has its centre at (0, 0).
    matrix = np.array([[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]])
    new, (left, top, width, height) = cv2.getOptimalNewCameraMatrix(
        matrix, np.array([k1, k2, p1, p2, k3]), (size[1], size[0]), 0
    )
    if min(width, height) < _LEAST_SIDE or min(new[0, 0], new[1, 1]) <= 0:
        raise ValueError(
            f"{name}: expected a lens whose photo of {size[1]}x{size[0]} pixels can be straightened, found distortion "
            f"k1 {k1:g}, k2 {k2:g}, k3 {k3:g}, p1 {p1:g}, p2 {p2:g}, which leaves {width}x{height}; are the cameras "
            "right?"
        )
    found = np.array([new[0, 0], new[1, 1], new[0, 2] - left + 0.5, new[1, 2] - top + 0.5])
    return found, (height, width)


def photographed_at(straight: Cameras, lenses: Cameras, index: int, size: Size) -> npt.NDArray[np.float32]:
    """Where the photo of a lens shows the pixels of the straightened photo.

    Args:
        straight: pinhole cameras (B,).
        lenses: cameras (B,) of the photos.
        index: which of them.
        size: (height, width) that the straightened photo is wanted at, whatever its camera's.

    Returns:
        (H, W, 2) column and row, as fractions of the photo's width and height; pixel centres at .5.
    """
    to, of = straight[index], lenses[index]
    height, width = size
    rows, columns = (torch.arange(side, dtype=torch.float64) + 0.5 for side in size)
    x = (columns / width * float(to.width) - float(to.cx)) / float(to.fx)
    y = (rows / height * float(to.height) - float(to.cy)) / float(to.fy)
    points = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    lens = lens_of(lenses, index)
    if lens is not None:
        points = bent(points, lens.double())
    column = (points[..., 0] * float(of.fx) + float(of.cx)) / float(of.width)
    row = (points[..., 1] * float(of.fy) + float(of.cy)) / float(of.height)
    return torch.stack([column, row], dim=-1).float().numpy()


def resampled(
    values: npt.NDArray[np.float32], places: npt.NDArray[np.float32], nearest: bool = False
) -> npt.NDArray[np.float32]:
    """Looks values up at places; beyond the border the border's.

    Args:
        values: (H, W) or (H, W, C).
        places: (h, w, 2) of `photographed_at`.
        nearest: takes the nearest pixel instead of the mean of four.

    Returns:
        (h, w) or (h, w, C).
    """
    height, width = values.shape[:2]
    column, row = places[..., 0] * np.float32(width) - 0.5, places[..., 1] * np.float32(height) - 0.5
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    found = cv2.remap(values, column, row, mode, borderMode=cv2.BORDER_REPLICATE)
    return found.astype(np.float32, copy=False).reshape(places.shape[:2] + values.shape[2:])

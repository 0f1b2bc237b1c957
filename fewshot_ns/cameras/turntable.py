"""The camera of one photo of an object, which pixelNeRF assumes, and a circle around the object that starts at it.

World: y up, the middle of the object in the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict

import numpy as np

from fewshot_ns.cameras.poses import Poses, look_at

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

PIXELNERF_SIZE = 128
"""Height and width of the images that pixelNeRF's camera is stated for."""
CAMERA_KEY = "camera"
"""Key of `camera_record` in the `resolved.json` of a run."""


@dataclass(frozen=True)
class ObjectCamera:
    """A camera that looks at the middle of an object. Defaults: pixelNeRF's of a normalised photo of a car."""

    size: int = PIXELNERF_SIZE
    """Height and width of the image, pixels."""
    focal: float = 131.25
    """Focal length, pixels of this image."""
    radius: float = 1.3
    """Distance from the object's middle, world units."""
    near: float = 0.8
    """First distance along a ray that is sampled, world units."""
    far: float = 1.8
    """Last distance along a ray that is sampled, world units."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise ValueError(f"--size: expected an even number of at least 16 pixels, got {self.size}")
        if not (math.isfinite(self.focal) and self.focal > 0):
            raise ValueError(f"--focal: expected a positive number of pixels, got {self.focal}")
        if not (0 < self.near < self.far and math.isfinite(self.far)):
            raise ValueError(f"--near and --far: expected 0 < near < far, got {self.near} and {self.far}")
        if not self.near < self.radius < self.far:
            raise ValueError(
                f"--radius: expected a distance between near and far ({self.near} and {self.far}), got {self.radius}"
            )

    @property
    def reach(self) -> float:
        """Half the side of the cube about the origin that lies between near and far, world units."""
        return min(self.radius - self.near, self.far - self.radius)

    def intrinsics(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels, pixel centres at +0.5.

        pixelNeRF counts pixels from 0 and has its principal point at size / 2 all the same.
        """
        return self.focal, self.focal, self.size / 2 + 0.5, self.size / 2 + 0.5

    def cameras(self, poses: Poses) -> Cameras:
        """(F,) nerfstudio's cameras at poses (F, 3, 4)."""
        import torch
        from nerfstudio.cameras.cameras import Cameras

        fx, fy, cx, cy = self.intrinsics()
        return Cameras(torch.from_numpy(poses).float(), fx, fy, cx, cy, width=self.size, height=self.size)


def turntable(radius: float, elevation: float, frames: int = 1) -> Poses:
    """A circle at one height about the y axis, looking at the origin.

    Args:
        radius: Distance from the origin, world units.
        elevation: Height above the horizon, degrees.
        frames: Number of frames.

    Returns:
        (frames, 3, 4) OpenGL poses. The first stands at (0, r sin e, r cos e), at elevation 0 with the world's own
        axes; the next ones to its right.

    Raises:
        ValueError: an elevation of 90 degrees or more, where no direction is up; no frame.
    """
    if not -90.0 < elevation < 90.0:
        raise ValueError(f"expected an elevation between -90 and 90 degrees, got {elevation}")
    if frames < 1:
        raise ValueError(f"--frames: expected at least 1, got {frames}")
    height, ring = math.sin(math.radians(elevation)), math.cos(math.radians(elevation))
    azimuth = np.linspace(0.0, 2.0 * np.pi, frames, endpoint=False)
    positions = radius * np.stack([ring * np.sin(azimuth), np.full(frames, height), ring * np.cos(azimuth)], axis=1)
    return np.stack([look_at(position, np.zeros(3), np.array([0.0, 1.0, 0.0])) for position in positions])


def camera_record(cameras: Cameras, near: float, far: float) -> Dict[str, float]:
    """What a run keeps of the cameras that it is trained with, so that a photo can be shown to it as by one of them.

    Args:
        cameras: (N,) views of one object, about the origin.
        near: First distance along a ray that is sampled.
        far: Last distance along a ray that is sampled.

    Returns:
        fields of an `ObjectCamera`, of the median view.
    """
    return {
        "size": int(cameras.height.median()),
        "focal": round(float(cameras.fx.median()), 6),
        "radius": round(float(cameras.camera_to_worlds[..., 3].norm(dim=-1).median()), 6),
        "near": float(near),
        "far": float(far),
    }

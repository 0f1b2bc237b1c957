"""What needs no radiance field: the mean colour of the training photos, and the training photo nearest to the view.

A method that does no better than these has learnt nothing that helps.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Protocol, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor
from torch.nn.functional import interpolate

BASELINES = ("mean_colour", "nearest_view")
"""Names of the baselines."""
BASELINE_PREFIX = "baseline_"
"""Put before a baseline's name and '_psnr' or '_masked_psnr' in a row."""


def baseline_names(metric: str) -> Tuple[str, ...]:
    """Names in a row of the baselines' values of 'psnr' or 'masked_psnr'."""
    return tuple(f"{BASELINE_PREFIX}{name}_{metric}" for name in BASELINES)


class Baselines(Protocol):
    """What predicts a view without a radiance field."""

    def of_camera(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """Images (H, W, 3) by the baseline's name of a camera (1,) whose image is `size` (height, width)."""
        ...


class TrivialBaselines:
    """Predictions of test views made of the training photos alone.

    Args:
        images: N training photos (H, W, 3) in [0, 1], of any sizes.
        poses: (N, 3, 4) camera-to-world, OpenGL axes.
    """

    def __init__(self, images: List[Tensor], poses: Tensor) -> None:
        self.images, self.poses = images, poses.double()
        pixels = torch.cat([image.reshape(-1, 3) for image in images])
        self.mean = pixels.double().mean(dim=0).float()

    def predict(self, pose: Tensor, height: int, width: int) -> Dict[str, Tensor]:
        """Images (H, W, 3) of a test view by the baseline's name.

        Args:
            pose: (3, 4) camera-to-world of the view.
            height: of the view, pixels.
            width: of the view, pixels.
        """
        return {
            "mean_colour": self.mean.expand(height, width, 3),
            "nearest_view": self._resized(self.images[self.nearest(pose)], height, width),
        }

    def of_camera(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """The same for a camera (1,) whose image is `size` (height, width)."""
        return self.predict(camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu(), *size)

    def nearest(self, pose: Tensor) -> int:
        """The training view whose camera is nearest, in units of the cameras' spread, and looks most alike.

        The distance of the positions over the spread of all training cameras, plus one minus the cosine between the
        viewing directions.
        """
        pose = pose.double()
        positions = self.poses[:, :, 3]
        spread = (positions - positions.mean(dim=0)).norm(dim=1).max().clamp_min(1e-9)
        apart = (positions - pose[:, 3]).norm(dim=1) / spread
        turned = 1.0 - (self.poses[:, :, 2] * pose[:, 2]).sum(dim=1)
        return int((apart + turned).argmin())

    def _resized(self, image: Tensor, height: int, width: int) -> Tensor:
        if image.shape[:2] == (height, width):
            return image
        batch = image.permute(2, 0, 1)[None]
        return interpolate(batch, size=(height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def baselines_of(train_dataset: Any) -> Optional[TrivialBaselines]:
    """The baselines of a run's training views; None where there is no training set."""
    if train_dataset is None or len(train_dataset) == 0:
        return None
    images = [train_dataset.get_image_float32(index)[..., :3] for index in range(len(train_dataset))]
    return TrivialBaselines(images, train_dataset.cameras.camera_to_worlds.cpu())

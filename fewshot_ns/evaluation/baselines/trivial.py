"""Baselines without a radiance field: the mean colour of the training images, and the nearest training image.

A method that is no better than these has learned nothing useful.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Protocol, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor
from torch.nn.functional import interpolate

BASELINES = ("mean_colour", "nearest_view")
"""Names of the baselines."""
BASELINE_PREFIX = "baseline_"
"""Prefix of the baselines' metrics in a row: 'baseline_mean_colour_psnr'."""


def baseline_names(metric: str) -> Tuple[str, ...]:
    """Names in a row of the baselines' values of 'psnr' or 'masked_psnr'."""
    return tuple(f"{BASELINE_PREFIX}{name}_{metric}" for name in BASELINES)


class Baselines(Protocol):
    """Predicts views without a radiance field."""

    def predict(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """Predicted images (H, W, 3) by baseline name, of a camera (1,) whose image is `size` (height, width)."""
        ...


class TrivialBaselines:
    """Predictions of test views from the training images alone.

    Args:
        images: N training images (H, W, 3) in [0, 1], of any sizes.
        poses: (N, 3, 4) camera-to-world, OpenGL axes.
    """

    def __init__(self, images: List[Tensor], poses: Tensor) -> None:
        self.images, self.poses = images, poses.double()
        pixels = torch.cat([image.reshape(-1, 3) for image in images])
        self.mean = pixels.double().mean(dim=0).float()

    def predict(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """Predicted images (H, W, 3) by baseline name, of a camera (1,) whose image is `size` (height, width)."""
        return self.predict_pose(camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu(), *size)

    def predict_pose(self, pose: Tensor, height: int, width: int) -> Dict[str, Tensor]:
        """The same of a camera-to-world pose (3, 4); height and width in pixels."""
        return {
            "mean_colour": self.mean.expand(height, width, 3),
            "nearest_view": self._resized(self.images[self.nearest(pose)], height, width),
        }

    def nearest(self, pose: Tensor) -> int:
        """Index of the training view whose camera is nearest in position and direction.

        The distance of the positions over the spread of all training cameras, plus one minus the cosine between the
        viewing directions.
        """
        pose = pose.double()
        positions = self.poses[:, :, 3]
        spread = (positions - positions.mean(dim=0)).norm(dim=1).max().clamp_min(1e-9)
        distance = (positions - pose[:, 3]).norm(dim=1) / spread
        angle = 1.0 - (self.poses[:, :, 2] * pose[:, 2]).sum(dim=1)
        return int((distance + angle).argmin())

    def _resized(self, image: Tensor, height: int, width: int) -> Tensor:
        if image.shape[:2] == (height, width):
            return image
        batch = image.permute(2, 0, 1)[None]
        return interpolate(batch, size=(height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def trivial_baselines(train_dataset: Optional[InputDataset]) -> Optional[TrivialBaselines]:
    """The baselines of a run's training views; None where there are none."""
    if train_dataset is None or len(train_dataset) == 0:
        return None
    images = [train_dataset.get_image_float32(index)[..., :3] for index in range(len(train_dataset))]
    return TrivialBaselines(images, train_dataset.cameras.camera_to_worlds.cpu())

"""Cameras of unseen views, drawn as in RegNeRF and SparseNeRF, and square patches of their images."""

from __future__ import annotations

from typing import Callable

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.pixel_grids import grid_cameras
from fewshot_ns.cameras.poses import Poses
from fewshot_ns.cameras.unseen_views import dtu_unseen_poses, llff_unseen_poses
from fewshot_ns.data.records.metadata import FewShotMetadata


def unseen_cameras(
    seen: Cameras, record: FewShotMetadata, count: int, training_cameras_only: bool, generator: torch.Generator
) -> Cameras:
    """Draws cameras in the box of the scene's cameras, turned to the focus point of these.

    Args:
        seen: the training cameras; the new ones get the size of the first and the mean of all inverse intrinsics.
        record: the scene's poses and, for forward-facing scenes, its depth bounds.
        count: number of cameras.
        training_cameras_only: whether the box is that of the training cameras; else that of all cameras of the scene.
        generator: source of the draws.

    Raises:
        ValueError: a forward-facing scene without bounds, or cameras without a common focus.
    """

    def draw(numbers: Callable[..., Tensor]) -> Poses:
        drawn = numbers(count, 3, generator=generator, device=generator.device, dtype=torch.float64)
        return drawn.cpu().numpy()

    chosen = list(record.train_indices) if training_cameras_only else slice(None)
    poses = record.scene_camera_to_worlds.numpy().astype(np.float64)[chosen]
    if record.geometry.ray_space == "ndc":
        if record.scene_bounds is None:
            raise ValueError("unseen views of a scene in NDC need its depth bounds, and this scene's format has none")
        unseen = llff_unseen_poses(poses, record.scene_bounds.numpy().astype(np.float64)[chosen], draw(torch.rand))
    else:
        unseen = dtu_unseen_poses(poses, draw(torch.rand), draw(torch.randn))
    intrinsics = torch.linalg.inv(torch.linalg.inv(seen.get_intrinsics_matrices().cpu().double()).mean(0)).float()
    width, height = int(seen.width[0]), int(seen.height[0])
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Cameras(torch.from_numpy(unseen).float(), fx, fy, cx, cy, width, height)


class UnseenPatchSampler:
    """Draws patches, which are small cameras of their own: each from a view of its own, at a place of its own.

    Args:
        cameras: the unseen views, all of one size.
        patch_size: sides of a patch, pixels.

    Raises:
        ValueError: where a patch does not fit into the images.
    """

    def __init__(self, cameras: Cameras, patch_size: int) -> None:
        height, width = int(cameras.height[0]), int(cameras.width[0])
        if not 2 <= patch_size <= min(height, width):
            raise ValueError(f"expected patches of 2 to {min(height, width)} pixels, got {patch_size}")
        self.cameras, self.patch_size = cameras, patch_size
        self.corners = torch.tensor([height - patch_size + 1, width - patch_size + 1])

    def draw(self, count: int) -> Tensor:
        """(count, 3) view, top row and left column of patches."""
        view = torch.randint(len(self.cameras), (count, 1))
        return torch.cat([view, *(torch.randint(int(end), (count, 1)) for end in self.corners)], dim=-1)

    def cameras_of(self, patches: Tensor) -> Cameras:
        """(count,) cameras that see the patches (count, 3) of `draw`."""
        seen = self.cameras[patches[:, 0].to(self.cameras.device)]
        return grid_cameras(seen, patches[:, 1:], (1, 1), (self.patch_size, self.patch_size))

    def sample(self, count: int) -> Cameras:
        """(count,) cameras of freshly drawn patches."""
        return self.cameras_of(self.draw(count))

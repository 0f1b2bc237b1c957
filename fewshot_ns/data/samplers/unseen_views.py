"""Cameras of unseen views, drawn as in RegNeRF and SparseNeRF."""

from __future__ import annotations

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras

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
    chosen = list(record.train_indices) if training_cameras_only else slice(None)
    poses = record.scene_camera_to_worlds.numpy().astype(np.float64)[chosen]
    if record.geometry.ray_space == "ndc":
        if record.scene_bounds is None:
            raise ValueError("unseen views of a scene in NDC need its depth bounds, and this scene's format has none")
        unseen = llff_unseen_poses(poses, record.scene_bounds.numpy().astype(np.float64)[chosen], count, generator)
    else:
        unseen = dtu_unseen_poses(poses, count, generator)
    intrinsics = torch.linalg.inv(torch.linalg.inv(seen.get_intrinsics_matrices().cpu().double()).mean(0)).float()
    width, height = int(seen.width[0]), int(seen.height[0])
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Cameras(torch.from_numpy(unseen).float(), fx, fy, cx, cy, width, height)

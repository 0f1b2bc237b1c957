"""Rays of square patches of views that nobody photographed."""

from __future__ import annotations

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fewshot_ns.cameras.ray_space import attach_radii
from fewshot_ns.cameras.unseen_views import dtu_unseen_poses, llff_unseen_poses
from fewshot_ns.data.scene_geometry import FewShotMetadata, SceneGeometry


def unseen_cameras(
    seen: Cameras, record: FewShotMetadata, count: int, training_cameras_only: bool, generator: torch.Generator
) -> Cameras:
    """Draws cameras in the box of the scene's cameras that look at what those look at.

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


class UnseenPatchSampler:
    """Draws patches: each from a view of its own, at a place of its own, its pixels row by row.

    Args:
        cameras: the unseen views, all of one size.
        geometry: ray geometry of the scene.
        patch_size: sides of a patch, pixels.

    Raises:
        ValueError: where a patch does not fit into the images.
    """

    def __init__(self, cameras: Cameras, geometry: SceneGeometry, patch_size: int) -> None:
        height, width = int(cameras.height[0]), int(cameras.width[0])
        if not 2 <= patch_size <= min(height, width):
            raise ValueError(f"expected patches of 2 to {min(height, width)} pixels, got {patch_size}")
        self.cameras, self.geometry, self.patch_size = cameras, geometry, patch_size
        self.corners = torch.tensor([height - patch_size + 1, width - patch_size + 1])

    def draw(self, count: int) -> Tensor:
        """(count, 3) view, top row and left column of patches."""
        view = torch.randint(len(self.cameras), (count, 1))
        return torch.cat([view, *(torch.randint(int(end), (count, 1)) for end in self.corners)], dim=-1)

    def rays(self, patches: Tensor) -> RayBundle:
        """Rays (count * patch_size**2,) of patches (count, 3) from `draw`, with their footprints."""
        # One row and one column more than asked for: a footprint is the distance to the next pixel.
        steps = torch.arange(self.patch_size + 1)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
        coords = patches[:, None, None, 1:] + offsets + 0.5
        views = patches[:, None, None, :1].expand(*coords.shape[:-1], 1)
        device = self.cameras.device
        bundle = self.cameras.generate_rays(camera_indices=views.to(device), coords=coords.to(device))
        inner = slice(self.patch_size)
        return attach_radii(bundle, self.geometry)[:, inner, inner].flatten()

    def sample(self, count: int) -> RayBundle:
        """Rays (count * patch_size**2,) of freshly drawn patches."""
        return self.rays(self.draw(count))


def concatenate_rays(first: RayBundle, second: RayBundle) -> RayBundle:
    """Rays (N,) followed by rays (M,) of unseen cameras, index -1: what a model needs, no bounds and no times."""
    keys = first.metadata.keys() & second.metadata.keys()
    parts = {
        name: torch.cat([getattr(first, name), getattr(second, name)])
        for name in ("origins", "directions", "pixel_area")
    }
    indices = first.camera_indices
    if indices is not None:
        unseen = torch.full((len(second), 1), -1, dtype=indices.dtype, device=indices.device)
        parts["camera_indices"] = torch.cat([indices, unseen])
    return RayBundle(**parts, metadata={key: torch.cat([first.metadata[key], second.metadata[key]]) for key in keys})

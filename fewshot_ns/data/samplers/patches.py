"""Rays of square patches of views that nobody photographed."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fewshot_ns.cameras.ray_space import attach_radii
from fewshot_ns.cameras.scene_geometry import SceneGeometry


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

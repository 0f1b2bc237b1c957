"""Square patches of unseen views, each a small camera of its own."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.pixel_grids import grid_cameras


class UnseenPatchSampler:
    """Draws patches: each from a view of its own, at a position of its own.

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

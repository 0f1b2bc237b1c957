"""Predictions from the source views of a generalizable model, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from fewshot_ns.data.multiscene.active import ActiveScene, SceneViewSelector
from fewshot_ns.data.multiscene.batches import intrinsics_of
from fewshot_ns.evaluation.baselines.trivial import TrivialBaselines


def plane_sweep(
    images: Tensor,
    poses: Tensor,
    intrinsics: Tensor,
    pose: Tensor,
    target_intrinsics: Tensor,
    size: Tuple[int, int],
    near: float,
    far: float,
    planes: int = 64,
    window: int = 5,
) -> Tensor:
    """Blends images that are warped into a view by the depth at which they agree.

    A baseline for networks that match images: it needs no training and no prior. Source: Collins 1996, with the
    variance of the warped colours as the cost.

    Planes face the view, at equal steps of inverse depth. At each plane the cost is the variance of the colours of the
    images that see the point, averaged over a window; a pixel takes the plane of the smallest cost and the mean of
    these colours. A plane that fewer than two images see is taken only where there is no other, and what no image sees
    has the mean colour of all images.

    Args:
        images: (N, H, W, 3) in [0, 1].
        poses: (N, 3, 4) their camera-to-world poses, OpenGL axes.
        intrinsics: (N, 4) their fx, fy, cx, cy in pixels, centres at +0.5.
        pose: (3, 4) of the view.
        target_intrinsics: (4,) of the view.
        size: (height, width) of the view.
        near: smallest planar depth, above 0.
        far: largest planar depth.
        planes: number of depths.
        window: side of the window in pixels, odd.

    Returns:
        (height, width, 3).

    Raises:
        ValueError: not 0 < near < far, or a window that is even.
    """
    if not 0 < near < far or window % 2 == 0:
        raise ValueError(f"expected 0 < near < far and an odd window, got {near}, {far} and {window}")
    height, width = size
    rows, columns = (torch.arange(count, device=pose.device) + 0.5 for count in size)
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    fx, fy, cx, cy = target_intrinsics
    axes = torch.stack([(columns - cx) / fx, -(rows - cy) / fy, -torch.ones_like(rows)], dim=-1)
    directions = axes @ pose[:, :3].T
    channels_first = images.movedim(-1, 1)
    best_cost = images.new_full((height, width), float("inf"))
    best = images.flatten(0, 2).mean(0).expand(height, width, 3)
    for inverse in torch.linspace(1.0 / near, 1.0 / far, planes):
        points = pose[:, 3] + directions / inverse
        positions, seen = _project(points, poses, intrinsics, images.shape[1], images.shape[2])
        colours = grid_sample(channels_first, positions, align_corners=False, padding_mode="border").movedim(1, -1)
        weight = seen[..., None].to(colours)
        count = weight.sum(0)
        mean = (colours * weight).sum(0) / count.clamp(min=1.0)
        variance = ((colours - mean).square() * weight).sum((0, -1)) / count[..., 0].clamp(min=1.0)
        cost = avg_pool2d(variance[None, None], window, 1, window // 2, count_include_pad=False)[0, 0]
        # Colours differ by less than 1, so a plane of two images always wins against one of a single image.
        cost = torch.where(count[..., 0] >= 2, cost, torch.where(count[..., 0] >= 1, cost + 3.0, torch.inf))
        better = cost < best_cost
        best_cost = torch.where(better, cost, best_cost)
        best = torch.where(better[..., None], mean, best)
    return best


def _project(points: Tensor, poses: Tensor, intrinsics: Tensor, height: int, width: int) -> Tuple[Tensor, Tensor]:
    """Positions (N, h, w, 2) in [-1, 1] of world points (h, w, 3) in N images, and which are inside (N, h, w)."""
    local = torch.einsum("nij,nhwi->nhwj", poses[:, :, :3], points - poses[:, None, None, :, 3])
    depth = -local[..., 2]
    before = depth > 1e-6
    safe = torch.where(before, depth, torch.ones_like(depth))
    focal, centre = intrinsics[:, None, None, :2], intrinsics[:, None, None, 2:]
    flat = torch.stack([local[..., 0], -local[..., 1]], dim=-1) / safe[..., None]
    positions = (flat * focal + centre) / points.new_tensor([width, height]) * 2.0 - 1.0
    return positions, before & (positions.abs() <= 1.0).all(-1)


@dataclass(frozen=True)
class SourceBaselines:
    """The mean colour of a camera's source views, the nearest of them, and, of two or more, a plane sweep."""

    selector: SceneViewSelector
    """Chooses the source views of a camera, and reads them."""
    active: ActiveScene
    """The scene."""

    def predict(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """Predicted images (H, W, 3) by baseline name.

        Args:
            camera: (1,) of the predicted view.
            size: its height and width, pixels.

        Raises:
            SceneError: a source view cannot be read.
        """
        scene, pose = self.active.scene, camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu()
        sources = list(self.selector.sources_for(self.active, pose))
        images = [self.selector.library.images.image(scene, source) for source in sources]
        poses = scene.cameras.camera_to_worlds[sources]
        predicted = TrivialBaselines(images, poses).predict(camera, size)
        near, far = scene.planar_range
        if len(sources) > 1 and near > 0:
            predicted["plane_sweep"] = plane_sweep(
                torch.stack(images),
                poses,
                intrinsics_of(scene.cameras)[sources],
                pose,
                intrinsics_of(camera).reshape(-1, 4)[0].cpu(),
                size,
                near,
                far,
            )
        return predicted

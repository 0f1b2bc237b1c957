"""Views whose depth is known: the still life of the built-in scene, and a wall with any texture."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView, ViewDepth
from fewshot_ns.synthetic.raytracer import render_depth, render_image
from fewshot_ns.synthetic.scene import DemoSceneConfig, demo_camera_poses
from fewshot_ns.synthetic.still_life import build_still_life

WALL = 4.0
"""Distance of the wall from the plane of the cameras."""


def still_life(width: int, height: int, indices: Sequence[int]) -> Tuple[List[StereoView], List[Tensor]]:
    """Views of the built-in scene and their exact planar depth (H, W)."""
    config = DemoSceneConfig(width=width, height=height)
    world, poses = build_still_life(), demo_camera_poses(config)
    mask = torch.ones(height, width, dtype=torch.bool)
    views, depths = [], []
    for index in indices:
        image = torch.from_numpy(render_image(world, poses[index], config.focal, width, height, 2)).float()
        depth = torch.from_numpy(render_depth(world, poses[index], config.focal, width, height)).float()
        intrinsics = torch.tensor([config.focal, config.focal, width / 2, height / 2])
        pose, ends = torch.from_numpy(poses[index]).float(), (float(depth.min()), float(depth.max()))
        views.append(StereoView(image, pose, intrinsics, *ends, mask, f"view_{index:02}.png"))
        depths.append(depth)
    return views, depths


def wall_views(
    texture: Callable[[Tensor], Tensor], offsets: Sequence[float] = (-0.3, 0.0, 0.35), noise: float = 0.0
) -> List[StereoView]:
    """Cameras side by side before a wall; `texture` gives the grey value at (..., 2) places on it."""
    views = []
    for index, offset in enumerate(offsets):
        pose = torch.eye(4)[:3].clone()
        pose[0, 3] = offset
        height, width = 60, 80
        intrinsics = torch.tensor([80.0, 80.0, width / 2, height / 2])
        mask = torch.ones(height, width, dtype=torch.bool)
        blank = StereoView(torch.zeros(height, width, 3), pose, intrinsics, 2.0, 12.0, mask, f"wall {index}.png")
        grey = texture(blank.points(torch.full((height, width), WALL))[..., :2])
        grey = grey + noise * torch.randn(grey.shape, generator=torch.Generator().manual_seed(index))
        image = grey.clamp(0.0, 1.0)[..., None].expand(-1, -1, 3)
        views.append(replace(blank, image=(image * 255.0).round() / 255.0))
    return views


def blobs(places: Tensor) -> Tensor:
    """A texture that repeats nowhere: waves of many directions and lengths."""
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(24, 2, generator=generator) * torch.linspace(1.0, 9.0, 24)[:, None]
    phase = 6.28 * torch.rand(24, generator=generator)
    return 0.5 + 0.06 * torch.sin(places @ direction.T + phase).sum(dim=-1)


def errors(found: Sequence[ViewDepth], exact: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
    """Relative errors of all pixels of all views, and which of them are valid, flat."""
    apart = [(view.z_depth / depth - 1.0).abs().flatten() for view, depth in zip(found, exact, strict=True)]
    return torch.cat(apart), torch.cat([view.valid.flatten() for view in found])

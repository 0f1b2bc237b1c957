"""Corrected poses of training photos: what they do to rays and cameras, and how large they are.

A correction [R | t] turns a camera by R about its own centre, axes of the world, and moves it by t, as nerfstudio's
`CameraOptimizer` has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

CAMERA_GROUP = "camera_opt"
"""Name, nerfstudio's, of the group of parameters by which poses of training photos are refined."""


def corrected_rays(ray_bundle: RayBundle, corrections: Tensor) -> RayBundle:
    """The world rays (R,) of corrected cameras; the bundle that is given stays as it is.

    Footprints are those before, which a turn does not change in metric scenes, and hardly in NDC.

    Args:
        ray_bundle: rays whose `camera_indices` name views, or are negative for cameras that have no correction.
        corrections: (V, 3, 4).
    """
    views = ray_bundle.camera_indices
    if views is None:
        raise ValueError("rays without camera_indices belong to no view, so none of its corrections")
    views = views[..., 0]
    chosen = corrections.to(ray_bundle.origins.device)[views.clamp(min=0)]
    known = (views >= 0)[..., None]
    moved = ray_bundle.origins + chosen[..., 3]
    turned = (chosen[..., :3] @ ray_bundle.directions[..., None])[..., 0]
    return replace(
        ray_bundle,
        origins=torch.where(known, moved, ray_bundle.origins),
        directions=torch.where(known, turned, ray_bundle.directions),
    )


def corrected_cameras(cameras: Cameras, corrections: Tensor) -> Cameras:
    """The cameras (V,) with corrected poses; those that are given stay as they are.

    Args:
        cameras: (V,).
        corrections: (V, 3, 4).
    """
    matrices, poses = corrections.to(cameras.camera_to_worlds), cameras.camera_to_worlds
    turned, moved = matrices[..., :3] @ poses[..., :3], poses[..., 3:] + matrices[..., 3:]
    return replace(cameras, camera_to_worlds=torch.cat([turned, moved], dim=-1))


def correction_sizes(corrections: Tensor) -> Tuple[Tensor, Tensor]:
    """Degrees (V,) by which corrections (V, 3, 4) turn, and distance (V,) by which they move, world units."""
    away = corrections[..., :3] - torch.eye(3, dtype=corrections.dtype, device=corrections.device)
    # |R - I| = 2 sqrt(2) sin(angle / 2); of small angles the trace, a cosine, would lose all digits.
    sine = (away.flatten(-2).norm(dim=-1) / 8.0**0.5).clamp(max=1.0)
    return torch.rad2deg(2.0 * torch.asin(sine)), corrections[..., 3].norm(dim=-1)

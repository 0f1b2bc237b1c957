"""Latents of ID-NeRF's target views, inferred before the views are rendered."""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.ray_images import RayMatrices, ray_images
from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.fields.latent_inference import LatentInference
from fewshot_ns.fields.matching_field import MatchingField
from fewshot_ns.priors.diffusion.prior import PromptViews


class TargetViews(NamedTuple):
    """Latents of the views that are rendered, one per scene."""

    latents: Tensor
    """(B, 4, 64, 64)."""
    vectors: Tensor
    """(B, 8) the latents as the refinement sees them."""


def infer_target_latents(
    network: LatentInference,
    field: MatchingField,
    conditioning: Conditioning,
    camera_to_worlds: Tensor,
    intrinsics: Tensor,
    matrices: RayMatrices,
) -> TargetViews:
    """Latents of target views, inferred from the source views and the cameras.

    Args:
        network: infers the latents.
        field: makes vectors of them for the refinement.
        conditioning: B scenes and their source views.
        camera_to_worlds: (B, 3, 4) of the targets, OpenGL axes.
        intrinsics: (B, 4) fx, fy, cx, cy in pixels of an image of the size of the source views.
        matrices: what ray images of cameras are made from.
    """
    target_rays = ray_images(camera_to_worlds, intrinsics, _size(conditioning), matrices)
    latents = network(conditioning.images.movedim(-1, 2), _source_rays(conditioning, matrices), target_rays)
    return TargetViews(latents, field.latent_vector(latents))


def prompt_views(conditioning: Conditioning, matrices: RayMatrices) -> List[PromptViews]:
    """Source views of B scenes as the diffusion prior's prompt shows them."""
    views = zip(conditioning.images, _source_rays(conditioning, matrices), strict=True)
    return [PromptViews(images, rays) for images, rays in views]


def intrinsics_at_size(camera: Cameras, size: Tuple[int, int]) -> Tensor:
    """(1, 4) fx, fy, cx, cy of one camera in pixels of an image of another size (height, width)."""
    down, across = size[0] / camera.height, size[1] / camera.width
    intrinsics = [camera.fx * across, camera.fy * down, camera.cx * across, camera.cy * down]
    return torch.cat(intrinsics, dim=-1).reshape(1, 4)


def _size(conditioning: Conditioning) -> Tuple[int, int]:
    return conditioning.images.shape[2], conditioning.images.shape[3]


def _source_rays(conditioning: Conditioning, matrices: RayMatrices) -> Tensor:
    """(B, V, 6, H, W) ray images of the source views."""
    return ray_images(conditioning.camera_to_worlds, conditioning.intrinsics, _size(conditioning), matrices)

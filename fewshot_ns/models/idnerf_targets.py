"""What ID-NeRF makes of the views that are rendered before it renders them: a latent for each."""

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
    """Latents of the views that are rendered, one per scene shown."""

    latents: Tensor
    """(B, 4, 64, 64)."""
    vectors: Tensor
    """(B, 8) what the refinement sees of them."""


def imagine(
    network: LatentInference,
    field: MatchingField,
    given: Conditioning,
    camera_to_worlds: Tensor,
    intrinsics: Tensor,
    matrices: RayMatrices,
) -> TargetViews:
    """Guesses latents of target views.

    Args:
        network: guesses the latents.
        field: says what the refinement sees of them.
        given: B scenes and their source views.
        camera_to_worlds: (B, 3, 4) of the targets, OpenGL axes.
        intrinsics: (B, 4) fx, fy, cx, cy in pixels of an image of the size of the source views.
        matrices: see `RayMatrices`.
    """
    wanted = ray_images(camera_to_worlds, intrinsics, _size(given), matrices)
    latents = network(given.images.movedim(-1, 2), _source_rays(given, matrices), wanted)
    return TargetViews(latents, field.latent_vector(latents))


def prompt_views(given: Conditioning, matrices: RayMatrices) -> List[PromptViews]:
    """Source views of B scenes as the diffusion prior's prompt shows them."""
    return [PromptViews(*views) for views in zip(given.images, _source_rays(given, matrices), strict=True)]


def lens_at_size(camera: Cameras, size: Tuple[int, int]) -> Tensor:
    """(1, 4) fx, fy, cx, cy of one camera in pixels of an image of another size (height, width)."""
    down, across = size[0] / camera.height, size[1] / camera.width
    lens = [camera.fx * across, camera.fy * down, camera.cx * across, camera.cy * down]
    return torch.cat(lens, dim=-1).reshape(1, 4)


def _size(given: Conditioning) -> Tuple[int, int]:
    return given.images.shape[2], given.images.shape[3]


def _source_rays(given: Conditioning, matrices: RayMatrices) -> Tensor:
    """(B, V, 6, H, W) ray images of the source views."""
    return ray_images(given.camera_to_worlds, given.intrinsics, _size(given), matrices)

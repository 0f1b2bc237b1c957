"""What priors are built from and look at: records of scenes without files, and renderings made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterable, Optional

import torch
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import FewShotMetadata
from fewshot_ns.model_components.renderers import expected_distance
from fewshot_ns.model_components.rendering import RaySamples, Rendering
from fewshot_ns.priors.base import PriorScene, StepContext


def record_of(ray_space: Any = "metric", near: float = 0.0, far: float = 1.0, **fields: Any) -> FewShotMetadata:
    """Record of a scene of three training views, without files."""
    return FewShotMetadata(
        geometry=SceneGeometry(ray_space, near, far),
        protocol="indices",
        split="train",
        image_indices=(0, 1, 2),
        train_indices=(0, 1, 2),
        test_indices=(),
        scene_camera_to_worlds=torch.eye(4)[:3].repeat(3, 1, 1),
        **fields,
    )


def scene_of(
    ray_space: Any = "metric",
    near: float = 0.0,
    far: float = 1.0,
    num_rays: int = 64,
    provides: Iterable[str] = (),
    **fields: Any,
) -> PriorScene:
    """What a prior is told of such a scene, whose dataset has nothing but the record."""
    dataset: Any = SimpleNamespace(fewshot=record_of(ray_space, near, far, **fields))
    return PriorScene(dataset, torch.device("cpu"), Path("scene"), frozenset(provides), num_rays)


def rendering_of(
    weights: Tensor,
    t: Tensor,
    coarse: Optional[Rendering] = None,
    viewdirs: Optional[Tensor] = None,
    **samples: Any,
) -> Rendering:
    """Pixels (R,) of a ray backbone with weights (R, S) at fenceposts t (R, S + 1), black as what they show."""
    distance = expected_distance(weights, t)
    return Rendering(
        rgb=torch.zeros(*weights.shape[:-1], 3),
        depth=distance,
        accumulation=weights.sum(-1, keepdim=True),
        distance=distance,
        viewdirs=viewdirs,
        samples=RaySamples(weights, t, **samples),
        coarse=coarse,
    )


def pixels_of(distance: Tensor, accumulation: Optional[Tensor] = None) -> Rendering:
    """Pixels (...) of a backbone without rays, at distances (..., 1)."""
    opacity = torch.ones_like(distance) if accumulation is None else accumulation
    return Rendering(distance.expand(*distance.shape[:-1], 3), distance, opacity, distance)


def without_samples(rendering: Rendering) -> Rendering:
    """The same pixels as a backbone without rays gives them."""
    return replace(rendering, samples=None, viewdirs=None)


def context_of(
    photos: Rendering,
    requested: Optional[Rendering] = None,
    batch: Optional[Dict[str, Tensor]] = None,
    render: Any = None,
    model: Any = None,
) -> StepContext:
    """What a prior sees of a step."""
    return StepContext(photos, requested, batch or {}, render, model)

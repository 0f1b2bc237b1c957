"""The product's mip-NeRF filled with reference weights, and reference rays as the rays it takes."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any, Dict, Mapping

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import torch
from nerfstudio.data.scene_box import SceneBox

from fewshot_ns.cameras.ray_space import ModelRays
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.configs.sparsenerf import sparsenerf
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.models.mipnerf import MipNeRFModel

HEADS = {"density": "density", "bottleneck": "bottleneck", "colour": "view_0", "rgb": "rgb"}
"""Layers outside of the trunk: the product's name -> the original's."""

LLFF = SceneGeometry("ndc", 0.0, 1.0, ray_shape="cylinder", ndc_focal=(1.0, 1.0))
DTU = SceneGeometry("metric", 0.5, 3.5, ray_shape="cone")
GEOMETRY = {"llff": LLFF, "ndc": LLFF, "dtu": DTU, "cone": DTU}
"""Geometry by the name that the reference arrays give to a case; near and far come with the rays."""


def parameter_names(arrays: Mapping[str, np.ndarray]) -> Dict[str, str]:
    """Name in the product's network -> name in the reference (`layer_0_kernel`, ...), for all that are there."""
    names = {f"trunk.{i}": f"layer_{i}" for i in range(sum(key.startswith("layer_") for key in arrays) // 2)}
    parts = {"weight": "kernel", "bias": "bias"}
    return {f"{ours}.{a}": f"{theirs}_{b}" for ours, theirs in {**names, **HEADS}.items() for a, b in parts.items()}


def as_ours(array: np.ndarray) -> torch.Tensor:
    """A kernel [in, out] or a bias of the reference in the product's layout."""
    return torch.from_numpy(array if array.ndim == 1 else np.ascontiguousarray(array.T))


def network_sizes(arrays: Mapping[str, np.ndarray]) -> Dict[str, int]:
    """Fields of the model's config that follow from the shapes of the reference parameters."""
    columns, width = arrays["layer_0_kernel"].shape
    names = parameter_names(arrays)
    layers = sum(name.startswith("trunk") for name in names) // 2
    (skip,) = [i for i in range(1, layers) if arrays[f"layer_{i}_kernel"].shape[0] > width]
    return {
        "width": width,
        "num_layers": layers,
        "skip_layer": skip,
        "num_octaves": columns // 6,
        "view_octaves": (arrays["view_0_kernel"].shape[0] - width - 3) // 6,
        "colour_width": arrays["view_0_kernel"].shape[1],
    }


def build_model(
    arrays: Mapping[str, np.ndarray], case: str, dtype: torch.dtype, num_samples: int, **fields: Any
) -> MipNeRFModel:
    """sparsenerf's model in the size of the reference parameters, with their values, drawing no random numbers.

    Args:
        arrays: reference parameters by the original's names.
        case: a key of `GEOMETRY`.
        dtype: of parameters and arithmetic.
        num_samples: samples per level.
        fields: further fields of the model's config.
    """
    config: Any = deepcopy(sparsenerf.pipeline.model)
    chosen = {"num_samples": num_samples, "stratified": False, "density_noise": 0.0}
    for name, value in {**network_sizes(arrays), **chosen, **fields}.items():
        assert hasattr(config, name), name
        setattr(config, name, value)
    config.annealing.steps = 0
    record = FewShotMetadata(GEOMETRY[case], "golden", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}).to(dtype)
    state = {ours: as_ours(arrays[theirs]).to(dtype) for ours, theirs in parameter_names(arrays).items()}
    model.field.load_state_dict(state)
    return model


def golden_rays(arrays: Mapping[str, np.ndarray], dtype: torch.dtype) -> ModelRays:
    """Rays from origins, directions, viewdirs, radii, near and far."""
    rays = SimpleNamespace(**{name: torch.from_numpy(value).to(dtype) for name, value in arrays.items()})
    ones = torch.ones_like(rays.near)
    length = rays.viewdirs.norm(dim=-1, keepdim=True)
    # Where the original's view directions are no unit vectors, the model multiplies by their length again.
    length = ones if (length - 1).abs().max() < 1e-5 else length
    return ModelRays(
        origins=rays.origins,
        directions=rays.directions,
        viewdirs=rays.viewdirs / length,
        radii=rays.radii,
        near=rays.near,
        far=rays.far,
        valid=ones.bool(),
        z_scale=length,
        offset=torch.zeros_like(ones),
        z_slope=ones,
    )

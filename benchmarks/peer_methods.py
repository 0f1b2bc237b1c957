"""nerfstudio's own nerfacto, depth-nerfacto and splatfacto as peers of this package's methods: benchmarks/peers.py.

The networks, samplers and losses are nerfstudio's, untouched. What is added is what a comparison at equal cost needs: a
training that ends after so many CPU seconds, learning rates that fall with the share of them that is spent, and the
scene's near, far and box as this package's dataparser knows them. `nerfstudio` finds the methods by the environment
variable that `register` sets.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, Optional, Tuple, Type
from unittest import mock

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import torch
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.datasets.depth_dataset import DepthDataset
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.model_components.scene_colliders import NearFarCollider
from nerfstudio.models.depth_nerfacto import DepthNerfactoModel, DepthNerfactoModelConfig
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from nerfstudio.plugins.types import MethodSpecification
from torch import Tensor

from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.engine.training_clock import TrainingClock
from fewshot_ns.utils.files import write_json

TICKS = 10_000
"""Length of the learning-rate schedules: parts of the budget, not steps."""
NEAR_FAR_KEY = "near_far"
"""Metadata key of where rays of the training cameras begin and end, Euclidean world units."""
FROM_OUTSIDE_KEY = "from_outside"
"""Metadata key of whether all training cameras stand outside of the dataparser's box."""


@dataclass
class PeerTrainerConfig(TrainerConfig):
    """A training with a budget."""

    _target: Type = field(default_factory=lambda: PeerTrainer)
    max_train_cpu_seconds: Optional[float] = None
    """Stop once training has used this much CPU time (user + system); learning rates fall with the share spent."""


class BudgetOptimizers(Optimizers):
    """Optimizers whose schedules follow a share of the budget, between 0 and 1, instead of the number of steps.

    Args:
        config: of the groups; their schedules are `TICKS` long.
        param_groups: the parameters.
        spent: the share.
    """

    def __init__(self, config: Dict[str, Any], param_groups: Dict[str, List[Any]], spent: Callable[[], float]) -> None:
        super().__init__(config, param_groups)
        self.spent = spent

    def scheduler_step_all(self, step: int) -> None:
        """Sets the learning rates of the next step."""
        for scheduler in self.schedulers.values():
            scheduler.last_epoch = round(TICKS * min(self.spent(), 1.0)) - 1
        super().scheduler_step_all(step)


class PeerTrainer(Trainer):
    """nerfstudio's trainer, which also measures what the training costs and stops when the budget is spent.

    Evaluation, checkpoints and building the scene do not count, as in this package's trainer.
    """

    config: PeerTrainerConfig

    def __init__(self, config: PeerTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        super().__init__(config, local_rank, world_size)
        self.clock = TrainingClock()

    def setup(self, test_mode: Any = "val") -> None:
        """Builds everything; the clock runs from before the first to after the last callback of a step."""
        super().setup(test_mode)
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        self.callbacks = [
            TrainingCallback([before], lambda step: self.clock.start()),
            *self.callbacks,
            TrainingCallback([after], self._after_iteration),
        ]

    def setup_optimizers(self) -> Optimizers:
        """Builds optimizers of the groups that the model has."""
        groups = self.pipeline.get_param_groups()
        config = {name: deepcopy(value) for name, value in self.config.optimizers.items() if name in groups}
        return BudgetOptimizers(config, groups, self._spent)

    def save_checkpoint(self, step: int) -> None:
        """Writes the checkpoint of the last step that was trained, and `train_stats.json`."""
        super().save_checkpoint(min(step, self.clock.steps - 1))
        write_json(self.base_dir / "train_stats.json", self.clock.summary())

    def _spent(self) -> float:
        limit = self.config.max_train_cpu_seconds
        steps = self.clock.steps / self.config.max_num_iterations
        return steps if limit is None else max(steps, self.clock.cpu_seconds / limit)

    def _after_iteration(self, step: int) -> None:
        self.clock.stop(int(self.pipeline.datamanager.get_train_rays_per_batch()))
        limit = self.config.max_train_cpu_seconds
        if limit is not None and self.clock.cpu_seconds >= limit:
            self.stop_training = True


def ray_bounds(outputs: DataparserOutputs) -> Tuple[float, float, Tensor]:
    """Where rays of the cameras of a split begin and end, and the box of what these rays pass.

    This package counts near and far along the viewing axis, of DTU from a plane of the world, nerfacto Euclidean from
    the camera; the interval holds that of every ray.

    Args:
        outputs: of one of this package's dataparsers, in metric ray space.

    Returns:
        Near, far and the box (2, 3), world units.

    Raises:
        ValueError: the scene's rays are bounded in NDC.
    """
    geometry = get_fewshot_metadata(outputs.metadata).geometry
    if geometry.ray_space != "metric":
        raise ValueError("expected a scene in metric ray space, found NDC; give --ray-space metric to the dataparser")
    cameras, ends = outputs.cameras, []
    for index in range(len(cameras)):
        height, width = float(cameras.height[index]), float(cameras.width[index])
        for row, column in ((0.0, 0.0), (0.0, width), (height, 0.0), (height, width), (height / 2, width / 2)):
            bundle = cameras.generate_rays(camera_indices=index, coords=torch.tensor([row, column]))
            # Per unit of depth along the viewing axis.
            direction = bundle.directions * bundle.metadata["directions_norm"]
            start = 0.0
            if geometry.origin_plane_z is not None:
                start = float((geometry.origin_plane_z - bundle.origins[2]) / direction[2])
            ends.append([bundle.origins + (start + depth) * direction for depth in (geometry.near, geometry.far)])
    points = torch.stack([torch.stack(pair) for pair in ends])
    origins = outputs.cameras.camera_to_worlds[:, :3, 3].repeat_interleave(5, dim=0)
    distances = (points - origins[:, None]).norm(dim=-1)
    box = torch.stack([points.amin(dim=(0, 1)), points.amax(dim=(0, 1))])
    return float(distances[:, 0].min()), float(distances[:, 1].max()), box


def with_bounds(outputs: DataparserOutputs) -> DataparserOutputs:
    """The outputs with near and far for nerfacto in their metadata, and with a box that holds the scene.

    The dataparser's own box counts where all cameras look into it from outside; elsewhere that of their rays.
    """
    near, far, box = ray_bounds(outputs)
    own, positions = outputs.scene_box.aabb, outputs.cameras.camera_to_worlds[:, :3, 3]
    outside = bool(((positions < own[0]) | (positions > own[1])).any(dim=-1).all())
    metadata = {**outputs.metadata, NEAR_FAR_KEY: (near, far), FROM_OUTSIDE_KEY: outside}
    return replace(outputs, scene_box=SceneBox(aabb=own if outside else box), metadata=metadata)


class PeerData(VanillaDataManager[InputDataset]):
    """nerfstudio's datamanager of rays, with bounds from this package's dataparser."""

    def create_train_dataset(self) -> InputDataset:
        """The training views."""
        self.train_dataparser_outputs = with_bounds(self.train_dataparser_outputs)
        return super().create_train_dataset()


class PeerDepthData(VanillaDataManager[DepthDataset]):
    """The same with depth maps."""

    def create_train_dataset(self) -> DepthDataset:
        """The training views."""
        self.train_dataparser_outputs = with_bounds(self.train_dataparser_outputs)
        return super().create_train_dataset()


class _NoLpips(torch.nn.Module):
    """In the place of the LPIPS that nerfstudio's models build, which would download weights that nobody asks here."""

    def __init__(self, **options: object) -> None:
        super().__init__()


class _OfTheScene:
    """Near, far and what is behind the scene, as the dataparser knows them; of nerfacto and what is made of it."""

    config: Any
    kwargs: Dict[str, Any]

    def populate_modules(self) -> None:
        """Builds the model."""
        metadata = self.kwargs["metadata"]
        record = get_fewshot_metadata(metadata)
        near, far = metadata[NEAR_FAR_KEY]
        behind = record.geometry.background if record.has_alpha else self.config.background_color
        bounded = metadata[FROM_OUTSIDE_KEY] if self.config.bounded is None else self.config.bounded
        self.config = replace(
            self.config,
            near_plane=near,
            far_plane=far,
            background_color=behind,
            disable_scene_contraction=bounded,
            proposal_initial_sampler="uniform" if bounded else "piecewise",
        )
        with mock.patch("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", _NoLpips):
            super().populate_modules()  # type: ignore[misc]
        # By default rays begin at the camera in evaluation, where nothing was trained.
        self.collider = NearFarCollider(near, far, reset_near_plane=False)


class PeerNerfacto(_OfTheScene, NerfactoModel):
    """nerfacto between the scene's bounds."""


class PeerDepthNerfacto(_OfTheScene, DepthNerfactoModel):
    """depth-nerfacto between the scene's bounds."""


class PeerSplatfacto(SplatfactoModel):
    """splatfacto before the scene's background."""

    def populate_modules(self) -> None:
        """Builds the model."""
        record = get_fewshot_metadata(self.kwargs["metadata"])
        if record.has_alpha:
            self.config = replace(self.config, background_color=record.geometry.background)
        with mock.patch("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", _NoLpips):
            super().populate_modules()


@dataclass
class PeerNerfactoConfig(NerfactoModelConfig):
    """nerfacto between the scene's bounds."""

    _target: Type = field(default_factory=lambda: PeerNerfacto)
    bounded: Optional[bool] = None
    """Whether the field ends at the scene's box and first samples lie at equal steps, instead of nerfacto's contraction
    of unbounded space; None: where all cameras look into the box from outside, as nerfstudio advises there."""


@dataclass
class PeerDepthNerfactoConfig(DepthNerfactoModelConfig):
    """depth-nerfacto between the scene's bounds."""

    _target: Type = field(default_factory=lambda: PeerDepthNerfacto)
    bounded: Optional[bool] = None
    """Whether the field ends at the scene's box and first samples lie at equal steps, instead of nerfacto's contraction
    of unbounded space; None: where all cameras look into the box from outside, as nerfstudio advises there."""


@dataclass
class PeerSplatfactoConfig(SplatfactoModelConfig):
    """splatfacto before the scene's background."""

    _target: Type = field(default_factory=lambda: PeerSplatfacto)


def _budgeted(own: str, name: str) -> PeerTrainerConfig:
    """nerfstudio's config of a method, with a budget; nothing is evaluated or saved on the way."""
    config = deepcopy(method_configs[own])
    values = {key: value for key, value in vars(config).items() if key != "_target"}
    budgeted = PeerTrainerConfig(**values)
    budgeted.method_name, budgeted.max_num_iterations, budgeted.steps_per_save = name, 10**6, 10**6
    for group in budgeted.optimizers.values():
        if group["scheduler"] is not None:
            group["scheduler"].max_steps, group["scheduler"].warmup_steps = TICKS, 0
    return budgeted


def _nerfacto(own: Literal["nerfacto", "depth-nerfacto"], data: Type, kind: Type) -> MethodSpecification:
    config = _budgeted(own, f"peer-{own}")
    model: Any = config.pipeline.model
    settings = {key: value for key, value in vars(model).items() if key != "_target"}
    settings |= {"implementation": "torch", "average_init_density": 0.01}
    # Chosen on other views of fern (docs/benchmarks/peers.md): a step of 4096 rays takes 8 CPU seconds, and photos of a
    # hundred pixels need neither the finest table nor 400 samples of a ray.
    settings |= {"log2_hashmap_size": 16, "num_proposal_samples_per_ray": (64, 32), "num_nerf_samples_per_ray": 24}
    # nerfstudio's 1000 of 30000 steps, of the hundreds that a CPU does in minutes.
    settings |= {"proposal_weights_anneal_max_num_iters": 10}
    # Poses are true, and photos of a scene are of one light.
    settings |= {"use_appearance_embedding": False}
    budgeted: Any = kind(**settings)
    budgeted.camera_optimizer.mode = "off"
    config.pipeline.model = budgeted
    rays = config.pipeline.datamanager
    config.pipeline.datamanager = VanillaDataManagerConfig(
        _target=data,
        dataparser=rays.dataparser,  # type: ignore[attr-defined]
        train_num_rays_per_batch=256,
        eval_num_rays_per_batch=4096,
    )
    for group in ("proposal_networks", "fields"):
        config.optimizers[group] = {
            "optimizer": AdamOptimizerConfig(lr=1e-2, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=TICKS),
        }
    return MethodSpecification(config=config, description=f"nerfstudio's {own} within a budget of CPU seconds.")


def nerfacto() -> MethodSpecification:
    """nerfacto without camera optimizer and appearance."""
    return _nerfacto("nerfacto", PeerData, PeerNerfactoConfig)


def depth_nerfacto() -> MethodSpecification:
    """The same with nerfstudio's loss on depth maps."""
    return _nerfacto("depth-nerfacto", PeerDepthData, PeerDepthNerfactoConfig)


def splatfacto() -> MethodSpecification:
    """splatfacto as it ships; wants CUDA."""
    config = _budgeted("splatfacto", "peer-splatfacto")
    settings = {key: value for key, value in vars(config.pipeline.model).items() if key != "_target"}
    config.pipeline.model = PeerSplatfactoConfig(**settings)
    return MethodSpecification(config=config, description="nerfstudio's splatfacto within a budget of CPU seconds.")


METHODS = {"peer-nerfacto": nerfacto, "peer-depth-nerfacto": depth_nerfacto, "peer-splatfacto": splatfacto}
"""What `register` makes known, by name."""


def register() -> None:
    """Makes the methods known to nerfstudio in this process and in those that it starts."""
    from nerfstudio.configs.method_configs import all_descriptions, all_methods

    entries = [f"{name}={__name__}:{method.__name__}" for name, method in METHODS.items()]
    others = [entry for entry in os.environ.get("NERFSTUDIO_METHOD_CONFIGS", "").split(",") if entry]
    kept = [entry for entry in others if entry not in entries]
    os.environ["NERFSTUDIO_METHOD_CONFIGS"] = ",".join([*kept, *entries])
    paths = [str(Path(__file__).resolve().parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    for name, method in METHODS.items():
        specification = method()
        all_methods[name], all_descriptions[name] = specification.config, specification.description

"""The protocol of priors, which take the place of missing views.

A prior is a class with a config. A pipeline has one config field per prior, iterates over them and knows none by name,
so a new prior is one class and one field on a subclass of the pipeline's config (docs/add_a_prior.md).

Of a training step, in this order, which is part of the contract because random numbers are drawn in it:

1. `request` of the priors that need pixels of the photos, in the order of the config's fields;
2. the datamanager draws the remaining pixels of the batch;
3. `request` of the priors that need unseen views, in the order of the fields;
4. one forward renders all of it;
5. `loss_dict` of every prior, in the order of the fields. Whole views are rendered in here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Generic,
    List,
    Literal,
    Mapping,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
)

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor, nn

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.samplers.pixels import PixelRequest
from fewshot_ns.model_components.rendering import Rendering, RenderOptions
from fewshot_ns.model_components.schedules import linear_ramp
from fewshot_ns.utils.configs import SavedConfig

Served = Literal["samples", "density", "normals", "planes", "latents", "unseen_views"]
"""Things that only some backbones can serve. samples: weights along rays; density: densities of these samples; normals:
trainable normals of these samples; planes: feature planes; latents: a predicted latent of the view that is rendered;
unseen_views: renderings of any camera in a training step."""
Label = Literal["depth", "nearness", "normal", "alpha"]
"""Measured values of the training pixels that a batch can hold."""


@dataclass
class ScheduleConfig:
    """When a prior counts, and how much; the same fields for all priors."""

    start_step: int = 0
    """First step at which the prior's terms count."""
    stop_step: Optional[int] = None
    """Step from which they no longer count; None: never."""
    interval: int = 1
    """Every how many steps they count."""
    fade_start_step: int = 0
    """Step from which their weights fall linearly."""
    fade_end_step: int = 0
    """Step from which they have fallen to fade_ratio."""
    fade_ratio: float = 1.0
    """Fraction of the weights that remains; 1: they never fall."""

    def counts(self, step: int) -> bool:
        """Whether the terms count at a step, counted from 0."""
        before_stop = self.stop_step is None or step < self.stop_step
        return step >= self.start_step and before_stop and (step + 1) % self.interval == 0

    def fade(self, step: int) -> float:
        """Factor on the weights at a step."""
        length = self.fade_end_step - self.fade_start_step
        return linear_ramp(step - self.fade_start_step, 1.0, self.fade_ratio, length)


BoundsFinder = Callable[[FewShotDataset, str], Optional[Tuple[float, float]]]
"""Function (training views, how the prior's flags begin) -> near and far, planar depths in world units; None, with a
warning, where it finds none."""


@dataclass
class PriorConfig(SavedConfig, ScheduleConfig, InstantiateConfig):
    """A prior of a pipeline: one field of its config. It has the schedule's fields and its own."""

    _target: Type = field(default_factory=lambda: Prior)
    """Class that the config builds."""
    enabled: bool = False
    """Whether training uses the prior."""

    def scene_files(self) -> FrozenSet[str]:
        """Files besides the photos that the prior needs, by the names that datasets give them: 'depth_maps'."""
        return frozenset()

    def bounds_finder(self) -> Optional[BoundsFinder]:
        """What finds near and far in the photos of a metric scene of which nothing states them, before training; None
        where the prior, as it is configured, does not."""
        return None


@dataclass(frozen=True)
class Needs:
    """What a prior needs; checked once, before training, against backbone and data."""

    served: Mapping[str, str] = field(default_factory=dict)
    """What the backbone has to serve (`Served`), and why, for the message where it cannot: "cdf bounds weights"."""
    alternative: str = ""
    """What to do instead, for the same message."""
    labels: FrozenSet[Label] = frozenset()
    """Measured values that the batch has to hold."""
    request: Optional[Literal["pixels", "cameras"]] = None
    """What `request` gives; None: nothing, it is not called."""
    single_scene: bool = True
    """Whether training has to be on one scene."""


@dataclass(frozen=True)
class PriorScene:
    """The scene and the training, as a prior gets them when it is built."""

    dataset: FewShotDataset
    """Training views; of a run on many scenes those of the active one."""
    device: torch.device
    """Of the model."""
    data: Path
    """Folder or file of the scene, for messages."""
    provides: FrozenSet[str] = frozenset()
    """What the backbone serves (`Served`)."""
    num_rays: int = 0
    """Training pixels of a step."""
    single_image_batches: bool = False
    """Whether the training pixels of a step all come from one image."""
    whole_images: bool = False
    """Whether they are all pixels of that image."""

    @property
    def geometry(self) -> SceneGeometry:
        """Ray geometry of the scene."""
        return self.dataset.fewshot.geometry


@dataclass(frozen=True)
class CameraRequest:
    """Unseen views that are rendered in the main forward; none of their pixels has a colour loss."""

    cameras: Cameras
    """(B,) all of one size."""
    footprint_scale: float = 1.0
    """Radius of a pixel's footprint as a fraction of that of the cameras' own pixels."""


Request = Union[PixelRequest, CameraRequest]
Renderer = Callable[[Cameras, RenderOptions], Rendering]
"""Renders (B,) cameras of one size as pixels (B, H, W), with gradient in training."""


@dataclass(frozen=True)
class StepContext:
    """What a prior sees of a training step."""

    photos: Rendering
    """(R,) the training pixels."""
    requested: Optional[Rendering]
    """What this prior requested: (N,) pixels, or (B, H, W) of cameras; None where it requested nothing."""
    batch: Mapping[str, Any]
    """Of the R training pixels: `image` (R, 3), `indices` (R, 3), and the labels."""
    render: Renderer
    """Renders whole views, in a forward of its own."""
    model: nn.Module
    """The backbone, for what only some have: planes, latents."""


C = TypeVar("C", bound=PriorConfig)


class Prior(Generic[C]):
    """Base of the priors. Networks of a prior are no part of the model that learns, nor of checkpoints.

    Args:
        config: the prior's config.
        scene: the scene, by which fields that are None are resolved.
        name: of its field in the pipeline's config, which its flags begin with.

    Raises:
        ValueError: a field out of its range.
    """

    def __init__(self, config: C, scene: PriorScene, name: str) -> None:
        self.config, self.scene, self.name = config, scene, name
        if config.interval < 1:
            raise ValueError(f"expected {self.flag}.interval of at least 1, got {config.interval}")
        if config.stop_step is not None and config.stop_step <= config.start_step:
            raise ValueError(
                f"expected {self.flag}.stop-step beyond {self.flag}.start-step ({config.start_step}), "
                f"got {config.stop_step}"
            )
        if config.fade_end_step < config.fade_start_step:
            raise ValueError(
                f"expected {self.flag}.fade-end-step not before {self.flag}.fade-start-step "
                f"({config.fade_start_step}), got {config.fade_end_step}"
            )

    def expect_at_least(self, least: float, **values: Optional[float]) -> None:
        """Checks fields of the config; None passes.

        Raises:
            ValueError: a value is below `least`; the message names its flag.
        """
        for name, value in values.items():
            if value is not None and not value >= least:
                flag = f"{self.flag}.{name.replace('_', '-')}"
                raise ValueError(f"expected {flag} of at least {least:g}, got {value:g}")

    @property
    def flag(self) -> str:
        """How the prior's flags begin on the command line."""
        return prior_flag(self.name)

    @property
    def needs(self) -> Needs:
        """What the prior needs where it is on."""
        return Needs()

    def prepare(self) -> None:
        """Loads and checks what training needs, where the prior is on; before the first step.

        Raises:
            ValueError: the scene lacks what the prior needs, or it is unusable.
        """

    def request(self, step: int) -> Optional[Request]:
        """What the prior wants to see rendered in a step's main forward, as `needs.request` announces it."""
        return None

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """Weighted terms of a step; only called where the prior is on and counts."""
        raise TypeError(f"{type(self).__name__} has to define loss_dict")

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided, for log and record."""
        return {}

    def viewer_controls(self, render: Renderer) -> Mapping[str, nn.Module]:
        """Elements of ns-viewer by the names of their folders there, also where the prior is off.

        Args:
            render: renders cameras as at evaluation.
        """
        return {}


def prior_flag(name: str) -> str:
    """How the flags of the prior in a field of the pipeline's config begin on the command line."""
    return f"--pipeline.{name.replace('_', '-')}"


def prior_configs(pipeline_config: Any) -> Dict[str, PriorConfig]:
    """The configs of a pipeline's priors by the names of their fields, in their order."""
    values = {one.name: getattr(pipeline_config, one.name) for one in fields(pipeline_config)}
    return {name: value for name, value in values.items() if isinstance(value, PriorConfig)}


class PriorSet:
    """The priors of a pipeline, in the order of its config's fields.

    Args:
        pipeline_config: the pipeline's config.
        scene: the scene and the training.
    """

    def __init__(self, pipeline_config: Any, scene: PriorScene) -> None:
        configs = prior_configs(pipeline_config)
        self.all: Dict[str, Prior] = {name: config.setup(scene=scene, name=name) for name, config in configs.items()}

    @property
    def enabled(self) -> List[Prior]:
        """Those that are on."""
        return [prior for prior in self.all.values() if prior.config.enabled]

    def served(self) -> FrozenSet[str]:
        """What the backbone has to serve."""
        return frozenset(name for prior in self.enabled for name in prior.needs.served)

    def labels(self) -> FrozenSet[str]:
        """Measured values that the batch has to hold."""
        return frozenset(label for prior in self.enabled for label in prior.needs.labels)

    def check(
        self,
        why_not: Callable[[str], Optional[str]],
        num_scenes: int,
        takes_requests: bool,
        prior_scene_trains: bool = True,
    ) -> None:
        """Refuses what backbone or data cannot serve.

        Args:
            why_not: Function (name in `Served`) -> why the backbone does not serve it; None where it does.
            num_scenes: Scenes that are trained on.
            takes_requests: Whether batches have room for pixels and views that priors ask for.
            prior_scene_trains: Whether the scene that priors are told of is one that is trained on.

        Raises:
            ValueError: names flag, reason and alternative.
        """
        for prior in self.enabled:
            needs = prior.needs
            alternative = f"; {needs.alternative}" if needs.alternative else ""
            for name, reason in needs.served.items():
                lack = why_not(name)
                if lack is not None:
                    raise ValueError(f"{prior.flag}.enabled: {reason}, and {lack}{alternative}")
            if needs.request is not None and not takes_requests:
                raise ValueError(
                    f"{prior.flag}.enabled: the prior asks for {needs.request} of one scene in every batch, and "
                    f"batches of many scenes have no room for them{alternative}"
                )
            if needs.labels and not takes_requests:
                raise ValueError(
                    f"{prior.flag}.enabled: the prior compares measured {' and '.join(sorted(needs.labels))} of the "
                    f"training pixels, which batches of many scenes do not hold{alternative}"
                )
            if needs.single_scene and num_scenes == 1 and not prior_scene_trains:
                raise ValueError(
                    f"{prior.flag}.enabled: the prior knows the scene that is shown, and another one is trained on; "
                    "name the scene by --pipeline.datamanager.scenes"
                )
            if needs.single_scene and num_scenes != 1:
                raise ValueError(
                    f"{prior.flag}.enabled: expected one scene to train on, found {num_scenes}; name it by "
                    "--pipeline.datamanager.scenes"
                )

    def prepare(self) -> None:
        """Prepares the priors that are on, in their order."""
        for prior in self.enabled:
            prior.prepare()

    def requests(self, step: int, kind: Literal["pixels", "cameras"]) -> Dict[str, Any]:
        """What priors want to see in a step, of one kind, by their names."""
        # Pixels of photos stay in the batch where the prior does not count: they serve the colour loss.
        due = [prior for prior in self.enabled if kind == "pixels" or prior.config.counts(step)]
        asking = [prior for prior in due if prior.needs.request == kind]
        requests = {prior.name: prior.request(step) for prior in asking}
        return {name: request for name, request in requests.items() if request is not None}

    def add_losses(
        self, losses: Dict[str, Tensor], step: int, context: Callable[[str], StepContext]
    ) -> Dict[str, Tensor]:
        """The model's terms and those of all priors that count at a step.

        Args:
            losses: the model's terms.
            step: current step.
            context: Function (name of a prior) -> what it gets.

        Raises:
            ValueError: two terms have one name, of which one would be lost.
        """
        total, owner = dict(losses), dict.fromkeys(losses, "the model")
        for prior in self.enabled:
            if not prior.config.counts(step):
                continue
            for name, term in prior.loss_dict(step, context(prior.name)).items():
                if name in total:
                    raise ValueError(f"{prior.flag}: its term is called {name!r}, as one of {owner[name]} is")
                total[name], owner[name] = term, prior.flag
        return total

    def resolved(self) -> Dict[str, Dict[str, Any]]:
        """Values that the scene decided, by the names of the priors; empty for those that are off."""
        return {name: prior.resolved() if prior.config.enabled else {} for name, prior in self.all.items()}

"""Curricula: they change the forward pass over the steps, not the loss; each is written once for all backbones.

A curriculum is a config on the model, and an object whose `apply` changes a value that a backbone renders from, by the
step alone. A backbone that has no such value refuses the curriculum when it is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Generic, List, Literal, NamedTuple, Optional, Sequence, Type, TypeVar

import torch
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from fewshot_ns.cameras.ray_space import ModelRays
from fewshot_ns.cameras.scene_geometry import RaySpace, SceneGeometry
from fewshot_ns.field_components.encodings import frequency_mask, octave_mask
from fewshot_ns.model_components.schedules import anneal_near_far
from fewshot_ns.utils.configs import SavedConfig

C = TypeVar("C")
Value = TypeVar("Value")
Changed = TypeVar("Changed")


class Curriculum(Generic[C, Value, Changed]):
    """Base of the curricula.

    Args:
        config: the curriculum's config.
    """

    def __init__(self, config: C) -> None:
        self.config = config

    def apply(self, value: Value, step: int) -> Changed:
        """The value at a step, counted from 0."""
        raise TypeError(f"{type(self).__name__} has to define apply")

    def resolved(self) -> Dict[str, Any]:
        """What the scene decided, for the log."""
        return {}


@dataclass
class NearFarAnnealingConfig(SavedConfig, InstantiateConfig):
    """Sample-space annealing (RegNeRF): rays are sampled around a point at first, in the end from near to far."""

    _target: Type = field(default_factory=lambda: NearFarAnnealing)
    """Class that the config builds."""
    steps: Optional[int] = 256
    """Steps over which near and far open to the whole interval; 0 switches annealing off; None: the backbone's own
    (mip-NeRF: RegNeRF's 512 in NDC, 256 in metric scenes; the compact model: 150 and 0; others: 256)."""
    init_fraction: Optional[float] = None
    """Fraction of the near-far interval open at the start; None: 1e-4 in NDC (RegNeRF), in metric scenes 0.2, of
    mip-NeRF RegNeRF's 0.5."""
    mid_fraction: Optional[float] = None
    """Where the interval opens from (0 near, 1 far); None: 1.0 in NDC (RegNeRF); in metric scenes where each ray passes
    the training cameras' common focus point, of mip-NeRF RegNeRF's 0.5."""


class AnnealingDefaults(NamedTuple):
    """Values of the annealing where its config has None."""

    steps: int
    """Steps over which near and far open."""
    init_fraction: float
    """Fraction of the interval open at the start."""
    mid_fraction: Optional[float]
    """Where the interval opens from (0 near, 1 far); None: the focus point."""


ANNEALING: Dict[RaySpace, AnnealingDefaults] = {
    "ndc": AnnealingDefaults(256, 1e-4, 1.0),
    "metric": AnnealingDefaults(256, 0.2, None),
}
"""Those of a backbone without defaults of its own."""


class NearFarAnnealing(Curriculum[NearFarAnnealingConfig, ModelRays, ModelRays]):
    """Narrows near and far of rays, less and less with each step.

    Args:
        config: the curriculum's config.
        geometry: of the scene.
        defaults: those of the backbone, by ray space.
    """

    def __init__(
        self,
        config: NearFarAnnealingConfig,
        geometry: SceneGeometry,
        defaults: Dict[RaySpace, AnnealingDefaults] = ANNEALING,
    ) -> None:
        super().__init__(config)
        default, self.geometry = defaults[geometry.ray_space], geometry
        self.steps = default.steps if config.steps is None else config.steps
        self.init_fraction = default.init_fraction if config.init_fraction is None else config.init_fraction
        self.mid_fraction = default.mid_fraction if config.mid_fraction is None else config.mid_fraction

    def apply(self, value: ModelRays, step: int, focus_point: Optional[Tensor] = None) -> ModelRays:
        """Rays (R,) with the near and far of a step.

        Args:
            value: rays between the scene's near and far.
            step: current step, counted from 0.
            focus_point: (3,) world point that the training cameras look at; None: the world's origin.
        """
        # The original's counter is 1 for the first batch.
        if step + 1 >= self.steps:
            return value
        near, far = self.geometry.near, self.geometry.far
        if self.mid_fraction is None:
            focus = torch.zeros(3) if focus_point is None else focus_point
            to_focus = ((focus.to(value.origins) - value.origins) * value.directions).sum(-1, keepdim=True)
            middle = (to_focus / (value.directions**2).sum(-1, keepdim=True)).clamp(near, far)
        else:
            middle = torch.full_like(value.near, near + self.mid_fraction * (far - near))
        near, far = anneal_near_far(step + 1, value.near, value.far, self.steps, self.init_fraction, middle)
        return replace(value, near=near, far=far)

    def resolved(self) -> Dict[str, Any]:
        """Values of the fields that scene and backbone decided."""
        middle = "focus point" if self.mid_fraction is None else self.mid_fraction
        return {"steps": self.steps, "init_fraction": self.init_fraction, "mid_fraction": middle}


@dataclass
class FrequencyMaskConfig(SavedConfig, InstantiateConfig):
    """Frequency regularisation (FreeNeRF): the encoding of positions and directions opens from low to high."""

    _target: Type = field(default_factory=lambda: FrequencyMask)
    """Class that the config builds."""
    steps: Optional[int] = 0
    """Steps until the whole encoding is visible; 0 switches the mask off; None: FreeNeRF's, nine tenths of its
    training: 62791 in NDC, 39550 in metric scenes."""
    order: Literal["octave", "column"] = "column"
    """Order in which the mask opens: 'column' as in FreeNeRF's code (all sines before all cosines), 'octave' as in its
    text."""
    visible_ratio: Optional[float] = None
    """Instead of the schedule: this fraction of the columns is visible from the first step to the last."""
    first_step: int = 1
    """What the first batch counts as: 1 as in the original, whose mask is a step ahead."""


FREENERF_MASK_STEPS: Dict[RaySpace, int] = {"ndc": 62791, "metric": 39550}
"""Lengths of FreeNeRF's own masks."""


class EncodedColumns(NamedTuple):
    """The columns of a positional encoding of 3 coordinates."""

    num_octaves: int
    """Octaves, a sine and a cosine of each coordinate each."""
    include_input: bool
    """Whether the coordinates themselves come first; they are always visible."""
    by_octave: bool = False
    """Order of the columns: octave after octave, instead of all sines before all cosines."""

    @property
    def count(self) -> int:
        """Number of columns."""
        return 6 * self.num_octaves + 3 * self.include_input


class FrequencyMask(Curriculum[FrequencyMaskConfig, Sequence[EncodedColumns], List[Optional[Tensor]]]):
    """Masks of positional encodings, which open from low to high frequencies.

    Args:
        config: the curriculum's config.
        geometry: of the scene.
    """

    def __init__(self, config: FrequencyMaskConfig, geometry: SceneGeometry) -> None:
        super().__init__(config)
        self.steps = FREENERF_MASK_STEPS[geometry.ray_space] if config.steps is None else config.steps

    @property
    def used(self) -> bool:
        """Whether anything is ever hidden."""
        return self.steps > 0 or self.config.visible_ratio is not None

    def apply(
        self, value: Sequence[EncodedColumns], step: int, device: torch.device | str = "cpu"
    ) -> List[Optional[Tensor]]:
        """(columns,) visibility of each encoding's columns at a step; None where all are visible.

        Args:
            value: the encodings.
            step: current step, counted from 0.
            device: of the masks.
        """
        ratio = self.config.visible_ratio
        if ratio is None and step >= self.steps:
            return [None for _ in value]
        return [self._mask(columns, step + self.config.first_step, device) for columns in value]

    def _mask(self, columns: EncodedColumns, count: int, device: torch.device | str) -> Tensor:
        ratio = self.config.visible_ratio
        if self.config.order == "column" or ratio is not None:
            return frequency_mask(columns.count, count, self.steps, device, ratio)
        octaves = octave_mask(columns.num_octaves, 3, count, self.steps, device)
        if columns.by_octave:
            # Sines of all octaves, then cosines, to sine and cosine of each octave in turn.
            octaves = octaves.reshape(2, columns.num_octaves, 3).transpose(0, 1).reshape(-1)
        return torch.cat([torch.ones(3, device=device), octaves]) if columns.include_input else octaves

    def resolved(self) -> Dict[str, Any]:
        """Value of the field that the scene decided."""
        return {"steps": self.steps}

"""What a backbone renders for pixels: the contract between models, priors and pipelines."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Callable, Dict, Optional, Sequence

import torch
from torch import Tensor


@dataclass(frozen=True)
class RaySamples:
    """What a ray backbone knows along its rays; (...) are the pixels of the rendering."""

    weights: Tensor
    """(..., S) share of each sample in the pixel."""
    t: Tensor
    """(..., S + 1) fenceposts of the samples, ray parameter."""
    rgb: Optional[Tensor] = None
    """(..., S, 3) colours."""
    density: Optional[Tensor] = None
    """(..., S) densities, per unit length of the ray space."""
    normals: Optional[Tensor] = None
    """(..., S, 3) unit normals in the world, differentiable by the parameters; only where a prior needs them."""


BACKGROUND_CHANGE = "background_change"
"""Name in `Rendering.extras` of what a random background of training adds to the scene's: (..., 3)."""


@dataclass(frozen=True)
class Rendering:
    """Pixels (...) as a backbone sees them, before anything is clamped for a screen."""

    rgb: Tensor
    """(..., 3) colours."""
    depth: Tensor
    """(..., 1) Euclidean distance from the camera along the unit ray, world units, also in NDC."""
    accumulation: Tensor
    """(..., 1) opacity, 0 to 1."""
    distance: Tensor
    """(..., 1) mean ray parameter, what losses on depth compare: planar depth in metric scenes, NDC's t in NDC."""
    viewdirs: Optional[Tensor] = None
    """(..., 3) unit directions from the camera into the world."""
    samples: Optional[RaySamples] = None
    """Samples along the rays; None for backbones that have no rays."""
    coarse: Optional[Rendering] = None
    """The same of a coarse level, where the backbone has one."""
    extras: Dict[str, Tensor] = field(default_factory=dict)
    """(..., C) what else the backbone's own loss needs, such as the weights of its proposal; and further
    outputs at evaluation, by the names that nerfstudio shows them under."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the pixels."""
        return self.rgb.shape[:-1]

    def outputs(self) -> Dict[str, Tensor]:
        """`rgb`, `depth`, `accumulation` and further outputs, as nerfstudio names them."""
        return {"rgb": self.rgb, "depth": self.depth, "accumulation": self.accumulation, **self.extras}

    def map(self, change: Callable[[Tensor], Tensor]) -> Rendering:
        """The same with every tensor changed, whose first dimensions are the pixels'."""
        return _mapped([self], lambda parts: change(parts[0]))

    def __getitem__(self, pixels: object) -> Rendering:
        """The pixels at an index of the first dimension."""
        return self.map(lambda value: value[pixels])  # type: ignore[index]

    def reshape(self, *shape: int) -> Rendering:
        """Pixels (N,) as pixels of another shape."""
        return self.map(lambda value: value.reshape(*shape, *value.shape[1:]))

    def flatten(self) -> Rendering:
        """Pixels of any shape as pixels (N,)."""
        count = len(self.shape)
        return self.map(lambda value: value.flatten(0, count - 1))

    @staticmethod
    def cat(parts: Sequence[Rendering]) -> Rendering:
        """Pixels of several renderings of one backbone, one after the other."""
        return parts[0] if len(parts) == 1 else _mapped(parts, lambda values: torch.cat(list(values)))


def _mapped(parts: Sequence, change: Callable[[Sequence[Tensor]], Tensor]):  # noqa: ANN202 - as the parts
    """One record from several of one class, each tensor made of the tensors of that field."""
    changed = {}
    for one in fields(parts[0]):
        values = [getattr(part, one.name) for part in parts]
        if isinstance(values[0], Tensor):
            changed[one.name] = change(values)
        elif isinstance(values[0], dict):
            changed[one.name] = {name: change([value[name] for value in values]) for name in values[0]}
        elif values[0] is not None:
            changed[one.name] = _mapped(values, change)
    return replace(parts[0], **changed)


@dataclass(frozen=True)
class RenderOptions:
    """How a whole view is rendered for a term of the loss."""

    stratified: Optional[bool] = None
    """Whether samples along rays are drawn at random, as in training, or lie as at evaluation; None: as the model is
    configured."""
    coarse_only: bool = False
    """Whether the final level may be left out, where the backbone can; it is then that of the coarse level."""
    chunk_rays: Optional[int] = None
    """Rays whose graph is kept at a time, of backbones that have rays: chunks are rendered without a graph, and again
    when their gradient comes back. None: the graph of all is kept."""
    footprint_scale: float = 1.0
    """Radius of a pixel's footprint (mip-NeRF) as a fraction of that of the camera's own pixels: below 1 for a camera
    whose pixels are every n-th of an image."""

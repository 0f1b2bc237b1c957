"""Renders rays of unseen views with gradient, chunk by chunk, so that a whole picture fits into little memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fewshot_ns.models.fewshot_model import FewShotModel


@dataclass(frozen=True)
class UnseenRenderer:
    """Colours of the levels of a model along any number of rays.

    Their gradient is that of rendering all rays at once, and so are the random numbers of each chunk when it is
    rendered again.
    """

    model: FewShotModel
    """Any backbone, in training."""
    chunk_rays: Optional[int] = None
    """Rays whose graph is kept at a time: chunks are rendered without a graph, and again when their gradient comes
    back. None: the graph of all is kept."""
    stratified: Optional[bool] = None
    """See `FewShotModel.samples_at_random`."""
    coarse_only: bool = False
    """Whether the final level is left out."""

    def __call__(self, rays: RayBundle) -> Dict[str, Tensor]:
        """`rgb` and `rgb_coarse` (R, 3) of rays (R,), as far as the model has them and they are asked for."""
        size = len(rays) if self.chunk_rays is None else self.chunk_rays
        chunks = [self._chunk(rays[start : start + size]) for start in range(0, len(rays), size)]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _chunk(self, rays: RayBundle) -> Dict[str, Tensor]:
        def render(_: Tensor) -> Dict[str, Tensor]:
            return self.model.render_levels(rays, self.stratified, self.coarse_only)

        if self.chunk_rays is None or not torch.is_grad_enabled():
            return render(rays.origins)
        # The tensor tells torch on which device random numbers are drawn.
        levels = checkpoint(render, rays.origins, use_reentrant=False)
        assert levels is not None
        return levels


@torch.no_grad()
def render_as_evaluated(model: FewShotModel, rays: RayBundle) -> Dict[str, Tensor]:
    """`rgb` (R, 3) of rays (R,) as evaluation sees them; the model may be in training and stays so."""
    was_training = model.training
    model.eval()
    try:
        return UnseenRenderer(model, model.config.eval_num_rays_per_chunk)(rays)
    finally:
        model.train(was_training)

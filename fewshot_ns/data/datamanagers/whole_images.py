"""Training steps of whole images: which view is whose turn, and its rays and labels, which are made once."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Callable, Dict, List, Tuple

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fewshot_ns.data.multiscene.order import SceneOrder
from fewshot_ns.data.samplers.pixels import ImageStack

MASK_KEY = "mask"
"""Batch key of (R, 1) bool, which pixels may train; of steps of whole images, in scenes with training masks."""
IMAGE_SIZE_KEY = "image_size"
"""Batch key of the (height, width) of the image that such a batch ends with."""
_KEPT_PIXELS = 4_000_000
"""Pixels whose rays and labels are kept, about 100 bytes each; views beyond them are made anew each time."""

Batch = Tuple[RayBundle, Dict[str, Any]]


class WholeImages:
    """All pixels of one training view a step; every view once per epoch, in an order drawn for each epoch.

    The order is a function of seed and step, so a resumed run goes on where the other stopped.

    Args:
        images: training images.
        make: function (indices (R, 3) of view, row, column) -> rays and batch of these pixels.
        seed: the same on all ranks.
        rank: this process.
        world_size: number of processes, which take different views in a step.
    """

    def __init__(
        self, images: ImageStack, make: Callable[[Tensor], Batch], seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.sizes: List[Tuple[int, int]] = list(zip(images.heights.tolist(), images.widths.tolist(), strict=True))
        self.make = make
        self.order = SceneOrder(len(self.sizes), 1, seed, rank, world_size)
        self._kept: Dict[int, Batch] = {}

    @property
    def smallest(self) -> int:
        """Pixels of the smallest image."""
        return min(height * width for height, width in self.sizes)

    def forget(self) -> None:
        """Makes all batches anew, since labels have changed."""
        self._kept.clear()

    def view_of(self, step: int) -> int:
        """Whose turn it is."""
        return next(self.order.scenes(step))

    def batch(self, step: int, requested: Tensor) -> Batch:
        """Rays and batch of the requested pixels and, after them, of all pixels of one view, row by row.

        Args:
            step: current step.
            requested: (N, 3) view, row, column. Where all are of one view, the image is that view's.
        """
        views = requested[:, 0].unique()
        view = int(views[0]) if len(views) == 1 else self.view_of(step)
        rays, batch = self._image(view)
        if len(requested) > 0:
            first, begin = self.make(requested)
            rays, batch = joined_rays(first, rays), {name: torch.cat([begin[name], batch[name]]) for name in batch}
        return rays, {**batch, IMAGE_SIZE_KEY: self.sizes[view]}

    def _image(self, view: int) -> Batch:
        kept = self._kept.get(view)
        if kept is None:
            height, width = self.sizes[view]
            row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            kept = self.make(torch.stack([torch.full_like(row, view), row, column], dim=-1).reshape(-1, 3))
            if sum(len(rays) for rays, _ in self._kept.values()) + height * width <= _KEPT_PIXELS:
                self._kept[view] = kept
        rays, batch = kept
        # Copies, since colliders and models set fields of the rays that they get; the tensors are shared.
        return replace(rays, metadata=dict(rays.metadata)), batch


def joined_rays(first: RayBundle, second: RayBundle) -> RayBundle:
    """(R + S,) rays of two bundles (R,) and (S,) that have the same fields."""
    values: Dict[str, Any] = {}
    for one in fields(RayBundle):
        ours, theirs = getattr(first, one.name), getattr(second, one.name)
        if isinstance(ours, Tensor):
            values[one.name] = torch.cat([ours, theirs])
        elif isinstance(ours, dict):
            values[one.name] = {name: torch.cat([value, theirs[name]]) for name, value in ours.items()}
    return RayBundle(**values)

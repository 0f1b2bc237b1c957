"""Quads of pixels: a pair in the order of the depth prior, and a neighbour of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Literal, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.data.samplers.pixels import ImageStack

_MAX_REDRAWS = 64


@dataclass(frozen=True)
class QuadSamplerOptions:
    """How pairs and their neighbours are drawn (SparseNeRF, section 3.3 and its released sampler)."""

    box_fraction: float
    """Sides of the box that holds a pair, as a fraction of the image's sides, in (0, 1]."""
    window: Tuple[int, int] = (-3, 2)
    """First and last offset of neighbour candidates, pixels."""
    neighbour_fraction: float = 0.3
    """Fraction of the candidates, nearest in prior depth first, among which a neighbour is drawn."""
    allow_self: bool = True
    """Whether a pixel is a candidate for its own neighbour, as in the original."""
    tie: Literal["first", "second"] = "second"
    """Which of two pixels with equal prior counts as nearer: the one drawn first or second."""
    box_pixels: Optional[int] = None
    """Sides of the box in pixels, instead of `box_fraction`."""
    min_valid: int = 0
    """Boxes with fewer valid pixels are not used, and pairs are drawn among the valid pixels of a box (NVS-RGBD);
    0: pairs are drawn among all pixels of any box until both are valid."""
    leave_out_views: bool = False
    """Whether no pair is drawn in views that have too few valid pixels; else they are an error."""


class QuadSampler:
    """Draws quads (p0, p1, n0, n1) of pixels: by the prior p0 is not farther than p1, n0 and n1 are their neighbours.

    Pixels without a valid prior are never drawn.

    Args:
        nearness: V maps (H_v, W_v), larger = nearer.
        valid: V maps (H_v, W_v) of bool.
        options: how pairs and neighbours are drawn.

    Raises:
        ValueError: where a view (or, with `leave_out_views`, every view) has fewer than two valid pixels, or no box
            with as many as an option asks for, or an option is out of range.
    """

    def __init__(self, nearness: List[Tensor], valid: List[Tensor], options: QuadSamplerOptions) -> None:
        if not 0.0 < options.box_fraction <= 1.0:
            raise ValueError(f"expected box_fraction in (0, 1], got {options.box_fraction}")
        if not 0.0 < options.neighbour_fraction <= 1.0:
            raise ValueError(f"expected neighbour_fraction in (0, 1], got {options.neighbour_fraction}")
        self.options = options
        self.nearness = ImageStack([value[..., None] for value in nearness])
        self.valid = ImageStack([mask[..., None] for mask in valid])
        sides = torch.stack([self.nearness.heights, self.nearness.widths], dim=-1)
        box = sides * options.box_fraction if options.box_pixels is None else torch.full_like(sides, options.box_pixels)
        self.box = box.round().long().clamp(min=2).minimum(sides)
        self.corners = [_corners(mask, self.box[view], options.min_valid) for view, mask in enumerate(valid)]
        self.valid_pixels = [mask.nonzero() for mask in valid]
        self.views = self._usable_views(valid)
        self.spread = torch.stack([_spread(value[mask]) for value, mask in zip(nearness, valid, strict=True)])
        steps = torch.arange(options.window[0], options.window[1] + 1)
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).reshape(-1, 2)
        self.offsets = grid if options.allow_self else grid[(grid != 0).any(-1)]

    def _usable_views(self, valid: List[Tensor]) -> Tensor:
        """(U,) views in which pairs are drawn."""
        problems = [self._lacks(view, mask) for view, mask in enumerate(valid)]
        named = [f"training view {view} {problem}" for view, problem in enumerate(problems) if problem]
        if named and (not self.options.leave_out_views or len(named) == len(valid)):
            raise ValueError(named[0])
        return torch.tensor([view for view, problem in enumerate(problems) if not problem])

    def _lacks(self, view: int, valid: Tensor) -> str:
        """Why no pair can be drawn in a view, in words; empty where it can."""
        if int(valid.sum()) < 2:
            return f"has {int(valid.sum())} pixels with a valid depth prior, need 2"
        if self.options.min_valid > 0 and len(self.corners[view]) == 0:
            height, width = self.box[view].tolist()
            return (
                f"has no box of {height}x{width} pixels with {self.options.min_valid} valid ones, at most "
                f"{int(_valid_in_boxes(valid, self.box[view]).max())}; its depth prior is too sparse"
            )
        return ""

    def sample(self, num_quads: int, single_image: bool = False) -> Tensor:
        """(4 * num_quads, 3) indices (view, row, column), ordered p0, p1, n0, n1 within each quad.

        Args:
            num_quads: quads to draw.
            single_image: all quads from one view (as the original), else each from its own.
        """
        views = self.views[torch.randint(len(self.views), (1 if single_image else num_quads,))].expand(num_quads)
        first, second = self._pairs(views)
        label_first, label_second = self._label(first), self._label(second)
        swap = (label_first <= label_second) if self.options.tie == "second" else (label_first < label_second)
        p0 = torch.where(swap[:, None], second, first)
        p1 = torch.where(swap[:, None], first, second)
        quads = torch.stack([p0, p1, self._neighbour(p0), self._neighbour(p1)], dim=1)
        return quads.reshape(-1, 3)

    def sample_singles(self, num: int, view: Optional[int] = None) -> Tensor:
        """(num, 3) indices (view, row, column), each uniform in a box of its own, with or without a prior.

        A box lies wholly within its view, so pixels near the border come up less often than with uniform draws.

        Args:
            num: pixels to draw.
            view: the view they come from; None: each from any.
        """
        views = torch.randint(len(self.nearness), (num,)) if view is None else torch.full((num,), view)
        return self._within_box(self._corners_anywhere(views), views)

    def gaps(self, quads: Tensor) -> Tensor:
        """(Q,) by how much the prior calls p0 nearer than p1, in units of the spread of the prior over its view.

        Args:
            quads: (4 * Q, 3) what `sample` returned.
        """
        label = self._label(quads).reshape(-1, 4)
        return (label[:, 0] - label[:, 1]) / self.spread[quads[::4, 0]]

    def _label(self, indices: Tensor) -> Tensor:
        return self.nearness.lookup(indices)[:, 0]

    def _pairs(self, views: Tensor) -> Tuple[Tensor, Tensor]:
        if self.options.min_valid > 0:
            return self._draw_among_valid(views)
        first, second = self._draw_boxed_pair(views)
        for _ in range(_MAX_REDRAWS):
            bad = ~(self.valid.lookup(first)[:, 0] & self.valid.lookup(second)[:, 0])
            if not bad.any():
                return first, second
            first[bad], second[bad] = self._draw_boxed_pair(views[bad])
        # Valid pixels so sparse that boxes keep missing them: take pairs anywhere among the valid ones.
        for i in bad.nonzero()[:, 0].tolist():
            pixels = self.valid_pixels[int(views[i])]
            pick = pixels[torch.randint(len(pixels), (2,))]
            first[i, 1:], second[i, 1:] = pick[0], pick[1]
        return first, second

    def _corners_anywhere(self, views: Tensor) -> Tensor:
        sides = torch.stack([self.nearness.heights[views], self.nearness.widths[views]], dim=-1)
        return _randint(sides - self.box[views] + 1)

    def _within_box(self, corner: Tensor, views: Tensor) -> Tensor:
        return torch.cat([views[:, None], corner + _randint(self.box[views])], dim=-1)

    def _draw_boxed_pair(self, views: Tensor) -> Tuple[Tensor, Tensor]:
        corner = self._corners_anywhere(views)
        return self._within_box(corner, views), self._within_box(corner, views)

    def _draw_among_valid(self, views: Tensor) -> Tuple[Tensor, Tensor]:
        """Pairs (N, 3) of valid pixels in boxes that hold enough of them."""
        pairs = torch.empty((len(views), 2, 3), dtype=torch.long)
        for view in views.unique().tolist():
            rows = (views == view).nonzero()[:, 0]
            corners = self.corners[view][torch.randint(len(self.corners[view]), (len(rows),))]
            grid = torch.cartesian_prod(*(torch.arange(int(side)) for side in self.box[view]))
            pixels = torch.cat([torch.full((len(rows), len(grid), 1), view), corners[:, None] + grid], dim=-1)
            usable = self.valid.lookup(pixels.reshape(-1, 3)).reshape(len(rows), -1)
            drawn = torch.multinomial(usable.float(), 2, replacement=True)
            pairs[rows] = pixels.gather(1, drawn[..., None].expand(-1, -1, 3))
        return pairs[:, 0], pairs[:, 1]

    def _neighbour(self, pixels: Tensor) -> Tensor:
        """One neighbour (N, 3) per pixel (N, 3), uniform among the candidates nearest to it in prior depth."""
        view = pixels[:, :1]
        sides = torch.stack([self.nearness.heights[view], self.nearness.widths[view]], dim=-1)
        position = pixels[:, None, 1:] + self.offsets
        # The original's window ends before the last row and column (exclusive upper bound), so they are never picked.
        inside = ((position >= 0) & (position < sides - 1)).all(-1)
        inside_position = position.clamp(min=0).minimum(sides - 1)
        candidates = torch.cat([view[:, None].expand(-1, len(self.offsets), -1), inside_position], dim=-1)
        flat = candidates.reshape(-1, 3)
        usable = inside & self.valid.lookup(flat).reshape(inside.shape)
        difference = (self._label(flat).reshape(inside.shape) - self._label(pixels)[:, None]).abs()
        order = torch.where(usable, difference, torch.full_like(difference, torch.inf)).argsort(dim=-1)
        count = (usable.sum(-1) * self.options.neighbour_fraction).long().clamp(min=1)
        choice = order.gather(-1, _randint(count)[:, None])
        chosen = candidates.gather(1, choice[..., None].expand(-1, -1, 3))[:, 0]
        return torch.where(usable.any(-1, keepdim=True), chosen, pixels)


def _randint(high: Tensor) -> Tensor:
    """Uniform integers in [0, high), element by element."""
    return (torch.rand(high.shape, dtype=torch.float64) * high).long()


def _valid_in_boxes(valid: Tensor, box: Tensor) -> Tensor:
    """Number of valid pixels in every box, by its top left corner."""
    height, width = box.tolist()
    total = torch.nn.functional.pad(valid.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]


def _corners(valid: Tensor, box: Tensor, min_valid: int) -> Tensor:
    """(N, 2) top left corners of the boxes that hold at least `min_valid` valid pixels; none are needed for 0."""
    if min_valid < 1:
        return torch.zeros((0, 2), dtype=torch.long)
    return (_valid_in_boxes(valid, box) >= min_valid).nonzero()


def _spread(values: Tensor) -> Tensor:
    """Distance between the 5 % and the 95 % quantile, robust against single far-off values; of values that are equal
    but for a few, whose quantiles are one, between all of them; never zero."""
    if len(values) == 0:
        return torch.tensor(1.0)
    low, high = np.quantile(values.numpy(), (0.05, 0.95))
    if high == low:
        low, high = values.min(), values.max()
    return torch.tensor(max(float(high - low), 1e-12))

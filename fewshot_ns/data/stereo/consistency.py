"""Which depths of a view the depths of other views confirm, and the mean of those that agree.

A pixel is taken by its depth into another view and by that view's depth back again. It is confirmed where it comes back
to its own place with its own depth, as published with IterMVS and other stereo networks.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView


class Reprojection(NamedTuple):
    """A reference's pixels, taken into a source and back. Views may differ in size."""

    position: Tensor
    """(H, W, 2) column and row in the source, first pixel's centre at (0.5, 0.5); -1 for what is not before it."""
    z_depth: Tensor
    """(H, W) planar depth in the reference of the point that the source sees there; 0 where there is none."""
    pixel_error: Tensor
    """(H, W) distance between the pixel and where it comes back to, pixels of the reference; infinite where it does
    not come back."""
    depth_error: Tensor
    """(H, W) difference to the pixel's own depth as a fraction of it; infinite where it does not come back."""

    def consistent(self, max_pixel_error: float, max_depth_error: float) -> Tensor:
        """(H, W) bool, where both errors are below these."""
        return (self.pixel_error < max_pixel_error) & (self.depth_error < max_depth_error)


class Consistency(NamedTuple):
    """What several sources say of a reference's depth."""

    masks: Tensor
    """(S, H, W) bool, which pixels each source confirms."""
    z_depths: Tensor
    """(S, H, W) the depths that come back from each source, see `Reprojection`."""

    @property
    def count(self) -> Tensor:
        """(H, W) int64, how many sources confirm each pixel."""
        return self.masks.sum(0)


def reproject(reference: StereoView, reference_depth: Tensor, source: StereoView, source_depth: Tensor) -> Reprojection:
    """Takes the pixels of one view by its depth into another, and by that one's depth back.

    Args:
        reference: view whose depth is checked.
        reference_depth: (H, W) its planar depth, world units; 0 where there is none.
        source: another view, of any size.
        source_depth: (Hs, Ws) its planar depth, likewise. Between pixels it is bilinear and 0 beyond the border, so
            that the edges of what is known do not come back.

    Raises:
        ValueError: depth maps of another size than their views'.
    """
    for view, depth in ((reference, reference_depth), (source, source_depth)):
        if tuple(depth.shape) != view.size:
            raise ValueError(f"{view.name}: expected a depth map of size {view.size}, found {tuple(depth.shape)}")
    position, there = source.project(reference.points(reference_depth))
    found = _bilinear(source_depth, position)
    back, z_depth = reference.project(_points_at(source, position, found))
    seen = (reference_depth > 0) & (there > 0) & (found > 0) & (z_depth > 0)
    height, width = reference.size
    row, column = torch.meshgrid(
        torch.arange(height, device=back.device) + 0.5, torch.arange(width, device=back.device) + 0.5, indexing="ij"
    )
    pixel_error = (back - torch.stack([column, row], dim=-1)).norm(dim=-1)
    depth_error = (z_depth / torch.where(seen, reference_depth, torch.ones_like(z_depth)) - 1.0).abs()
    infinite = torch.full_like(z_depth, torch.inf)
    return Reprojection(
        position,
        torch.where(seen, z_depth, torch.zeros_like(z_depth)),
        torch.where(seen, pixel_error, infinite),
        torch.where(seen, depth_error, infinite),
    )


def consistent_views(
    reference: StereoView,
    reference_depth: Tensor,
    sources: Sequence[StereoView],
    source_depths: Sequence[Tensor],
    max_pixel_error: float = 1.0,
    max_depth_error: float = 0.01,
) -> Consistency:
    """Which sources confirm which pixels of a reference.

    Args:
        reference, reference_depth: see `reproject`.
        sources, source_depths: one or more views with their depths.
        max_pixel_error: a pixel comes back nearer to its place than this, pixels of the reference.
        max_depth_error: and its depth differs by less than this, as a fraction of it.

    Raises:
        ValueError: no source, or depth maps of another size than their views'.
    """
    if not sources:
        raise ValueError(f"{reference.name}: expected at least one other view, found none")
    pairs = [
        reproject(reference, reference_depth, source, depth)
        for source, depth in zip(sources, source_depths, strict=True)
    ]
    masks = [pair.consistent(max_pixel_error, max_depth_error) for pair in pairs]
    return Consistency(torch.stack(masks), torch.stack([pair.z_depth for pair in pairs]))


def fuse(reference_depth: Tensor, consistency: Consistency) -> Tensor:
    """(H, W) mean of a reference's own depth and those of the sources that confirm it."""
    agreeing = torch.where(consistency.masks, consistency.z_depths, torch.zeros_like(consistency.z_depths))
    return (reference_depth + agreeing.sum(0)) / (1 + consistency.count)


def _bilinear(values: Tensor, position: Tensor) -> Tensor:
    """(H, W) values at positions (..., 2); what lies beyond the border is 0."""
    height, width = values.shape
    grid = position / position.new_tensor([width, height]) * 2.0 - 1.0
    found = torch.nn.functional.grid_sample(
        values[None, None], grid.reshape(1, 1, -1, 2), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return found.reshape(position.shape[:-1])


def _points_at(view: StereoView, position: Tensor, z_depth: Tensor) -> Tensor:
    """(..., 3) world points at positions (..., 2) of a view and planar depths (...)."""
    fx, fy, cx, cy = view.intrinsics.unbind()
    column, row = position.unbind(-1)
    local = torch.stack([(column - cx) / fx, -(row - cy) / fy, -torch.ones_like(row)], dim=-1)
    return view.pose[:, 3] + (local * z_depth[..., None]) @ view.pose[:, :3].T

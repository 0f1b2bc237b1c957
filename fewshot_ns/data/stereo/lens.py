"""Photos of lenses that bend straight lines: matched as a pinhole camera would have taken them."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

import torch
from nerfstudio.cameras.camera_utils import radial_and_tangential_undistort
from torch import Tensor

from fewshot_ns.cameras.lenses import bent
from fewshot_ns.data.stereo.views import StereoView, ViewDepth, sample

_TOLERANCE = 1e-3
"""By how much a point that is bent and straightened again may miss its place, as a fraction of the focal length; beyond
the edge of a photo the polynomial of a lens may turn back."""


def straightened(view: StereoView, distortion: Tensor) -> StereoView:
    """What a pinhole camera of the same pose and intrinsics would have seen; masked out beyond the photo.

    Args:
        view: photo of the lens, whose intrinsics leave out the distortion.
        distortion: (6,), see `bent`.
    """
    points = _on_plane(view.size, view.intrinsics)
    seen_at = bent(points, distortion)
    back = radial_and_tangential_undistort(seen_at, distortion)
    position = seen_at * view.intrinsics[:2] + view.intrinsics[2:]
    inside = ((back - points).norm(dim=-1) < _TOLERANCE) & view.contains(position)
    mask = inside & (sample(view.mask.float(), position) > 0.999)
    return replace(view, image=sample(view.image, position), mask=mask)


def as_photographed(depth: ViewDepth, view: StereoView, distortion: Tensor) -> ViewDepth:
    """Depth of a straightened view at the pixels of the photo; the nearest pixel is taken.

    Args:
        depth: of the straightened view.
        view: either view, for size and intrinsics.
        distortion: (6,), see `bent`.
    """
    points = radial_and_tangential_undistort(_on_plane(view.size, view.intrinsics), distortion)
    position = points * view.intrinsics[:2] + view.intrinsics[2:]
    maps = torch.stack([depth.z_depth, depth.sigma, depth.valid.to(depth.z_depth)], dim=-1)
    z_depth, sigma, valid = sample(maps, position, "nearest").unbind(-1)
    return ViewDepth(z_depth, sigma, (valid > 0.5) & view.contains(position))


def depth_straightened(depth: ViewDepth, view: StereoView, distortion: Tensor) -> ViewDepth:
    """Depth of a photo of the lens at the pixels of the straightened view; the nearest pixel is taken.

    Args:
        depth: of the photo; planar depth is the same in both.
        view: either view, for size and intrinsics.
        distortion: (6,), see `bent`.
    """
    position = bent(_on_plane(view.size, view.intrinsics), distortion) * view.intrinsics[:2] + view.intrinsics[2:]
    maps = torch.stack([depth.z_depth, depth.sigma, depth.valid.to(depth.z_depth)], dim=-1)
    z_depth, sigma, valid = sample(maps, position, "nearest").unbind(-1)
    return ViewDepth(z_depth, sigma, (valid > 0.5) & view.contains(position))


def _on_plane(size: Tuple[int, int], intrinsics: Tensor) -> Tensor:
    """(H, W, 2) pixel centres on the plane at distance 1, OpenCV axes."""
    height, width = size
    device = intrinsics.device
    rows, columns = torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    return (torch.stack([column, row], dim=-1) - intrinsics[2:]) / intrinsics[:2]

"""Unseen views: cameras between and around those of a scene, whose images are only ever rendered.

All poses are OpenGL camera-to-world matrices (N, 3, 4) in float64, in the recentred world of the dataparsers. The
boxes and jitters are those of RegNeRF's and SparseNeRF's loaders; every function draws from a generator of the
caller's, or takes the draws themselves, so that a run (and a reference) can be repeated.
"""

from __future__ import annotations

from typing import Optional, Union

import numpy as np
import numpy.typing as npt
import torch

from fewshot_ns.cameras.poses import (
    Poses,
    average_pose,
    flip_camera_axes,
    focus_depth,
    focus_point,
    look_at,
    pose_from_axes,
    position_extent,
)

Generator = Union[np.random.Generator, torch.Generator]


def _uniform(generator: Generator, count: int) -> npt.NDArray[np.float64]:
    if isinstance(generator, torch.Generator):
        return torch.rand(count, 3, generator=generator, device=generator.device, dtype=torch.float64).cpu().numpy()
    return generator.random((count, 3))


def _normal(generator: Generator, count: int) -> npt.NDArray[np.float64]:
    if isinstance(generator, torch.Generator):
        return torch.randn(count, 3, generator=generator, device=generator.device, dtype=torch.float64).cpu().numpy()
    return generator.standard_normal((count, 3))


def _draws(
    given: Optional[Poses], name: str, count: int, generator: Optional[Generator], normal: bool = False
) -> npt.NDArray[np.float64]:
    if given is not None:
        draws = np.asarray(given, dtype=np.float64)
        if draws.shape != (count, 3):
            raise ValueError(f"expected {name} of shape ({count}, 3), got {draws.shape}")
        return draws
    if generator is None:
        raise ValueError(f"expected a generator, or {name} of shape ({count}, 3); got neither")
    return _normal(generator, count) if normal else _uniform(generator, count)


def llff_unseen_poses(
    poses: Poses,
    bounds: Poses,
    count: int,
    generator: Optional[Generator] = None,
    uniform: Optional[Poses] = None,
    last_draw_only: bool = False,
) -> Poses:
    """Random cameras of a forward-facing scene: uniform in the box of the cameras, looking at the plane in focus.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        bounds: (N, 2) nearest and farthest depth of each, in world units.
        count: Number of draws.
        generator: Source of the draws where `uniform` is not given.
        uniform: (count, 3) numbers in [0, 1).
        last_draw_only: Return only the camera of the last draw, as the originals do (they append it after their loop).

    Returns:
        (count, 3, 4), or (1, 3, 4) with `last_draw_only`.

    Raises:
        ValueError: draws of another shape, or neither draws nor generator.
    """
    numbers = 2.0 * _draws(uniform, "uniform", count, generator) - 1.0
    average, up = average_pose(poses), poses[:, :3, 1].mean(0)
    target = average @ np.array([0.0, 0.0, -focus_depth(bounds), 1.0])
    offsets = position_extent(poses, 100) * numbers
    positions = offsets @ average[:, :3].T + average[:, 3]
    unseen = np.stack([look_at(position, target, up) for position in positions])
    return unseen[-1:] if last_draw_only else unseen


def dtu_unseen_poses(
    poses: Poses,
    count: int,
    generator: Optional[Generator] = None,
    uniform: Optional[Poses] = None,
    normal: Optional[Poses] = None,
    radius: float = 1.0,
    jitter: float = 0.125,
) -> Poses:
    """Random cameras of an inward-facing scene: uniform in the box of the cameras, looking near their common focus.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        count: Number of cameras.
        generator: Source of the draws that are not given; uniform ones first, then normal ones.
        uniform: (count, 3) numbers in [0, 1).
        normal: (count, 3) standard normal numbers.
        radius: Size of the box relative to the cameras'.
        jitter: Standard deviation of the point looked at, in world units.

    Returns:
        (count, 3, 4).

    Raises:
        ValueError: draws of another shape, neither draws nor generator, or cameras without a common focus.
    """
    offsets = 2.0 * radius * (_draws(uniform, "uniform", count, generator) - 0.5)
    targets = focus_point(poses) + jitter * _draws(normal, "normal", count, generator, normal=True)
    # The box lies along the axes of the average camera in OpenCV's convention, in which the originals work.
    opencv = flip_camera_axes(poses)
    average, down = average_pose(opencv), opencv[:, :3, 1].mean(0)
    positions = (offsets * position_extent(poses, 100)) @ average[:, :3].T + average[:, 3]
    unseen = [
        pose_from_axes(target - position, down, position) for position, target in zip(positions, targets, strict=True)
    ]
    return flip_camera_axes(np.stack(unseen))

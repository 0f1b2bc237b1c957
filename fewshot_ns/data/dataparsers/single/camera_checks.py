"""The check of cameras that every single scene passes through, whatever its layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Iterable, List, Sequence, Set

import numpy as np

from fewshot_ns.cameras.checks import (
    camera_faults,
    check_bounds,
    check_places,
    check_range,
    check_steps,
    check_world,
    intrinsics_fault,
    size_fault,
)
from fewshot_ns.cameras.poses import check_finite_poses, check_rotations
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles

_MOST_NAMED = 3


def check_stated_sizes(scene: SceneFiles, views: Iterable[int], data: Path) -> None:
    """Checks the sizes that views are calibrated for, before photos are compared with them.

    Raises:
        ValueError: a size that no photo has; names the file and the photo.
    """
    if scene.calibrated_sizes is None:
        return
    for view in views:
        height, width = scene.calibrated_sizes[view]
        fault = size_fault(float(height), float(width))
        if fault is not None:
            raise ValueError(f"{_source(scene, data)}: photo {_names(scene, data)[view]}: {fault}")


def checked_cameras(scene: SceneFiles, used: Iterable[int], data: Path) -> SceneFiles:
    """The scene, whose cameras cast finite rays.

    All poses and bounds must be right, since the world of most layouts is centred, turned and scaled by all of them,
    and unseen views are drawn among them. Intrinsics and lens of a view that is not used change nothing: they are a
    remark.

    Args:
        scene: The scene.
        used: Views that train or are looked at.
        data: Its folder or file, for messages of layouts that name no file of cameras.

    Raises:
        ValueError: a camera that is none, or near and far that cannot be sampled; names the file and the photo.
    """
    where, names = _source(scene, data), _names(scene, data)
    check_finite_poses(scene.camera_to_worlds, where, names)
    check_rotations(scene.camera_to_worlds, names, where)
    check_world(scene.transform, scene.scale, where)
    # Before near and far, which may have been taken from where cameras stand.
    check_places(scene.camera_to_worlds, names, where, scene.scale)
    geometry = scene.geometry
    check_range(geometry.near, geometry.far, str(data))
    if scene.bounds is not None:
        check_bounds(scene.bounds, names, where)
    # In NDC rays end at 1, whose depth of field is that of the near plane.
    interval = geometry.far - geometry.near if geometry.ray_space == "metric" else geometry.ndc_near
    check_steps(scene.camera_to_worlds, names, where, interval)
    if geometry.ndc_focal is not None:
        fault = intrinsics_fault((0.5 * geometry.ndc_focal[0], 0.5 * geometry.ndc_focal[1], 0.5, 0.5))
        if fault is not None:
            raise ValueError(f"{where}: photo {names[0]}, whose focal length serves the whole scene: {fault}")
    return _with_faults(scene, set(used), names, where)


def _with_faults(scene: SceneFiles, used: Set[int], names: Sequence[str], where: str) -> SceneFiles:
    """Raises for the first fault of a used view; says those of others."""
    sizes = scene.calibrated_sizes
    faults = camera_faults(
        scene.intrinsics, scene.distortion, None if sizes is None else np.asarray(sizes, dtype=np.float64)
    )
    for view in sorted(used & set(faults)):
        raise ValueError(f"{where}: photo {names[view]}: {faults[view]}")
    if not faults:
        return scene
    named = ", ".join(names[view] for view in sorted(faults)[:_MOST_NAMED])
    more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
    remark = f"{where}: cameras of photos that are not used are none: {named}{more} ({faults[min(faults)]})"
    return replace(scene, remarks=(*scene.remarks, remark))


def _names(scene: SceneFiles, data: Path) -> List[str]:
    """What photos are called in messages: by their path in the scene where several lists may have the same names."""
    if scene.list_lengths is None:
        return [photo.name for photo in scene.photos]
    return [
        image.relative_to(data).as_posix() if image.is_relative_to(data) else photo.name
        for image, photo in zip(scene.images, scene.photos, strict=True)
    ]


def _source(scene: SceneFiles, data: Path) -> str:
    return str(data if scene.cameras_file is None else scene.cameras_file)

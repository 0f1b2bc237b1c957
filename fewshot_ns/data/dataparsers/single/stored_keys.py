"""What the keys of a run's `scene.json` may hold, and that they speak of the same views."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, get_args

from fewshot_ns.cameras.scene_geometry import RayShape, RaySpace
from fewshot_ns.utils.json_files import (
    NUMBER,
    OBJECT,
    POSITIVE,
    SWITCH,
    TEXT,
    WHOLE,
    Kind,
    checked,
    list_of,
    numbers,
    one_of,
)

_INDICES = list_of(WHOLE, "a list of whole numbers")
_SCENE: Mapping[str, Kind] = {
    **dict.fromkeys(("splits", "geometry"), OBJECT),
    **dict.fromkeys(("train_indices", "test_indices", "pool_indices"), _INDICES),
    "protocol": TEXT,
    "has_alpha": SWITCH,
    **dict.fromkeys(("length_unit", "scale"), POSITIVE),
    "poses": numbers("a list of 3x4 matrices", (-1, 3, 4)),
    "bounds": numbers("a list of pairs of numbers", (-1, 2)),
    "transform": numbers("a 3x4 matrix", (3, 4)),
}
_GEOMETRY: Mapping[str, Kind] = {
    "ray_space": one_of(*get_args(RaySpace)),
    **dict.fromkeys(("near", "far", "origin_plane_z", "ndc_near"), NUMBER),
    "ray_shape": one_of(*get_args(RayShape)),
    "background": one_of("black", "white"),
    "ndc_focal": numbers("two numbers", (2,)),
}
_SPLIT: Mapping[str, Kind] = {
    "files": list_of(TEXT, "a list of names"),
    "cameras": OBJECT,
    "image_indices": _INDICES,
}
_PER_CAMERA = ("fx", "fy", "cx", "cy", "width", "height", "camera_type")
_CAMERAS: Mapping[str, Kind] = {
    "camera_to_worlds": numbers("a list of 3x4 matrices", (-1, 3, 4)),
    **dict.fromkeys(_PER_CAMERA, numbers("a number of each camera", (-1, 1))),
    "distortion_params": numbers("six numbers of each camera", (-1, 6)),
}


def stored_scene(content: Mapping[str, Any], path: Path) -> Dict[str, Any]:
    """The content of a `scene.json` whose keys hold what they may, with None where a key may have no value.

    Args:
        content: An object, of the version that this package writes.
        path: The file.

    Raises:
        ValueError: a value of another kind, a key that is missing, or lists that do not fit each other.
    """
    scene = checked(content, _SCENE, str(path), tuple(key for key in _SCENE if key != "bounds"))
    may_lack = ("origin_plane_z", "ndc_focal")
    geometry = checked(
        {key: value for key, value in scene["geometry"].items() if key in _GEOMETRY},
        _GEOMETRY,
        f"{path}, geometry",
        tuple(key for key in _GEOMETRY if key not in may_lack),
    )
    kinds: Dict[str, Kind] = {"train": OBJECT, "test": OBJECT}
    splits = checked(scene["splits"], kinds, f"{path}, splits", tuple(kinds))
    read = {name: _split(splits[name], f"{path}, splits.{name}") for name in kinds}
    return {"bounds": None, **scene, "geometry": geometry, "splits": {**splits, **read}}


def _split(content: Mapping[str, Any], where: str) -> Dict[str, Any]:
    split = checked(content, _SPLIT, where, tuple(_SPLIT))
    required = ("camera_to_worlds", *_PER_CAMERA)
    cameras = checked(split["cameras"], _CAMERAS, f"{where}.cameras", required)
    cameras = {"distortion_params": None, **{key: value for key, value in cameras.items() if key in _CAMERAS}}
    lengths: Dict[str, int] = {key: len(value) for key, value in cameras.items() if value is not None}
    lengths |= {key: len(split[key]) for key in ("files", "image_indices")}
    if len(set(lengths.values())) != 1 or not split["files"]:
        found: Tuple[str, ...] = tuple(f"{count} {key}" for key, count in lengths.items())
        raise ValueError(f"{where}: expected one entry of each list for each view, found {', '.join(found)}")
    return {**split, "cameras": cameras}

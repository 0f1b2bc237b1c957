"""Captures whose lists, links and photos do not fit each other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from corpus import Action, Case, training_inputs
from PIL import Image

from fewshot_ns.cameras.poses import look_at

COUNT, WIDTH, HEIGHT = 8, 16, 12
Meta = Dict[str, Any]
Change = Callable[[Meta, Path], None]


def _poses() -> np.ndarray:
    """(N, 4, 4) of an arc around the origin, 4 away from it."""
    angles = np.linspace(-0.4, 0.4, COUNT)
    places = 4.0 * np.stack([np.sin(angles), 0.1 * np.cos(5 * angles), np.cos(angles)], axis=1)
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, :3] = [look_at(place, np.zeros(3), np.array([0.0, 1.0, 0.0])) for place in places]
    return poses


def _photo(path: Path, number: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path, **options)


def _transforms(folder: Path, change: Change, name: str = "transforms.json") -> None:
    meta: Meta = {"fl_x": 20.0, "fl_y": 20.0, "cx": 8.0, "cy": 6.0, "w": WIDTH, "h": HEIGHT, "frames": []}
    for number, pose in enumerate(_poses()):
        _photo(folder / "images" / f"{number}.png", number)
        meta["frames"].append({"file_path": f"images/{number}.png", "transform_matrix": pose.tolist()})
    change(meta, folder)
    (folder / name).write_text(json.dumps(meta), encoding="utf8")


def _capture(change: Change, parser: str = "fewshot-nerfstudio-data", **flags: Any) -> Callable[[Path], Action]:
    """A transforms.json that `change` has its way with."""
    name = "transforms_train.json" if parser == "fewshot-blender-data" else "transforms.json"

    def prepare(folder: Path) -> Action:
        _transforms(folder, change, name)
        return training_inputs(parser, folder, **flags)

    return prepare


def _llff(change: Callable[[np.ndarray, Path], np.ndarray], **flags: Any) -> Callable[[Path], Action]:
    """An LLFF capture whose (N, 17) rows `change` has its way with."""

    def prepare(folder: Path) -> Action:
        rows = []
        for number, pose in enumerate(_poses()):
            _photo(folder / "images" / f"{number}.png", number)
            right, up, back, place = pose[:3].T
            rows.append([*np.stack([-up, right, back, place, [HEIGHT, WIDTH, 20.0]], axis=1).ravel(), 3.0, 6.0])
        np.save(folder / "poses_bounds.npy", change(np.array(rows), folder))
        return training_inputs("llff-data", folder, **flags)

    return prepare


def _again(pose: int, name: Optional[str] = None, **own: Any) -> Change:
    """Lists the second photo again, with the pose of a frame and numbers of its own."""

    def change(meta: Meta, folder: Path) -> None:
        frame = {"file_path": name or "images/1.png", "transform_matrix": meta["frames"][pose]["transform_matrix"]}
        meta["frames"].append({**frame, **own})

    return change


def _linked(link: Callable[[Path, Path], None], pose: int) -> Change:
    def change(meta: Meta, folder: Path) -> None:
        link(folder / "images" / "1.png", folder / "images" / "twin.png")
        _again(pose, "images/twin.png")(meta, folder)

    return change


def _linked_llff(link: Callable[[Path, Path], None]) -> Callable[[np.ndarray, Path], np.ndarray]:
    def change(rows: np.ndarray, folder: Path) -> np.ndarray:
        (folder / "images" / "2.png").unlink()
        link(folder / "images" / "1.png", folder / "images" / "2.png")
        return rows

    return change


def _symlink(file: Path, link: Path) -> None:
    link.symlink_to(file.name)


TWICE: Tuple[Tuple[str, Change, Tuple[str, ...]], ...] = (
    ("two-focal-lengths", _again(1, fl_x=30.0), ("one camera for each photo", "1.png", "frame 1 ", "frame 8 ")),
    ("two-centres", _again(1, cx=4.0), ("one camera for each photo", "frame 1 ", "frame 8 ")),
    ("two-distortions", _again(1, k1=0.1), ("one camera for each photo", "frame 1 ", "frame 8 ")),
    ("symlink-and-another-pose", _linked(_symlink, 2), ("one pose for each photo", "frame 1 ", "frame 8 ")),
    ("hard-link-and-another-pose", _linked(os.link, 2), ("one pose for each photo", "frame 1 ", "frame 8 ")),
    ("symlink", _linked(_symlink, 1), ("each photo once", "images/1.png", "images/twin.png")),
    ("hard-link", _linked(os.link, 1), ("each photo once", "images/1.png", "images/twin.png")),
    ("detour", _again(1, "images/../images/1.png"), ("each photo once", "images/../images/1.png")),
    ("detour-and-another-pose", _again(3, "./images/../images/1.png"), ("one pose for each photo", "frame 8 ")),
)
LISTED_TWICE = [
    Case(f"{name}-{parser.split('-')[1]}", "photo", _capture(change, parser), says)
    for name, change, says in TWICE
    for parser in ("fewshot-nerfstudio-data", "fewshot-blender-data")
]


def _says(**entries: Any) -> Change:
    return lambda meta, folder: meta.update(entries)


SCALES = [
    Case(f"applied-scale-{name}", "json", _capture(_says(applied_scale=value)), ("transforms.json", "'applied_scale'"))
    for name, value in {"zero": 0, "negative": -2.0, "list": [1.0], "word": "x", "true": True, "null": None}.items()
]

CASES = [
    *SCALES,
    *LISTED_TWICE,
    Case("llff-symlink", "photo", _llff(_linked_llff(_symlink)), ("each photo once", "1.png", "2.png")),
    Case("llff-hard-link", "photo", _llff(_linked_llff(os.link)), ("each photo once", "1.png", "2.png")),
    Case("same-photo-same-camera", "photo", _capture(_again(1, fl_x=20.0)), None),
]

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
Change = Callable[[Meta, Path], Any]


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


def _scaled_row(factor: float, *views: int) -> Callable[[np.ndarray, Path], np.ndarray]:
    def change(rows: np.ndarray, folder: Path) -> np.ndarray:
        rows[list(views), 15:] *= factor
        return rows

    return change


def _without(*names: str) -> Callable[[np.ndarray, Path], np.ndarray]:
    def change(rows: np.ndarray, folder: Path) -> np.ndarray:
        for name in names:
            (folder / "images" / name).unlink()
        return rows

    return change


def _depth(change: Callable[[int], np.ndarray]) -> Change:
    """Depth maps as .npy under depth_file_path."""

    def add(meta: Meta, folder: Path) -> None:
        for number, frame in enumerate(meta["frames"]):
            np.save(folder / f"{number}.npy", change(number))
            frame["depth_file_path"] = f"{number}.npy"

    return add


def _one_metre(number: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), 1000, np.uint16)


def _mixed(number: int) -> np.ndarray:
    return _one_metre(number) if number % 2 else np.ones((HEIGHT, WIDTH), np.float32)


ROWS_AND_PHOTOS = "expected one row per photo, found 8 rows and "
LLFF = [
    Case("llff-one-row-too-near", "camera", _llff(_scaled_row(1 / 200, 2)), None),
    Case("llff-one-row-too-far", "camera", _llff(_scaled_row(200.0, 1), ray_space="metric"), None),
    Case("llff-no-positive-bounds", "camera", _llff(_scaled_row(-1.0, 3)), ("poses_bounds.npy", "positive depth")),
    Case("llff-fewer-photos", "photo", _llff(_without("3.png")), ("poses_bounds.npy", ROWS_AND_PHOTOS + "7")),
    Case("llff-fewer-photos-skipped", "photo", _llff(_without("3.png"), on_missing="skip"), None),
    Case(
        "llff-first-and-last-photo-missing",
        "photo",
        _llff(_without("0.png", "7.png"), on_missing="skip"),
        ("poses_bounds.npy", ROWS_AND_PHOTOS + "6"),
    ),
    Case(
        "llff-all-but-one-missing",
        "photo",
        _llff(_without(*(f"{number}.png" for number in range(1, 8))), on_missing="skip"),
        ("input", "at least 2 views", "photos of 0 of those that llff trains on"),
    ),
]
FILES = [
    Case("rgbd-mixed-npy", "depth", _capture(_depth(_mixed), "rgbd-data"), ("input", "whole numbers", "fractions")),
    Case("rgbd-whole-npy", "depth", _capture(_depth(_one_metre), "rgbd-data"), None),
    Case(
        "blender-photo-missing",
        "photo",
        _capture(lambda meta, folder: (folder / "images" / "3.png").unlink(), "fewshot-blender-data"),
        ("3.png", "photo of view 3"),
    ),
    Case(
        "blender-photo-missing-stop",
        "photo",
        _capture(
            lambda meta, folder: (folder / "images" / "3.png").unlink(), "fewshot-blender-data", on_missing="stop"
        ),
        ("input", "8 frames", "found no 3.png", "--on-missing skip"),
    ),
    Case(
        "blender-photo-missing-skipped",
        "photo",
        _capture(
            lambda meta, folder: (folder / "images" / "3.png").unlink(), "fewshot-blender-data", on_missing="skip"
        ),
        None,
    ),
    Case(
        "blender-all-photos-but-one-missing",
        "photo",
        _capture(
            lambda meta, folder: [(folder / "images" / f"{number}.png").unlink() for number in range(1, 8)],
            "fewshot-blender-data",
            on_missing="skip",
        ),
        ("input", "at least 2 views", "photos of 1 of those that blender trains on"),
    ),
    Case(
        "blender-all-photos-missing",
        "photo",
        _capture(
            lambda meta, folder: [photo.unlink() for photo in (folder / "images").iterdir()],
            "fewshot-blender-data",
            on_missing="skip",
        ),
        ("input", "8 frames", "add the photos"),
    ),
]

CASES = [
    *SCALES,
    *LLFF,
    *FILES,
    *LISTED_TWICE,
    Case("llff-symlink", "photo", _llff(_linked_llff(_symlink)), ("each photo once", "1.png", "2.png")),
    Case("llff-hard-link", "photo", _llff(_linked_llff(os.link)), ("each photo once", "1.png", "2.png")),
    Case("same-photo-same-camera", "photo", _capture(_again(1, fl_x=20.0)), None),
]

"""Cameras, masks and matrices that a transforms file states in ways that are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List

import numpy as np
from cases_single_scenes import Change, Meta, _capture
from corpus import Case
from PIL import Image

PARSERS = {"transforms.json": "fewshot-nerfstudio-data", "transforms_train.json": "fewshot-blender-data"}


def _each_matrix(make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(meta: Meta, folder: Path) -> None:
        for frame in meta["frames"]:
            frame["transform_matrix"] = make(np.array(frame["transform_matrix"])).tolist()

    return change


def _says(**entries: Any) -> Change:
    return lambda meta, folder: meta.update(entries)


def _black_mask(meta: Meta, folder: Path) -> None:
    for frame in meta["frames"]:
        frame["mask_path"] = "mask.png"
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(folder / "mask.png")


def _matrix_of_others(meta: Meta, folder: Path) -> None:
    meta["intrinsic_matrix"] = [[20.0, 0.0, 3.0], [0.0, 20.0, 6.0], [0.0, 0.0, 1.0]]


_LAST = "the last row 0, 0, 0, 1"
KINDS = (
    ("transposed", _each_matrix(lambda matrix: matrix.T), ("frame 0", _LAST, "transposed")),
    ("projective", _each_matrix(lambda matrix: np.concatenate([matrix[:3], [[0.1, 0, 0, 1]]])), ("frame 0", _LAST)),
    ("filled-row", _each_matrix(lambda matrix: np.concatenate([matrix[:3], [[0, 0, 0, 0]]])), None),
    ("other-model", _says(model="OPENCV_FISHEYE"), ("'model'", "opencv_fisheye")),
    ("own-distortion", _says(distortion_coeffs=[-0.2, 0.1]), ("'distortion_coeffs'", "not read")),
    ("own-shutter", _says(readout_time=0.02), ("'readout_time'", "rolling shutter")),
    ("exposure", _says(shutter_speed=0.01), None),
    ("other-matrix", _matrix_of_others, ("'intrinsic_matrix'", "not read")),
    ("fractional-centre", _says(cx=0.5, cy=0.5, w=160, h=120), ("in pixels of 160x120", "fractions")),
    ("black-mask", _black_mask, ("mask.png", "expected pixels to train on")),
)
CASES: List[Case] = [
    Case(
        f"words-{name}-{parser}",
        "camera",
        _capture(change, parser, train_indices=(0, 3, 6), test_indices=() if "blender" in parser else (1, 4)),
        None if says is None else ((file, *says) if name != "black-mask" else says),
    )
    for file, parser in PARSERS.items()
    for name, change, says in KINDS
]

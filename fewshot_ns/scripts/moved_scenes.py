"""A run on one scene, pointed at where that scene lies now: what `ns-fewshot retarget` does for methods that know no
other."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

SAME_POSE = 1e-4
"""Largest difference of a camera's pose from the run's that is the rounding of its files."""
KEPT = ("scene.json", "views.json", "resolved.json")
"""What the folder of a run says of its scene."""


def follow_scene(trained: Any, run: Path, data: Path, folder: Path) -> Any:
    """The config of a run on one scene, with that scene in another place.

    Args:
        trained: config of the run; it is left as it is.
        run: its folder.
        data: where the scene lies now.
        folder: of the new run, which is about to be written.

    Raises:
        FileNotFoundError: nothing is there, or not all of the scene.
        ValueError: another scene, whose cameras are not those of the run.
    """
    config = deepcopy(trained)
    manager: Any = config.pipeline.datamanager
    parser = manager.dataparser
    before, now = Path(parser.data if manager.data is None else manager.data), data.resolve()
    for field in fields(parser):
        value = getattr(parser, field.name)
        if isinstance(value, Path) and value != Path() and before in value.parents:
            setattr(parser, field.name, now / value.relative_to(before))
    parser.data = manager.data = now
    outputs = parser.setup().get_dataparser_outputs("train")
    _check_same_cameras(outputs, run / KEPT[0], now)
    config.relative_model_dir = folder / trained.relative_model_dir.name
    config.pipeline.run_dir = folder
    config.pipeline.initial_weights = config.load_dir = config.load_checkpoint = config.load_step = None
    return config


def _check_same_cameras(outputs: Any, stored: Path, data: Path) -> None:
    """Compares training cameras with those that the run kept; older runs have kept none."""
    from fewshot_ns.data.dataparsers.single.stored import read_stored_scene

    if not stored.is_file():
        return
    try:
        before = np.array(read_stored_scene(stored)["splits"]["train"]["cameras"]["camera_to_worlds"], dtype=np.float64)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{stored}: expected the cameras of a run, found {error}") from error
    now = outputs.cameras.camera_to_worlds.double().numpy()
    if before.shape != now.shape or not np.allclose(before, now, atol=SAME_POSE):
        raise ValueError(
            f"{data}: expected the scene that the run was trained on, whose {len(before)} training cameras are in "
            f"{stored}, found {len(now)} others; a method of single scenes knows no other one"
        )

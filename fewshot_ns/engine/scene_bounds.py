"""Near and far of a scene of which nothing states them, decided once: when its training begins.

A prior may find them in the training photos. They become flags of the run's dataparser, so that config.yml has them,
and evaluation, renders and a resumed run are of the same rays without looking again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.priors.base import BoundsFinder, prior_configs, prior_flag

RESOLVED_NAME = "resolved.json"
"""Name of the file in the folder of a run that says what the scene decided."""
Bounds = Tuple[float, float]


def parser_without_bounds(config: TrainerConfig) -> Optional[FewShotDataParserConfig]:
    """The dataparser of a run on one scene to which the user gave neither near nor far; None for all other runs."""
    manager = config.pipeline.datamanager
    if not isinstance(manager, FewShotDataManagerConfig):
        return None
    parser = manager.dataparser
    if not isinstance(parser, FewShotDataParserConfig) or parser.near is not None or parser.far is not None:
        return None
    return parser


def bounds_to_train_with(config: TrainerConfig) -> Optional[Bounds]:
    """Near and far that a run takes from the photos: found now where it begins, those of the run that it resumes.

    Args:
        config: of the run; it stays as it is.

    Returns:
        None where the scene or the user states them, in NDC, where no prior looks for them or finds any, and where the
        run that is resumed had none of this kind.

    Raises:
        FileNotFoundError: a file of the scene is missing.
        ValueError: a file of the scene is damaged, or a field of a prior is out of its range.
    """
    parser = parser_without_bounds(config)
    if parser is None:
        return None
    if config.load_dir is not None:
        return _bounds_of_run(config.load_dir.parent)
    if config.load_checkpoint is not None:
        return _bounds_of_run(config.load_checkpoint.parent.parent)
    finders = _finders(config.pipeline)
    dataset = _scene_without_bounds(replace(parser, data=_data(config))) if finders else None
    if dataset is None:
        return None
    found = (finder(dataset, flag) for flag, finder in finders.items())
    return next((bounds for bounds in found if bounds is not None), None)


def from_main_process(value: Optional[Bounds], device: str) -> Optional[Bounds]:
    """What the main process of a distributed training has, for all of them.

    Args:
        value: of this process; only that of the main one counts.
        device: of this process.
    """
    shared = [value]
    where = torch.device(device) if device.startswith("cuda") else None
    torch.distributed.broadcast_object_list(shared, src=0, device=where)
    return shared[0]


def check_scene(config: TrainerConfig) -> None:
    """Looks for the files of a run's one scene and reads its cameras, without a word, before anything is built.

    Raises:
        FileNotFoundError: the scene is not there, or lacks a file.
        ValueError: a file is damaged, or flags and scene do not fit.
    """
    manager = config.pipeline.datamanager
    parser = manager.dataparser if isinstance(manager, FewShotDataManagerConfig) else None
    if not isinstance(parser, FewShotDataParserConfig):
        return
    quiet, CONSOLE.quiet = CONSOLE.quiet, True
    try:
        replace(parser, data=_data(config)).setup().read_views()
    finally:
        CONSOLE.quiet = quiet


def _data(config: TrainerConfig) -> Path:
    """Where the scene lies; nerfstudio has a flag for it before the dataparser's own."""
    manager: Any = config.pipeline.datamanager
    return Path(manager.dataparser.data if manager.data is None else manager.data)


def _finders(pipeline: Any) -> Dict[str, BoundsFinder]:
    """Priors that look for bounds, by how their flags begin."""
    finders = {name: prior.bounds_finder() for name, prior in prior_configs(pipeline).items()}
    return {prior_flag(name): finder for name, finder in finders.items() if finder is not None}


def _scene_without_bounds(config: FewShotDataParserConfig) -> Optional[FewShotDataset]:
    """Training views of a metric scene whose bounds are a guess; None where they are stated, or there is no scene."""
    parser = config.setup()
    if not config.data.exists():
        return None  # which the datamanager says better
    scene, selection, _ = parser.read_views()
    if not scene.bounds_guessed or scene.geometry.ray_space != "metric":
        return None
    return FewShotDataset(parser.outputs_of_views(selection.train, "train"))


def _bounds_of_run(run: Path) -> Optional[Bounds]:
    """Near and far that a run took from the photos; None where it did not."""
    path = run / RESOLVED_NAME
    if not path.is_file():
        return None
    try:
        model = json.loads(path.read_text(encoding="utf8"))["model"]
        if model.get("bounds_from") != "photos":
            return None
        return float(model["near"]), float(model["far"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected the values that a run was trained with, found {error}") from error

"""Which scene a run renders: the one that it was trained on, or the record of it in the run's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.stored import FILE_NAME, StoredSceneDataParserConfig, synthetic_scene


def with_stored_scene_if_missing(manager: Any, run_dir: Optional[Path]) -> Any:
    """The config of a datamanager for rendering alone, whose scene is the stored one where the photos are gone.

    Args:
        manager: config; it is left as it is.
        run_dir: folder of the run; None where it is not known.

    Returns:
        `manager` itself where its scene is there, nothing is known of it, or it is not this package's of one scene.
    """
    if not isinstance(manager, FewShotDataManagerConfig):
        return manager
    parser = manager.dataparser
    data = Path(manager.data if manager.data is not None else parser.data)
    if data.exists():
        return manager
    stored = None if run_dir is None else run_dir / FILE_NAME
    if stored is not None and stored.is_file():
        stored_parser = StoredSceneDataParserConfig(data=stored)
        CONSOLE.print(f"{data} is not there; its cameras come from {stored}")
    elif isinstance(parser, FewShotBlenderDataParserConfig):
        content = synthetic_scene(parser, _num_train(run_dir, parser))
        stored_parser = StoredSceneDataParserConfig(data=data / FILE_NAME, content=content)
        side = content["splits"]["train"]["cameras"]["width"][0][0]
        CONSOLE.print(f"{data} is not there; the camera of NeRF's synthetic scenes is taken, {side}x{side} pixels")
    else:
        return manager
    return replace(manager, dataparser=stored_parser, data=None)


def _num_train(run_dir: Optional[Path], parser: FewShotBlenderDataParserConfig) -> int:
    views = None if run_dir is None else run_dir / "views.json"
    if views is not None and views.is_file():
        return len(json.loads(views.read_text(encoding="utf8"))["train_indices"])
    return max(parser.num_views, 2)

"""Multi-scene datasets in a benchmark: what they hold, and with which source views a training on them is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Tuple

from fewshot_ns.bench.planning.config_identity import SceneIdentity, camera_values
from fewshot_ns.bench.planning.plan import SourceEvaluation
from fewshot_ns.bench.recipes.protocols import VIEWLIST, BenchProtocol
from fewshot_ns.bench.recipes.recipe import EvaluationOptions
from fewshot_ns.utils.hashing import digest, file_key

SAMPLED_SCENES = 8
"""Scenes of each split whose cameras and images go into the key of a dataset: of thousands, all would take hours."""


def identify_dataset(dataparser: Any) -> SceneIdentity:
    """Reads the tables of a dataset, and cameras and the ends of the files of some of its scenes; decodes no image.

    Args:
        dataparser: config of a dataparser of many scenes, its `data` set.

    Raises:
        FileNotFoundError: the dataset is not there.
        ValueError: it cannot be read, or not one of the sampled test scenes can.
    """
    from fewshot_ns.data.records.scene import SceneError
    from fewshot_ns.evaluation.runners.views import at_equal_steps

    parser = dataparser.setup()
    parts: List[Any] = []
    size: Optional[Tuple[int, int]] = None
    first = ""
    problem: Optional[SceneError] = None
    for split in ("train", "test"):
        table = parser.scene_table(split)
        parts.append([(entry.scene_id, entry.category) for entry in table])
        for entry in at_equal_steps(table, SAMPLED_SCENES):
            try:
                scene = parser.open_scene(entry)
            except SceneError as error:
                # Whether a bad scene ends the training is the method's to say.
                parts.append(entry.scene_id)
                problem = error
                continue
            parts += [*camera_values(scene.cameras), scene.near, scene.far, scene.background]
            parts += [file_key(file) for file in (*scene.image_filenames, *(scene.mask_filenames or ()))]
            masks = () if scene.evaluation_masks is None else scene.evaluation_masks.files
            parts += [file_key(file) for file in masks if file is not None and file.is_file()]
            if split == "test" and size is None:
                size = (int(scene.cameras.width[0].item()), int(scene.cameras.height[0].item()))
                first = entry.scene_id
    if size is None:
        raise ValueError(f"{dataparser.data}: expected test scenes that can be read; {problem}")
    return SceneIdentity(digest(*parts), size, (), 0, False, False, len(parser.scene_table("test")), first)


def evaluations_of(protocols: Tuple[BenchProtocol, ...], data: Path) -> Tuple[SourceEvaluation, ...]:
    """The evaluations of a training on a multi-scene dataset.

    Args:
        protocols: that it is evaluated by; () for one scene.
        data: folder of the dataset, which lists of source views lie in.

    Raises:
        FileNotFoundError: a list of source views is missing.
        ValueError: it is damaged.
    """
    return tuple(_evaluation(protocol, data) for protocol in protocols)


def _evaluation(protocol: BenchProtocol, data: Path) -> SourceEvaluation:
    from fewshot_ns.data.views.viewlist import read_viewlist

    flag, *words = protocol.sources
    if flag != VIEWLIST:
        return SourceEvaluation(protocol.name, protocol.sources, digest(*protocol.sources))
    path = data / words[0]
    content = read_viewlist(path).views
    return SourceEvaluation(protocol.name, (flag, str(path)), digest(flag, *sorted(content.items())))


def evaluation_problems(options: EvaluationOptions) -> List[str]:
    """What a recipe asks for that the evaluation over scenes does not have."""
    problems: List[str] = []
    if options.max_side is not None:
        problems.append("evaluation.max-side: not for sets of many scenes; give the dataparser image-size")
    if options.curve_steps:
        problems.append("evaluation.curve-steps: not for sets of many scenes, whose test views are too many")
    return problems

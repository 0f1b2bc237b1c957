"""The one scene of a generalizable run that the host sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from fewshot_ns.data.dataparsers.base import FewShotDataParser
from fewshot_ns.data.scene_batches import SceneBatches
from fewshot_ns.data.scene_library import BadScenes
from fewshot_ns.data.scene_outputs import outputs_of_views
from fewshot_ns.data.scene_table import SceneError
from fewshot_ns.data.shown_scene import SceneViewChooser, ShownScene


def first_usable(chooser: SceneViewChooser, split: str, bad_scenes: BadScenes) -> ShownScene:
    """The scene that is active at the start: the one that was named, else the first of its split; where bad scenes are
    skipped, the first that can be used.

    Args:
        chooser: opens scenes and chooses their source views.
        split: 'test'; or 'val', for which the training split steps in where the set has none.
        bad_scenes: takes note of those that cannot be used.

    Raises:
        SceneError: it cannot be opened, lacks source views or views to evaluate, or one of them cannot be read.
    """
    library = chooser.library
    try:
        entries = library.active_candidates(split)
    except (FileNotFoundError, ValueError):
        if split == "test":
            raise
        entries = library.active_candidates("train")
    for entry in entries:
        try:
            shown = chooser.shown(entry)
            chooser.check(shown)
            return shown
        except SceneError as error:
            if len(entries) == 1:
                raise
            bad_scenes.note(entry, error)
    raise bad_scenes.none_usable(len(entries))


def outputs_of_shown(
    shown: ShownScene, chooser: SceneViewChooser, split: str, whole: bool
) -> Tuple[DataparserOutputs, DataparserOutputs]:
    """What a host that knows one scene takes for its training views, and for those that it evaluates.

    Args:
        shown: the scene.
        chooser: says which views are looked at, and which are evaluated.
        split: 'val' while training, else 'test'.
        whole: of a single scene: whether all views that its protocol trains on count as training views, not those alone
            that are looked at.
    """
    scene, targets = shown.scene, chooser.targets_of(shown)
    views = chooser.selector.views_of(scene) if shown.sources is None else shown.sources
    parser = chooser.library.parser
    if not isinstance(parser, FewShotDataParser):
        return (
            outputs_of_views(scene, views, "train", views, targets),
            outputs_of_views(scene, targets, split, views, targets),
        )
    # The parser of a single scene knows more of its views: object masks, bounds, scale.
    numbers = scene.view_indices or range(len(scene.image_filenames))
    if whole:
        trained = parser.get_dataparser_outputs("train")
    else:
        trained = parser.outputs_of_views([numbers[view] for view in views], "train")
    if split == "val":
        return trained, parser.get_dataparser_outputs("val")
    return trained, parser.outputs_of_views([numbers[view] for view in targets], split)


class RayCount:
    """In place of a pixel sampler, which ns-export sets the number of rays by."""

    def __init__(self, batches: SceneBatches) -> None:
        self._batches = batches

    @property
    def num_rays_per_batch(self) -> int:
        """Rays of a step of this process."""
        return self._batches.order.per_step * self._batches.options.rays_per_scene

    @num_rays_per_batch.setter
    def num_rays_per_batch(self, count: int) -> None:
        per_scene = max(count // self._batches.order.per_step, 1)
        self._batches.options = replace(self._batches.options, rays_per_scene=per_scene)

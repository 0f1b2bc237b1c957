"""A scene with the views that a generalizable model looks at, and those that it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from fewshot_ns.data.dataparsers.multi.outputs import outputs_of_views
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser
from fewshot_ns.data.multiscene.batches import SceneBatches, look_at
from fewshot_ns.data.multiscene.library import BadScenes, SceneLibrary
from fewshot_ns.data.records.scene import Conditioning, Scene, SceneEntry, SceneError
from fewshot_ns.data.views.sources import SourceViews, SourceViewsConfig, TargetViewsConfig, target_views

_SAME_POSE = 1e-6
"""Largest difference of two poses that count as one."""


@dataclass(frozen=True)
class ShownScene:
    """A scene with the views that the model looks at."""

    scene: Scene
    """The scene, opened."""
    sources: Optional[Tuple[int, ...]]
    """Places of its source views; None: every camera that is rendered has its own."""


class SceneViewChooser:
    """Chooses source views and evaluated views of scenes.

    Args:
        library: opens scenes and reads images.
        sources: which views are looked at.
        targets: which views are evaluated.

    Raises:
        FileNotFoundError: a list of source views is missing.
        ValueError: the source views lack what their mode needs.
    """

    def __init__(self, library: SceneLibrary, sources: SourceViewsConfig, targets: TargetViewsConfig) -> None:
        self.library, self.targets = library, targets
        self.selector = SourceViews(sources)

    def shown(self, entry: SceneEntry) -> ShownScene:
        """A scene with its source views.

        Raises:
            SceneError: it cannot be opened, or lacks these views.
        """
        scene = self.library.open(entry)
        return ShownScene(scene, None if self.selector.depends_on_target else self.selector.select(scene))

    def sources_for(self, shown: ShownScene, camera_to_world: Tensor) -> Tuple[int, ...]:
        """Places of the source views of a camera (3, 4), which is itself never its own source.

        Raises:
            SceneError: the scene has too few views.
        """
        if shown.sources is not None:
            return shown.sources
        known = shown.scene.cameras.camera_to_worlds
        same = (known - camera_to_world.to(known)).abs().amax(dim=(1, 2)) < _SAME_POSE
        itself = same.nonzero()[:, 0].tolist()
        view = itself[0] if itself else None
        return self.selector.select(shown.scene, camera_to_world, exclude=itself, target_view=view)

    def check(self, shown: ShownScene) -> None:
        """Reads what a model is to look at: the source views, or those of the first camera.

        Raises:
            SceneError: the scene has too few views to look at, none to evaluate, or an image cannot be read.
        """
        self.targets_of(shown)
        self.conditioning(shown, self.sources_for(shown, shown.scene.cameras.camera_to_worlds[0]))

    def targets_of(self, shown: ShownScene) -> Tuple[int, ...]:
        """Places of the views of a scene that are evaluated: the configured ones beside the sources.

        Raises:
            SceneError: there are none.
        """
        scene, targets = shown.scene, self.targets
        sources = set(shown.sources or ())
        pool = self.selector.pool_of(scene)
        if pool is not None and not targets.views and not targets.include_sources:
            # What may be looked at, or train, is not tested.
            sources |= set(pool)
        return target_views(scene, tuple(sorted(sources)), targets)

    def conditioning(self, shown: ShownScene, sources: Tuple[int, ...]) -> Conditioning:
        """Source views of one scene.

        Raises:
            SceneError: an image cannot be read.
        """
        return look_at(self.library.images, [(shown.scene, sources)])


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

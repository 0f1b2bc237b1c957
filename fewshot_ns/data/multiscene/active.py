"""A scene with its source views: the active one of a run, and those that are evaluated one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from fewshot_ns.data.dataparsers.multi.scene_views import scene_outputs
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser
from fewshot_ns.data.multiscene.batches import load_sources
from fewshot_ns.data.multiscene.library import BadScenes, SceneLibrary
from fewshot_ns.data.records.scene import Conditioning, Scene, SceneEntry, SceneError
from fewshot_ns.data.views.sources import SourceViews, SourceViewsConfig, TargetViewsConfig, target_views

_SAME_POSE = 1e-6
"""Largest difference of two poses that count as one."""


@dataclass(frozen=True)
class ActiveScene:
    """An opened scene whose cameras are rendered, with its source views."""

    scene: Scene
    """The scene."""
    sources: Optional[Tuple[int, ...]]
    """View indices of its source views; None: every camera that is rendered has its own."""


class SceneViewSelector:
    """Selects the source views and the evaluated views of scenes.

    Args:
        library: opens scenes and reads images.
        sources: which views are source views.
        targets: which views are evaluated.

    Raises:
        FileNotFoundError: a list of source views is missing.
        ValueError: the source views lack what their mode needs.
    """

    def __init__(self, library: SceneLibrary, sources: SourceViewsConfig, targets: TargetViewsConfig) -> None:
        self.library, self.targets = library, targets
        self.source_views = SourceViews(sources)

    def open(self, entry: SceneEntry) -> ActiveScene:
        """Opens a scene and selects its source views.

        Raises:
            SceneError: it cannot be opened, or lacks these views.
        """
        scene = self.library.open(entry)
        return ActiveScene(scene, None if self.source_views.depends_on_target else self.source_views.select(scene))

    def sources_for(self, active: ActiveScene, camera_to_world: Tensor) -> Tuple[int, ...]:
        """View indices of the source views of a camera (3, 4), which is itself never its own source.

        Raises:
            SceneError: the scene has too few views.
        """
        if active.sources is not None:
            return active.sources
        known = active.scene.cameras.camera_to_worlds
        same = (known - camera_to_world.to(known)).abs().amax(dim=(1, 2)) < _SAME_POSE
        itself = same.nonzero()[:, 0].tolist()
        view = itself[0] if itself else None
        return self.source_views.select(active.scene, camera_to_world, exclude=itself, target_view=view)

    def check(self, active: ActiveScene) -> None:
        """Reads what a model is conditioned on: the source views, or those of the first camera.

        Raises:
            SceneError: the scene has too few source views, none to evaluate, or an image cannot be read.
        """
        self.targets_of(active)
        self.load_sources(active, self.sources_for(active, active.scene.cameras.camera_to_worlds[0]))

    def targets_of(self, active: ActiveScene) -> Tuple[int, ...]:
        """View indices of the evaluated views of a scene: the configured ones that are no source views. There may be
        none of the scene of a single-scene dataparser, where all of its photos are looked at.

        Raises:
            SceneError: a scene of many has none.
        """
        scene, targets = active.scene, self.targets
        sources = set(active.sources or ())
        pool = self.source_views.pool_of(scene)
        if pool is not None and not targets.views and not targets.include_sources:
            # What may be a source view, or train, is not tested.
            sources |= set(pool)
        return target_views(scene, tuple(sorted(sources)), targets, may_be_none=self.library.single)

    def load_sources(self, active: ActiveScene, sources: Tuple[int, ...]) -> Conditioning:
        """Reads source views of one scene.

        Raises:
            SceneError: an image cannot be read.
        """
        return load_sources(self.library.images, [(active.scene, sources)])


def first_usable_scene(selector: SceneViewSelector, split: str, bad_scenes: BadScenes) -> ActiveScene:
    """The scene that is active at the start: the one that was named, else the first of its split; where bad scenes are
    skipped, the first that can be used.

    Args:
        selector: opens scenes and selects their source views.
        split: 'test'; or 'val', for which the training split steps in where the dataset has none.
        bad_scenes: takes note of those that cannot be used.

    Raises:
        SceneError: it cannot be opened, lacks source views or views to evaluate, or one of them cannot be read.
    """
    library = selector.library
    try:
        entries = library.active_candidates(split)
    except (FileNotFoundError, ValueError):
        if split == "test":
            raise
        entries = library.active_candidates("train")
    for entry in entries:
        try:
            active = selector.open(entry)
            selector.check(active)
            return active
        except SceneError as error:
            if len(entries) == 1:
                raise
            bad_scenes.note(entry, error)
    raise bad_scenes.none_usable(len(entries))


def active_outputs(
    active: ActiveScene, selector: SceneViewSelector, split: str, whole: bool
) -> Tuple[DataparserOutputs, DataparserOutputs]:
    """Training and evaluated views of the active scene, for nerfstudio, which knows one scene per run.

    Args:
        active: the scene.
        selector: says which views are source views, and which are evaluated.
        split: 'val' while training, else 'test'.
        whole: of a single-scene dataparser: whether all views that its protocol trains on count as training views, not
            the source views alone.
    """
    scene = active.scene
    views = selector.source_views.views_of(scene) if active.sources is None else active.sources
    # With nothing held out nerfstudio's viewer and renderers still want the cameras of some split.
    targets = selector.targets_of(active) or views
    parser = selector.library.parser
    if not isinstance(parser, FewShotDataParser):
        return (
            scene_outputs(scene, views, "train", views, targets),
            scene_outputs(scene, targets, split, views, targets),
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

"""A scene with the views that a generalizable model looks at, and those that it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from torch import Tensor

from fewshot_ns.data.scene_batches import look_at
from fewshot_ns.data.scene_library import SceneLibrary
from fewshot_ns.data.scene_table import Conditioning, Scene, SceneEntry
from fewshot_ns.data.source_views import SourceViews, SourceViewsConfig, TargetViewsConfig, target_views

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

"""Which source views condition which camera: asked by the model, owned by the datamanager."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Tuple

from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.data.multiscene.active import ActiveScene, SceneViewSelector
from fewshot_ns.data.records.scene import Conditioning

SOURCE_PROVIDER_KEY = "source_provider"
"""Key of the `SourceProvider` in the metadata that a model is constructed with."""
TARGET_VIEW_KEY = "target_view"
"""Ray metadata outside of training: (R, 1) view index in the active scene, int64, of the one view that rays are of, for
whoever takes rays from the datamanager and gives them to the model (ns-export)."""

SourceKey = Tuple[str, Tuple[int, ...]]
"""Name of a scene and view indices of source views."""


@dataclass(frozen=True)
class ChosenSources:
    """The source views of a camera, not read yet."""

    active: ActiveScene
    """Their scene."""
    views: Tuple[int, ...]
    """View indices."""

    @property
    def key(self) -> SourceKey:
        """What tells them from others."""
        return self.active.scene.entry.scene_id, self.views


class SourceProvider:
    """Says which source views condition the cameras of the active scene, in evaluation, viewer, renders and exports.

    nerfstudio's viewer and commands ask the model alone for a camera, so the model has to find the source views by
    itself. It is handed this object at construction, in `metadata` under `SOURCE_PROVIDER_KEY`: the dataset's metadata
    is what nerfstudio's pipeline passes on from data to model anyway, so its constructor need not be replaced. Training
    batches bring their source views along.

    A deep copy of what holds a provider shares it (a copied model asks the same datamanager); pickled, it is None,
    for images and caches stay with their process.

    Args:
        selector: selects and reads source views.
        active: the scene that cameras are of.
    """

    def __init__(self, selector: SceneViewSelector, active: ActiveScene) -> None:
        self.selector = selector
        """Selects and reads source views."""
        self.active = active
        """The scene that cameras are of."""

    def sources_for(self, camera: Cameras) -> ChosenSources:
        """The source views of a camera of the active scene.

        Raises:
            SceneError: the scene has too few views.
        """
        active = self.active
        pose = camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu()
        return ChosenSources(active, self.selector.sources_for(active, pose))

    def load(self, sources: ChosenSources) -> Conditioning:
        """Reads source views.

        Raises:
            SceneError: an image cannot be read.
        """
        return self.selector.load_sources(sources.active, sources.views)

    def camera(self, view: int) -> Cameras:
        """(1,) camera of a view of the active scene."""
        return self.active.scene.cameras[view : view + 1]

    @contextmanager
    def activated(self, active: ActiveScene) -> Iterator[None]:
        """Within the block another scene is active."""
        before, self.active = self.active, active
        try:
            yield
        finally:
            self.active = before

    def __deepcopy__(self, memo: Dict[int, Any]) -> SourceProvider:
        return self

    def __reduce__(self) -> Tuple[Callable[[], None], Tuple[()]]:
        return _no_provider, ()


def _no_provider() -> None:
    return None

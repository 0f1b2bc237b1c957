"""Controls of ns-viewer that choose the scene and the source views of a generalizable model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, List, Optional, Sequence, Tuple

from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerControl, ViewerDropdown, ViewerText
from torch import nn

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
from fewshot_ns.data.multiscene.active import ActiveScene
from fewshot_ns.data.views.sources import view_positions

MAX_LISTED = 300
"""Scenes in the list; of a larger dataset others are shown by typing their names."""


class SceneControls(nn.Module):
    """A list of scenes, a field for the numbers of the source views, and a line that says what is rendered.

    Args:
        manager: knows the scenes.
        activate: makes a scene the active one.
    """

    def __init__(self, manager: MultiSceneDataManager, activate: Callable[[ActiveScene], None]) -> None:
        super().__init__()
        self._manager, self._activate = manager, activate
        names = manager.scene_names()
        self._active = manager.active
        self.control = ViewerControl()
        self.scene = ViewerDropdown("Scene", names[0], names[:MAX_LISTED], cb_hook=lambda element: self.choose())
        self.name = ViewerText("Scene by name", "", visible=len(names) > MAX_LISTED, hint="Of a scene not in the list")
        self.sources = ViewerText(
            "Source views", _listed(self._active), hint="Numbers of the source views; empty: as configured"
        )
        self.button = ViewerButton("Show", cb_hook=lambda element: self.choose_sources())
        self.state = ViewerText("Shown", self._state(), disabled=True)

    def choose(self) -> None:
        """Shows the scene of the list with the configured source views."""
        self._change(self.scene.value, ())

    def choose_sources(self) -> None:
        """Shows the scene that is named, else that of the list, from the source views of the field."""
        text = self.sources.value.replace(",", " ").split()
        if not all(word.isdecimal() for word in text):
            self._say(f"expected numbers of views, got {self.sources.value!r}")
            return
        self._change(self.name.value.strip() or self.scene.value, tuple(int(word) for word in text))

    def _change(self, name: str, numbers: Sequence[int]) -> None:
        manager = self._manager
        try:
            # The active scene stays where the new one is unusable.
            active = manager.selector.open(manager.library.find(name, manager.test_split))
            if numbers:
                active = replace(active, sources=view_positions(active.scene, numbers, "the viewer"))
            self._activate(active)
        except (OSError, ValueError) as error:
            self._say(str(error))
            return
        self._active = active
        listed = _listed(active)
        if self.sources.value != listed:
            # Only then: what is being typed in the page and has not arrived here yet would be overwritten.
            self.sources.value = listed
        self._say(self._state())
        self._draw_cameras()

    def _state(self) -> str:
        return f"{self._active.scene.entry.scene_id}, from {_listed(self._active) or 'the nearest views'}"

    def _say(self, text: str) -> None:
        self.state.value = text

    def _draw_cameras(self) -> None:
        """Replaces the frusta of the old source views by those of the new ones."""
        viewer: Optional[Any] = getattr(self.control, "viewer", None)
        if viewer is None:
            return
        for handle in getattr(viewer, "camera_handles", {}).values():
            handle.remove()
        viewer.init_scene(self._manager.train_dataset, viewer.train_state, self._manager.eval_dataset)


def _listed(active: ActiveScene) -> str:
    """Numbers of the source views; '' where they are the nearest ones."""
    numbers: Sequence[int] = active.scene.view_indices or range(len(active.scene.image_filenames))
    views: Tuple[int, ...] = active.sources or ()
    listed: List[str] = [str(numbers[view]) for view in views]
    return " ".join(listed)

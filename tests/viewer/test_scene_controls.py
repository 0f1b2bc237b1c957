"""Controls of scene and source views, installed by nerfstudio's own viewer; a page is driven in end_to_end/."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest


@pytest.fixture
def pipeline(tiny_pixelnerf: Callable[..., Any]) -> Any:
    """Untrained pipeline with two test objects."""
    return tiny_pixelnerf().setup(device="cpu", test_mode="test").eval()


@pytest.fixture
def viewer(pipeline: Any, tmp_path: Path) -> Iterator[Any]:
    """nerfstudio's viewer of that pipeline, its scene drawn."""
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.viewer.viewer import Viewer

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    config = ViewerConfig(websocket_port=port, websocket_host="127.0.0.1")
    opened = Viewer(config, tmp_path / "viewer.log", tmp_path, pipeline)
    manager = pipeline.datamanager
    opened.init_scene(manager.train_dataset, "completed", manager.eval_dataset)
    yield opened
    opened.viser_server.stop()


def test_nerfstudio_installs_the_controls(pipeline: Any, viewer: Any):
    names = {path for path, _ in viewer.viewer_elements}
    prefix = "Custom Elements/scene_controls"
    assert {f"{prefix}/{name}" for name in ("scene", "name", "sources", "button", "state")} <= names
    controls = pipeline.scene_controls
    assert controls.scene.options == pipeline.datamanager.scene_names() and len(controls.scene.options) == 2
    assert controls.state.value.startswith(f"{controls.scene.options[0]}, from ")
    assert not any("scene_controls" in name for name in pipeline.state_dict())


def test_another_scene(pipeline: Any, viewer: Any):
    controls, manager = pipeline.scene_controls, pipeline.datamanager
    other = controls.scene.options[1]
    controls.scene.gui_handle._impl.value = other  # as the page does, without the thread of its event
    controls.choose()
    assert manager.active.scene.entry.scene_id == other and controls.state.value.startswith(f"{other}, from ")
    pipeline.model.get_outputs_for_camera(manager.eval_dataset.cameras[:1])
    assert pipeline.model.conditioned_on == (other, manager.active.sources)
    assert len(viewer.camera_handles) == len(manager.train_dataset) == 1


def test_other_source_views(pipeline: Any, viewer: Any):
    controls, manager = pipeline.scene_controls, pipeline.datamanager
    controls.sources.gui_handle._impl.value = "1, 3 4"
    controls.choose_sources()
    assert manager.active.sources == (1, 3, 4) and controls.state.value.endswith("from 1 3 4")
    assert len(viewer.camera_handles) == 3
    assert pipeline.model.sources.conditioning.images.shape[1] == 3


def test_what_is_being_typed_is_not_overwritten(pipeline: Any, viewer: Any, monkeypatch: pytest.MonkeyPatch):
    """Text reaches the server a little after it is typed; a press of the button in between must not reset the field."""
    controls, sent = pipeline.scene_controls, []
    kind = type(controls.sources)
    read, write = kind.value.fget, kind.value.fset

    def record(field: Any, text: Any) -> None:
        sent.append(text)
        write(field, text)

    monkeypatch.setattr(kind, "value", property(read, record))
    controls.choose_sources()
    assert sent == [controls.state.value]
    controls.sources.gui_handle._impl.value = "1,3"
    controls.choose_sources()
    assert sent[1:] == ["1 3", controls.state.value]


@pytest.mark.parametrize(
    "text, message", [("1 x", "expected numbers"), ("77", "expected views among"), ("1 1", "once")]
)
def test_what_is_wrong_is_said_and_nothing_changes(text: str, message: str, pipeline: Any, viewer: Any):
    controls, before = pipeline.scene_controls, pipeline.datamanager.active
    controls.sources.gui_handle._impl.value = text
    controls.choose_sources()
    assert message in controls.state.value and pipeline.datamanager.active is before


def test_a_scene_by_its_name(pipeline: Any, viewer: Any):
    controls = pipeline.scene_controls
    controls.name.gui_handle._impl.value = "table_0001"
    controls.sources.gui_handle._impl.value = ""
    controls.choose_sources()
    assert pipeline.datamanager.active.scene.entry.scene_id == "table_0001"
    controls.name.gui_handle._impl.value = "tble"
    controls.choose_sources()
    assert "expected the name of a scene" in controls.state.value

"""What comes over the viewer's web socket ends no training, and only this machine reaches it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator

import msgspec
import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fewshot_ns import registry
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.engine.trainer import FewShotTrainer, FewShotTrainerConfig
from fewshot_ns.viewer import training_page
from fewshot_ns.viewer.messages import is_camera
from fewshot_ns.viewer.training_page import LOCAL_HOST, training_goes_on

STEPS = 70
"""The viewer draws anew every 31 steps."""
CAMERA: Dict[str, Any] = {"type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 0.0)}
CAMERA |= {"fov": 1.0, "aspect": 1.3, "look_at": (0.0, 0.0, 1.0), "up_direction": (0.0, 1.0, 0.0)}
NO_MESSAGES = {
    "text": "words",
    "empty": b"",
    "garbage": b"\xff\xfe\x00garbage",
    "half a message": msgspec.msgpack.encode(CAMERA)[:20],
    "a list": msgspec.msgpack.encode([1, 2]),
    "a number": msgspec.msgpack.encode(3),
    "unknown type": msgspec.msgpack.encode({"type": "NoSuchMessage"}),
    "without a type": msgspec.msgpack.encode({"wxyz": 1}),
    "without its fields": msgspec.msgpack.encode({"type": "ViewerCameraMessage"}),
    "endless nesting": b"\x91" * 100_000 + b"\xc0",
    "huge": bytes(3 << 20),
}
ODD_CAMERAS = {
    "three numbers": {"wxyz": (1.0, 0.0, 0.0)},
    "words": {"wxyz": "abcd", "position": "x"},
    "nothing": {"wxyz": None, "position": None, "fov": None, "aspect": None},
    "not finite": {"wxyz": (float("nan"),) * 4, "position": (float("inf"),) * 3, "fov": float("nan")},
    "no size": {"aspect": 0.0, "fov": 0.0},
    "huge": {"aspect": 1e300, "fov": 1e300, "position": (1e300,) * 3},
}
NO_NUMBERS = ("words", "nothing")
"""Those for which viser ends the connection."""


@pytest.fixture
def trainer(tiny_scene: Path, tmp_path: Path) -> Iterator[FewShotTrainer]:
    """Of a tiny training with a viewer, before its first step."""
    with socket.socket() as listener:
        listener.bind((LOCAL_HOST, 0))
        port = listener.getsockname()[1]
    config: Any = deepcopy(sparsenerf_lite)
    config.output_dir, config.timestamp, config.vis = tmp_path, "run", "viewer"
    config.machine.device_type, config.max_num_iterations = "cpu", STEPS
    config.viewer.websocket_port, config.viewer.quit_on_train_completion = port, True
    config.steps_per_eval_image = config.steps_per_eval_all_images = 0
    config.pipeline.datamanager.dataparser.data = tiny_scene
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    config.pipeline.depth.num_quads = 8
    model = config.pipeline.model
    model.width, model.num_layers, model.num_octaves = 16, 2, 4
    model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
    config.get_base_dir().mkdir(parents=True)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    yield trainer
    trainer.shutdown()


def page(trainer: FewShotTrainer) -> ClientConnection:
    return connect(f"ws://{LOCAL_HOST}:{trainer.config.viewer.websocket_port}", max_size=None, compression=None)


def checkpoint_of(trainer: FewShotTrainer) -> Any:
    return torch.load(trainer.checkpoint_dir / f"step-{STEPS - 1:09d}.ckpt", weights_only=True)


def test_whatever_pages_send_the_training_ends_as_ever(trainer: FewShotTrainer) -> None:
    for message in NO_MESSAGES.values():
        with page(trainer) as broken:
            broken.send(message)
            with pytest.raises(ConnectionClosed):
                while True:
                    broken.recv(timeout=20)
    viewer: Any = trainer.viewer_state
    odd = [page(trainer) for _ in ODD_CAMERAS]
    for one, values in zip(odd, ODD_CAMERAS.values(), strict=True):
        with suppress(ConnectionClosed):
            one.send(msgspec.msgpack.encode({**CAMERA, **values}))
            one.recv(timeout=20)
    good = page(trainer)
    good.send(msgspec.msgpack.encode(CAMERA))
    deadline = time.monotonic() + 20
    while not viewer.viser_server.get_clients():
        assert time.monotonic() < deadline, "the page with a camera is not there"
        time.sleep(0.05)
    # Of a page that was right at first, too.
    for values in (values for name, values in ODD_CAMERAS.items() if name not in NO_NUMBERS):
        good.send(msgspec.msgpack.encode({**CAMERA, **values}))
    controls = viewer.viser_server.gui._gui_input_handle_from_id
    # A button would be pressed: the first one pauses the training.
    control = next(name for name, handle in controls.items() if not handle._impl.is_button)
    for updates in ({"value": {"a": [None]}}, {"value": None}, {"no such": 1}, {}):
        good.send(msgspec.msgpack.encode({"type": "GuiUpdateMessage", "id": control, "updates": updates}))
    trainer.train()
    assert len(viewer.viser_server.get_clients()) == 1
    # Otherwise the process would not end.
    assert not [thread for thread in threading.enumerate() if isinstance(thread, RenderStateMachine)]
    for one in (*odd, good):
        one.close()
    assert checkpoint_of(trainer)["step"] == STEPS - 1


def test_an_error_leaves_no_lock_taken(trainer: FewShotTrainer) -> None:
    """As viser's own would, for which a training then waits without end."""
    server: Any = getattr(trainer.viewer_state, "viser_server", None)
    with pytest.raises(KeyError), server.atomic(), server.atomic():
        raise KeyError
    lock = server._websock_server._atomic_lock
    assert lock.acquire(timeout=1)
    lock.release()


@pytest.mark.parametrize("name", ODD_CAMERAS)
def test_odd_cameras(name: str) -> None:
    values = {key: value for key, value in CAMERA.items() if key != "type"}
    assert is_camera(SimpleNamespace(**values))
    assert not is_camera(SimpleNamespace(**{**values, **ODD_CAMERAS[name]}))


def test_a_fault_of_the_viewer_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(training_page, "_SAID", set())
    for _ in range(3):
        with training_goes_on():
            raise ValueError("[of a page]")
    assert capsys.readouterr().out.count("ValueError: [of a page]). The training goes on.") == 1


def test_other_errors_of_a_training_are_not_swallowed() -> None:
    with training_goes_on():
        raise ValueError("of a page")
    for kind in (KeyboardInterrupt, SystemExit, MemoryError):
        with pytest.raises(kind), training_goes_on():
            raise kind


@pytest.mark.parametrize("name", sorted(registry.METHODS))
def test_the_viewer_of_every_method_is_local(name: str) -> None:
    assert registry.method_specification(name).config.viewer.websocket_host == LOCAL_HOST
    assert FewShotTrainerConfig().viewer.websocket_host == LOCAL_HOST


def test_the_viewer_listens_on_this_machine_alone(trainer: FewShotTrainer) -> None:
    """Another address of it is refused."""
    port: Any = trainer.config.viewer.websocket_port
    with socket.socket() as probe:
        assert probe.connect_ex((LOCAL_HOST, port)) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", port)) != 0

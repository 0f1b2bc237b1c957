"""`ns-fewshot view`: the real command, and a page that speaks to it as the browser's does."""

from __future__ import annotations

import io
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

pytestmark = pytest.mark.end_to_end

PATIENCE_SECONDS = 180
CAMERA = {"type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 0.0), "fov": 1.0}
CAMERA |= {"aspect": 1.3, "look_at": (0.0, 0.0, 1.0), "up_direction": (0.0, 1.0, 0.0)}


class Viewing:
    """A running `ns-fewshot view`."""

    def __init__(self, process: subprocess.Popen, address: str, lines: List[str]) -> None:
        self.process, self.address, self.lines = process, address, lines
        self.port = int(address.rstrip("/").rpartition(":")[2])

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout=60)
        print(self.text[-3000:])
        return status


@pytest.fixture(scope="session")
def view(environment: Dict[str, str]) -> Callable[..., Any]:
    """Context manager (arguments) -> running command, once it has printed its address."""

    @contextmanager
    def run(*arguments: object) -> Iterator[Viewing]:
        command = [str(Path(environment["PATH"]) / "ns-fewshot"), "view", *map(str, arguments)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: List[str] = []
        arrived: queue.Queue = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                arrived.put(line)
            arrived.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            while True:
                line = arrived.get(timeout=PATIENCE_SECONDS)
                assert line is not None, "".join(lines)[-6000:]
                found = re.search(r"^Showing .* at (http://\S+)", line)
                if found:
                    break
            yield Viewing(process, found[1], lines)
        finally:
            process.kill()
            process.wait(timeout=30)

    return run


def page_of(viewing: Viewing, frames: int = 1) -> List[Dict[str, Any]]:
    """What a page is sent until it has so many rendered frames."""
    messages: List[Dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    with connect(viewing.address.replace("http", "ws"), max_size=None, compression=None) as page:
        page.send(msgspec.msgpack.encode(CAMERA))
        while sum(message["type"] == "BackgroundImageMessage" for message in messages) < frames:
            try:
                received = page.recv(timeout=deadline - time.monotonic())
                assert isinstance(received, bytes)
                messages += msgspec.msgpack.decode(received)
            except TimeoutError:
                pytest.fail(f"no rendered frame after {PATIENCE_SECONDS} s\n{viewing.text[-6000:]}")
    return messages


def of_type(messages: List[Dict[str, Any]], kind: str) -> List[Dict[str, Any]]:
    return [message for message in messages if message["type"] == kind]


def frusta(messages: List[Dict[str, Any]]) -> List[bool]:
    """Of each frustum, whether there is a picture in it."""
    return [message["image_binary"] is not None for message in of_type(messages, "CameraFrustumMessage")]


def labels(messages: List[Dict[str, Any]]) -> List[str]:
    return [message["label"] for message in messages if message["type"].startswith("GuiAdd") and "label" in message]


def frame(messages: List[Dict[str, Any]]) -> np.ndarray:
    """(H, W, 3) the last rendered frame."""
    return np.asarray(Image.open(io.BytesIO(of_type(messages, "BackgroundImageMessage")[-1]["rgb_bytes"])))


def status_of(address: str) -> int:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.status


def test_a_run_with_its_photos(view: Callable, trained_run: Path):
    with view(trained_run) as viewing:
        assert viewing.address.startswith("http://127.0.0.1:") and "3 cameras, 3 with photos" in viewing.text
        assert status_of(viewing.address) == 200
        # All of 127.0.0.0/8 is this machine: a server on all addresses would answer there, too.
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.2", viewing.port)) != 0
        messages = page_of(viewing, frames=2)
        assert frusta(messages) == [True] * 3
        assert {"theta", "phi", "radius", "Draw an unseen view"} <= set(labels(messages))
        assert of_type(messages, "SetCameraPositionMessage") and frame(messages).std() > 3.0

        # What is no message of the page's ends that page alone.
        for broken in ("words", b"\xff\xff", msgspec.msgpack.encode({"type": "Unknown"}), msgspec.msgpack.encode([1])):
            with connect(viewing.address.replace("http", "ws"), max_size=None) as page:
                page.send(broken)
                with pytest.raises(ConnectionClosed):
                    while True:
                        page.recv(timeout=30)
        assert viewing.process.poll() is None and status_of(viewing.address) == 200
        with connect(viewing.address.replace("http", "ws"), max_size=None) as page:
            page.send(msgspec.msgpack.encode(CAMERA))
            page.recv(timeout=30)
            assert page_of(viewing)
            # While a page is open.
            assert viewing.interrupt() in (0, 130)


@pytest.fixture(scope="module")
def lone_run(run_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run of a few steps in `moved`, whose scene now lies in `photos`, and without photos in `scene`."""
    folder = tmp_path_factory.mktemp("lone")
    write_demo_scene(folder / "scene", DemoSceneConfig(width=32, height=24, supersample=1, columns=9, rows=1))
    run_command(
        *("ns-train", "sparsenerf-lite", "--output-dir", folder / "runs", "--max-num-iterations", 3),
        *("--machine.device-type", "cpu", "--vis", "tensorboard", "--steps-per-eval-image", 0),
        *("--pipeline.model.width", 16, "--pipeline.model.num-samples", 8, "--pipeline.evaluation.metrics", "psnr"),
        *("llff-data", "--data", folder / "scene"),
    )
    (config,) = (folder / "runs").rglob("config.yml")
    shutil.move(config.parent, folder / "moved")
    shutil.copytree(folder / "scene", folder / "photos")
    for photo in [*(folder / "scene").rglob("*.png"), *(folder / "scene").rglob("*.jpg")]:
        photo.unlink()
    return folder


def test_a_run_that_was_moved_and_whose_photos_are_gone(view: Callable, lone_run: Path):
    with view(lone_run / "moved" / "config.yml") as viewing:
        assert "3 cameras, 0 with photos" in viewing.text and "scene.json" in viewing.text
        messages = page_of(viewing)
        assert frusta(messages) == [False] * 3 and "theta" in labels(messages)
        assert viewing.interrupt() in (0, 130)
    with view(lone_run / "moved", "--data", lone_run / "photos") as viewing:
        assert "3 cameras, 3 with photos" in viewing.text and frusta(page_of(viewing)) == [True] * 3


def test_splats_without_photos(view: Callable, splat_run: Path, tmp_path: Path):
    copied = with_data(splat_run, tmp_path / "copied", tmp_path / "gone")
    with view(copied) as viewing:
        assert "3 cameras, 0 with photos" in viewing.text
        messages = page_of(viewing)
        assert frusta(messages) == [False] * 3 and frame(messages).std() > 3.0
        assert viewing.interrupt() in (0, 130)


def with_data(run: Path, target: Path, data: Path) -> Path:
    """A copy of a run whose config says that its data lay somewhere else."""
    shutil.copytree(run, target)
    config = yaml.load((target / "config.yml").read_text(), Loader=yaml.Loader)
    config.pipeline.datamanager.data = config.pipeline.datamanager.dataparser.data = data
    (target / "config.yml").write_text(yaml.dump(config))
    return target


def test_a_run_across_scenes(view: Callable, scenes_run: Path, tiny_solids: Path, scene: Path, tmp_path: Path):
    lost = with_data(scenes_run, tmp_path / "lost", tmp_path / "gone")
    with pytest.raises(AssertionError, match=r"gone: expected the scenes of .*lost, found nothing; .* by --data DIR"):
        with view(lost) as viewing:
            pass
    with view(lost, "--data", tiny_solids) as viewing:
        messages = page_of(viewing)
        assert {"Scene", "Source views", "Show"} <= set(labels(messages)) and all(frusta(messages))
    with view(lost, "--source-views", 4, "--data", scene, "llff-data", "--downscale-factor", 1) as viewing:
        assert "with photos" in viewing.text and page_of(viewing)

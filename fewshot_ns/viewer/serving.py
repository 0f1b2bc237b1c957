"""nerfstudio's viewer for a loaded model, without a training: on one address, with or without photos."""

from __future__ import annotations

import ipaddress
import socket
import threading
from pathlib import Path
from typing import Any, Optional

import numpy as np
from nerfstudio.configs.base_config import LoggingConfig, ViewerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils import writer
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer import Viewer

from fewshot_ns.viewer.cameras import place_page
from fewshot_ns.viewer.frusta import draw_frusta
from fewshot_ns.viewer.messages import guard_messages

FIRST_PORT = 7007
"""The port that nerfstudio's viewer has, too."""
_PORTS_TRIED = 100
_SECONDS_TO_STOP = 5.0


def free_port(host: str, port: Optional[int] = None) -> int:
    """A port on which a server can listen.

    viser takes another port without a word where one is in use, and never ends where the host is not this machine's.

    Args:
        host: address or name.
        port: this one alone; None: the first free one from `FIRST_PORT` on.

    Raises:
        ValueError: the host is none of this machine's, or the port is in use or not allowed.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: expected 1 to 65535")
    try:
        family, kind, _, _, _ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        _listen(family, host, 0)
    except OSError as error:
        raise ValueError(f"--host {host}: expected an address of this machine, found {error.strerror}") from error
    reason = ""
    for each in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + _PORTS_TRIED):
        try:
            _listen(family, host, each)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            continue
        return each
    wanted = f"{FIRST_PORT} to {FIRST_PORT + _PORTS_TRIED - 1}" if port is None else str(port)
    raise ValueError(f"{host}: expected a free port, found none ({wanted}: {reason}); give another by --port")


def _listen(family: int, host: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As asyncio's servers do: a port that an earlier server has just left is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)


def is_local(host: str) -> bool:
    """Whether only programs on this machine reach a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def page_address(host: str, port: int) -> str:
    """Address of the page, for a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


def stop_rendering() -> None:
    """Ends what this process renders for pages, also for those whose end nerfstudio has not seen.

    A thread that computes while Python ends would take the process down with it, and one that waits keeps it alive.
    """
    machines = [thread for thread in threading.enumerate() if isinstance(thread, RenderStateMachine)]
    for machine in machines:
        machine.running = False
    for machine in machines:
        machine.join(_SECONDS_TO_STOP)


class RunningViewer:
    """nerfstudio's viewer of a model, running in threads of this process until `stop`.

    Args:
        pipeline: loaded; what it has of viewer controls is in the page.
        host: address on which it listens.
        port: a free one, see `free_port`.
        folder: of the run: the page shows commands with its config.yml.
        shown: training cameras to draw, with their photos where these are there; None: none.
        start: (3, 4) pose at which a page begins; None: nerfstudio's.
        distance: how far before that pose lies what the mouse turns around, world units.
        step: training step that the page names.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        host: str,
        port: int,
        folder: Path,
        shown: Optional[InputDataset] = None,
        start: Optional[np.ndarray] = None,
        distance: float = 1.0,
        step: int = 0,
    ) -> None:
        logging = LoggingConfig()
        logging.local_writer.enable = False
        # The viewer measures there how fast the model renders, to choose the size of pictures while the camera moves.
        writer.setup_local_writer(logging, max_iter=max(step, 1))
        # Where its page saves camera paths: beside the data, as nerfstudio does, or with the run.
        data = pipeline.datamanager.get_datapath()
        config = ViewerConfig(websocket_host=host, websocket_port=port)
        self.viewer = Viewer(
            config,
            folder / config.relative_log_filename,
            data if data.exists() else folder,
            pipeline,
            train_lock=threading.Lock(),
        )
        guard_messages(self.viewer.viser_server)
        self.viewer.camera_handles, self.viewer.original_c2w = {}, {}
        self.viewer.pause_train.visible = self.viewer.resume_train.visible = False
        self.pictures = 0 if shown is None else draw_frusta(self.viewer, shown)
        self.viewer.hide_images.visible = bool(self.viewer.camera_handles)
        self.viewer.update_scene(step)
        self.viewer.update_step(step)
        if start is not None:

            def begin(client: Any) -> None:
                place_page(client, start, distance)

            self.viewer.viser_server.on_client_connect(begin)

    @property
    def address(self) -> str:
        """Address of the page."""
        server = self.viewer.viser_server
        return page_address(server.get_host(), server.get_port())

    def stop(self) -> None:
        """Ends the server, and what it renders."""
        stop_rendering()
        self.viewer.viser_server.stop()

"""Missing weights are known within seconds on a machine without a network."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from fewshot_ns.pretrained.reachability import Probe
from fewshot_ns.pretrained.weights import WeightsNotFoundError, WeightsSpec, resolve_weights

LONGEST_SECONDS = 5.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy in the environment."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """Address at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def answering(status: int) -> Iterator[Tuple[str, List[str]]]:
    """Address of a server that answers with a status, and what it is asked for."""
    asked: List[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        do_GET = do_CONNECT = do_HEAD

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 301, 403, 404, 405])
def test_whatever_it_answers_it_is_there(status: int):
    with answering(status) as (address, asked):
        Probe(f"{address}/net.pt").check()
    assert asked == ["/net.pt"]


def test_what_is_not_there(silent: str, closed: str):
    begin = time.monotonic()
    with pytest.raises(OSError, match=f"^{closed}/ cannot be reached"):
        Probe(f"{closed}/").check()
    with pytest.raises(OSError, match=r"^http://nowhere\.invalid (cannot be reached|did not answer within)"):
        Probe("http://nowhere.invalid").check()
    with answering(503) as (address, _), pytest.raises(OSError, match="answers with status 503"):
        Probe(address).check()
    assert time.monotonic() - begin < 2 * LONGEST_SECONDS
    begin = time.monotonic()
    with pytest.raises(OSError, match=f"^{silent} did not answer within 0.5 s"):
        Probe(silent, seconds=0.5).check()
    assert time.monotonic() - begin < 2.0


def test_an_encrypted_server_that_is_not_trusted_is_there(tmp_path: Path):
    """It is the library that downloads which says whether its certificate will do."""
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = http.server.BaseHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Probe(f"https://localhost:{server.server_address[1]}").check()
        server.shutdown()
        thread.join()


def test_a_proxy_is_asked_and_not_the_server(closed: str, monkeypatch: pytest.MonkeyPatch):
    with answering(200) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        # No such server is there, so whoever went past the proxy would not find it.
        Probe("http://hub.invalid/net.pt").check()
        assert asked == ["http://hub.invalid/net.pt"]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(OSError, match="cannot be reached"):
            Probe(closed).check()
        assert len(asked) == 1
    monkeypatch.setenv("http_proxy", closed)
    with pytest.raises(OSError, match=r"^http://hub\.invalid cannot be reached through the proxy"):
        Probe("http://hub.invalid").check()


def test_silent_servers_are_asked_at_once(silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("FEWSHOT_WEIGHTS", raising=False)
    url = silent.replace("127.0.0.1", "localhost") + "/net.pt"
    spec = WeightsSpec("a net", ("net.pt",), "--net", url=url, hub="org/net", hub_filenames=("a.pt", "b.pt"))
    begin = time.monotonic()
    with pytest.raises(WeightsNotFoundError) as caught:
        resolve_weights(spec)
    assert time.monotonic() - begin < LONGEST_SECONDS
    for address in (silent, url):
        assert f"{address} did not answer within 4 s" in str(caught.value)


FIND = """
import json, time
from concurrent.futures import ThreadPoolExecutor
import nerfstudio.configs.method_configs
import huggingface_hub, open_clip, timm, torch, transformers, diffusers
from fewshot_ns.evaluation.metrics.lpips import BACKBONE_WEIGHTS
from fewshot_ns.pretrained.diffusion_models import find_clip, find_diffusion_model
from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.libraries import load_model
from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig, monocular_depths
from fewshot_ns.pretrained.weights import WeightsNotFoundError, resolve_weights

finders = {
    "open_clip": lambda: load_model(EncoderConfig(), "--weights"),
    "timm": lambda: load_model(EncoderConfig("timm", "vit_tiny_patch16_224"), "--weights"),
    "torchvision": lambda: load_model(EncoderConfig("torchvision", "squeezenet1_1"), "--weights"),
    "diffusers": lambda: find_diffusion_model("stabilityai/stable-diffusion-2-1-base", "--weights", None, True, True),
    "transformers": lambda: find_clip("openai/clip-vit-base-patch32", "--weights", None, True),
    "depth": lambda: monocular_depths(MonocularDepthConfig(), [], "black", "--weights"),
    "lpips": lambda: resolve_weights(BACKBONE_WEIGHTS["vgg"]),
}

def timed(find):
    begin = time.monotonic()
    try:
        find()
    except WeightsNotFoundError:
        return time.monotonic() - begin
    return -1.0

# Side by side, since all they do is wait.
with ThreadPoolExecutor(len(finders)) as pool:
    seconds = dict(zip(finders, pool.map(timed, finders.values())))
print(json.dumps(seconds))
"""


@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_no_library_keeps_a_user_waiting(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    """Also where everything goes to a proxy that never answers, or is not there."""
    for library in ("open_clip", "timm", "transformers", "diffusers", "huggingface_hub"):
        pytest.importorskip(library)
    address = request.getfixturevalue(kind)
    environment: Dict[str, str] = {key: value for key, value in os.environ.items() if key not in PROXIES}
    for name in ("FEWSHOT_WEIGHTS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        environment.pop(name, None)
    # The hub is that address; what lies elsewhere is searched for through it.
    environment |= {"HF_ENDPOINT": address, "http_proxy": address, "https_proxy": address, "no_proxy": "127.0.0.1"}
    environment |= {"HF_HOME": str(tmp_path / "hub"), "TORCH_HOME": str(tmp_path / "torch")}
    done = subprocess.run([sys.executable, "-c", FIND], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    seconds = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(seconds) == 7 and all(0.0 <= each < LONGEST_SECONDS for each in seconds.values()), seconds

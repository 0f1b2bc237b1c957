"""The search for weight files: its order, its download and its one error."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import pytest
import torch

from fewshot_ns.pretrained import weights
from fewshot_ns.pretrained.weights import (
    WeightsNotFoundError,
    WeightsSpec,
    download_file,
    hash_in_address,
    hub_cache,
    load_weights,
    resolve_weights,
)
from fewshot_ns.utils.hashing import file_hash

SPEC = WeightsSpec(
    name="a test network",
    filenames=("net.pt", "net_other.pt"),
    flag="--pipeline.test.weights",
    cache_filenames=("net-12345678.pth",),
)


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights anywhere: an empty torch cache, no weights folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.delenv("FEWSHOT_WEIGHTS", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a local file server that serves tmp_path/served."""
    (tmp_path / "served").mkdir()

    class QuietHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def send_head(self):
            if self.path == "/cut.pt":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"short")
                return None
            return super().send_head()

    handler = functools.partial(QuietHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.ones(2)}, path)
    return path


def test_explicit_path_wins_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explicit = touch(tmp_path / "mine.bin")
    touch(tmp_path / "folder" / "net.pt")
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path / "folder"))
    assert resolve_weights(SPEC, explicit) == explicit
    other = touch(tmp_path / "more" / "net_other.pt")
    assert resolve_weights(SPEC, tmp_path / "more") == other


def test_wrong_explicit_path_is_an_error_though_others_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "folder" / "net.pt")
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path / "folder"))
    with pytest.raises(WeightsNotFoundError, match="--pipeline.test.weights .*absent.pt: does not exist"):
        resolve_weights(SPEC, tmp_path / "absent.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsNotFoundError, match="none of these files in it"):
        resolve_weights(SPEC, tmp_path / "empty")


def test_weights_folder_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = touch(hub_cache() / "net-12345678.pth")
    assert hub_cache() == tmp_path / "torch_home" / "hub" / "checkpoints"
    assert resolve_weights(SPEC) == cached
    in_folder = touch(tmp_path / "folder" / "net.pt")
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path / "folder"))
    assert resolve_weights(SPEC) == in_folder
    in_folder.unlink()
    assert resolve_weights(SPEC) == cached


def test_an_absent_weights_folder_is_said_where_others_step_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = touch(hub_cache() / "net-12345678.pth")
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path / "gone"))
    assert resolve_weights(SPEC) == cached == resolve_weights(SPEC)
    said = "".join(capsys.readouterr().out.split())
    assert said.count(f"foundnoneat{tmp_path / 'gone'}") == 1 and said.endswith(f"taken:{cached}")
    assert resolve_weights(SPEC, cached) == cached and not capsys.readouterr().out


def test_message_says_what_was_sought_where_and_how_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = WeightsSpec(**{**vars(SPEC), "url": "http://example.invalid/net.pth"})
    with pytest.raises(WeightsNotFoundError) as caught:
        resolve_weights(spec, download=False)
    message = str(caught.value)
    for part in (
        "a test network",
        "net.pt or net_other.pt or net-12345678.pth",
        "FEWSHOT_WEIGHTS: not set",
        str(hub_cache()),
        "download: switched off",
        "http://example.invalid/net.pth",
        "--pipeline.test.weights PATH",
        "FEWSHOT_WEIGHTS=FOLDER",
    ):
        assert part in message, part
    assert isinstance(caught.value, FileNotFoundError)

    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(WeightsNotFoundError, match="gone: does not exist(.|\n)*no address is known"):
        resolve_weights(SPEC)
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(touch(tmp_path / "file.pt")))
    with pytest.raises(WeightsNotFoundError, match="file.pt: is not a folder"):
        resolve_weights(SPEC)


def test_download_is_checked_and_kept(tmp_path: Path, server: str) -> None:
    served = touch(tmp_path / "served" / "net.pth")
    digest = hashlib.sha256(served.read_bytes()).hexdigest()
    spec = WeightsSpec(**{**vars(SPEC), "url": f"{server}/net.pth", "sha256": digest[:8]})
    path = resolve_weights(spec)
    assert path == hub_cache() / "net-12345678.pth"
    assert path.read_bytes() == served.read_bytes()
    served.unlink()
    assert resolve_weights(spec) == path


@pytest.mark.parametrize(
    "name, sha256, reason",
    [
        ("net.pth", "00000000", "expected SHA-256 00000000"),
        ("absent.pth", "", "File not found|Not Found"),
        ("cut.pt", "", "broke off: expected 1000 bytes, got 5|IncompleteRead"),
    ],
)
def test_failed_download_leaves_nothing(tmp_path: Path, server: str, name: str, sha256: str, reason: str) -> None:
    touch(tmp_path / "served" / "net.pth")
    spec = WeightsSpec(**{**vars(SPEC), "url": f"{server}/{name}", "sha256": sha256})
    with pytest.raises(WeightsNotFoundError, match=reason):
        resolve_weights(spec)
    assert not hub_cache().exists() or list(hub_cache().iterdir()) == []


def test_hash_of_an_address_is_checked(tmp_path: Path, server: str) -> None:
    """Where a library names the address alone."""
    whole = hashlib.sha256(b"another").hexdigest()
    for name in ("net-0123abcd.pth", f"{whole}/net.pth"):
        touch(tmp_path / "served" / name)
        spec = WeightsSpec(**{**vars(SPEC), "url": f"{server}/{name}", "sha256": ""})
        with pytest.raises(WeightsNotFoundError, match="expected SHA-256 (0123abcd|" + whole + ")"):
            resolve_weights(spec)
        assert not hub_cache().exists() or list(hub_cache().iterdir()) == []
    content = (tmp_path / "served" / "net-0123abcd.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "served" / f"net-{digest[:8]}.pth").write_bytes(content)
    assert resolve_weights(replace(spec, url=f"{server}/net-{digest[:8]}.pth")).is_file()


@pytest.mark.parametrize(
    "address, digits",
    [
        ("https://x.org/resnet34-b627a593.pth", "b627a593"),
        ("https://x.org/models/" + 64 * "a" + "/ViT-B-32.pt", 64 * "a"),
        ("https://x.org/net-20240131.pth", ""),
        ("https://x.org/net-12345678.pth", "12345678"),
        ("https://x.org/dino_vitbase8_pretrain.pth", ""),
        ("https://x.org/net-abc.pth", ""),
    ],
)
def test_hash_in_address(address: str, digits: str) -> None:
    assert hash_in_address(address) == digits


def test_a_download_is_written_aside(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its own name it is there when its hash is known to be right, and not before."""
    served, target, seen = touch(tmp_path / "served" / "net.pth"), tmp_path / "cache" / "net.pth", []

    def watched(path: Path) -> str:
        seen.append((path.name != target.name, target.exists()))
        return file_hash(path)

    monkeypatch.setattr(weights, "file_hash", watched)
    download_file(f"{server}/net.pth", target, file_hash(served))
    assert seen == [(True, False)] and [path.name for path in target.parent.iterdir()] == ["net.pth"]
    with pytest.raises(ValueError, match="expected SHA-256 00000000"):
        download_file(f"{server}/net.pth", target, "00000000")
    assert target.read_bytes() == served.read_bytes() and len(list(target.parent.iterdir())) == 1


def test_unreachable_server_is_one_clear_error(server: str) -> None:
    closed = "http://127.0.0.1:9/net.pth"
    with pytest.raises(WeightsNotFoundError, match="127.0.0.1:9/net.pth cannot be reached"):
        resolve_weights(WeightsSpec(**{**vars(SPEC), "url": closed}))


class Evil:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_load_weights_reads_tensors_and_never_runs_code(tmp_path: Path) -> None:
    state = load_weights(touch(tmp_path / "good.pt"))
    assert torch.equal(state["weight"], torch.ones(2))

    torch.save({"weight": Evil(tmp_path / "trace")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt: expected a weights-only torch checkpoint"):
        load_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "trace").exists()

    (tmp_path / "torn.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:200])
    with pytest.raises(ValueError, match="torn.pt: expected a weights-only torch checkpoint"):
        load_weights(tmp_path / "torn.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match="empty.pt"):
        load_weights(tmp_path / "empty.pt")

    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="tensor.pt: expected a dictionary of tensors, found Tensor"):
        load_weights(tmp_path / "tensor.pt")


@pytest.fixture
def hub_cache_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the one file that the hub's cache holds, of the repository org/net; the hub itself is out of reach."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = cache / "models--org--net" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    refs = cache / "models--org--net" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    (snapshot / "second.bin").write_bytes(b"weights")
    return snapshot


def test_cache_of_the_hub(hub_cache_of: Path) -> None:
    names = ("first.safetensors", "second.bin")
    spec = WeightsSpec("a net", ("net.pt",), "--net", hub="org/net", hub_filenames=names)
    assert resolve_weights(spec, download=False) == hub_cache_of / "second.bin"
    (hub_cache_of / "second.bin").unlink()
    with pytest.raises(WeightsNotFoundError) as caught:
        resolve_weights(spec, download=False)
    for part in (
        "net.pt",
        "hub cache org/net: ",
        "download: switched off",
        "https://huggingface.co/org/net",
        "--net PATH",
    ):
        assert part in str(caught.value)


def test_safetensors(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    path = tmp_path / "net.safetensors"
    library.save_file({"weight": torch.arange(3.0)}, path)
    assert torch.equal(load_weights(path)["weight"], torch.arange(3.0))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="net.safetensors: expected a safetensors file"):
        load_weights(path)

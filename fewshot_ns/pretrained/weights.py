"""Where pretrained weights lie on this machine: one order of search and one error, for single files and model folders.

The order: a path given by the user; the folder named by the environment variable FEWSHOT_WEIGHTS; the library's own
cache (torch hub's checkpoint folder, or the Hugging Face hub's); a download into that cache. Nothing here runs at
import or in a constructor.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import requests
import rich
import torch
from rich.markup import escape

from fewshot_ns.pretrained.reachability import Probe
from fewshot_ns.utils.files import replacing
from fewshot_ns.utils.hashing import file_chunks, file_hash, sha256_hex
from fewshot_ns.utils.optional_imports import require
from fewshot_ns.utils.reading import reading

WEIGHTS_ENV = "FEWSHOT_WEIGHTS"
"""Environment variable that names a folder with weight files and model folders."""
TIMEOUT = 10.0
"""Seconds that a server may stay silent before a download is given up."""
CONFIG_NAME = "config.json"
_WEIGHT_PATTERNS = ("*.safetensors", "*.bin")
_OTHER_COPIES = ["*.fp16.*", "*.non_ema*"]
"""Second copies of the weights in a model's repository: in another number format, or from before averaging."""

Attempt = Tuple[str, Callable[[], Path]]
"""One place of the search in words, and the look into it, which raises OSError or ValueError with the reason."""


class WeightsNotFoundError(FileNotFoundError):
    """Weights were not found; the message says where they were searched for, where to get them and which flag takes
    them."""


@dataclass(frozen=True)
class WeightsSpec:
    """Weights in one file."""

    name: str
    """What the weights are, in words for a person ("VGG16 backbone of LPIPS")."""
    filenames: Tuple[str, ...]
    """Names under which the file (or folder) may lie in a weights folder, preferred first."""
    flag: str
    """Command line flag that takes the path ("--pipeline.evaluation.lpips-weights")."""
    cache_filenames: Tuple[str, ...] = ()
    """Names in torch hub's checkpoint folder; a download is stored under the first."""
    url: Optional[str] = None
    """Where the file can be downloaded, None where it cannot."""
    sha256: str = ""
    """The first (at least 8) hexadecimal digits of the file's SHA-256; empty: those that the address holds, if any."""
    hub: Optional[str] = None
    """Repository on the Hugging Face hub; comes before the address."""
    hub_filenames: Tuple[str, ...] = ()
    """Names of the file in that repository, preferred first."""
    source: str = ""
    """Where a person finds the file that has no address of its own, in words ("its authors' page, https://...")."""

    def at(self, path: Path) -> Path:
        """The file at a path, which may also be a folder with one of the names in it."""
        if not path.is_dir():
            return path if path.exists() else _fail("does not exist")
        return _first_existing(path, self.filenames + self.cache_filenames, "none of these files in it")

    def in_weights_folder(self, folder: Path) -> Path:
        """The file in the folder named by FEWSHOT_WEIGHTS."""
        return _fail("is not a folder") if folder.is_file() else self.at(folder)

    def sources(self, local: bool) -> Iterator[Attempt]:
        """The caches of torch hub and the Hugging Face hub, or what they download from."""
        if self.cache_filenames and local:
            absent = f"no {' or '.join(self.cache_filenames)}"
            yield f"torch cache {hub_cache()}", lambda: _first_existing(hub_cache(), self.cache_filenames, absent)
        if self.hub:
            yield f"{'hub cache' if local else 'download'} {self.hub}", lambda: self._from_hub(local)
        if not local:
            yield "download", self._from_url

    def servers(self) -> Tuple[str, ...]:
        """For each place that is downloaded from an address of its server; '' where none is known or needed."""
        return (*([hub_server()] if self.hub else []), self.url or "")

    def message(self) -> Tuple[str, str]:
        """What is missing, and how to get it and hand it over."""
        names = " or ".join(dict.fromkeys(self.filenames + self.cache_filenames))
        address = f"https://huggingface.co/{self.hub}" if self.hub else self.url or self.source
        source = f"get it from {address}, then" if address else "to use your own file,"
        advice = f"{source} pass it with {self.flag} PATH, or put it in a folder and set {WEIGHTS_ENV}=FOLDER"
        return f"{self.name}, file {names}", advice

    def _from_hub(self, local: bool) -> Path:
        """The first of the files that the repository has; from the hub's cache alone where `local`."""
        hub = require("huggingface_hub", "priors")
        missing = require("huggingface_hub.errors", "priors").LocalEntryNotFoundError
        if local:
            # hf_hub_download would ask the hub what program this is, for three seconds, also where it may not download.
            found = (hub.try_to_load_from_cache(self.hub, name) for name in self.hub_filenames)
            path = next((path for path in found if isinstance(path, str)), None)
            return _fail(f"no {' or '.join(self.hub_filenames)} of it") if path is None else Path(path)
        reasons: List[Exception] = []
        for name in self.hub_filenames:
            try:
                return Path(hub.hf_hub_download(self.hub, name))
            except (OSError, ValueError) as error:
                reasons.append(error)
                if isinstance(error, missing):
                    # The hub was not reached, and will not be for the other names.
                    break
        return _fail(_first_line(reasons[0]))

    def _from_url(self) -> Path:
        if self.url is None:
            return _fail("no address is known")
        target = hub_cache() / (self.cache_filenames or self.filenames)[0]
        return download_file(self.url, target, self.sha256 or hash_in_address(self.url))


class Part(NamedTuple):
    """One network of several in a model's folder, or something that belongs to them."""

    folder: str
    """Its folder in the model's; '' is that one itself."""
    config: str = CONFIG_NAME
    """Its configuration."""
    has_weights: bool = True
    """Whether it has weights, next to the configuration."""


@dataclass(frozen=True)
class FolderSpec:
    """A model that is a folder with configuration and weights, as on the Hugging Face hub."""

    model: str
    """Id on the hub ("Intel/dpt-hybrid-midas"), or a folder on this disk."""
    flag: str
    """Command line flag that takes the folder."""
    what: str = "network"
    """What the model is, in words."""
    parts: Sequence[Part] = (Part(""),)
    """What the folder has to hold; nothing else is downloaded. Default: one network."""

    def at(self, path: Path) -> Path:
        """The model's folder at a path."""
        lack = self._lacks(path)
        return _fail(lack) if lack else path

    def in_weights_folder(self, folder: Path) -> Path:
        """The model's folder in the one named by FEWSHOT_WEIGHTS."""
        names = (self.model.replace("/", "--"), self.model, self.model.split("/")[-1])
        found = next((folder / name for name in names if not self._lacks(folder / name)), None)
        return found or _fail(f"none of {', '.join(names)} in it is a complete folder")

    def sources(self, local: bool) -> Iterator[Attempt]:
        """The Hugging Face hub's cache, or the hub itself."""
        yield "hub cache" if local else "download", lambda: self._from_hub(local)

    def servers(self) -> Tuple[str, ...]:
        """Address of the server that it is downloaded from; '' where none is needed."""
        return (hub_server(),)

    def message(self) -> Tuple[str, str]:
        """What is missing, and how to get it and hand it over."""
        return f"{self.what} {self.model}", (
            f"get it with `hf download {self.model}` (https://huggingface.co/{self.model}), then pass its folder with "
            f"{self.flag} PATH, or put it in a folder as {self.model.replace('/', '--')} and set {WEIGHTS_ENV}=FOLDER"
        )

    def _lacks(self, folder: Path) -> str:
        """What a folder lacks, in words; empty where it is complete."""
        if not folder.is_dir():
            return "is not a folder" if folder.exists() else "does not exist"
        for part in self.parts:
            place, name = folder / part.folder, Path(part.folder)
            if not (place / part.config).is_file():
                return f"has no {name / part.config}"
            if part.has_weights and not any(path for pattern in _WEIGHT_PATTERNS for path in place.glob(pattern)):
                return f"has no weights ({' or '.join(str(name / pattern) for pattern in _WEIGHT_PATTERNS)})"
        return ""

    def _from_hub(self, local: bool) -> Path:
        hub = require("huggingface_hub", "priors")
        wanted = [str(Path(part.folder) / kind) for part in self.parts for kind in ("*.json", "*.txt")]
        folder = Path()
        # The old format only where a repository has no safetensors; a cache is one folder, whatever is asked of it.
        for pattern in _WEIGHT_PATTERNS[: 1 if local else None]:
            wanted += [str(Path(part.folder) / pattern) for part in self.parts if part.has_weights]
            options = {"allow_patterns": wanted, "ignore_patterns": _OTHER_COPIES, "local_files_only": local}
            folder = Path(hub.snapshot_download(self.model, **options))
            if not self._lacks(folder):
                break
        return self.at(folder)


def resolve_weights(
    spec: Union[WeightsSpec, FolderSpec], explicit: Optional[Path] = None, download: bool = True
) -> Path:
    """Path of a file or model folder on this disk.

    Args:
        spec: what is searched for.
        explicit: the user's own file or folder; nothing else is tried when it is given.
        download: whether what is not on this disk may be downloaded.

    Raises:
        WeightsNotFoundError: nothing was found.
        ImportError: the Hugging Face hub's library is needed and not installed.
    """
    tried: List[str] = []
    for where, look in _attempts(spec, explicit, download):
        try:
            found = look()
        except (OSError, ValueError) as error:
            tried.append(f"{where}: {_first_line(error)}")
            continue
        named = os.environ.get(WEIGHTS_ENV, "")
        if explicit is None and named and not Path(named).expanduser().is_dir():
            _say_absent(named, str(found))
        return found
    what, advice = spec.message()
    raise WeightsNotFoundError("\n  ".join([f"weights not found: {what}", *tried, advice]))


@cache
def _say_absent(folder: str, found: str) -> None:
    """Says once that what was meant to come from a folder comes from elsewhere."""
    words = f"{WEIGHTS_ENV}: expected a folder of weights, found none at {folder}; taken: {found}"
    rich.print(f"[yellow]{escape(words)}[/yellow]")


@contextmanager
def ways_out(ways: str) -> Iterator[None]:
    """Lets the error about missing weights say what a user can do without them.

    Args:
        ways: with their flags.

    Raises:
        WeightsNotFoundError: with `ways` at its end.
    """
    try:
        yield
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{error}\n  Ways out: {ways}") from error


def _attempts(spec: Union[WeightsSpec, FolderSpec], explicit: Optional[Path], download: bool) -> Iterator[Attempt]:
    """The order of search."""
    if explicit is not None:
        yield f"{spec.flag} {explicit}", lambda: spec.at(explicit.expanduser())
        return
    if isinstance(spec, FolderSpec) and (Path(spec.model).is_dir() or spec.model.startswith((".", "/", "~"))):
        path = Path(spec.model).expanduser()
        yield str(path), lambda: spec.at(path)
        return
    folder = os.environ.get(WEIGHTS_ENV, "")
    if folder:
        yield f"{WEIGHTS_ENV}={folder}", lambda: spec.in_weights_folder(Path(folder).expanduser())
    else:
        yield WEIGHTS_ENV, lambda: _fail("not set")
    yield from spec.sources(local=True)
    if download:
        # All at once, so that several silent ones cost no more time than one.
        probes = [Probe(server) if server else None for server in spec.servers()]
        for (where, look), probe in zip(spec.sources(local=False), probes, strict=True):
            yield where, _after(probe, look)
    else:
        yield "download", lambda: _fail("switched off")


def _after(probe: Optional[Probe], look: Callable[[], Path]) -> Callable[[], Path]:
    """`look`, once a server has answered."""

    def checked() -> Path:
        if probe is not None:
            probe.check()
        return look()

    return checked


def _fail(reason: str) -> Path:
    raise OSError(reason)


def _first_existing(folder: Path, names: Sequence[str], otherwise: str) -> Path:
    return next((folder / name for name in names if (folder / name).exists()), None) or _fail(otherwise)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def hub_server() -> str:
    """Address of the Hugging Face hub (HF_ENDPOINT), '' where its library is offline (HF_HUB_OFFLINE).

    Raises:
        ImportError: the library is not installed.
    """
    constants = require("huggingface_hub.constants", "priors")
    return "" if constants.HF_HUB_OFFLINE else constants.ENDPOINT


def hub_cache() -> Path:
    """Folder in which torch hub (and so torchvision) keeps downloaded checkpoints; follows TORCH_HOME."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_weights(path: Path) -> Dict[str, Any]:
    """Reads a checkpoint dictionary to the CPU; never runs code from the file.

    Args:
        path: file written by torch.save, or in the safetensors format (.safetensors).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, holds more than plain tensors and containers, or is not a dictionary.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, found none")
    if path.suffix == ".safetensors":
        damaged = require("safetensors", "priors").SafetensorError
        with reading(path, "a safetensors file", also=(damaged,)):
            return require("safetensors.torch", "priors").load_file(path)
    with reading(path, "a weights-only torch checkpoint"):
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return state


def hash_in_address(url: str) -> str:
    """The digits of a file's SHA-256 that its publisher has put into the address, as torch hub, timm and open_clip do;
    '' where there are none.

    Args:
        url: such as `.../resnet34-b627a593.pth`, or `.../<64 digits>/ViT-B-32.pt`.
    """
    *folders, name = url.split("/")
    whole = next((one for one in reversed(folders) if re.fullmatch("[0-9a-f]{64}", one)), "")
    behind = re.search(r"-([0-9a-f]{8}|[0-9a-f]{64})\.\w+$", name)
    # Digits alone may also be a date.
    return whole or (behind[1] if behind and not re.fullmatch(r"(19|20)\d{6}", behind[1]) else "")


def folder_hash(folder: Path) -> str:
    """SHA-256 of the configuration, preprocessing and weights in a model's folder."""
    files = sorted({path for pattern in ("*.json", *_WEIGHT_PATTERNS) for path in folder.glob(pattern)})
    return sha256_hex(chunk for path in files for chunk in chain([path.name], file_chunks(path)))


def download_file(url: str, target: Path, sha256: str = "") -> Path:
    """Downloads a file so that `target` appears complete or not at all.

    torch.hub's own download has no timeout, and keeps a file that broke off where no hash is known.

    Args:
        url: address of the file.
        target: where the file goes; its folder is made.
        sha256: leading hexadecimal digits that the file's SHA-256 must have; empty: not checked.

    Returns:
        `target`.

    Raises:
        OSError: no connection, the server refused, or the disk did.
        ValueError: the file that came is not the one expected.
    """
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            length = int(response.headers.get("Content-Length") or 0)
            # A plain line and no progress bar: this may run while nerfstudio shows a live display of its own.
            rich.print(f"Downloading {url} ({length / 1e6:.0f} MB) to {target}")
            with replacing(target) as partial:
                with partial.open("wb") as file:
                    file.writelines(response.iter_content(1 << 20))
                received, found = partial.stat().st_size, file_hash(partial)
                if length and received != length:
                    raise ValueError(f"{url} broke off: expected {length} bytes, got {received}")
                if not found.startswith(sha256.lower()):
                    raise ValueError(f"{url}: expected SHA-256 {sha256}..., got {found[:16]}...")
    except OSError as error:  # the errors of requests are among them
        raise OSError(f"{url} could not be fetched ({error})") from error
    return target

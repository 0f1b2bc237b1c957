"""Where the weights of a frozen network lie on this machine: one order of search and one clear error for all of them.

The order: a path given by the user, the folder named by the environment variable FEWSHOT_WEIGHTS, the library's own
cache (torch hub's checkpoint folder, or the Hugging Face hub's), a download into that cache. Nothing here runs at
import or in a constructor.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import rich
import torch

from fewshot_ns.utils.files import replacing
from fewshot_ns.utils.optional_imports import require

WEIGHTS_ENV = "FEWSHOT_WEIGHTS"
"""Environment variable that names a folder with weight files."""


class WeightsNotFoundError(FileNotFoundError):
    """The weights of a network are nowhere to be had; the message says where they were sought and how to give them."""


@dataclass(frozen=True)
class WeightsSpec:
    """What to look for when a network's weights are asked for."""

    name: str
    """What the weights are, in words for a person ("VGG16 backbone of LPIPS")."""
    filenames: Tuple[str, ...]
    """Names under which the file (or folder) may lie in a weights folder, most wanted first."""
    flag: str
    """Command line flag that takes the path ("--pipeline.evaluation.lpips-weights")."""
    cache_filenames: Tuple[str, ...] = ()
    """Names in torch hub's checkpoint folder; a download is stored under the first."""
    url: Optional[str] = None
    """Where the file can be downloaded, None where it cannot."""
    sha256: str = ""
    """The first (at least 8) hexadecimal digits of the file's SHA-256; empty: a download is not checked."""
    hub: Optional[str] = None
    """Repository on the Hugging Face hub; comes before the address."""
    hub_filenames: Tuple[str, ...] = ()
    """Names of the file in that repository, most wanted first."""
    source: str = ""
    """Where a person finds the file that has no address of its own, in words ("its authors' page, https://...")."""


def resolve_weights(
    spec: WeightsSpec, explicit: Optional[Path] = None, download: bool = True, timeout: float = 10.0
) -> Path:
    """Path of the weights on this disk.

    Args:
        spec: what is sought.
        explicit: the user's own file, or a folder that holds one of the names; nothing else is tried when it is given.
        download: whether a file that is nowhere on this disk may be downloaded.
        timeout: seconds that the server may stay silent before the download is given up.

    Raises:
        WeightsNotFoundError: the weights are nowhere to be had.
    """
    if explicit is not None:
        found = _in_folder(Path(explicit).expanduser(), spec.filenames + spec.cache_filenames)
        if found is None:
            raise WeightsNotFoundError(_message(spec, [f"{spec.flag} {explicit}: {_absence(Path(explicit))}"]))
        return found

    tried: List[str] = []
    folder = os.environ.get(WEIGHTS_ENV, "")
    if folder:
        place = Path(folder).expanduser()
        found = _in_folder(place, spec.filenames + spec.cache_filenames) if place.is_dir() else None
        if found is not None:
            return found
        tried.append(f"{WEIGHTS_ENV}={folder}: {_absence(place)}")
    else:
        tried.append(f"{WEIGHTS_ENV}: not set")

    cache = hub_cache()
    if spec.cache_filenames:
        found = next((cache / name for name in spec.cache_filenames if (cache / name).exists()), None)
        if found is not None:
            return found
        tried.append(f"torch cache {cache}: no {' or '.join(spec.cache_filenames)}")

    for local in (True, False) if spec.hub else ():
        if not local and not download:
            break
        try:
            return _from_hub(spec.hub or "", spec.hub_filenames, local)
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            tried.append(f"{'hub cache' if local else 'download'} {spec.hub}: {reason}")

    if not download:
        tried.append("download: switched off")
    elif spec.url is None:
        tried.append("download: no address is known")
    else:
        target = cache / (spec.cache_filenames or spec.filenames)[0]
        try:
            return download_weights(spec.url, target, spec.sha256, timeout)
        except (OSError, ValueError) as error:
            tried.append(f"download: {error}")
    raise WeightsNotFoundError(_message(spec, tried))


def hub_cache() -> Path:
    """Folder in which torch hub (and so torchvision) keeps downloaded checkpoints; follows TORCH_HOME."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def download_weights(url: str, target: Path, sha256: str = "", timeout: float = 10.0) -> Path:
    """Downloads a file so that `target` appears complete or not at all.

    Args:
        url: address of the file.
        target: where the file goes; its folder is made.
        sha256: leading hexadecimal digits that the file's SHA-256 must have; empty: not checked.
        timeout: seconds that the server may stay silent.

    Returns:
        `target`.

    Raises:
        OSError: no connection, the server refused, or the disk did.
        ValueError: the file that came is not the one expected.
    """
    digest = hashlib.sha256()
    try:
        # An opener of our own: urlopen keeps the proxies of the process's first call for good.
        opener = urllib.request.build_opener()
        with opener.open(url, timeout=timeout) as response, replacing(target) as partial:
            length = int(response.headers.get("Content-Length") or 0)
            # A plain line and no progress bar: this may run while the host shows a live display of its own.
            rich.print(f"Downloading {url} ({length / 1e6:.0f} MB) to {target}")
            with open(partial, "wb") as file:
                while chunk := response.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
                received = file.tell()
            if length and received != length:
                raise ValueError(f"{url} broke off: expected {length} bytes, got {received}")
            if not digest.hexdigest().startswith(sha256.lower()):
                raise ValueError(f"{url}: expected SHA-256 {sha256}..., got {digest.hexdigest()[:16]}...")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} could not be fetched ({getattr(error, 'reason', '') or error})") from error
    return target


def load_weights(path: Path) -> Dict[str, Any]:
    """Reads a checkpoint dictionary to the CPU; never runs code from the file.

    Args:
        path: file written by torch.save, or in the safetensors format (.safetensors).

    Raises:
        ValueError: the file is damaged, holds more than plain tensors and containers, or is not a dictionary.
    """
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path}: expected a weights-only torch checkpoint, could not read it ({first_line})"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return state


def _load_safetensors(path: Path) -> Dict[str, Any]:
    damaged = require("safetensors", "priors").SafetensorError
    try:
        return require("safetensors.torch", "priors").load_file(path)
    except damaged as error:
        raise ValueError(f"{path}: expected a safetensors file, could not read it ({error})") from error


def _from_hub(repository: str, names: Tuple[str, ...], local: bool) -> Path:
    """The first of the files that a repository of the hub holds; from the hub's cache alone where `local`."""
    hub = require("huggingface_hub", "priors")
    reason: Optional[Exception] = None
    for name in names:
        try:
            return Path(hub.hf_hub_download(repository, name, local_files_only=local))
        except (OSError, ValueError) as error:
            reason = reason or error
    raise OSError(str(reason))


def _in_folder(place: Path, names: Tuple[str, ...]) -> Optional[Path]:
    """`place` itself where it is a file, else the first of the names that lies in it."""
    if place.is_dir():
        return next((place / name for name in names if (place / name).exists()), None)
    return place if place.exists() else None


def _absence(place: Path) -> str:
    if place.expanduser().is_dir():
        return "none of these files in it"
    return "is not a folder" if place.expanduser().exists() else "does not exist"


def _message(spec: WeightsSpec, tried: List[str]) -> str:
    names = dict.fromkeys(spec.filenames + spec.cache_filenames)
    lines = [f"weights not found: {spec.name}, file {' or '.join(names)}"]
    lines += [f"  {place}" for place in tried]
    address = f"https://huggingface.co/{spec.hub}" if spec.hub else spec.url or spec.source
    source = f"get it from {address}, then" if address else "to use your own file,"
    lines.append(f"  {source} pass it with {spec.flag} PATH, or put it in a folder and set {WEIGHTS_ENV}=FOLDER")
    return "\n".join(lines)

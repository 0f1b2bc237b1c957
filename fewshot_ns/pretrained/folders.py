"""Models that live in a folder (config.json and weights) rather than in one file, as on the Hugging Face hub.

The order of search is that of `priors.weights`: a path given by the user, the folder named by FEWSHOT_WEIGHTS, the
library's own cache, a download into that cache.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError
from fewshot_ns.utils.optional_imports import require

CONFIG_NAME = "config.json"
_WEIGHTS = ("*.safetensors", "*.bin")
_OTHER_KINDS = ["*.fp16.*", "*.non_ema*"]
"""Second copies of the weights in another number format, or from before averaging."""


class Part(NamedTuple):
    """One network of several that lie together, or something that belongs to them."""

    folder: str
    """Its folder in the model's; '' is that one itself."""
    config: str = CONFIG_NAME
    """Its configuration."""
    has_weights: bool = True
    """Whether weights lie beside it."""


WHOLE = (Part(""),)
"""A model that is one network."""


def resolve_pretrained(
    model: str,
    flag: str,
    explicit: Optional[Path] = None,
    download: bool = True,
    what: str = "network",
    parts: Sequence[Part] = WHOLE,
) -> Path:
    """Folder of a model on this disk.

    Args:
        model: Id on the hub ("Intel/dpt-hybrid-midas"), or a folder on this disk.
        flag: Command line flag that takes the folder, for the message.
        explicit: The user's own folder; nothing else is tried when it is given.
        download: Whether a model that is nowhere on this disk may be downloaded.
        what: What the model is, in words.
        parts: What the folder has to hold; nothing else is downloaded.

    Raises:
        WeightsNotFoundError: the model is nowhere to be had.
        ImportError: the hub's library is needed and not installed.
    """
    if explicit is not None:
        lack = _lacks(Path(explicit).expanduser(), parts)
        if lack:
            raise WeightsNotFoundError(_message(model, what, flag, [f"{flag} {explicit}: {lack}"]))
        return Path(explicit).expanduser()
    tried: List[str] = []
    if Path(model).is_dir() or model.startswith((".", "/", "~")):
        place = Path(model).expanduser()
        lack = _lacks(place, parts)
        if not lack:
            return place
        raise WeightsNotFoundError(_message(model, what, flag, [f"{place}: {lack}"]))
    folder = os.environ.get(WEIGHTS_ENV, "")
    if folder:
        names = (model.replace("/", "--"), model, model.split("/")[-1])
        places = [Path(folder).expanduser() / name for name in names]
        for place in places:
            if not _lacks(place, parts):
                return place
        tried.append(f"{WEIGHTS_ENV}={folder}: none of {', '.join(names)} in it is a complete folder")
    else:
        tried.append(f"{WEIGHTS_ENV}: not set")
    for local in (True, False):
        name = "hub cache" if local else "download"
        if not local and not download:
            tried.append("download: switched off")
            break
        try:
            place = _from_hub(model, local, parts)
        except (OSError, ValueError) as error:
            tried.append(f"{name}: {str(error).strip().splitlines()[0]}")
            continue
        lack = _lacks(place, parts)
        if not lack:
            return place
        tried.append(f"{name} {place}: {lack}")
    raise WeightsNotFoundError(_message(model, what, flag, tried))


def weights_hash(folder: Path) -> str:
    """Hexadecimal SHA-256 of a model's configuration, preprocessing and weights."""
    digest = hashlib.sha256()
    files = {path for pattern in ("*.json", *_WEIGHTS) for path in folder.glob(pattern)}
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _from_hub(model: str, local: bool, parts: Sequence[Part]) -> Path:
    hub = require("huggingface_hub", "priors")
    small = [str(Path(part.folder) / kind) for part in parts for kind in ("*.json", "*.txt")]
    sorts = [[str(Path(part.folder) / kind) for part in parts if part.has_weights] for kind in _WEIGHTS]

    def fetch(weights: List[str]) -> Path:
        patterns = small + weights
        found = hub.snapshot_download(
            model, allow_patterns=patterns, ignore_patterns=_OTHER_KINDS, local_files_only=local
        )
        return Path(found)

    place = fetch(sorts[0])
    return place if local or not _lacks(place, parts) else fetch(sorts[1])


def _lacks(folder: Path, parts: Sequence[Part]) -> str:
    """What a model's folder lacks, in words; empty where it is complete."""
    if not folder.is_dir():
        return "is not a folder" if folder.exists() else "does not exist"
    for part in parts:
        place = folder / part.folder
        if not (place / part.config).is_file():
            return f"has no {Path(part.folder) / part.config}"
        if part.has_weights and not any(path for pattern in _WEIGHTS for path in place.glob(pattern)):
            return f"has no weights ({' or '.join(str(Path(part.folder) / kind) for kind in _WEIGHTS)})"
    return ""


def _message(model: str, what: str, flag: str, tried: List[str]) -> str:
    lines = [f"weights not found: {what} {model}", *(f"  {place}" for place in tried)]
    lines.append(
        f"  get it with `hf download {model}` (https://huggingface.co/{model}), then pass its folder with "
        f"{flag} PATH, or put it in a folder as {model.replace('/', '--')} and set {WEIGHTS_ENV}=FOLDER"
    )
    return "\n".join(lines)

"""What the loaders of image encoders share: descriptions in folders, names of files, weights that have to fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Literal, Mapping, Optional, Sequence, Tuple

from torch import Tensor, nn

from fewshot_ns.pretrained.weights import WeightsNotFoundError
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, check_state

if TYPE_CHECKING:
    from fewshot_ns.pretrained.encoders.config import EncoderConfig

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Endings of files with weights."""


@dataclass(frozen=True)
class Tap:
    """A place in a model where its numbers are taken."""

    module: nn.Module
    """Module at that place."""
    side: Literal["input", "output"]
    """Whether they are what goes into the module or what comes out."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights."""

    module: nn.Module
    """The image part of the model."""
    name: str
    """Its name, for the cache."""
    weights: Path
    """File that the weights came from."""
    size: Tuple[int, int]
    """(height, width) that it was trained on."""
    mean: Sequence[float]
    """Mean of its inputs, per channel."""
    std: Sequence[float]
    """Standard deviation of its inputs, per channel."""
    embed: Callable[[Tensor], Tensor]
    """Embedding (N, C) of inputs (N, 3, H, W), or a map (N, C, h, w) of them."""
    class_token: Optional[Tap] = None
    """Where the tokens (N, T, C) lie after the last block, the class token first; None where it has none."""
    prefix: str = ""
    """What names of its modules may begin with, beside their own."""


def described(weights: Optional[Path], name: str) -> Tuple[Optional[Path], Optional[Dict[str, Any]]]:
    """A folder given as weights, and the description of the model in it; None for each that there is not."""
    folder = None if weights is None else weights.expanduser()
    if folder is None or not folder.is_dir():
        return None, None
    path = folder / name
    if not path.is_file():
        raise WeightsNotFoundError(f"{folder}: expected the configuration of a model ({name}), found none")
    try:
        return folder, json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected the configuration of a model, found {error}") from error


def weight_names(stem: str, repository: str, files: Sequence[str]) -> Tuple[str, ...]:
    """Names under which a model may lie in a weights folder: alone, or in a folder named like its repository."""
    folder = repository.replace("/", "--")
    in_folder = tuple(f"{folder}/{file}" for file in files) if folder else ()
    return (*(f"{stem}{suffix}" for suffix in SUFFIXES), *in_folder)


def give_weights(module: nn.Module, state: Mapping[str, Any], path: Path, assign: bool = False) -> None:
    """Loads weights that have to fit exactly.

    Raises:
        ValueError: names what does not fit.
    """
    try:
        check_state(module, state, path)
    except CheckpointMismatchError as error:
        raise ValueError(f"{error}\n  (weights of an image encoder)") from error
    module.load_state_dict(dict(state), assign=assign)
    module.float()


def keep_blocks(module: Any, name: str, config: EncoderConfig) -> None:
    blocks = getattr(module, name)
    if config.num_layers is None:
        return
    if not 1 <= config.num_layers <= len(blocks):
        raise ValueError(
            f"--pipeline.semantic.encoder.num-layers: expected 1 to {len(blocks)} for {config.model}, "
            f"got {config.num_layers}"
        )
    setattr(module, name, blocks[: config.num_layers])


def size_pair(size: Any) -> Tuple[int, int]:
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return int(height), int(width)

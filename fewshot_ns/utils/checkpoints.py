"""Checkpoints: plain data, written atomically, loaded strictly."""

from __future__ import annotations

import re
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Mapping, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_ns.utils.files import replacing
from fewshot_ns.utils.reading import reading
from fewshot_ns.utils.shown_values import shown

_STEP = re.compile(r"[0-9]{9}|[1-9][0-9]{9,17}")
MAX_STEP = 10**18 - 1
"""Largest number of a step that the name of a checkpoint can have."""
_EXTRA = "_extra_state"
MAX_KEYS_SHOWN = 20
"""Number of keys of each kind that a mismatch message lists."""
_IS_FOLDER = 0x10
"""Bit of the attributes of an entry of a zip archive that says so, as MS-DOS has it."""


class CheckpointMismatchError(RuntimeError):
    """A checkpoint does not fit the model that it is loaded into."""


class DamagedCheckpointError(ValueError):
    """A checkpoint file cannot be read, or its checksums do not match."""


def to_plain(state: Any) -> Any:
    """Replaces numpy scalars and arrays in nested state by Python numbers and tensors.

    Schedulers that compute with numpy leave numpy scalars in the optimizer state, which do not load under
    `torch.load(weights_only=True)`.
    """
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state)
    if type(state) in (list, tuple):
        return type(state)(to_plain(item) for item in state)
    if type(state) is dict:
        return {to_plain(key): to_plain(value) for key, value in state.items()}
    return state


def save_checkpoint(path: Path, state: Dict[str, Any], staging_dir: Path) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: the checkpoint file.
        state: nested dict of tensors and plain data.
        staging_dir: folder for the temporary file, on the same file system; not the checkpoint's own folder, because
            nerfstudio takes every file in there for a checkpoint.
    """
    with replacing(path, staging_dir) as temporary:
        torch.save(to_plain(state), temporary)


def checkpoints_in(folder: Path) -> Dict[int, Path]:
    """Checkpoints (step-N.ckpt, N of nine digits at least) of a folder by step; empty where the folder does not exist.
    Other files that lie there, and folders, are none."""
    named = {path.stem[len("step-") :]: path for path in folder.glob("step-*.ckpt") if path.is_file()}
    return {int(number): path for number, path in named.items() if _STEP.fullmatch(number)}


def find_checkpoint(load_dir: Path, step: Optional[int] = None) -> Path:
    """Finds the newest checkpoint of a run, or the one of a given step.

    Args:
        load_dir: the run's `nerfstudio_models` folder.
        step: number of the step; None for the newest.

    Raises:
        FileNotFoundError: names what was expected and what was found.
    """
    if not load_dir.is_dir():
        raise FileNotFoundError(f"{load_dir}: expected a folder with checkpoints (step-*.ckpt), found no such folder")
    found = checkpoints_in(load_dir)
    if not found:
        names = sorted(path.name for path in load_dir.iterdir())
        raise FileNotFoundError(f"{load_dir}: expected checkpoints (step-*.ckpt), found {names[:5] or 'nothing'}")
    if step is None:
        return found[max(found)]
    if step not in found:
        raise FileNotFoundError(f"{load_dir}: expected a checkpoint of step {step}, found steps {sorted(found)}")
    return found[step]


def _numbers_of_schedulers() -> ContextManager:
    """Lets checkpoints hold numpy's floats: nerfstudio's own methods keep learning rates in them.

    torch before 2.5 knows no such exceptions and refuses these checkpoints.
    """
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        return nullcontext()
    dtype = np.dtype(np.float64)
    return allow([np.float64(0.0).__reduce__()[0], np.dtype, type(dtype)])


def load_checkpoint(path: Path) -> Dict[str, Any]:
    """Reads a checkpoint to the CPU under weights-only rules.

    Raises:
        FileNotFoundError: no such file.
        DamagedCheckpointError: it cannot be read, or its checksums do not match.
        ValueError: it is not a training checkpoint.
        CheckpointMismatchError: its step is no whole number, or its pipeline holds something else than tensors by name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, found none")
    with reading(path, "a checkpoint", kind=DamagedCheckpointError):
        # torch writes checksums, but does not verify them.
        with zipfile.ZipFile(path) as archive:
            # Of an entry that its directory calls a folder torch reads nothing, and gives what was in memory.
            folders = (info.filename for info in archive.infolist() if info.external_attr & _IS_FOLDER)
            wrong_part = next(folders, None) or archive.testzip()
        with _numbers_of_schedulers():
            state = torch.load(path, map_location="cpu", weights_only=True)
    if wrong_part is not None:
        raise DamagedCheckpointError(f"{path}: expected a checkpoint, found wrong bytes in its part {wrong_part}")
    if not isinstance(state, dict) or not {"step", "pipeline"} <= state.keys():
        found = shown(sorted(map(str, state)), 200) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path}: expected a checkpoint with the entries 'step' and 'pipeline', found {found}")
    step, weights = state["step"], state["pipeline"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= MAX_STEP:
        what = type(step).__name__ if isinstance(step, (Tensor, dict, list)) else shown(step)
        raise CheckpointMismatchError(f"{path}: expected what a training has saved, found step: {what}")
    if not isinstance(weights, dict):
        raise CheckpointMismatchError(
            f"{path}: expected what a training has saved, found pipeline: {type(weights).__name__}"
        )
    for name, value in weights.items():
        # What a module keeps beside its tensors is whatever it likes.
        if not isinstance(name, str) or not (isinstance(value, Tensor) or name.endswith(_EXTRA)):
            raise CheckpointMismatchError(
                f"{path}: expected tensors by name, found {shown(name)} in 'pipeline': {type(value).__name__}"
            )
    return state


def _without_ddp_prefix(key: str) -> str:
    """A key without the `module.` that DistributedDataParallel inserts below what it wraps."""
    return key.removeprefix("module.").replace("_model.module.", "_model.", 1)


def model_state(state: Mapping[str, Any]) -> Dict[str, Any]:
    """The model's part of a pipeline's state dict, by the model's own names."""
    names = {key: _without_ddp_prefix(key) for key in state}
    return {name.removeprefix("_model."): state[key] for key, name in names.items() if name.startswith("_model.")}


def _listing(title: str, lines: List[str]) -> List[str]:
    if not lines:
        return []
    more = [f"    ... and {len(lines) - MAX_KEYS_SHOWN} more"] if len(lines) > MAX_KEYS_SHOWN else []
    return [f"  {title} ({len(lines)}):", *(f"    {line}" for line in lines[:MAX_KEYS_SHOWN]), *more]


def check_state(module: nn.Module, state: Mapping[str, Any], origin: Union[str, Path]) -> None:
    """Compares a state dict with a module, key by key and shape by shape.

    Args:
        module: the model that the state is meant for.
        state: name -> tensor.
        origin: the state's file, for the message.

    Raises:
        CheckpointMismatchError: lists missing, unexpected and mis-shaped keys.
    """
    expected = {_without_ddp_prefix(key): value for key, value in module.state_dict().items()}
    given = {_without_ddp_prefix(key): value for key, value in state.items()}
    misshaped = [
        f"{key}: expected {tuple(value.shape)}, found {tuple(given[key].shape)}"
        for key, value in expected.items()
        if isinstance(value, Tensor) and isinstance(given.get(key), Tensor) and value.shape != given[key].shape
    ]
    report = [
        *_listing("missing", [key for key in expected if key not in given]),
        *_listing("unexpected", [key for key in given if key not in expected]),
        *_listing("of another shape", misshaped),
    ]
    if report:
        raise CheckpointMismatchError(
            "\n".join(
                [
                    f"{origin}: the checkpoint does not fit the model. It was saved by another method, or the model's "
                    "settings have changed since.",
                    *report,
                ]
            )
        )


def load_strictly(module: nn.Module, state: Mapping[str, Any], origin: Union[str, Path]) -> None:
    """Loads a state dict that must fit exactly.

    nerfstudio's `VanillaPipeline.load_state_dict` silently falls back to loading whatever fits.

    Args:
        module: the model or pipeline.
        state: name -> tensor, with or without the prefixes of DistributedDataParallel.
        origin: the state's file, for the message.

    Raises:
        CheckpointMismatchError: see `check_state`.
    """
    check_state(module, state, origin)
    own_names = {_without_ddp_prefix(key): key for key in module.state_dict()}
    module.load_state_dict({own_names[_without_ddp_prefix(key)]: value for key, value in state.items()}, strict=True)

"""Whether a training can go on from what a checkpoint holds, said before anything of it is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, Mapping, Optional

from fewshot_ns.engine.resume import capture_random_states, restore_random_states
from fewshot_ns.utils.checkpoints import CheckpointMismatchError
from fewshot_ns.utils.shown_values import shown

METHOD_KEY = "method"
"""Key of the method's name in a checkpoint; those of earlier versions have none."""


def check_method(state: Mapping[str, Any], method: Optional[str], path: Path) -> None:
    """Refuses a checkpoint of another method, whose weights may be of the same names and shapes.

    Args:
        state: content of the checkpoint; one that names no method is taken.
        method: name of the method that it is loaded for; None: not known.
        path: its file.

    Raises:
        CheckpointMismatchError: it is of another method.
    """
    found = state.get(METHOD_KEY)
    if found is not None and method is not None and found != method:
        raise CheckpointMismatchError(
            f"{path}: expected a checkpoint of {method}, found one of {shown(found)}. Weights of another method of the "
            "same shapes are a beginning, if that is what is meant: give --pipeline.initial-weights"
        )


def check_resumable(
    state: Mapping[str, Any],
    path: Path,
    optimizers: Collection[str],
    schedulers: Optional[Collection[str]],
    clock: Collection[str],
) -> None:
    """Refuses a checkpoint that lacks what a training goes on from.

    Args:
        state: content of the checkpoint.
        path: its file.
        optimizers: names of the groups of parameters that have one.
        schedulers: names of those that have a schedule; None: the schedules begin anew.
        clock: names of the sums of the training clock.

    Raises:
        CheckpointMismatchError: something is missing, or is not what a trainer has written.
    """
    _check_kinds(state, path, () if schedulers is None or not schedulers else ("schedulers",))
    named = {"optimizers": optimizers, "schedulers": schedulers}
    for entry, names in named.items():
        if names is not None and state.get(entry, {}).keys() != set(names):
            raise CheckpointMismatchError(
                f"{path}: expected {entry} for the parameter groups {sorted(names)}, "
                f"found {shown(sorted(map(str, state.get(entry, {}))), 200)}"
            )
    unknown = [name for name, value in state.get("training_clock", {}).items() if name not in clock or _odd(value)]
    if unknown:
        raise CheckpointMismatchError(f"{path}: expected sums of a training clock, found {shown(unknown)}")
    if state.get("random_states") is not None:
        _check_random_states(state["random_states"], path)


def loading(path: Path, what: str, load: Callable[[], None]) -> None:
    """Loads a part of a checkpoint.

    Args:
        path: its file.
        what: the part, in words.
        load: does it.

    Raises:
        CheckpointMismatchError: the part is not what it was when it was saved.
    """
    try:
        load()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointMismatchError(f"{path}: expected {what} of this training, found others ({text})") from error


def _check_kinds(state: Mapping[str, Any], path: Path, needed: Collection[str]) -> None:
    """Entries that have to be there, and of the right kind where they are."""
    missing = [name for name in ("optimizers", "scalers", *needed) if name not in state]
    if missing:
        hint = "; --load-scheduler False begins the schedules anew" if missing == ["schedulers"] else ""
        raise CheckpointMismatchError(
            f"{path}: expected a checkpoint that a training can go on from, found one without "
            f"{', '.join(missing)}{hint}"
        )
    # Of step and pipeline `load_checkpoint` has seen to it.
    mappings = ("optimizers", "schedulers", "scalers", "training_clock")
    wrong: List[str] = [name for name in mappings if not isinstance(state.get(name, {}), dict)]
    if wrong:
        raise CheckpointMismatchError(
            f"{path}: expected what a training has saved, found {wrong[0]}: {_kind(state, wrong)}"
        )


def _kind(state: Mapping[str, Any], names: List[str]) -> str:
    value = state[names[0]]
    return shown(value) if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def _odd(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0


def _check_random_states(states: Dict[str, Any], path: Path) -> None:
    """Tries the states of the generators, and puts back those of now."""
    now = capture_random_states()
    try:
        loading(path, "states of the random generators", lambda: restore_random_states(states))
    finally:
        restore_random_states(now)

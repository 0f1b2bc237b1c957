"""`cell.json`: what a cell was asked to do, how far it came, and what it cost."""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import Annotated

from fewshot_ns.bench.planning.plan import Cell
from fewshot_ns.bench.recipes.recipe import EvaluationOptions
from fewshot_ns.utils.checkpoints import checkpoints_in
from fewshot_ns.utils.files import write_json
from fewshot_ns.utils.locks import FolderBusyError, lock_file
from fewshot_ns.utils.record_files import RecordError, check_record, parse_json

PLAN = "bench.json"
RECORD = "cell.json"
EVAL = "eval.json"
VIEWS = "views"
FINISHED, FAILED, STARTED, INTERRUPTED = "finished", "failed", "started", "interrupted"
_LOCK = "lock"


class _AskedSources(BaseModel):
    protocol: str
    key: str


class _AskedCell(BaseModel):
    evaluation: Optional[Dict[str, Any]] = None
    evaluations: Optional[List[_AskedSources]] = None


class _Record(BaseModel):
    """What is looked at of a record before a cell is run."""

    model_config = ConfigDict(strict=True)
    status: str
    keys: Dict[str, Any]
    cell: _AskedCell
    config: Dict[str, Any] = {}
    attempts: Annotated[int, Field(ge=0, lt=2**31)] = 0
    trained: bool = False
    seconds_training: Annotated[float, Field(ge=0)] = 0.0
    seconds_evaluation: Annotated[float, Field(ge=0)] = 0.0
    step: Optional[int] = None


_RECORD = TypeAdapter(_Record)


def read_record(folder: Path) -> Optional[Dict[str, Any]]:
    """The record of a cell's folder; None where there is none that can be read, so that the cell is run again."""
    try:
        values = parse_json((folder / RECORD).read_bytes())
        check_record(values, _RECORD)
    except (OSError, RecordError):
        return None
    return values


def write_record(cell: Cell, status: str, **more: Any) -> Dict[str, Any]:
    """Writes the record of a cell and returns it.

    Args:
        cell: which.
        status: 'started', 'interrupted', 'failed' or 'finished'.
        more: what else is known.
    """
    described = asdict(cell)
    for name in ("folder", "data", "keys", "config", "resumable"):
        del described[name]
    record = {
        "status": status,
        "keys": {**cell.keys, "training": cell.training_key, "evaluation": cell.evaluation_key},
        "cell": described,
        "machine": socket.gethostname(),
        **more,
        "config": cell.config,
    }
    write_json(cell.folder / RECORD, record)
    return record


def is_finished(cell: Cell, any_source: bool = False) -> bool:
    """Whether the folder holds this very cell's results.

    Args:
        cell: which.
        any_source: whether results count that another version of the code has made.
    """
    record = read_record(cell.folder)
    files = [evaluation.file for evaluation in cell.evaluations] or [EVAL]
    if record is None or record.get("status") != FINISHED:
        return False
    if not all((cell.folder / file).is_file() for file in files):
        return False
    same = _same(record, cell, ("config", "scene", "metrics"), any_source) and is_measured_alike(record, cell)
    return same and _sources_of(record) == [(entry.protocol, entry.key) for entry in cell.evaluations]


def is_trained(cell: Cell, any_source: bool = False) -> bool:
    """Whether the folder holds this very cell's finished training."""
    record = read_record(cell.folder) or {}
    return bool(record.get("trained")) and is_same(cell, any_source) and last_step(cell.run_dir) is not None


def is_begun(cell: Cell, any_source: bool = False) -> bool:
    """Whether the folder holds a checkpoint of this very cell's training from which it can go on."""
    return cell.resumable and is_same(cell, any_source) and last_step(cell.run_dir) is not None


def is_same(cell: Cell, any_source: bool = False) -> bool:
    """Whether the folder holds work on this very training, however far it came."""
    record = read_record(cell.folder)
    return record is not None and _same(record, cell, ("config", "scene"), any_source)


def last_step(run_dir: Path) -> Optional[int]:
    """Step of the last checkpoint of a run; None where there is none."""
    return max(checkpoints_in(run_dir / "nerfstudio_models"), default=None)


def _same(record: Dict[str, Any], cell: Cell, names: Tuple[str, ...], any_source: bool) -> bool:
    keys = record.get("keys") or {}
    if not any_source:
        return all(keys.get(name) == cell.keys[name] for name in (*names, "source"))
    # Another version of the code may have fields that this one has not, and the other way round.
    fields = record.get("config") or {}
    known = fields.keys() & cell.config.keys()
    same = bool(known) and all(fields[name] == cell.config[name] for name in known)
    return same and all(keys.get(name) == cell.keys[name] for name in names if name != "config")


def is_measured_alike(record: Dict[str, Any], cell: Cell) -> bool:
    """Whether a record's recipe asked for the same evaluation; options that it does not know were not set."""
    recorded = (record.get("cell") or {}).get("evaluation")
    if not isinstance(recorded, dict):
        return False
    return _as_json({**asdict(EvaluationOptions()), **recorded}) == _as_json(asdict(cell.evaluation))


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _sources_of(record: Dict[str, Any]) -> List[Tuple[str, str]]:
    """Protocols of a record of a training across scenes, with the hashes of their source views."""
    return [(entry["protocol"], entry["key"]) for entry in record["cell"].get("evaluations") or ()]


def set_aside(cell: Cell, output_dir: Path) -> Optional[Path]:
    """Moves what is in a cell's folder out of the way, without deleting it.

    Returns:
        Where it went; None where nothing was there.
    """
    if not cell.folder.is_dir() or not any(file.name != _LOCK for file in cell.folder.iterdir()):
        return None
    number = 1
    aside = output_dir / "superseded" / cell.folder.relative_to(output_dir / "cells")
    while (target := aside.with_name(f"{aside.name}-{number}")).exists():
        number += 1
    target.mkdir(parents=True)
    for file in cell.folder.iterdir():
        if file.name != _LOCK:
            shutil.move(str(file), str(target / file.name))
    return target


def next_log(folder: Path, name: str) -> Path:
    """A new log file beside those of earlier attempts."""
    number = 1
    while (path := folder / f"{name}-{number}.log").exists():
        number += 1
    return path


class CellBusyError(RuntimeError):
    """Another process is working on the cell."""


@contextmanager
def locked(folder: Path) -> Iterator[List[int]]:
    """Holds the cell within the block.

    The lock belongs to whoever has the file open. So a command that is started with it keeps the cell where this
    process is killed, and no second training can write into the folder meanwhile.

    Yields:
        File descriptors for the commands to inherit; none where the system has no such locks.

    Raises:
        CellBusyError: another process has it.
    """
    try:
        descriptor = lock_file(folder / _LOCK)
    except FolderBusyError as error:
        raise CellBusyError(f"{folder}: another process is working on this cell; wait for it or end it") from error
    try:
        yield [] if descriptor is None else [descriptor]
    finally:
        if descriptor is not None:
            os.close(descriptor)

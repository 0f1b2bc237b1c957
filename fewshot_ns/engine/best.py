"""The checkpoint of a run that measures best on validation views, kept beside the newest one."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Protocol, Tuple

import yaml
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.engine.resume import capture_random_states, restore_random_states
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, checkpoints_in, save_checkpoint
from fewshot_ns.utils.files import replacing, write_json, write_text

BEST_DIR = "best_checkpoint"
"""Folder next to that of the checkpoints; like that one it holds nothing else."""
BEST_RECORD = "best.json"
"""File of the run that says what the best checkpoint measured."""
BEST_CONFIG = "best_config.yml"
"""Config of the run that leads to the best checkpoint: nerfstudio's commands take it as they take config.yml."""
BEST_KEY = "best"
"""Key of the record in a checkpoint."""


class Validation(Protocol):
    """Measures a model on views that it was not trained on."""

    metric: str
    """What is measured."""
    higher_is_better: bool
    """Whether a larger value of it is the better one."""
    views: Tuple[int, ...]
    """The views, by their index in the scene."""

    def measure(self) -> float:
        """The metric's mean over the views."""
        ...


@dataclass(frozen=True)
class BestRecord:
    """What the best checkpoint so far measured."""

    metric: str
    """Name of the metric."""
    views: Tuple[int, ...]
    """Validation views, by their index in the scene."""
    step: int
    """Step after which it was measured."""
    value: float
    """Mean of the metric over the views."""


class BestCheckpoint:
    """Keeps the best checkpoint of a run, one file.

    Args:
        run_dir: folder of the run.
        validation: what measures.
        every: steps between two measurements.
    """

    def __init__(self, run_dir: Path, validation: Validation, every: int) -> None:
        self.run_dir, self.validation, self.every = run_dir, validation, every
        self.record: Optional[BestRecord] = None

    def resume(self, state: Any, load_dir: Path) -> None:
        """Takes up what a checkpoint knew as the best one, whose file is copied where the run goes on elsewhere.

        Where that was by another metric or other views, or the file is gone, the best is looked for anew.

        Args:
            state: what `state` gave the checkpoint; None: it kept no best one.
            load_dir: folder of that checkpoint.

        Raises:
            CheckpointMismatchError: the record is not whole.
        """
        if not isinstance(state, dict):
            return
        try:
            record = BestRecord(str(state["metric"]), tuple(state["views"]), int(state["step"]), float(state["value"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointMismatchError(
                f"{load_dir}: expected a checkpoint whose record of the best one is whole, found another ({error!r})"
            ) from error
        wanted = self.validation.metric, self.validation.views
        if (record.metric, record.views) != wanted:
            CONSOLE.print(
                f"The run kept its best checkpoint by {record.metric} of the views {list(record.views)}; by "
                f"{wanted[0]} of {list(wanted[1])} it is looked for anew.",
                soft_wrap=True,
            )
            return
        name = f"step-{record.step:09d}.ckpt"
        source, target = load_dir.parent / BEST_DIR / name, self.run_dir / BEST_DIR / name
        if not source.is_file():
            CONSOLE.print(f"{source}: the best checkpoint so far is gone; it is looked for anew.", soft_wrap=True)
            return
        if source.resolve() != target.resolve():
            with replacing(target, self.run_dir) as temporary:
                shutil.copyfile(source, temporary)
        self._settle(record)

    def state(self) -> Optional[Dict[str, Any]]:
        """What a checkpoint has to know to resume; None before the first measurement."""
        return None if self.record is None else {**asdict(self.record), "views": list(self.record.views)}

    def after_step(self, step: int, is_last: bool, checkpoint: Callable[[], Dict[str, Any]]) -> Optional[float]:
        """Measures where it is time to, and keeps the checkpoint where it is better than the best so far.

        Training goes on as if nothing had been measured: the random states are those from before.

        Args:
            step: the step that was just trained.
            is_last: whether the training ends with it.
            checkpoint: gives the state to save.

        Returns:
            The measured value; None where it is not time.
        """
        if (step + 1) % self.every != 0 and not is_last:
            return None
        states = capture_random_states()
        value = self.validation.measure()
        restore_random_states(states)
        if not math.isfinite(value):
            # Nothing is better than NaN, so that it would stay the best to the end.
            CONSOLE.print(
                f"Step {step}: {self.validation.metric} of the validation views is {value}; not kept as the best."
            )
            return value
        if self.record is None or self._better(value, self.record.value):
            path = self.run_dir / BEST_DIR / f"step-{step:09d}.ckpt"
            self.record = BestRecord(self.validation.metric, self.validation.views, step, value)
            save_checkpoint(path, {**checkpoint(), BEST_KEY: self.state()}, staging_dir=self.run_dir)
            self._settle(self.record)
        return value

    def _better(self, value: float, than: float) -> bool:
        return value > than if self.validation.higher_is_better else value < than

    def _settle(self, record: BestRecord) -> None:
        """Makes the checkpoint of a record, which is there, the only one."""
        self.record = record
        for step, path in checkpoints_in(self.run_dir / BEST_DIR).items():
            if step != record.step:
                path.unlink()
        write_json(self.run_dir / BEST_RECORD, self.state())
        _write_config(self.run_dir)


def _write_config(run_dir: Path) -> None:
    """Writes the config of a run, which its command has saved, with the folder of the best checkpoint in it.

    nerfstudio's commands load the newest checkpoint of the folder that a config names, and have no flag for another.
    """
    saved = run_dir / "config.yml"
    config = yaml.load(saved.read_text(encoding="utf8"), Loader=yaml.Loader) if saved.is_file() else None
    if isinstance(config, TrainerConfig):
        config.relative_model_dir = Path(BEST_DIR)
        write_text(run_dir / BEST_CONFIG, yaml.dump(config))

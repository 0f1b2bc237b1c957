"""SIGINT (Ctrl-C) and SIGTERM end a training after its step, with a checkpoint and a status that is not 0."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, Iterator, Optional

import torch
import torch.distributed as dist
from nerfstudio.utils.rich_utils import CONSOLE

STOPPING = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(SystemExit):
    """A training was ended by a signal; its `code`, 128 and the signal's number, becomes the status of the command.

    No KeyboardInterrupt: nerfstudio's command answers that with status 0, as if it had finished.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@contextmanager
def interrupted_before_training() -> Iterator[None]:
    """Within the block Ctrl-C raises TrainingInterrupted; of nothing trained, nothing is saved."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise TrainingInterrupted(signal.SIGINT) from error


class StopSignals:
    """What has become of the signals that end a training.

    Args:
        on_request: called, in the signal handler, by the first one.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.number: Optional[int] = None
        """The signal by which this process was asked to end; None: it was not."""
        self._on_request = on_request
        self._replaced: Dict[int, Any] = {}

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within the block the first signal asks for an end, and a second Ctrl-C is one.

        Only a main thread can have it so; a signal that is ignored stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in STOPPING:
            before = signal.getsignal(number)
            # None: not Python's own, so that it could not be put back.
            if before not in (signal.SIG_IGN, None):
                self._replaced[number] = before
                signal.signal(number, self._take)
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Gives the signals back to those who had them; nothing happens the second time."""
        while self._replaced:
            number, before = self._replaced.popitem()
            signal.signal(number, before)

    def agree(self, device: Any) -> None:
        """Lets all processes of a training end after the same step, where any of them was asked to.

        Args:
            device: of the training; all processes have to call this after the same step.
        """
        self.number = largest_of_all(self.number or 0, device) or None

    def _take(self, number: int, frame: Optional[FrameType]) -> None:
        if self.number is None:
            self.number = number
            CONSOLE.print(
                f"{signal.Signals(number).name}: training ends after this step, with a checkpoint. Ctrl-C once more "
                "ends it at once, without one.",
                soft_wrap=True,
            )
            self._on_request()
        elif number == signal.SIGINT:
            # nerfstudio's launcher of several processes sends SIGTERM after a Ctrl-C, which is no second wish.
            self.restore()
            raise TrainingInterrupted(number)


def largest_of_all(value: int, device: Any) -> int:
    """The largest of the values that the processes of a training give; all have to call this after the same step.

    Args:
        value: of this process.
        device: of the training.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    found = torch.tensor(value, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


def how_to_go_on(step: Optional[int], number: int, checkpoint_dir: Path) -> str:
    """What is said at the end of a training that a signal has ended.

    Args:
        step: the last one that was trained; None: this process has trained none.
        number: the signal.
        checkpoint_dir: where the checkpoint is.
    """
    name = signal.Signals(number).name
    if step is None:
        return f"{name}: training was ended before its first step; there was nothing to save."
    return (
        f"{name}: training was ended after step {step}, which is saved. The same command with --load-dir "
        f"{checkpoint_dir} right after the method's name goes on from there."
    )

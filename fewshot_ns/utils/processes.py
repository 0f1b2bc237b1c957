"""Running the host's commands as they are, from another command: found, followed line by line, logged, ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List, Mapping, Optional, Sequence, Set

from fewshot_ns.utils.errors import CommandError

_SECONDS_TO_END = 10.0
"""How long a command that was told to end may take before it is killed."""
_TAIL_LINES = 15
"""How much of a failed command's log the message shows."""


def host_command(name: str) -> Path:
    """The console script of this very Python environment.

    Args:
        name: For instance 'ns-train'.

    Raises:
        CommandError: it is nowhere.
    """
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    if found is None:
        raise CommandError(f"{name} was not found in {' or '.join(folders)}: is nerfstudio installed here?")
    return Path(found)


class CommandRunner:
    """Runs commands, also several at a time from several threads, and can end them all.

    Whatever ends a call of `run` early (Ctrl-C, an error in `on_line`, `end_all`) ends its command, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Set[subprocess.Popen[str]] = set()
        self._closed = False

    def run(
        self,
        command: Sequence[str],
        log: Path,
        on_line: Optional[Callable[[str], None]] = None,
        environment: Optional[Mapping[str, str]] = None,
        handles: Sequence[int] = (),
    ) -> None:
        """Runs a command to its end; all that it prints goes to a log file.

        Args:
            command: Program and arguments.
            log: File for its output; replaced, its folder is made.
            on_line: Called with each line that it prints.
            environment: Variables to set beside the present ones.
            handles: File descriptors that the command inherits, such as those of locks.

        Raises:
            CommandError: the command ended with another status than 0 (the message shows the end of the log), or
                `end_all` was called.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf8") as stream:
            process = self._start(command, environment, handles)
            try:
                for line in process.stdout or ():
                    stream.write(line)
                    stream.flush()
                    if on_line is not None:
                        on_line(line.rstrip("\n"))
                status = process.wait()
            finally:
                _end(process)
                with self._lock:
                    self._running.discard(process)
        if status != 0:
            raise CommandError(_failure(command, status, log))

    def end_all(self) -> None:
        """Ends all commands; those that are asked for later do not start."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()

    @property
    def given_up(self) -> bool:
        """Whether `end_all` was called."""
        return self._closed

    def _start(
        self, command: Sequence[str], environment: Optional[Mapping[str, str]], handles: Sequence[int]
    ) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise CommandError(f"{Path(command[0]).name} was not started: the work was given up")
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                text=True,
                encoding="utf8",
                errors="replace",
                pass_fds=tuple(handles),
                # Ctrl-C reaches this process alone, which then ends the other: nerfstudio's training answers Ctrl-C
                # with status 0, as if it had finished.
                start_new_session=True,
            )
            self._running.add(process)
        return process


def _end(process: subprocess.Popen) -> None:
    """Ends the process and whatever it has started; does nothing where it has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _failure(command: Sequence[str], status: int, log: Path) -> str:
    lines: List[str] = log.read_text(encoding="utf8").splitlines()
    tail = "\n".join(f"  {line.rstrip()}" for line in lines[-_TAIL_LINES:] if line.strip())
    return f"{Path(command[0]).name} ended with status {status}; the whole log is {log}. Its last lines:\n{tail}"


@contextmanager
def end_on_termination() -> Iterator[None]:
    """Within the block a SIGTERM (CI, `timeout`) ends this process like Ctrl-C does: with everything cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may set signal handlers.
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Running console scripts (ns-train, ns-eval, ...) as subprocesses that are logged, followed and ended."""

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

_SECONDS_TO_END = 10.0
"""Time between asking a command to end and killing it."""
_TAIL_LINES = 15
"""Lines of a failed command's log that the error message shows."""


class CommandError(RuntimeError):
    """A step of a command failed; the message names it and its log."""


def console_script(name: str) -> Path:
    """Path of a console script in this Python environment.

    Args:
        name: For instance 'ns-train'.

    Raises:
        CommandError: it was not found.
    """
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    if found is None:
        raise CommandError(f"{name} was not found in {' or '.join(folders)}: is nerfstudio installed here?")
    return Path(found)


class CommandRunner:
    """Runs commands, also several at a time from several threads, and can end all of them.

    Whatever ends a call of `run` early (Ctrl-C, an error in `on_line`, `end_all`) ends its command as well.
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
        """Runs a command to its end; its output goes to a log file.

        Args:
            command: Program and arguments.
            log: File for its output; overwritten, its folder is created.
            on_line: Called with each line that it prints.
            environment: Variables to set in addition to the current ones.
            handles: File descriptors that the command inherits, for example of locks.

        Raises:
            CommandError: the exit status is not 0 (the message shows the end of the log), or `end_all` was called.
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
        """Ends all commands; later ones do not start."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()

    def kill_all(self) -> None:
        """Kills the commands that `end_all` has asked in vain."""
        with self._lock:
            running = list(self._running)
        for process in running:
            process.kill()

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
                # Ctrl-C reaches this process alone, which then ends the child: nerfstudio's training of others'
                # methods answers Ctrl-C with status 0, as if it had finished.
                start_new_session=True,
            )
            self._running.add(process)
        return process


def _end(process: subprocess.Popen) -> None:
    """Ends the process if it still runs."""
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
    """Within the block SIGTERM (CI, `timeout`) ends this process as Ctrl-C does, with everything cleaned up."""
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

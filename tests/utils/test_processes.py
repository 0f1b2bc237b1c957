"""Commands run from another command: logged, followed, ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fewshot_ns.utils.processes import CommandError, CommandRunner, console_script


def test_nerfstudio_is_found_beside_this_python():
    assert console_script("ns-train").name.startswith("ns-train")
    with pytest.raises(CommandError, match="ns-nothing was not found"):
        console_script("ns-nothing")


def test_lines_are_logged_and_handed_on_as_they_come(tmp_path):
    code = "import os, time\nfor i in range(3):\n    print(i, os.environ['NAME']); time.sleep(0.2)"
    times, lines = [], []

    def follow(line):
        times.append(time.monotonic())
        lines.append(line)

    CommandRunner().run([sys.executable, "-c", code], tmp_path / "new" / "out.log", follow, {"NAME": "demo"})
    assert lines == ["0 demo", "1 demo", "2 demo"]
    assert times[2] - times[0] > 0.3  # Not all at the end: the output is not buffered.
    assert (tmp_path / "new" / "out.log").read_text().splitlines() == lines


def test_a_failure_shows_status_log_and_its_end(tmp_path):
    code = "import sys\nfor i in range(40): print('line', i)\nsys.exit('no such scene')"
    with pytest.raises(CommandError) as caught:
        CommandRunner().run([sys.executable, "-c", code], tmp_path / "out.log")
    message = str(caught.value)
    assert "status 1" in message and str(tmp_path / "out.log") in message
    assert "no such scene" in message and "line 39" in message and "line 3\n" not in message


def is_alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_while_following_ends_the_command(tmp_path):
    pids = []

    def stop(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CommandRunner().run(
            [sys.executable, "-c", "import os, time; print(os.getpid()); time.sleep(60)"], tmp_path / "out.log", stop
        )
    assert not is_alive(pids[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_the_command_too(tmp_path, number):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from fewshot_ns.utils.processes import CommandRunner, end_on_termination\n"
        # Whoever runs the tests in the background lets its children ignore this signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n    with end_on_termination():\n"
        f"        CommandRunner().run([sys.executable, '-c', {child!r}], Path({str(tmp_path / 'out.log')!r}), print)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", parent],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert is_alive(pid)
    process.send_signal(number)
    assert process.wait(120) == 130
    process.stdout.close()
    assert not is_alive(pid)


def test_all_commands_of_all_threads_end_together(tmp_path):
    runner, pids = CommandRunner(), []
    code = "import os, time; print(os.getpid()); time.sleep(60)"

    def work(index):
        runner.run([sys.executable, "-c", code], tmp_path / f"{index}.log", lambda line: pids.append(int(line)))

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, index) for index in range(2)]
        while len(pids) < 2:
            time.sleep(0.05)
        runner.end_all()
        for future in futures:
            with pytest.raises(CommandError, match="ended with status -15"):
                future.result(20)
    assert not any(is_alive(pid) for pid in pids)
    with pytest.raises(CommandError, match="was not started"):
        work(2)

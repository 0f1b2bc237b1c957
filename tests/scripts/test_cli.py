"""The `ns-fewshot` command: help, errors, exit codes, and how little it imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from fewshot_ns.scripts.cli import COMMANDS, main


def run(*arguments):
    """Runs the command in a process of its own."""
    code = "from fewshot_ns.scripts.cli import entrypoint; entrypoint()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_it_shows_the_help(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_that_explains_its_flags(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--output" in text or name in ("methods", "view", "genlist", "inspect-config")
    assert text.count("(default:") + text.count("(required)") >= min(6, len(fields(COMMANDS[name])))


def test_an_error_is_one_clear_message():
    done = run("camera-path", "--load-config", "nowhere/config.yml")
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: nowhere/config.yml: expected the config.yml of a training run")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("value, found", [("no_such_module:m", "No module named"), ("json:nothing", "no attribute")])
def test_a_package_of_others_that_does_not_load_is_named(value, found, tmp_path):
    """nerfstudio loads the entry points of all packages, and ends by the first that fails."""
    folder = tmp_path / "broken_thing-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[nerfstudio.method_configs]\nbroken = {value}\n")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r}); from fewshot_ns.scripts.cli import entrypoint; entrypoint()"
    )
    done = subprocess.run([sys.executable, "-c", code, "methods"], capture_output=True, text=True)
    (said,) = done.stderr.strip().splitlines()[-1:]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert said.startswith(f"error: broken-thing: expected an installed package whose entry point broken ({value}, ")
    assert found in said


def test_debug_shows_the_traceback():
    done = run("camera-path", "--load-config", "nowhere/config.yml", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize("arguments", [["video", "--no-such-flag"], ["retarget"], ["paint"]])
def test_wrong_flags_have_status_two(arguments):
    assert run(*arguments).returncode == 2


def test_it_imports_nothing_slow():
    code = "import sys, fewshot_ns.scripts.cli; print([m for m in ('torch', 'nerfstudio', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

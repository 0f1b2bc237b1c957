"""Installs this checkout into fresh environments, one after the other, and runs a fixed set of checks in each.

    python tools/environments.py --list
    python tools/environments.py --folder FOLDER py311-plain py312-oldest
    python tools/environments.py --folder FOLDER --python 3.12=/path/to/python3.12
    python tools/environments.py --resolve
    python tools/environments.py --page

What was found goes to docs/environments.jsonl, a line for each environment, and from there to docs/environments.md.
An environment needs some 8 GB; it is removed after its checks unless --keep is given. With uv on the PATH (or --uv) it
takes a fraction of the time and the disk. Python 3.11 or newer runs this; only its standard library is needed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from environment_checks import CHECKS, ROOT, CheckError, Place, last_words, prepare
from environment_page import PAGE_FILE, RESULTS_FILE, page, ran, read_results
from environment_rows import ROWS, TEST_TOOLS, Row

SHOWN = (
    *("torch", "torchvision", "numpy", "nerfstudio", "gsplat", "nerfacc", "timm", "open_clip_torch", "diffusers"),
    *("transformers", "pycolmap", "pillow-heif", "ray", "torch-fidelity", "torchmetrics", "pydantic", "OpenEXR"),
    *("opencv-python-headless", "opencv-python", "tyro", "viser", "setuptools"),
)
"""Packages whose releases are written down."""

_VERSIONS = """
import json, platform, re, sys
from importlib.metadata import distributions
plain = lambda name: re.sub("[-_.]+", "-", name).lower()
found = {plain(item.metadata["Name"]): item.version for item in distributions()}
kept = {name: found[plain(name)] for name in sys.argv[1:] if plain(name) in found}
print(json.dumps([platform.python_version(), kept]))
"""

INSTALL_SECONDS = 3600


class InstallError(Exception):
    """The packages of a row cannot be had together, with the installer's reason in one line."""


def interpreter(version: str, given: Dict[str, str]) -> Optional[str]:
    """A Python of a minor release that can make environments: the given one, else one of the PATH or of pyenv."""
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    for candidate in (given.get(version), shutil.which(f"python{version}"), *map(str, pyenv), sys.executable):
        if candidate is None:
            continue
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def _call(command: Sequence[object], folder: Path, priority: int) -> str:
    """Runs a step of an installation in a folder, whose log it adds to."""
    try:
        done = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            preexec_fn=lambda: os.setpriority(os.PRIO_PROCESS, 0, priority),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{command[0]} had not ended after {error.timeout:g} s") from error
    with (folder / "install.txt").open("a", encoding="utf8") as log:
        log.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    if done.returncode != 0:
        marked = [line.strip() for line in done.stdout.splitlines() if re.search(r"(?i)error|because|conflict", line)]
        raise InstallError((marked or [last_words(done.stdout)])[-1])
    return done.stdout


def install(row: Row, python: str, folder: Path, uv: Optional[str], priority: int) -> Path:
    """Makes the environment of a row.

    Args:
        row: which.
        python: interpreter to make it from.
        folder: an empty folder, in which it is made.
        uv: the program; None: pip is used.
        priority: added to the niceness.

    Returns:
        The folder of its programs.

    Raises:
        InstallError: an installer gave up.
    """
    for name, lines in (("constraints.txt", row.pins), ("overrides.txt", row.lifted)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), "utf8")
    programs = folder / "venv" / "bin"
    package = f"{ROOT}[{','.join(row.extras)}]" if row.extras else str(ROOT)
    if uv is not None:
        _call((uv, "venv", "--quiet", "--python", python, folder / "venv"), folder, priority)
        # Without its configuration: the repository's own override would let no row have what plain pip installs.
        into = (uv, "pip", "install", "--quiet", "--no-config", "--python", programs / "python")
        files = ("--constraints", folder / "constraints.txt", "--overrides", folder / "overrides.txt")
        _call((*into, *files, "-e", package, *TEST_TOOLS), folder, priority)
    else:
        _call((python, "-m", "venv", folder / "venv"), folder, priority)
        into = (
            programs / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--prefer-binary",
        )
        _call((*into, "--upgrade", "pip"), folder, priority)
        _call((*into, "-c", folder / "constraints.txt", "-e", package, *TEST_TOOLS), folder, priority)
        if row.lifted:
            _call((*into, "--upgrade", "--no-deps", "-r", folder / "overrides.txt"), folder, priority)
    return programs


def resolve(row: Row, uv: str) -> Dict[str, Any]:
    """Which releases a row would get, without installing it: the line of the results."""
    result = _head(row, uv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = f"fewshot-ns{'[' + ','.join(row.extras) + ']' if row.extras else ''} @ {ROOT.as_uri()}"
        for file, lines in (("r.txt", (package,)), ("constraints.txt", row.pins), ("overrides.txt", row.lifted)):
            (folder / file).write_text("".join(f"{line}\n" for line in lines), "utf8")
        files = ("r.txt", "--constraints", "constraints.txt", "--overrides", "overrides.txt")
        compiling = (uv, "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate")
        try:
            said = _call((*compiling, "--python-version", row.python, *files), folder, 0)
        except InstallError as error:
            return {**result, "resolved": False, "words": clean(str(error), folder, ROOT, Path.home())}
    found = {_plain(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", said, re.MULTILINE)}
    versions = {name: found[_plain(name)] for name in SHOWN if _plain(name) in found}
    return {**result, "resolved": True, "python": row.python, "versions": versions}


def _plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _head(row: Row, uv: Optional[str]) -> Dict[str, Any]:
    """What every line of the results begins with."""
    git = ("git", "rev-parse", "--short", "HEAD")
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    today = datetime.date.today().isoformat()
    return {"name": row.name, "date": today, "commit": commit, "installer": "uv" if uv else "pip", "checks": []}


def clean(words: str, *folders: Path) -> str:
    """Words without the names of this machine's folders and of servers."""
    for place in sorted({*folders, *(folder.resolve() for folder in folders)}, key=lambda place: -len(str(place))):
        words = words.replace(str(place), "...")
    words = re.sub(r"\w+://[^\s)`'\"]+", "(address)", words)
    words = re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", ".../", words)
    return " ".join(words.split())[:300]


def examine(row: Row, python: str, options: argparse.Namespace) -> Dict[str, Any]:
    """Installs one row, runs its checks, and removes it again: the line of the results."""
    folder = (options.folder / row.name).resolve()
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    result = _head(row, options.uv)
    places = (folder, ROOT, Path.home())
    try:
        start = time.monotonic()
        try:
            programs = install(row, python, folder, options.uv, options.nice)
        except InstallError as error:
            return {**result, "error": clean(str(error), *places)}
        result["install_seconds"] = round(time.monotonic() - start)
        work = folder / "work"
        work.mkdir()
        place = Place(programs, work, row.extras, options.nice)
        result["python"], result["versions"] = json.loads(place.run("python", "-c", _VERSIONS, *SHOWN).splitlines()[-1])
        try:
            prepare(place)
        except CheckError as error:
            return {**result, "error": clean(f"inputs: {error}", *places)}
        for name in options.checks or CHECKS:
            start = time.monotonic()
            try:
                words, outcome = CHECKS[name](place), "ok"
            except CheckError as error:
                words, outcome = str(error), "failed"
            seconds = round(time.monotonic() - start, 1)
            if words:
                check = {"name": name, "outcome": outcome, "seconds": seconds, "words": clean(words, *places)}
                result["checks"].append(check)
                print(f"  {name:10} {outcome:7} {seconds:6.1f} s  {check['words']}", flush=True)
        return result
    finally:
        if not options.keep:
            for name in ("venv", "work/outputs"):
                shutil.rmtree(folder / name, ignore_errors=True)


def _keep(result: Dict[str, Any]) -> None:
    """Writes a line into the results, in the place of an earlier one of its row, all in the order of the rows."""
    results = {**read_results(), result["name"]: result}
    text = "".join(f"{json.dumps(results[row.name])}\n" for row in ROWS if row.name in results)
    aside = RESULTS_FILE.with_suffix(".partial")
    aside.write_text(text, "utf8")
    aside.replace(RESULTS_FILE)


def _merge(result: Dict[str, Any]) -> None:
    """Puts some checks of a row in the place of what they found before, where nothing else has changed since."""
    before = read_results().get(result["name"], {})
    if not ran(before):
        _keep(result)
        return
    if any(before.get(name) != result.get(name) or name not in result for name in ("python", "versions")):
        print(f"{result['name']}: not kept, since the other checks ran on other releases")
        return
    checks = {check["name"]: check for check in (*before["checks"], *result["checks"])}
    _keep({**result, "checks": [checks[name] for name in CHECKS if name in checks]})


def arguments(given: Optional[List[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="NAME", help="environments; all where none is named")
    parser.add_argument("--folder", type=Path, help="where environments are made; nothing else should lie there")
    parser.add_argument("--python", action="append", default=[], metavar="X.Y=PATH", help="an interpreter to use")
    parser.add_argument("--uv", default=shutil.which("uv"), help="the program uv; '' takes pip")
    parser.add_argument(
        "--checks", nargs="+", choices=CHECKS, help="only these; of releases run before, the rest stays"
    )
    parser.add_argument("--keep", action="store_true", help="do not remove environments afterwards")
    parser.add_argument("--nice", type=int, default=10, help="added to the niceness of all that runs")
    parser.add_argument("--list", action="store_true", help="only list the environments")
    parser.add_argument(
        "--resolve", action="store_true", help="only find the releases of rows not tried yet (needs uv)"
    )
    parser.add_argument("--page", action="store_true", help="only write docs/environments.md from the results")
    options = parser.parse_args(given)
    options.uv = options.uv or None
    unknown = sorted(set(options.rows) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"expected names of environments, found {', '.join(unknown)}; see --list")
    wrong = [item for item in options.python if not re.fullmatch(r"\d+\.\d+=.+", item)]
    if wrong:
        parser.error(f"--python: expected X.Y=PATH, found {wrong[0]}")
    if options.resolve and not options.uv:
        parser.error("--resolve: expected uv on the PATH, or --uv")
    if options.folder is None and not (options.list or options.page or options.resolve):
        parser.error("--folder is needed: where environments are made")
    return options


def main(given: Optional[List[str]] = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 1 where a check failed in an environment that should work.
    """
    options = arguments(given)
    if options.list:
        for row in ROWS:
            print(f"{row.name:16} Python {row.python}; {row.why}; {' '.join(row.pins + row.lifted) or 'no pins'}")
        return 0
    failed = False
    wanted = [row for row in ROWS if not options.rows or row.name in options.rows]
    if options.resolve:
        for row in wanted:
            if not ran(read_results().get(row.name)):
                _keep(resolve(row, options.uv))
    elif not options.page:
        pythons = dict(item.split("=", 1) for item in options.python)
        for row in wanted:
            python = interpreter(row.python, pythons)
            print(f"{row.name}: {python or 'no interpreter here'}", flush=True)
            if python is None:
                continue
            result = examine(row, python, options)
            bad = "error" in result or any(check["outcome"] != "ok" for check in result["checks"])
            print(f"{row.name}: {result.get('error') or ('failed' if bad else 'ok')}", flush=True)
            failed = failed or (bad and row.works)
            if options.checks:
                _merge(result)
            else:
                _keep(result)
    PAGE_FILE.write_text(page(read_results()), "utf8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""docs/environments.md, from the lines that tools/environments.py has left in docs/environments.jsonl."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from environment_checks import CHECKS, ROOT
from environment_rows import ALL_EXTRAS, ROWS, Row

RESULTS_FILE = ROOT / "docs" / "environments.jsonl"
PAGE_FILE = ROOT / "docs" / "environments.md"
NOT_TRIED = "not tried"

_TEXT = """# Environments

What this package was installed into and run with, each time in a fresh environment: Python, torch, what nerfstudio
pins, and extras. Short training runs and tests on a CPU say whether anything breaks, not how well it trains;
gsplat's kernels for CUDA are not part of it.

{outcomes}

Seconds say how long a check took on a machine that did other things as well; `-`: there is nothing to check.

## Releases

What the installer has chosen; of what is in bold the environment is about. *Not installed*: the releases agree
with each other, and nothing was run. The commit is that of the last checks; checks that had passed before a fault
elsewhere was mended were not all run again.

{versions}

## Checks

| check | what is done |
| --- | --- |
| import | every module is imported, `ns-fewshot methods` lists all |
| help | `ns-train --help` lists our methods and nerfstudio's own |
| rays | `ns-train sparsenerf-lite` for 6 steps, `ns-fewshot eval` of it |
| splats | `ns-train sparse-splatfacto-lite` for 4 steps, with the renderer for CPUs |
| images | `ns-train pixelnerf-lite` for 4 steps on generated objects, `ns-fewshot eval` of it |
| nerfacto | nerfstudio's own method on nerfstudio's own dataparser for 3 steps, `implementation torch` |
| absent | each extra that is not installed: what needs it ends in one error that names the extra |
| units | unit tests of `utils`, `cameras`, `field_components` and of splatting |
| goldens | tests of four methods against the reference vectors that lie in the repository |
| priors | tests of encoders (open_clip, timm), diffusion priors and monocular depth, with tiny networks |
| photos | tests of finding poses and of reading photos |

{failures}## Again

    python tools/environments.py --list
    python tools/environments.py --folder FOLDER                 # all, some 10 minutes each
    python tools/environments.py --folder FOLDER py312-plain     # one
    python tools/environments.py --resolve                       # which releases the others would get; needs uv

The script takes uv where it is on the `PATH`, else `venv` and pip, writes `docs/environments.jsonl`, and from that this
page. Interpreters are those of the `PATH` and of pyenv, or `--python 3.12=PATH`. An environment is removed after its
checks unless `--keep` is given; it takes some 9 GB. `tests/test_environments.py` is the cheap half, part of `make
test`: extras hidden in the environment at hand, and entry points of ours that fail.
"""


def read_results() -> Dict[str, Dict[str, Any]]:
    """The lines of the results by the names of their rows; none where nothing has been run yet."""
    if not RESULTS_FILE.is_file():
        return {}
    lines = [json.loads(line) for line in RESULTS_FILE.read_text("utf8").splitlines()]
    return {line["name"]: line for line in lines}


def ran(found: Optional[Dict[str, Any]]) -> bool:
    """Whether a line of the results is of an environment that was made, not only of releases that would be chosen."""
    return bool(found) and "resolved" not in (found or {})


def page(results: Dict[str, Dict[str, Any]]) -> str:
    """The text of the page."""
    failures = _failures(results)
    return _TEXT.format(
        outcomes=_outcomes(results),
        versions=_versions(results),
        failures=f"## Failures\n\n{failures}\n\n" if failures else "",
    )


def _table(head: List[str], rows: List[List[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _outcomes(results: Dict[str, Dict[str, Any]]) -> str:
    rows = []
    for row in ROWS:
        found = results.get(row.name)
        checks = {check["name"]: check for check in found["checks"]} if found else {}
        if found is None or not ran(found):
            cells = [NOT_TRIED] + [""] * (len(CHECKS) - 1)
        elif "error" in found:
            cells = ["not installed" if "versions" not in found else "failed"] + [""] * (len(CHECKS) - 1)
        else:
            cells = [_cell(row, name, checks.get(name)) for name in CHECKS]
        why = row.why if row.works else f"{row.why}; does not work"
        rows.append([f"`{row.name}`", why, *cells])
    return _table(["environment", "about", *CHECKS], rows)


def _cell(row: Row, name: str, check: Optional[Dict[str, Any]]) -> str:
    if check is None:
        absent = set(ALL_EXTRAS) - {"fid"} - set(row.extras)
        needless = {"absent": not absent, "priors": "priors" in absent, "photos": "photos" in absent}
        return "-" if needless.get(name, False) else "not run"
    return f"{check['seconds']:.0f} s" if check["outcome"] == "ok" else "**failed**"


def _versions(results: Dict[str, Dict[str, Any]]) -> str:
    names = ["torch", "numpy", "gsplat", "timm", "open_clip_torch", "diffusers", "transformers", "pycolmap", "ray"]
    rows = []
    for row in ROWS:
        found = results.get(row.name)
        if found is None or "versions" not in found:
            continue
        about = _named(row)
        cells = [found["versions"].get(name, "-") for name in names]
        cells = [f"**{cell}**" if name in about else cell for name, cell in zip(names, cells, strict=True)]
        state = f"`{found['commit']}`" if ran(found) else "not installed"
        rows.append([f"`{row.name}`", found["python"], *cells, found["date"], state])
    return _table(["environment", "Python", *names, "date", "commit"], rows)


def _named(row: Row) -> List[str]:
    """Names of the packages that a row's own requirements are about."""
    return [line.replace("<", "=").replace(">", "=").split("=")[0] for line in (*row.pins, *row.lifted)]


def _failures(results: Dict[str, Dict[str, Any]]) -> str:
    lines = []
    for row in ROWS:
        found = results.get(row.name, {"checks": []})
        if "error" in found:
            lines.append(f"- `{row.name}`: {_code(found['error'])}")
        if found.get("resolved") is False:
            lines.append(f"- `{row.name}`: no releases agree: {_code(found['words'])}")
        lines += [
            f"- `{row.name}`, {check['name']}: {_code(check['words'])}"
            for check in found["checks"]
            if check["outcome"] != "ok"
        ]
    return "\n".join(lines)


def _code(words: str) -> str:
    return f"`{words.replace('`', chr(39))}`"

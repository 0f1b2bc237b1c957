"""Whatever stands in a recipe, a plan, a record, a ledger or a table of results: words of ours that name the file, or
it is taken, and in no time."""

from __future__ import annotations

import copy
import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple, Union

import pytest
import yaml
from cases_runs import (
    AVERAGES,
    AVERAGES_FILE,
    BASE,
    CELL,
    LEDGER_ROW,
    PLAN,
    PLAN_FILE,
    RECORD,
    RECORD_FILE,
    RESULTS,
    TABLE,
    benchmark,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_ns.bench.recipes.yaml_file import load_recipe
from fewshot_ns.bench.report.files import markdown
from fewshot_ns.bench.results.cells import read_results
from fewshot_ns.bench.results.csv_file import as_csv, as_json_text, read_csv
from fewshot_ns.engine.error_lines import is_of_this_package
from fewshot_ns.evaluation.records.ledger import Ledger, read_rows
from fewshot_ns.evaluation.runners.evaluator import read_summary

quickly = settings(max_examples=70, deadline=None, derandomize=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**70), 10**400, -1, 0])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "../x", "/etc/passwd", "a\0b", "\ud800", "finished", "x" * 500]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)
"""Any value; NaN and infinities, too, which Python writes into what it calls JSON."""
SECONDS = 1.0


def places(values: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Paths of all values within a value."""
    yield path
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for name, value in entries:
        yield from places(value, (*path, name))


def replaced(values: Any, path: Tuple[Any, ...], value: Any) -> Any:
    """The same with another value at a path."""
    if not path:
        return value
    changed = copy.deepcopy(values)
    below = changed
    for part in path[:-1]:
        below = below[part]
    below[path[-1]] = value
    return changed


@st.composite
def damaged(draw: Callable[..., Any], values: Any) -> bytes:
    """JSON of the values with any value in the place of any other, or with any bytes in the place of some."""
    path, value = draw(st.sampled_from(list(places(values)))), draw(JSON)
    content = json.dumps(replaced(values, path, value)).encode()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=6)) + content[at + draw(st.integers(0, 9)) :]
    return content


@contextmanager
def taken_or_said(file: str) -> Iterator[None]:
    """The block ends well, or with one error of this package that names the file and quotes little, in a CPU second."""
    start = time.process_time()
    try:
        yield
    except Exception as error:  # noqa: BLE001 - that no other comes is what the test is about
        said = str(error)
        if not is_of_this_package(error, error.__traceback__):
            raise
        assert file in said and len(said) < 2000, said
    assert time.process_time() - start < SECONDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    # What is imported at first use does not count.
    benchmark(folder)
    markdown(read_results(folder))
    (folder / "my.yaml").write_text(BASE, "utf8")
    load_recipe(folder / "my.yaml")
    return folder


@quickly
@given(data=st.data(), which=st.sampled_from(["plan", "record", "averages", "row"]))
def test_any_value_in_a_benchmark(folder: Path, data: st.DataObject, which: str) -> None:
    kinds: Dict[str, Tuple[str, Any]] = {
        "plan": (PLAN_FILE, PLAN),
        "record": (RECORD_FILE, RECORD),
        "averages": (AVERAGES_FILE, AVERAGES),
        "row": (f"{CELL}/eval.jsonl", LEDGER_ROW),
    }
    benchmark(folder)
    file, values = kinds[which]
    (folder / file).write_bytes(data.draw(damaged(values)))
    # A plan may name another cell than the one that is there, or a ledger no view.
    with taken_or_said(Path(file).name if which != "plan" else "json"):
        found = read_results(folder)
        markdown(found)
        json.loads(as_json_text(found), parse_constant=_never)


def _never(text: str) -> None:
    raise AssertionError(f"{text} was written")


@quickly
@given(content=damaged(RESULTS))
def test_any_value_in_a_results_file(folder: Path, content: bytes) -> None:
    path = folder / "results.json"
    path.write_bytes(content)
    with taken_or_said("results.json"):
        found = read_results(path)
        markdown(found)
        as_csv(found)
        json.loads(as_json_text(found), parse_constant=_never)


@quickly
@given(lines=st.lists(damaged(LEDGER_ROW), min_size=1, max_size=3))
def test_any_value_in_a_ledger(folder: Path, lines: List[bytes]) -> None:
    path = folder / "eval.json"
    path.write_text(json.dumps({"key": "k"}), "utf8")
    path.with_suffix(".jsonl").write_bytes(b"\n".join(lines))
    with taken_or_said("eval.json"):
        read_summary(path)
    # Taken up, it is whole.
    rows = Ledger(path).resume("k", {})
    assert not rows or read_rows(path.with_suffix(".jsonl")) == rows


CELLS = st.text(max_size=8) | st.sampled_from(["nan", "1e999", "-1", "0.5", "True", "finished", '"', "1_0", "٣", "a,b"])
LINES = st.lists(CELLS, max_size=30).map(",".join) | st.text(max_size=40)


@quickly
@given(data=st.data())
def test_any_rows_in_a_table_of_results(folder: Path, data: st.DataObject) -> None:
    path = folder / "results.csv"
    lines: List[str] = list(TABLE.splitlines())
    if data.draw(st.booleans()):
        lines.insert(data.draw(st.integers(0, 3)), data.draw(LINES))
    else:
        number = data.draw(st.integers(0, 2))
        cells = lines[number].split(",")
        cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(CELLS)
        lines[number] = ",".join(cells)
    content = "\n".join(lines).encode("utf8", "surrogatepass")
    if data.draw(st.integers(0, 4)) == 0:
        at = data.draw(st.integers(0, len(content)))
        content = content[:at] + data.draw(st.binary(max_size=8)) + content[at:]
    path.write_bytes(content)
    with taken_or_said("results.csv"):
        found = read_csv(path)
        # What is taken can be written and read again.
        again = folder / "again.csv"
        again.write_text(as_csv(found), "utf8")
        assert len(read_csv(again).cells) == len(found.cells)


WORDS: List[Union[str, int, float, None]] = ["plane", "llff-3", "dtu-3", "indices", "mipnerf-fewshot-lite", 1, 0, -1.5]
KEYS = [
    "name",
    "protocol",
    "dataparser",
    "scenes",
    "methods",
    "seeds",
    "budget",
    "evaluation",
    "path",
    "method",
    "label",
]
KEYS += [
    "overrides",
    "steps",
    "cpu-seconds",
    "metrics",
    "max-views",
    "sources",
    "views",
    "random",
    "parser",
    "pictures",
]
PARTS = st.recursive(
    st.sampled_from(WORDS)
    | st.none()
    | st.booleans()
    | st.dates()
    | st.binary(max_size=4)
    | st.floats()
    | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
TAGS = (
    "!!int",
    "!!float",
    "!!bool",
    "!!timestamp",
    "!!binary",
    "!!set",
    "!!omap",
    "!!pairs",
    "!!map",
    "!!seq",
    "!!str",
)
SCRAPS = st.sampled_from(
    [
        *TAGS,
        "&a",
        "*a",
        "<<",
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "?",
        "|",
        ">",
        '"',
        "'",
        "#",
        "---",
        "\n",
        "  ",
        "\t",
        "2024-13-01",
    ]
)


@quickly
@given(values=st.dictionaries(st.sampled_from(KEYS), PARTS, max_size=6), whole=st.booleans())
def test_any_values_in_a_recipe(folder: Path, values: Dict[str, Any], whole: bool) -> None:
    if not whole:
        values = {**yaml.safe_load(BASE), **values}
    (folder / "my.yaml").write_text(yaml.safe_dump(values), "utf8")
    with taken_or_said("my.yaml"):
        load_recipe(folder / "my.yaml")


@quickly
@given(scraps=st.lists(SCRAPS | st.sampled_from([str(word) for word in WORDS]) | st.text(max_size=4), max_size=12))
def test_any_scraps_of_yaml_in_a_recipe(folder: Path, scraps: List[str]) -> None:
    text = f"{BASE}dataparser: {' '.join(scraps)}\n"
    (folder / "my.yaml").write_bytes(text.encode("utf8", "surrogatepass"))
    with taken_or_said("my.yaml"):
        load_recipe(folder / "my.yaml")

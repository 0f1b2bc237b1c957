"""Recipes, plans, records, ledgers, results files and run folders that are broken or odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from corpus import Action, Case

from fewshot_ns.utils.leftovers import partial_name

Content = Union[str, bytes]
Says = Optional[Tuple[str, ...]]
BASE = "protocol: llff-3\nscenes: [plane]\nmethods: [mipnerf-fewshot-lite]\n"
"""A recipe."""
DEEP = "[" * 100_000 + "]" * 100_000


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf8") if isinstance(content, str) else content)


def _recipe(name: str, content: Content, *says: str, taken: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.bench.recipes.yaml_file import load_recipe

        _write(folder / "my.yaml", content)
        return lambda: load_recipe(folder / "my.yaml")

    return Case(f"recipe-{name}", "recipe", prepare, None if taken else ("my.yaml", *says))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(letter)}: &{chr(letter)} [{','.join(['*' + chr(letter - 1)] * 9)}]\n" for letter in range(98, 115)
)
RECIPES: List[Case] = [
    _recipe("bomb-of-aliases", BOMB, "aliases written out"),
    _recipe("bomb-in-flags", f"{BOMB}{BASE}dataparser: *r\n", "aliases written out"),
    _recipe("200000-unknown-keys", BASE + "".join(f"k{n}: 1\n" for n in range(200_000)), "at most 100000 bytes"),
    _recipe("6000-unknown-keys", BASE + "".join(f"k{n}: 1\n" for n in range(6_000)), "at most 5000 values"),
    _recipe("2000-unknown-keys", BASE + "".join(f"k{n}: 1\n" for n in range(2_000)), "2000 problems", "and 1988 more"),
    _recipe("one-endless-word", f"{BASE}name: {'x' * 90_000}\n", "name", "expected a name of letters"),
    _recipe("a-key-of-90000-letters", f"{BASE}{'x' * 1000}: 1\n", "unknown key"),
    _recipe("holds-itself", f"{BASE}dataparser: &a {{x: *a}}\n", "holds itself"),
    _recipe("lists-without-end", BASE + "seeds: " + "[" * 5000, "within each other"),
    _recipe("mappings-without-end", BASE + "dataparser: " + "{a: " * 500, "within each other"),
    _recipe("runs-a-program", BASE + "name: !!python/object/apply:os.system [touch x]\n", "python/object/apply:os.sys"),
    _recipe("a-tag-of-its-own", BASE + "seeds: !mine [1]\n", "!mine"),
    _recipe("a-list-tagged-as-mapping", BASE + "budget: !!map [a]\n", "line 4"),
    _recipe("an-empty-integer", BASE + 'seeds: [!!int ""]\n', "kind int", "line 4"),
    _recipe("an-odd-truth", BASE + "methods: !!bool perhaps\n".replace("methods", "name"), "kind bool"),
    _recipe("a-day-that-is-none", BASE + "name: 2024-99-99\n", "2024-99-99", "line 4"),
    _recipe("a-day-as-name", BASE + "name: 2024-02-03\n", "name: expected a name", "date(2024, 2, 3)"),
    _recipe("a-day-as-key", BASE + "2024-02-03: 1\n", "expected a text as key"),
    _recipe("a-list-as-key", BASE + "? [a, b]\n: 1\n", "expected a text as key"),
    _recipe("a-seed-of-40000-bits", f"{BASE}seeds: [0x{'f' * 10_000}]\n", "seeds", "40000 bits"),
    _recipe("a-seed-of-5000-digits", f"{BASE}seeds: [{'1' * 5000}]\n", "kind int"),
    _recipe("a-flag-of-40000-bits", f"{BASE}dataparser: {{x: 0x{'f' * 10_000}}}\n", "dataparser: expected flags"),
    _recipe("a-seed-that-numpy-refuses", BASE + "seeds: [4294967296]\n", "seeds", "4294967295"),
    _recipe("a-budget-that-is-no-number", BASE + "budget: {cpu-seconds: .nan}\n", "budget.cpu-seconds", "nan"),
    _recipe("an-endless-budget", BASE + "budget: {cpu-seconds: .inf}\n", "budget.cpu-seconds", "inf"),
    _recipe("utf-16", BASE.encode("utf-16"), "UTF-8"),
    _recipe("latin-1", (BASE + "description: für\n").encode("latin-1"), "UTF-8"),
    _recipe("zero-bytes", BASE + "\0", "not YAML"),
    _recipe("nothing", "", "expected a mapping, found nothing"),
    _recipe("a-list", "- a\n", "expected a mapping, found ['a']"),
    _recipe("two-in-one-file", f"{BASE}---\n{BASE}", "single document"),
    _recipe("a-conflict", f"<<<<<<< mine\n{BASE}=======\n{BASE}>>>>>>> theirs\n", "not YAML"),
    _recipe("a-key-twice", BASE + "seeds: [1]\nseeds: [2]\n", "'seeds' is there more than once"),
    _recipe("aliases-of-flags", f"dataparser: &f {{x: 1}}\n{BASE}", taken=True),
    _recipe("a-quoted-day", BASE + 'name: "2024-02-03"\n', taken=True),
]

COLUMNS = (
    "recipe,protocol,scene,folder_name,method,label,seed,as_published,own_length,status,steps,width,height,test_views,"
    "evaluated_views,device,cpu_seconds,wall_seconds,rays,peak_memory_bytes,peak_gpu_memory_bytes,source,overrides,"
    "scene_overrides,error,psnr\n"
)
ROW = "r,llff-3,fern,fern,freenerf,freenerf,0,True,True,finished,40,504,378,3,3,cpu,10.0,6.0,5000,9,,abc,,,,19.6\n"
TABLE = COLUMNS + ROW + ROW.replace("fern", "horns")


def _table(name: str, content: Content, *says: str, taken: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.bench.results.csv_file import read_csv

        _write(folder / "results.csv", content)
        return lambda: read_csv(folder / "results.csv")

    return Case(f"results-{name}", "results", prepare, None if taken else ("results.csv", *says))


def _merged(folder: Path) -> Action:
    """A report that is put into a file with a conflict leaves the file as it is."""
    from fewshot_ns.bench.results.cells import BenchResults
    from fewshot_ns.bench.results.csv_file import merge_into

    path, content = folder / "results.csv", f"{COLUMNS}<<<<<<< mine\n{ROW}"
    _write(path, content)

    def action() -> None:
        try:
            merge_into(path, BenchResults("other", "", ()))
        finally:
            assert path.read_text("utf8") == content

    return action


TABLES: List[Case] = [
    _table("with-a-conflict", f"{COLUMNS}<<<<<<< mine\n{ROW}=======\n{ROW}>>>>>>> other\n", "line 2", "conflict"),
    Case("results-merged-into-a-conflict", "results", _merged, ("results.csv", "line 2", "conflict")),
    _table("a-short-row", COLUMNS + ROW + "r,llff-3,fern\n", "line 3", "expected 26 values, found 3"),
    _table("a-long-row", COLUMNS + ROW.replace("\n", ",7,8\n"), "line 2", "expected 26 values, found 28"),
    _table("a-column-twice", TABLE.replace("error,psnr", "psnr,psnr"), "line 1", "psnr more than once"),
    _table("a-column-less", TABLE.replace("as_published", "published"), "as_published not found"),
    _table("nan", TABLE.replace("19.6", "nan"), "line 2", "psnr: expected a finite number", "nan"),
    _table("infinite", TABLE.replace("19.6", "-inf"), "line 2", "psnr: expected a finite number"),
    _table("a-huge-figure", TABLE.replace("19.6", "1e999"), "line 2", "psnr: expected a finite number"),
    _table("a-word", TABLE.replace("19.6", "good"), "line 2", "psnr: expected a number, found 'good'"),
    _table("an-odd-truth", TABLE.replace("True,True", "yes,True"), "line 2", "as_published: expected True or False"),
    _table("an-odd-status", TABLE.replace("finished", "Finished"), "line 2", "status: expected one of finished"),
    _table("half-a-seed", TABLE.replace(",0,True", ",0.5,True"), "line 2", "seed: expected a whole number"),
    _table("an-odd-seed", TABLE.replace(",0,True", ",1_0,True"), "line 2", "seed: expected a whole number"),
    _table("a-huge-seed", TABLE.replace(",0,True", f",{'1' * 5000},True"), "line 2", "seed: expected a whole number"),
    _table("a-width-without-height", TABLE.replace("504,378", "504,"), "line 2", "height: expected a whole number"),
    _table("an-open-quote", TABLE + '"r,llff-3', "expected CSV"),
    _table("a-field-of-a-megabyte", COLUMNS + ROW.replace("abc", "a" * 1_000_000), "line 2", "expected CSV"),
    _table("utf-16", TABLE.encode("utf-16"), "UTF-8"),
    _table("latin-1", TABLE.replace("abc", "ä").encode("latin-1"), "UTF-8"),
    _table("zero-bytes", TABLE.replace("abc", "a\0c"), "zero byte"),
    _table("empty", "", "columns"),
    _table("json", "{}", "columns"),
    _table("without-rows", COLUMNS, taken=True),
    _table("of-windows", TABLE.replace("\n", "\r\n"), taken=True),
    _table("with-a-byte-order-mark", b"\xef\xbb\xbf" + TABLE.encode(), taken=True),
    _table("with-empty-lines", TABLE.replace("\nr,", "\n\nr,"), taken=True),
]

PLANNED: Dict[str, Any] = {
    "folder": "cells/fern/freenerf/seed-0",
    "scene": "fern",
    "folder_name": "fern",
    "protocol": "llff-3",
    "method": "freenerf",
    "label": "freenerf",
    "seed": 0,
    "as_published": True,
}
PLAN: Dict[str, Any] = {"name": "r", "description": "", "cells": [PLANNED]}
RECORD: Dict[str, Any] = {
    "status": "finished",
    "keys": {"source": "abc"},
    "cell": {
        "overrides": [],
        "scene_overrides": [],
        "steps": 40,
        "own_length": True,
        "test_views": 2,
        "size": [504, 378],
        "device": "cpu",
    },
    "step": 39,
    "training": {"cpu_seconds": 10.0, "rays": 5000},
}
AVERAGES: Dict[str, Any] = {"views": [0, 8], "evaluation": {"size": [504, 378]}, "results": {}}
LEDGER_ROW: Dict[str, Any] = {
    "file_name": "a.png",
    "view_index": 0,
    "split_index": 0,
    "step": 39,
    "num_rays_per_sec": 8.5,
    "psnr": 20.25,
}
CELL = "cells/fern/freenerf/seed-0"


def benchmark(folder: Path) -> None:
    """A benchmark with one finished cell."""
    _write(folder / "bench.json", json.dumps(PLAN))
    _write(folder / CELL / "cell.json", json.dumps(RECORD))
    _write(folder / CELL / "eval.json", json.dumps(AVERAGES))
    _write(folder / CELL / "eval.jsonl", "".join(json.dumps({**LEDGER_ROW, **more}) + "\n" for more in ROWS))


ROWS: List[Dict[str, Any]] = [{}, {"view_index": 8, "split_index": 1, "psnr": None}]


def _bench(name: str, file: str, content: Content, *says: str, taken: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.bench.results.cells import read_results
        from fewshot_ns.bench.results.csv_file import as_csv

        benchmark(folder)
        _write(folder / file, content)
        path = folder / file if file == "results.json" else folder
        return lambda: as_csv(read_results(path))

    return Case(f"bench-{name}", "bench", prepare, None if taken else (Path(file).name, *says))


def _with(values: Dict[str, Any], *path: Union[str, int], value: Any) -> str:
    """JSON of the values, one changed."""
    changed = json.loads(json.dumps(values))
    below = changed
    for part in path[:-1]:
        below = below[part]
    below[path[-1]] = value
    return json.dumps(changed)


def _without(values: Dict[str, Any], name: str) -> str:
    return json.dumps({key: value for key, value in values.items() if key != name})


OLD_PLANNED = {("place" if name == "folder_name" else name): value for name, value in PLANNED.items()}
RESULT: Dict[str, Any] = {
    **{name: value for name, value in PLANNED.items() if name != "folder"},
    "status": "finished",
    "overrides": [],
    "scene_overrides": [],
    "size": [504, 378],
    "metrics": {"psnr": 20.0},
    "images": [{"file_name": "a.png", "view_index": 0, "psnr": 20.0}],
    "curve": [{"step": 3, "cpu_seconds": None, "metrics": {"psnr": 10}}],
}
RESULTS: Dict[str, Any] = {"name": "r", "description": "", "cells": [RESULT]}
PLAN_FILE, RECORD_FILE, AVERAGES_FILE = "bench.json", f"{CELL}/cell.json", f"{CELL}/eval.json"
BENCHES: List[Case] = [
    _bench("plan-is-a-list", PLAN_FILE, "[]", "the plan of a benchmark"),
    _bench("plan-is-cut", PLAN_FILE, json.dumps(PLAN)[:90], "expected JSON", "line 1"),
    _bench("plan-is-empty", PLAN_FILE, "", "expected JSON"),
    _bench("plan-in-utf-16", PLAN_FILE, json.dumps(PLAN).encode("utf-16"), "UTF-8"),
    _bench("plan-with-a-conflict", PLAN_FILE, f"<<<<<<< mine\n{json.dumps(PLAN)}", "expected JSON"),
    _bench("plan-without-end", PLAN_FILE, DEEP, "without end"),
    _bench("plan-without-name", PLAN_FILE, _without(PLAN, "name"), "name: expected a value, found none"),
    _bench("plan-without-cells", PLAN_FILE, _with(PLAN, "cells", value=None), "cells"),
    _bench("plan-with-a-word-as-cell", PLAN_FILE, _with(PLAN, "cells", value=["a"]), "cells[0]"),
    _bench("plan-with-a-seed-in-words", PLAN_FILE, _with(PLAN, "cells", 0, "seed", value="0"), "cells[0].seed"),
    _bench("plan-with-an-odd-truth", PLAN_FILE, _with(PLAN, "cells", 0, "as_published", value=1), "as_published"),
    _bench("plan-leads-outside", PLAN_FILE, _with(PLAN, "cells", 0, "folder", value="../../x"), "cells[0].folder"),
    _bench("plan-leads-to-the-root", PLAN_FILE, _with(PLAN, "cells", 0, "folder", value="/etc"), "below the folder"),
    _bench("plan-with-nan", PLAN_FILE, json.dumps(PLAN).replace('"seed": 0', '"seed": NaN'), "NaN"),
    _bench("plan-of-0.1.0", PLAN_FILE, _with(PLAN, "cells", value=[OLD_PLANNED]), taken=True),
    _bench("record-is-cut", RECORD_FILE, json.dumps(RECORD)[:70], "the record of a cell"),
    _bench("record-is-a-list", RECORD_FILE, "[1]", "the record of a cell"),
    _bench("record-without-keys", RECORD_FILE, _without(RECORD, "keys"), "keys: expected a value"),
    _bench("record-with-an-odd-status", RECORD_FILE, _with(RECORD, "status", value="done"), "status", "finished"),
    _bench("record-of-three-sides", RECORD_FILE, _with(RECORD, "cell", "size", value=[1, 2, 3]), "cell.size"),
    _bench("record-of-flags-in-one", RECORD_FILE, _with(RECORD, "cell", "overrides", value="--a"), "cell.overrides"),
    _bench("record-of-a-huge-step", RECORD_FILE, _with(RECORD, "step", value=2**70), "step"),
    _bench("record-of-endless-time", RECORD_FILE, json.dumps(RECORD).replace("10.0", "1e999"), "finite", "1e999"),
    _bench("record-of-no-time", RECORD_FILE, json.dumps(RECORD).replace("10.0", "NaN"), "NaN"),
    _bench("record-of-unknown-time", RECORD_FILE, _with(RECORD, "training", value=None), taken=True),
    _bench("averages-are-cut", AVERAGES_FILE, json.dumps(AVERAGES)[:30], "the averages of an evaluation"),
    _bench("averages-of-no-views", AVERAGES_FILE, _with(AVERAGES, "views", value=None), "views"),
    _bench("averages-of-odd-size", AVERAGES_FILE, _with(AVERAGES, "evaluation", value=[3]), "evaluation"),
    _bench("results-are-cut", "results.json", json.dumps(RESULTS)[:200], "the results of a benchmark"),
    _bench("results-of-an-unknown-field", "results.json", _with(RESULTS, "cells", 0, "colour", value=1), "colour"),
    _bench("results-in-words", "results.json", _with(RESULTS, "cells", 0, "metrics", "psnr", value="20"), "psnr"),
    _bench("results-that-are-none", "results.json", json.dumps(RESULTS).replace("20.0", "NaN"), "NaN"),
    _bench(
        "results-of-huge-figures", "results.json", _with(RESULTS, "cells", 0, "metrics", "psnr", value=10**400), "psnr"
    ),
    _bench("results-of-odd-images", "results.json", _with(RESULTS, "cells", 0, "images", value=[3]), "images[0]"),
    _bench("results-whole", "results.json", json.dumps(RESULTS), taken=True),
]


def _ledger(name: str, content: Content, *says: str, settings: Any = None, taken: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.evaluation.runners.evaluator import read_summary

        _write(folder / "eval.jsonl", content)
        if settings is not None:
            _write(folder / "eval.json", settings if isinstance(settings, str) else json.dumps(settings))
        return lambda: read_summary(folder / "eval.json")

    return Case(f"ledger-{name}", "ledger", prepare, None if taken else ("eval.json", *says))


def _line(**changes: Any) -> str:
    return json.dumps({**LEDGER_ROW, **changes}) + "\n"


def _many_scenes(folder: Path) -> Action:
    """An average over many scenes leaves out no row without a word."""
    from fewshot_ns.scripts.eval import EvalCommand

    scene = _line(scene="s", category="", sources=[0])
    _write(folder / "config.yml", "")
    _write(folder / "eval.jsonl", scene + scene[:50])
    return EvalCommand(folder, output_path=folder / "eval.json", split="held-out", summarise_only=True).main


def _taken_up(folder: Path) -> Action:
    """A damaged evaluation is taken up: what is whole of it counts."""
    from fewshot_ns.evaluation.records.ledger import Ledger

    _write(folder / "eval.json", json.dumps({"key": "k"}))
    _write(folder / "eval.jsonl", (_line() + _line(psnr="x", split_index=1) + _line()[:30]).encode() + b"\xff\x00")

    def action() -> None:
        assert len(Ledger(folder / "eval.json").resume("k", {})) == 1

    return action


def _begun_anew(folder: Path) -> Action:
    from fewshot_ns.evaluation.records.ledger import Ledger

    _write(folder / "eval.json", DEEP)
    _write(folder / "eval.jsonl", _line())

    def action() -> None:
        assert Ledger(folder / "eval.json").resume("k", {}) == []

    return action


def _nan_row(folder: Path) -> Action:
    from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow

    ledger = Ledger(folder / "eval.json")
    return lambda: ledger.append(LedgerRow("a.png", 0, 0, 1, None, {"psnr": float("nan")}))


LINE = _line()
SETS = "of_all_views"
LEDGERS: List[Case] = [
    _ledger("cut", LINE + LINE[:40], "line 2", "expected a JSON object"),
    _ledger("a-list", LINE + "[1, 2]\n", "line 2", "expected an object with file_name"),
    _ledger("a-key-less", _without(LEDGER_ROW, "step"), "line 1", "expected an object with file_name"),
    _ledger("a-step-in-words", _line(step="last"), "line 1", "step"),
    _ledger("a-true-view", _line(view_index=True), "line 1", "view_index"),
    _ledger("half-a-view", _line(view_index=0.5), "line 1", "view_index"),
    _ledger("a-view-before-the-first", _line(split_index=-1), "line 1", "split_index"),
    _ledger("a-name-of-a-number", _line(file_name=3), "line 1", "file_name"),
    _ledger("sources-in-one", _line(scene="s", category="", sources="1 2"), "line 1", "sources"),
    _ledger("a-metric-in-words", _line(psnr="20"), "line 1", "psnr"),
    _ledger("a-metric-of-a-list", _line(psnr=[20.0]), "line 1", "psnr"),
    _ledger("nan", LINE.replace("20.25", "NaN"), "line 1", "NaN"),
    _ledger("infinite", LINE.replace("20.25", "-Infinity"), "line 1", "Infinity"),
    _ledger("a-huge-metric", LINE.replace("20.25", "1e999"), "line 1", "finite"),
    _ledger("a-metric-of-4000-digits", LINE.replace("20.25", "1" * 4000), "line 1", "psnr"),
    _ledger("a-metric-of-5000-digits", LINE.replace("20.25", "1" * 5000), "line 1"),
    _ledger("without-end", LINE.replace("20.25", DEEP), "line 1", "without end"),
    _ledger("in-utf-16", LINE.encode("utf-16"), "line 1", "UTF-8"),
    _ledger("half-a-character", LINE.replace("a.png", "\\ud800.png"), "line 1", "half a character"),
    _ledger("a-metric-twice", LINE.replace("}", ', "psnr": 3.0}'), "line 1", "'psnr' more than once"),
    _ledger("zero-bytes", LINE.replace("a.png", "a\0.png"), "line 1"),
    _ledger("settings-in-words", LINE, "averages", settings={"evaluation": "all"}),
    _ledger("settings-cut", LINE, "averages", settings='{"evaluation": '),
    _ledger("settings-of-an-unknown-metric", LINE, "psnr", settings={"evaluation": {SETS: {"metrics": ["psnr"]}}}),
    _ledger("settings-of-odd-fields", LINE, "colour", settings={"evaluation": {SETS: {"metrics": [], "colour": 1}}}),
    _ledger("of-an-earlier-version", LINE + _line(split_index=1), taken=True),
    _ledger("a-view-twice", LINE + _line(psnr=21.0), taken=True),
    Case("ledger-of-many-scenes-cut", "ledger", _many_scenes, ("eval.jsonl", "line 2", "expected a JSON object")),
    Case("ledger-damaged-and-taken-up", "ledger", _taken_up, None),
    Case("ledger-beside-a-bomb", "ledger", _begun_anew, None),
    Case("ledger-of-a-figure-that-is-none", "ledger", _nan_row, ("eval.jsonl", "a.png", "psnr", "nan")),
]


def _checkpoints(name: str, strays: Tuple[str, ...], whole: bool, *says: str) -> Case:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.bench.execution.records import last_step
        from fewshot_ns.utils.checkpoints import find_checkpoint

        models = folder / "nerfstudio_models"
        for stray in strays:
            _write(models / stray, "mine")
        (models / "step-000000099.ckpt").mkdir(parents=True)
        if whole:
            _write(models / "step-000000007.ckpt", "weights")

        def action() -> None:
            assert find_checkpoint(models).name == "step-000000007.ckpt" and last_step(folder) == 7

        return action

    return Case(f"run-{name}", "run", prepare, None if whole else ("nerfstudio_models", *says))


def _full(name: str, write: Callable[[Path], object], file: str) -> Case:
    """Writing ends on a device that has no room."""

    def prepare(folder: Path) -> Action:
        path = folder / file
        (path.parent / partial_name(path.name)).symlink_to("/dev/full")
        return lambda: write(path)

    return Case(f"full-disk-{name}", "full disk", prepare, (file, "found the disk full", "Make room"))


def _full_ledger(folder: Path) -> Action:
    from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow

    (folder / "eval.jsonl").symlink_to("/dev/full")
    return lambda: Ledger(folder / "eval.json").append(LedgerRow("a.png", 0, 0, 1, None, {"psnr": 1.0}))


def _save_json(path: Path) -> None:
    from fewshot_ns.utils.files import write_json

    write_json(path, {"a": [1] * 100_000})


def _save_text(path: Path) -> None:
    from fewshot_ns.utils.files import write_text

    write_text(path, "short")


def _save_npz(path: Path) -> None:
    import numpy as np

    from fewshot_ns.utils.cache import write_npz

    write_npz(path, {"a": np.zeros(100_000)})


def _save_npy(path: Path) -> None:
    import numpy as np

    from fewshot_ns.utils.files import replacing

    # numpy tells only how many numbers it has written.
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.zeros(100_000))


def _save_weights(path: Path) -> None:
    import torch

    from fewshot_ns.utils.checkpoints import save_checkpoint

    save_checkpoint(path, {"step": 1, "pipeline": {"w": torch.zeros(100_000)}}, path.parent)


def _save_picture(path: Path) -> None:
    import numpy as np

    from fewshot_ns.presentation.pictures import save_png

    save_png(np.random.default_rng(0).random((64, 64, 3)), path)


def _unwritable_json(folder: Path) -> Action:
    from fewshot_ns.utils.files import write_json

    return lambda: write_json(folder / "results.json", {"psnr": float("inf")})


RUNS: List[Case] = [
    _checkpoints("with-strays", ("step-abc.ckpt", "step-000.ckpt.bak", "notes.txt", "step-8.ckpt", "x.ckpt"), True),
    _checkpoints("of-strays-alone", ("step-abc.ckpt", "notes.txt"), False, "expected checkpoints", "notes.txt"),
    _checkpoints("of-a-folder-alone", (), False, "expected checkpoints"),
    _full("json", _save_json, "results.json"),
    _full("text", _save_text, "report.md"),
    _full("npz", _save_npz, "cached.npz"),
    _full("npy", _save_npy, "depth.npy"),
    _full("weights", _save_weights, "step-000000001.ckpt"),
    _full("picture", _save_picture, "render.png"),
    Case("full-disk-ledger", "full disk", _full_ledger, ("eval.jsonl", "found the disk full")),
    Case("json-of-a-figure-that-is-none", "run", _unwritable_json, ("results.json", "finite")),
]

CASES = [*RECIPES, *TABLES, *BENCHES, *LEDGERS, *RUNS]

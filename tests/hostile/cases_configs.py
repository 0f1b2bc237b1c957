"""Files that pass for the config.yml of a run: such as run code, are cut, of another version, or without end."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Optional, Tuple

from corpus import Action, Case

SAVED = Path(__file__).parents[1] / "saved_configs" / "regnerf.yml"
RAN = "ran"
"""A file that a hostile config would leave beside the input, where it is read."""


def _read(file: Path) -> Action:
    def action() -> object:
        from fewshot_ns.scripts.runs import load_run_config

        return load_run_config(file)

    return action


def _listed(file: Path) -> Action:
    def action() -> object:
        from fewshot_ns.scripts.inspect_config import InspectConfigCommand

        return InspectConfigCommand(file).main()

    return action


def _case(
    name: str,
    content: Callable[[str], object],
    says: Optional[Tuple[str, ...]],
    act: Callable[[Path], Action] = _read,
) -> Case:
    """A case whose file is made of the text of a config of this package."""

    def prepare(folder: Path) -> Action:
        made = content(SAVED.read_text(encoding="utf8"))
        path = folder / "config.yml"
        path.write_bytes(made if isinstance(made, bytes) else str(made).encode())
        return act(path)

    return Case(f"config-{name}", "config", prepare, says if says is None else ("config.yml", *says))


def _with(value: str, field: str = "prompt") -> Callable[[str], str]:
    """Another value of a field of the outermost config."""

    def content(text: str) -> str:
        lines = [f"{field}: {value}" if line.startswith(f"{field}:") else line for line in text.splitlines()]
        made = "\n".join(lines) + "\n"
        assert made != text
        return made

    return content


def _without(field: str) -> Callable[[str], str]:
    return lambda text: "\n".join(line for line in text.splitlines() if not line.startswith(f"{field}:")) + "\n"


def _for(old: str, new: str) -> Callable[[str], str]:
    def content(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return content


def _bomb(text: str) -> str:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)]
    return text + "\n".join(levels) + "\n"


def _merged(text: str) -> str:
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}" for level in range(1, 7)]
    return text + "\n".join(levels) + "\n"


def _chain(text: str) -> str:
    links = ["- &c0 [x]", *(f"- &c{number} [*c{number - 1}]" for number in range(1, 200))]
    return text + "chain:\n" + "\n".join(links) + "\n"


_SYSTEM = f"!!python/object/apply:os.system ['touch {RAN}']"
_RUN_CODE: List[Tuple[str, str, str]] = [
    ("calls-os-system", _SYSTEM, "call of os.system is refused"),
    ("calls-posix-system", f"!!python/object/apply:posix.system ['touch {RAN}']", "posix.system is refused"),
    ("calls-eval", f"!!python/object/apply:eval [\"open('{RAN}', 'w')\"]", "call of eval is refused"),
    (
        "calls-exec",
        f"!!python/object/apply:builtins.exec [\"open('{RAN}', 'w')\"]",
        "builtins.exec is refused",
    ),
    (
        "new-popen",
        f"!!python/object/new:subprocess.Popen [[touch, {RAN}]]",
        "new object of subprocess.Popen",
    ),
    (
        "new-of-our-class",
        "!!python/object/new:nerfstudio.configs.base_config.MachineConfig {}",
        "objects are not made in this way",
    ),
    ("object-popen", f"!!python/object:subprocess.Popen {{args: [touch, {RAN}]}}", "subprocess.Popen is refused"),
    ("names-os-system", "!!python/name:os.system ''", "os.system is refused"),
    ("names-system-of-our-module", "!!python/name:fewshot_ns.utils.cache.os.system ''", "is refused"),
    ("imports-a-module", "!!python/module:this ''", "import of this is refused"),
    ("imports-our-module", "!!python/module:fewshot_ns.scripts.demo ''", "modules are not imported"),
    ("imports-by-name", "!!python/name:antigravity.open ''", "antigravity.open is refused"),
    ("names-a-command", "!!python/name:fewshot_ns.scripts.bench.BenchCommand ''", "BenchCommand is refused"),
    ("names-a-function-of-nerfstudio", "!!python/name:nerfstudio.utils.misc.torch_compile ''", "is refused"),
    ("makes-a-trainer", "!!python/object:nerfstudio.engine.trainer.Trainer {}", "it is no config"),
    (
        "calls-a-class-of-nerfstudio",
        "!!python/object/apply:nerfstudio.utils.writer.LocalWriter [x]",
        "it would be called",
    ),
    ("calls-partial", "!!python/object/apply:functools.partial [!!python/name:os.system '', x]", "functools.partial"),
    (
        "code-among-parts-of-a-path",
        f"!!python/object/apply:pathlib.PosixPath [!!python/object/apply:os.system ['touch {RAN}']]",
        "os.system is refused",
    ),
    ("code-as-a-key", f"{{? {_SYSTEM} : 1}}", "os.system is refused"),
    ("code-in-a-tuple", f"!!python/tuple [1, {_SYSTEM}]", "os.system is refused"),
    ("percent-encoded", "!!python/object/apply:%6fs.system [x]", "call of os.system is refused"),
    ("verbatim-tag", "!<tag:yaml.org,2002:python/object/apply:os.system> [x]", "call of os.system is refused"),
    ("state-of-dunder-names", "!!python/object:nerfstudio.configs.base_config.MachineConfig {__class__: 1}", "fields"),
    ("unheard-python-tag", "!!python/spell:os.system ''", "nothing is known of this tag"),
    ("local-tag", "!include other.yml", "nothing is known of this tag"),
]

CASES = [
    *(_case(name, _with(value), ("line ", why)) for name, value, why in _RUN_CODE),
    _case("whole", lambda text: text, None),
    _case("code-as-the-pipeline", _with(f"{_SYSTEM}\nrest:", "pipeline"), ("os.system is refused",)),
    _case("code-behind-the-end", lambda text: text + f"---\n{_SYSTEM}\n", ("is no YAML",)),
    _case("tag-directive", lambda text: "%TAG !x! tag:yaml.org,2002:python/\n---\n!x!module:os ''\n", ("is refused",)),
    _case("code-is-listed", _with(_SYSTEM), ("line ", "call of os.system", "like a program"), _listed),
    _case("bomb-is-not-listed", _bomb, ("aliases that mean more",), _listed),
    _case("empty", lambda text: "", ("empty file",)),
    _case("comment-alone", lambda text: "# nothing\n", ("empty file",)),
    _case("null", lambda text: "null\n", ("found NoneType",)),
    _case("a-word", lambda text: "config\n", ("found str",)),
    _case("a-list", lambda text: "- 1\n", ("found list",)),
    _case("plain-mapping", lambda text: "a: 1\n", ("found dict",)),
    _case("json-scene", lambda text: '{"frames": [], "fl_x": 1}', ("found dict",)),
    _case(
        "another-class",
        lambda text: "!!python/object:nerfstudio.configs.base_config.MachineConfig {}",
        ("without method_name, optimizers, pipeline, vis", "is the file cut?"),
    ),
    _case("cut-between-lines", lambda text: "\n".join(text.splitlines()[:-1]) + "\n", ("without vis", "cut?")),
    _case("cut-at-half", lambda text: "\n".join(text.splitlines()[:150]) + "\n", ("cut?",)),
    _case("cut-in-a-tag", lambda text: text[: text.index("fewshot_pipeline.FewShot") + 9], ("cut?",)),
    _case("cut-in-a-list", _for("!!python/tuple\n", "!!python/tuple [\n"), ("is no YAML", "line ")),
    _case("without-pipeline", _without("pipeline"), ("is no YAML",)),
    _case("renamed-class", _for("LLFFDataParserConfig", "LLFFParserOptions"), ("LLFFParserOptions", "was renamed")),
    _case("missing-module", _for("fewshot_ns.models.mipnerf.", "fewshot_ns.models.mipnerf9."), ("mipnerf9", "renamed")),
    _case("unknown-plugin", _for("fewshot_ns.models.mipnerf.", "other_plugin.models."), ("other_plugin", "installed")),
    _case("number-is-a-word", _with("many", "max_num_iterations"), ("max_num_iterations", "found str")),
    _case("pipeline-is-null", _with("null\nrest:", "pipeline"), ("pipeline to be", "NoneType")),
    _case("optimizers-are-a-list", _with("[1]\nrest:", "optimizers"), ("optimizers to be ", "found list")),
    _case("steps-are-a-list", _with("[1, 2]", "steps_per_save"), ("steps_per_save", "found list")),
    _case("enum-of-no-member", _for("- Train Iter (time)", "- Lunch"), ("EventName", "its members")),
    _case("alias-bomb", _bomb, ("aliases that mean more",)),
    _case("merge-bomb", _merged, ("aliases that mean more",)),
    _case("one-merge", lambda text: "a: &a {x: 1}\nb: {<<: *a}\n", ("merged mapping",)),
    _case("alias-chain", _chain, ("levels of values in values",)),
    _case("holds-itself", lambda text: text + "me: &me [*me]\n", ("holds itself",)),
    _case("undefined-alias", lambda text: text + "me: *you\n", ("is no YAML", "undefined alias")),
    _case("deep", lambda text: "[" * 5000 + "]" * 5000, ("levels of values in values",)),
    _case("deep-and-cut", lambda text: "{a: " * 5000, ("levels of values in values",)),
    _case("endless-number", _with("1" * 5000, "steps_per_save"), ("5000 characters",)),
    _case("sexagesimal-number", _with("1" + ":59" * 4000, "steps_per_save"), ("characters",)),
    _case("impossible-date", _with("2024-13-45"), ("timestamp",)),
    _case("huge-tag", _with(f"!!python/name:{'x' * 5000} ''"), ("is refused",)),
    _case("odd-key", lambda text: "{[1]: 2}\n", ("unhashable",)),
    _case("binary", lambda text: bytes(range(256)), ("UTF-8",)),
    _case("zeros", lambda text: bytes(4096), ("is no YAML",)),
    _case("utf-16", lambda text: text.encode("utf-16"), ("UTF-8",)),
    _case("picture", lambda text: b"\x89PNG\r\n\x1a\n" + bytes(64), ("UTF-8",)),
    _case("5-megabytes", lambda text: text + "#" * (5 << 20), ("at most 4 MB",)),
    _case("tabs", lambda text: text.replace("  ", "\t"), ("is no YAML",)),
    _case("conflict-markers", lambda text: f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n", ("is no YAML",)),
]

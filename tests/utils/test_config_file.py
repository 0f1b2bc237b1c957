"""Saved configs are restored as nerfstudio's loader restores them, and nothing that a file names is run."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Tuple, Type, Union

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import yaml
from nerfstudio.configs.method_configs import all_methods

from fewshot_ns.registry import METHODS
from fewshot_ns.scripts.runs import load_run_config
from fewshot_ns.utils import config_names
from fewshot_ns.utils.config_file import MAX_DEPTH, ConfigFileError, read_config
from fewshot_ns.utils.config_names import parse_tag, plugins, refusal
from fewshot_ns.utils.config_values import fits, misfit
from fewshot_ns.utils.moved_modules import MOVED, PACKAGE

SAVED = sorted((Path(__file__).parents[1] / "saved_configs").glob("*.yml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text, encoding="utf8")
    return path


def read(folder: Path, text: str) -> Any:
    return read_config(write(folder, text))


@pytest.mark.parametrize("name", sorted(all_methods))
def test_every_registered_method_comes_back(name: str, tmp_path: Path) -> None:
    """Those of nerfstudio too: generic datamanagers, optimizers of torch, enumerations, paths."""
    config = all_methods[name]
    text = yaml.dump(config)
    restored = read(tmp_path, text)
    assert restored == config and type(restored) is type(config)
    assert yaml.dump(restored) == yaml.dump(yaml.load(text, Loader=yaml.Loader))


def test_all_our_methods_are_among_them() -> None:
    assert {name.replace("_", "-") for name in METHODS} <= set(all_methods)


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_configs_of_earlier_versions_come_back(path: Path) -> None:
    restored = load_run_config(path)
    known = yaml.load(path.read_text(), Loader=yaml.Loader)
    assert restored == known and yaml.dump(restored) == yaml.dump(known)


@pytest.mark.parametrize("old", MOVED)
def test_old_names_of_classes(old: str, tmp_path: Path) -> None:
    for name in MOVED[old].names:
        tag = f"!!python/name:{PACKAGE}.{old}.{name} ''"
        assert read(tmp_path, tag) is yaml.load(tag, Loader=yaml.Loader)


def test_plain_values(tmp_path: Path) -> None:
    """As `yaml.dump` writes them, and as other versions of Python have written paths."""
    values = {
        "tuple": (1, (2.5, "x"), ()),
        "path": Path("a/b"),
        "here": Path(),
        "ordered": OrderedDict([("b", 1), ("a", (2,))]),
        "none": None,
        "infinite": float("inf"),
        "text": "!!python/name:os.system",
        "bytes": b"\0\1",
        "set": {1, 2},
    }
    assert read(tmp_path, yaml.dump(values)) == values
    assert read(tmp_path, "!!python/object/apply:pathlib._local.PosixPath [a, b]") == Path("a/b")
    assert read(tmp_path, "!!python/object/apply:pathlib.WindowsPath ['a\\b', c]") == Path("a/b/c")
    assert read(tmp_path, "[!!python/int '3', !!python/none '', !!python/bool 'true', !!python/str x]") == [
        *(3, None, True, "x")
    ]


def test_a_value_in_two_places_is_one(tmp_path: Path) -> None:
    first, second = read(tmp_path, "[&a !!python/tuple [1], *a]")
    assert first is second == (1,)


def test_nothing_is_imported_for_a_name_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noisy.py").write_text("open('ran', 'w').close()\nclass Config: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ("object:noisy.Config {}", "name:noisy.Config ''", "module:noisy ''", "object/apply:noisy.Config []"):
        with pytest.raises(ConfigFileError, match="line 1: .*noisy.* is refused"):
            read(tmp_path, f"!!python/{kind}")
    assert "noisy" not in sys.modules and not (tmp_path / "ran").exists()


def test_a_plugin_of_nerfstudio_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nerfstudio imports it in each command. Its functions and programs are not called, nor what it imports."""
    package = tmp_path / "my_plugin"
    (package / "scripts").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "scripts" / "__init__.py").write_text("class Command: ...\n")
    (package / "config.py").write_text(
        "from dataclasses import dataclass\nfrom os import system\nclass Plain: ...\n"
        "@dataclass\nclass Config:\n    size: int = 3\n"
        "@dataclass\nclass Odd:\n    def __setstate__(self, state): raise SystemExit\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigFileError, match="it is of none of nerfstudio, fewshot_ns"):
        read(tmp_path, "!!python/object:my_plugin.config.Config {size: 5}")
    monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", "mine=my_plugin.config:Config")
    assert "my_plugin" in plugins()
    assert read(tmp_path, "!!python/object:my_plugin.config.Config {size: 5}").size == 5
    for named, reason in {
        "name:my_plugin.config.system ''": "no such class",
        "object:my_plugin.config.Plain {}": "no config",
        "object:my_plugin.config.Odd {}": "has a __setstate__ of its own",
        "object:my_plugin.scripts.Command {}": "it is of none of",
        "object/apply:my_plugin.config.Config []": "it would be called",
    }.items():
        with pytest.raises(ConfigFileError, match=reason):
            read(tmp_path, f"!!python/{named}")


def test_names_of_our_packages_that_are_no_configs(tmp_path: Path) -> None:
    for named, reason in {
        "name:nerfstudio.utils.scripts.run_command ''": "it is of none of",
        "name:nerfstudio.utils.misc.get_dict_to_torch ''": "it is a function",
        "name:fewshot_ns.utils.cache.os ''": "no such class",
        "name:nerfstudio.engine.trainer.os ''": "no such class",
        "name:nerfstudio.engine.trainer.GradScaler ''": "no such class",
        "object:nerfstudio.engine.trainer.Trainer {}": "no config",
        "name:fewshot_ns.scripts.demo.DemoCommand ''": "it is of none of",
        "name:torch.optim.swa_utils.AveragedModel ''": "neither an optimizer nor a scheduler",
        "object/apply:nerfstudio.utils.writer.EventName [no]": "the value of one of its members",
        "object/apply:nerfstudio.engine.trainer.TrainerConfig []": "it would be called",
        "object/apply:_operator.getitem [!!python/name:nerfstudio.engine.trainer.Trainer '', 1]": "a generic class",
        "object/apply:_operator.getitem [[1], 0]": "a generic class",
        "object:nerfstudio.engine.trainer.TrainerConfig [1]": "its fields, found a list",
        "object:nerfstudio.configs.base_config.MachineConfig {__class__: 1}": "names of fields",
        "object/apply:pathlib.PosixPath {args: [a]}": "a list of what it is called with",
        "object/apply:pathlib.PosixPath [1]": "the parts of a path",
        "object/apply:collections.OrderedDict [[[1]]]": "pairs",
    }.items():
        with pytest.raises(ConfigFileError, match=f"config.yml: line 1: .*{reason}"):
            read(tmp_path, f"!!python/{named}")


def test_a_class_to_make_is_of_the_kind_of_the_default(tmp_path: Path) -> None:
    name = "nerfstudio.models.vanilla_nerf"
    text = f"!!python/object:{name}.VanillaModelConfig {{_target: !!python/name:%s ''}}"
    assert read(tmp_path, text % "nerfstudio.models.mipnerf.MipNerfModel")._target.__name__ == "MipNerfModel"
    for other in ("nerfstudio.utils.writer.LocalWriter", "torch.optim.adam.Adam"):
        with pytest.raises(ConfigFileError, match="_target to be a class of the kind of its default"):
            read(tmp_path, text % other)


def test_deep_files_are_refused_and_others_are_not(tmp_path: Path) -> None:
    levels = MAX_DEPTH
    assert read(tmp_path, "[" * levels + "]" * levels) is not None
    for text in ("[" * (levels + 1) + "]" * (levels + 1), "[" * 100_000, "- " * 5000 + "x"):
        with pytest.raises(ConfigFileError, match=f"at most {levels} levels"):
            read(tmp_path, text)


def test_shown_names_move_no_cursor() -> None:
    named = parse_tag("tag:yaml.org,2002:python/name:\x1b[2J" + 1000 * "x")
    assert named is not None and "\x1b" not in str(named) and len(str(named)) == config_names.MAX_SHOWN
    assert refusal(named)


@dataclass
class Inner:
    size: int = 1


@dataclass
class Values:
    whole: int = 1
    number: float = 0.5
    path: Optional[Path] = None
    one: Literal["a", "b"] = "a"
    pair: Tuple[int, int] = (1, 2)
    several: Union[int, List[str]] = 3
    inner: Inner = field(default_factory=Inner)
    groups: Dict[str, Any] = field(default_factory=dict)
    kind: Type = Inner
    odd: str = None  # type: ignore[assignment]
    """nerfstudio has such defaults."""


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("whole", (3, 0), ("3", None, 2.5, True)),
        ("number", (2, 2.5, float("inf")), ("2", None, [])),
        ("path", (Path("x"), "x", None), (3, {})),
        ("one", ("a", "retired"), (3, None)),
        ("pair", ((1, 2), [1, 2], (1, 2, 3)), (1, ("a", "b"), {})),
        ("several", (4, ["x"]), (None, 2.5, [1])),
        ("inner", (Inner(2),), (None, 3, {}, Inner)),
        ("groups", ({}, {"a": 1}), (None, [])),
        ("kind", (Inner, Values), (3, "x")),
        ("odd", (None, "x"), (3,)),
    ],
)
def test_values_of_another_kind(name: str, right: Tuple[Any, ...], wrong: Tuple[Any, ...]) -> None:
    for value in right:
        assert misfit(Values(**{name: value})) == ""
    for value in wrong:
        assert misfit(Values(**{name: value})).startswith(f"expected {name} to be ")
    assert fits(object(), "what cannot be evaluated")

"""Whatever stands in a config.yml: it is read, or refused by one error of this package; nothing that it names runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_ns.utils.config_file import ConfigFileError, read_config

SAVED = Path(__file__).parents[1] / "saved_configs" / "regnerf.yml"
TEXT = SAVED.read_text(encoding="utf8")
NAMES = (
    *("os.system", "builtins.eval", "subprocess.Popen", "antigravity.x", "this.s", "pathlib.PosixPath", "os", ""),
    *("collections.OrderedDict", "nerfstudio.utils.writer.EventName", "nerfstudio.engine.trainer.TrainerConfig"),
    *("fewshot_ns.utils.files.write_text", "nerfstudio.configs.base_config.MachineConfig", "_operator.getitem"),
    *("torch.optim.adam.Adam", "torch.load", "nerfstudio.utils.scripts.run_command", "..", "a b", "x" * 300),
)
KINDS = ("name", "object", "object/apply", "object/new", "module", "tuple", "list", "int", "none", "dict", "what")
TAGS = st.one_of(
    st.none(),
    st.builds(
        lambda kind, name: f"tag:yaml.org,2002:python/{kind}:{name}", st.sampled_from(KINDS), st.sampled_from(NAMES)
    ),
    st.sampled_from([f"tag:yaml.org,2002:python/{kind}" for kind in KINDS]),
    st.sampled_from(["tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:omap", "!x"]),
)
SCALARS = st.builds(
    lambda tag, value: yaml.ScalarNode(tag or "tag:yaml.org,2002:str", value),
    TAGS,
    st.one_of(st.text("abc0:-.\n", max_size=8), st.sampled_from(["touch ran", "1" * 200, "1:2:3", "2024-99-99", "x"])),
)


def _collections(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.builds(
            lambda tag, value: yaml.SequenceNode(tag or "tag:yaml.org,2002:seq", value),
            TAGS,
            st.lists(inner, max_size=3),
        ),
        st.builds(
            lambda tag, value: yaml.MappingNode(tag or "tag:yaml.org,2002:map", value),
            TAGS,
            st.lists(st.tuples(inner, inner), max_size=3),
        ),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    return tmp_path_factory.mktemp("configs") / "config.yml"


def read_or_refuse(file: Path, content: bytes) -> Any:
    """What is read, None where it is refused."""
    file.write_bytes(content)
    try:
        return read_config(file, ("pipeline", "vis"))
    except ConfigFileError as error:
        assert str(error).startswith(str(file)) and len(str(error)) < 1000
        return None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(node=st.recursive(SCALARS, _collections, max_leaves=8))
def test_any_tags_anywhere(file: Path, node: yaml.Node) -> None:
    running = {name for name in ("antigravity", "this") if name in sys.modules}
    read_or_refuse(file, yaml.serialize(node).encode())
    assert not {name for name in ("antigravity", "this") if name in sys.modules} - running
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(end=st.integers(0, TEXT.rindex("vis:") + 3))
def test_a_file_cut_anywhere_is_refused(file: Path, end: int) -> None:
    assert read_or_refuse(file, TEXT[:end].encode()) is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(place=st.integers(0, len(TEXT) - 1), byte=st.integers(0, 255))
def test_a_wrong_byte_anywhere(file: Path, place: int, byte: int) -> None:
    content = bytearray(TEXT.encode())
    content[place] = byte
    read_or_refuse(file, bytes(content))
    assert [path.name for path in file.parent.iterdir()] == [file.name]

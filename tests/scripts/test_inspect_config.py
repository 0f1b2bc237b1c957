"""`ns-fewshot inspect-config` lists what a file names, and does nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fewshot_ns.scripts.cli import main
from fewshot_ns.scripts.inspect_config import named_in
from fewshot_ns.utils.config_file import compose
from fewshot_ns.utils.config_names import Named, refusal

SAVED = sorted((Path(__file__).parents[1] / "saved_configs").glob("*.yml"))
HOSTILE = """a: !!python/name:nerfstudio.utils.writer.LocalWriter ''
b: !!python/object/apply:os.system [touch ran]
c: [&x !!python/object/apply:os.system [touch ran], *x]
d: !!python/object/new:subprocess.Popen {args: [[touch, ran]]}
e: !!python/module:antigravity ''
f: !unheard 1
g: !!python/tuple [1]
"""


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_configs_are_accepted_by_name(path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect-config", str(path)]) == 0
    said = capsys.readouterr().out
    assert "call of nerfstudio.utils.writer.EventName" in said and "refused" not in said
    found = named_in(compose(path))
    text = path.read_text()
    assert sum(count for count, _ in found.values()) == text.count("!!python/") - text.count("!!python/tuple")
    for named, (_, line) in found.items():
        assert named.name in text.splitlines()[line - 1]


def test_what_is_refused_is_named_with_count_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yml"
    path.write_text(HOSTILE)
    before = set(sys.modules)
    assert {str(named): place for named, place in named_in(compose(path)).items()} == {
        "nerfstudio.utils.writer.LocalWriter": (1, 1),
        "call of os.system": (2, 2),
        "new object of subprocess.Popen": (1, 4),
        "import of antigravity": (1, 5),
        "!unheard": (1, 6),
    }
    assert main(["inspect-config", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "4 of 5 names are refused, the first in line 2: call of os.system" in said.err
    assert said.out.count("refused: ") == 4 and said.out.count("accepted") == 1
    assert not (tmp_path / "ran").exists() and "antigravity" not in sys.modules
    assert not {name for name in set(sys.modules) - before if name.startswith("nerfstudio")}


def test_plain_values_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yml").write_text("a: [1, 2]\n")
    assert main(["inspect-config", str(tmp_path)]) == 0
    assert "nothing but plain values" in capsys.readouterr().out


def test_it_imports_neither_nerfstudio_nor_what_the_file_names() -> None:
    code = f"""
import sys
from fewshot_ns.scripts.cli import main
status = main(["inspect-config", {str(SAVED[0])!r}])
print(status, sorted({{"torch", "nerfstudio", "fewshot_ns.models"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_list_and_the_loader_agree(tmp_path: Path) -> None:
    """What is accepted by name here is made by the loader, what is refused is refused there."""
    from fewshot_ns.utils.config_file import ConfigFileError, read_config

    for path in SAVED:
        assert not [named for named in named_in(compose(path)) if refusal(named)]
    path = tmp_path / "config.yml"
    for node in yaml.compose(HOSTILE).value:
        path.write_text(yaml.serialize(node[1]))
        named = named_in(compose(path))
        if any(refusal(one) for one in named):
            with pytest.raises(ConfigFileError):
                read_config(path)
        else:
            read_config(path)
    assert refusal(Named("class", "os.system")) and not refusal(Named("class", "torch.optim.adam.Adam"))

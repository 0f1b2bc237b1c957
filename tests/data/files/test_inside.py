"""What lies in the folder of a scene."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig
from fewshot_ns.data.dataparsers.multi.multi_object import MultiObjectDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.files.inside import lies_inside

CONFIGS = (
    FewShotNerfstudioDataParserConfig,
    RGBDDataParserConfig,
    FewShotBlenderDataParserConfig,
    MultiObjectDataParserConfig,
)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a.png", True),
        ("images/../a.png", True),
        ("../scene/a.png", True),
        ("../a.png", False),
        ("images/../../a.png", False),
        ("../scene2/a.png", False),
        ("link/a.png", True),
        ("link/../a.png", False),
        ("{}/scene/a.png", True),
        ("{}/real/a.png", False),
        ("/etc/passwd", False),
    ],
)
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, inside: bool) -> None:
    for folder in ("scene/images", "scene2", "real/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "scene" / "link").symlink_to(tmp_path / "real" / "deep")
    assert lies_inside(tmp_path / "scene", name.format(tmp_path)) == inside
    monkeypatch.chdir(tmp_path / "scene2")
    for folder in (Path("../scene"), Path("../scene2/../scene")):
        assert lies_inside(folder, name.format(tmp_path)) == inside


@pytest.mark.parametrize("kind", CONFIGS)
def test_runs_of_earlier_versions_read_what_they_did(kind: Any) -> None:
    config = kind()
    assert config.allow_outside is False
    assert copy.deepcopy(config).allow_outside is False and pickle.loads(pickle.dumps(config)).allow_outside is False
    saved = dict(vars(config))
    saved.pop("allow_outside")
    again = kind.__new__(kind)
    again.__setstate__(saved)
    assert again.allow_outside is True


def test_the_flag_of_the_automatic_dataparser(tiny_nerfstudio_scene: Path, tiny_llff_scene: Path) -> None:
    settled: Any = FewShotAutoDataParserConfig(data=tiny_nerfstudio_scene, allow_outside=True).settled()
    assert isinstance(settled, FewShotNerfstudioDataParserConfig) and settled.allow_outside
    with pytest.raises(ValueError, match="llff-data has no --allow-outside"):
        FewShotAutoDataParserConfig(data=tiny_llff_scene, allow_outside=True).settled()

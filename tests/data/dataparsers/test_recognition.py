"""Which dataparser a folder asks for."""

from __future__ import annotations

from pathlib import Path

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest

from fewshot_ns.data.dataparsers.recognition import MULTI, SINGLE, config_class, parser_for, recognise
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.registry import DATAPARSERS


def test_layouts_name_registered_dataparsers() -> None:
    for layout in (*SINGLE, *MULTI):
        assert DATAPARSERS[layout.name.replace("-", "_")].config.endswith(layout.config)
        config_class(layout)()


def test_a_parser_that_fits_stays_as_it_is(tiny_llff_scene: Path) -> None:
    own = LLFFDataParserConfig(ray_space="metric")
    config, found = parser_for(tiny_llff_scene, own, False)
    assert config is own and found is not None and found.sign == "poses_bounds.npy"


def test_another_layout_gets_its_parser_and_the_common_flags(tiny_nerfstudio_scene: Path) -> None:
    config, found = parser_for(tiny_nerfstudio_scene, LLFFDataParserConfig(num_views=4, near=0.5), False)
    assert type(config) is FewShotNerfstudioDataParserConfig and found is not None
    assert (config.num_views, config.near) == (4, 0.5)
    # DietNeRF's own number of views is that of its layout.
    config, _ = parser_for(tiny_nerfstudio_scene, FewShotBlenderDataParserConfig(), False)
    assert type(config) is FewShotNerfstudioDataParserConfig and config.num_views is None


def test_files_and_sets(tiny_nerfstudio_scene: Path, tiny_mvsnet: Path) -> None:
    config, _ = parser_for(tiny_nerfstudio_scene / "transforms.json", LLFFDataParserConfig(), False)
    assert type(config) is FewShotNerfstudioDataParserConfig
    assert recognise(tiny_mvsnet, many_scenes=True).layout.name == "mvsnet-dtu-data"
    with pytest.raises(ValueError, match="expected a scene with one of"):
        recognise(tiny_mvsnet)


def test_photos_alone_name_the_command(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(ValueError, match="found 3 photos without poses.*ns-fewshot prepare --images DIR"):
        parser_for(tmp_path, LLFFDataParserConfig(), False)
    missing = parser_for(tmp_path / "none", LLFFDataParserConfig(), False)
    assert missing[1] is None

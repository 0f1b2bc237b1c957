"""What the recognising dataparser becomes: the format's own config, the method's settings, the flags given to it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from colmap_models import write_spheres

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.automatic import CONFIGS, FewShotAutoDataParserConfig, recognition_record
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig


def settled(data: Path, **fields: Any) -> Any:
    return FewShotAutoDataParserConfig(data=data, **fields).settled()


def test_every_dataparser_of_the_registry_can_be_recognised() -> None:
    registered = {
        name.replace("_", "-"): type(registry.dataparser_specification(name).config) for name in registry.DATAPARSERS
    }
    del registered["fewshot-data"]
    assert registered == dict(CONFIGS)


def test_flags_are_those_of_all_formats() -> None:
    flags = {one.name for one in dataclasses.fields(FewShotAutoDataParserConfig)} - {"own", "many_scenes"}
    shared = [
        {one.name for one in dataclasses.fields(base)} for base in (FewShotDataParserConfig, MultiSceneDataParserConfig)
    ]
    assert flags - {"_target", "data", "on_missing", "allow_outside"} <= set.union(*shared)
    # All of them but what is set by trainer and pipeline, and a convention of single files.
    assert set.union(*shared) - flags == {"bounds_from_photos", "recognised_by", "straighten", "integer_pixels"}


def test_without_settings_it_is_the_formats_own_config(tiny_llff_scene: Path, tiny_dtu_scene: Path) -> None:
    for scene, kind, sign in (
        (tiny_llff_scene, LLFFDataParserConfig, "llff-data by poses_bounds.npy"),
        (tiny_dtu_scene, DTUDataParserConfig, "dtu-data by rect_001_3_r5000.png"),
    ):
        found = settled(scene)
        assert type(found) is kind and found == kind(data=scene, recognised_by=sign)
        assert recognition_record(found) == {"scene": sign}
    assert recognition_record(LLFFDataParserConfig()) == {}


def test_the_methods_settings_hold_for_their_format_alone(tiny_llff_scene: Path, tiny_blender_scene: Path) -> None:
    own = (FewShotBlenderDataParserConfig(downscale_factor=2, view_protocol="first"),)
    blender = settled(tiny_blender_scene, own=own)
    assert (blender.downscale_factor, blender.view_protocol, blender.num_views) == (2, "first", None)
    assert settled(tiny_llff_scene, own=own).downscale_factor == 1
    assert settled(tiny_blender_scene, own=own, downscale_factor=1).downscale_factor == 1
    # The method's preset stays as it was.
    assert own[0].data == Path() and own[0].recognised_by is None


def test_flags_are_handed_over(tiny_llff_scene: Path) -> None:
    flags: Any = dict(
        downscale_factor=2,
        num_views=4,
        train_indices=(1, 2),
        test_indices=(5,),
        depth_dir=Path("d"),
        depth_polarity="distance",
        depth_meaning="ray_distance",
        depth_unit=0.5,
        max_depth=7.0,
        resize="bilinear",
        near=0.1,
        far=0.9,
        background="white",
    )
    found = settled(tiny_llff_scene, **flags)
    assert {name: getattr(found, name) for name in flags} == flags
    with pytest.raises(
        ValueError, match=r"llff-data has no --scene, --image-size \(it was taken by poses_bounds.npy\)"
    ):
        settled(tiny_llff_scene, scene="a", image_size=(4, 4))


def test_it_parses_like_the_parser_that_it_names(tiny_llff_scene: Path, capsys: pytest.CaptureFixture) -> None:
    ours = FewShotAutoDataParserConfig(data=tiny_llff_scene, num_views=4).setup().get_dataparser_outputs("train")
    assert f"{tiny_llff_scene}: recognised as llff-data by poses_bounds.npy" in capsys.readouterr().out.replace(
        "\n", ""
    )
    named = LLFFDataParserConfig(data=tiny_llff_scene, num_views=4).setup().get_dataparser_outputs("train")
    assert ours.image_filenames == named.image_filenames
    assert torch.equal(ours.cameras.camera_to_worlds, named.cameras.camera_to_worlds)


def test_colmap(tmp_path: Path) -> None:
    write_spheres(tmp_path)
    found = settled(tmp_path)
    assert type(found) is FewShotColmapDataParserConfig and found.recognised_by == "fewshot-colmap-data by sparse/0/"
    assert len(found.setup().get_dataparser_outputs("train").image_filenames) == 3


def test_many_scenes(tiny_solids: Path, tiny_mvsnet: Path) -> None:
    found = settled(tiny_solids, many_scenes=True, background="black", near=0.5, far=2.0, scene="x", image_size=(8, 8))
    assert type(found) is SRNDataParserConfig
    assert (found.background, found.near, found.far, found.scene, found.image_size) == ("black", 0.5, 2.0, "x", (8, 8))
    assert type(settled(tiny_mvsnet, many_scenes=True)) is MVSNetDTUDataParserConfig
    # There --num-views is something else: the views of a scan.
    with pytest.raises(ValueError, match="mvsnet-dtu-data has no --num-views"):
        settled(tiny_mvsnet, many_scenes=True, num_views=3)


def test_a_folder_of_scenes(make_llff_scene: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_llff_scene(tmp_path / name)
    own = (LLFFDataParserConfig(ray_space="metric"),)
    found = settled(tmp_path, many_scenes=True, own=own, background="white", downscale_factor=2, num_views=5)
    assert type(found) is SceneFolderDataParserConfig and found.downscale_factor == 2
    assert found.recognised_by == "scene-folder-data of llff-data by a/poses_bounds.npy"
    inner = LLFFDataParserConfig(ray_space="metric", background="white", num_views=5)
    assert found.parser == inner
    parser = found.setup()
    scene = parser.open_scene(parser.scene_table("train")[1])
    assert scene.entry.scene_id == "b" and scene.background == "white"
    assert int(scene.cameras.width[0]) == 16

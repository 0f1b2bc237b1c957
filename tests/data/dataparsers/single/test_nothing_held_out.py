"""Three photos, of which none is held out: every format of a single scene, and what its splits are then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import HELD_OUT, FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata

Makers = Dict[str, Callable[..., Path]]


def record_of(config: FewShotDataParserConfig, split: str = "train") -> FewShotMetadata:
    return get_fewshot_metadata(config.setup().get_dataparser_outputs(split).metadata)


def keep_frames(path: Path, count: int) -> None:
    """Cuts a transforms file to its first frames."""
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "frames": meta["frames"][:count]}))


@pytest.fixture
def makers(make_llff_scene: Any, make_dtu_scene: Any, make_blender_scene: Any, make_nerfstudio_scene: Any) -> Makers:
    return {
        "llff": make_llff_scene,
        "dtu": make_dtu_scene,
        "blender": make_blender_scene,
        "nerfstudio": make_nerfstudio_scene,
    }


def three_photos(kind: str, folder: Path, makers: Makers) -> FewShotDataParserConfig:
    """A scene of three photos in a format, with the format's dataparser."""
    if kind == "llff":
        return LLFFDataParserConfig(data=makers["llff"](folder, 3))
    if kind == "nvs-rgbd":
        scene = makers["llff"](folder, 3)
        for path in [*scene.glob("images*/*"), *scene.glob("depth_maps/*")]:
            path.rename(path.with_name(f"{path.stem}_train{path.suffix}"))
        return LLFFDataParserConfig(data=scene, view_protocol="nvs-zed")
    if kind == "dtu":
        return DTUDataParserConfig(data=makers["dtu"](folder, 3))
    if kind.startswith("blender"):
        scene = makers["blender"](folder)
        keep_frames(scene / "transforms_train.json", 3)
        for split in ("test", "val"):
            path = scene / f"transforms_{split}.json"
            if kind == "blender-empty":
                keep_frames(path, 0)
            else:
                path.unlink()
        return FewShotBlenderDataParserConfig(data=scene)
    scene = makers["nerfstudio"](folder)
    keep_frames(scene / "transforms.json", 3)
    if kind == "rgbd-splits":
        (scene / "transforms.json").rename(scene / "transforms_train.json")
        meta = json.loads((scene / "transforms_train.json").read_text())
        for frame in meta["frames"]:
            frame["fx"] = meta["fl_x"]
        (scene / "transforms_train.json").write_text(json.dumps({**meta, "near": 0.3, "far": 9.0}))
        return RGBDDataParserConfig(data=scene, depth_dir=scene / "depths")
    return (RGBDDataParserConfig if kind == "rgbd" else FewShotNerfstudioDataParserConfig)(data=scene)


FORMATS = ("llff", "nvs-rgbd", "dtu", "blender-absent", "blender-empty", "rgbd", "rgbd-splits", "nerfstudio")


@pytest.mark.parametrize("kind", FORMATS)
def test_all_of_three_photos_train(kind: str, tmp_path: Path, makers: Makers, capsys: pytest.CaptureFixture):
    config = three_photos(kind, tmp_path / "scene", makers)
    for flags in ({}, {"num_views": 3}, {"train_indices": (0, 1, 2)}, {"train_indices": (0, 1, 2), "test_indices": ()}):
        config.num_views = config.train_indices = config.test_indices = None
        for name, value in flags.items():
            setattr(config, name, value)
        record = record_of(config)
        assert record.train_indices == (0, 1, 2) and record.test_indices == ()
    assert "nothing is held out" in capsys.readouterr().out
    # Cameras for the viewer and for renders, and photos of them.
    for split in ("val", "test"):
        dataset = FewShotDataset(config.setup().get_dataparser_outputs(split))
        assert dataset.fewshot.image_indices == (0, 1, 2) and len(dataset.get_data(2)["image"]) > 0


@pytest.mark.parametrize("kind", ("llff", "nvs-rgbd", "dtu", "rgbd", "nerfstudio"))
def test_two_train_and_one_tests(kind: str, tmp_path: Path, makers: Makers):
    config = three_photos(kind, tmp_path / "scene", makers)
    config.test_indices = (1,)
    record = record_of(config)
    assert (record.train_indices, record.test_indices) == ((0, 2), (1,))
    assert record_of(config, "test").image_indices == (1,)


def test_masks_of_a_scan_without_test_views(tmp_path: Path, makers: Makers):
    scene = three_photos("dtu", tmp_path / "scene", makers).data
    with pytest.raises(FileNotFoundError, match=r"expected object masks \(000.png, ...\), found none"):
        record_of(DTUDataParserConfig(data=scene, mask_dir=tmp_path), "test")


def test_test_frames_of_their_own_file_do_not_train_by_default(tmp_path: Path, makers: Makers):
    scene = makers["blender"](tmp_path / "scene")
    keep_frames(scene / "transforms_train.json", 3)
    keep_frames(scene / "transforms_test.json", 1)
    config = FewShotBlenderDataParserConfig(data=scene)
    assert record_of(config).train_indices == (0, 1, 2) and record_of(config).test_indices == (3,)
    config.num_views = 4
    assert record_of(config).train_indices == (0, 1, 2, 3) and record_of(config).test_indices == ()
    config.num_views = 5
    with pytest.raises(ValueError, match=r"--num-views must lie in 2\.\.3 .*4 all views.* got 5"):
        record_of(config)


def hold_out(scene: Path, names: Any) -> FewShotNerfstudioDataParserConfig:
    path = scene / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), HELD_OUT: names}))
    return FewShotNerfstudioDataParserConfig(data=scene)


def test_a_capture_that_says_what_is_held_out(tiny_nerfstudio_scene: Path):
    frames = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())["frames"]
    record = record_of(hold_out(tiny_nerfstudio_scene, []))
    assert (record.protocol, record.train_indices, record.test_indices) == ("photos-12", tuple(range(12)), ())
    config = hold_out(tiny_nerfstudio_scene, [frames[2]["file_path"]])
    record = record_of(config)
    assert record.protocol == "photos-11" and record.test_indices == (2,) and 2 not in record.train_indices
    # As runs of earlier versions saved it.
    config.num_views = 3
    assert record_of(config).protocol == "photos-3"


@pytest.mark.parametrize(
    ("names", "message"),
    [("all", "expected a list of names of photos"), (["images/none.png"], "expected names of frames in 'held_out'")],
)
def test_a_wrong_list_is_refused(names: Any, message: str, tiny_nerfstudio_scene: Path):
    with pytest.raises(ValueError, match=message):
        record_of(hold_out(tiny_nerfstudio_scene, names))


def test_everything_held_out_is_refused(tiny_nerfstudio_scene: Path):
    frames = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())["frames"]
    with pytest.raises(ValueError, match="training needs at least 2 views, got 0"):
        record_of(hold_out(tiny_nerfstudio_scene, [frame["file_path"] for frame in frames]))

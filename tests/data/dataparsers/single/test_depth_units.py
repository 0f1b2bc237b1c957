"""Whole numbers of depth count millimetres in every format of file; fractions as each dataparser says, and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, depth_maps_record
from fewshot_ns.data.depth.stated_unit import holds_whole_numbers

CONFIGS: Any = {
    "nerfstudio": FewShotNerfstudioDataParserConfig,
    "rgbd": RGBDDataParserConfig,
    "blender": FewShotBlenderDataParserConfig,
}


def read(scene: Path, kind: str, **flags: Any) -> FewShotDataset:
    config = CONFIGS[kind](data=scene, train_indices=(1, 3), test_indices=(2,), near=0.1, far=9.0, **flags)
    return FewShotDataset(config.setup().get_dataparser_outputs("train"))


def metres(dataset: FewShotDataset) -> np.ndarray:
    outputs = dataset._dataparser_outputs
    return dataset.metric_depth(0).z_depth / outputs.dataparser_scale


def store(scene: Path, suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Writes the maps, 16-bit millimetres in PNG, as other files of changed numbers."""
    path = scene / "transforms.json"
    meta = json.loads(path.read_text())
    for frame in meta["frames"]:
        file = scene / frame["depth_file_path"]
        values = change(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        target = file.with_suffix(suffix)
        np.savez(target, depth=values, other=np.zeros(2)) if suffix == ".npz" else np.save(target, values)
        frame["depth_file_path"] = frame["depth_file_path"].replace(".png", suffix)
    path.write_text(json.dumps(meta))
    for split in ("train", "test"):
        shutil.copy(path, scene / f"transforms_{split}.json")


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_whole_numbers_are_millimetres(tiny_nerfstudio_scene: Path, kind: str, suffix: str, dtype: Any) -> None:
    expected = metres(read(tiny_nerfstudio_scene, "rgbd"))
    assert 2.0 < np.median(expected) < 8.0
    store(tiny_nerfstudio_scene, suffix, lambda values: values.astype(dtype))
    found = read(tiny_nerfstudio_scene, kind)
    np.testing.assert_allclose(metres(found), expected, rtol=1e-5)
    record = depth_maps_record(found)["depth_maps"]
    assert record["unit"] == pytest.approx(1e-3)
    wanted = "the layout" if kind == "blender" else "the layout: whole numbers count millimetres"
    assert record["unit_from"] == wanted
    given = read(tiny_nerfstudio_scene, kind, depth_unit=0.002)
    np.testing.assert_allclose(metres(given), 2.0 * expected, rtol=1e-5)
    assert depth_maps_record(given)["depth_maps"]["unit_from"] == "--depth-unit"


@pytest.mark.parametrize(
    ("kind", "unit", "words"),
    [
        ("nerfstudio", 1.0, "nerfstudio: depth_file_path counts millimetres, also in fractions"),
        ("rgbd", 1e-3, "the layout: fractions count metres"),
        ("blender", 1e-3, "the layout"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_fractions_are_what_the_format_says(tiny_nerfstudio_scene: Path, capsys, kind, unit, words, suffix) -> None:
    expected = metres(read(tiny_nerfstudio_scene, "rgbd"))
    store(tiny_nerfstudio_scene, suffix, lambda values: (unit * values).astype(np.float32))
    capsys.readouterr()
    found = read(tiny_nerfstudio_scene, kind)
    np.testing.assert_allclose(metres(found), expected, rtol=1e-5)
    assert depth_maps_record(found)["depth_maps"]["unit_from"] == words
    said = "fractions are taken to count millimetres" in " ".join(capsys.readouterr().out.split())
    assert said == (kind == "nerfstudio")
    read(tiny_nerfstudio_scene, kind, depth_unit=unit)
    assert "fractions" not in capsys.readouterr().out


def test_maps_of_both_kinds_in_one_capture_are_refused(tiny_nerfstudio_scene: Path) -> None:
    store(tiny_nerfstudio_scene, ".npy", lambda values: values)
    path = (
        tiny_nerfstudio_scene
        / json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())["frames"][1]["depth_file_path"]
    )
    np.save(path, 1e-3 * np.load(path))
    with pytest.raises(
        ValueError, match=r"depth maps of one kind, found whole numbers, .*\(millimetres\), beside frac"
    ):
        read(tiny_nerfstudio_scene, "rgbd")


def test_kinds_of_files(tmp_path: Path) -> None:
    for name, values in (("whole", np.ones((2, 2), np.uint16)), ("part", np.ones((2, 2), np.float16))):
        np.save(tmp_path / f"{name}.npy", values)
        np.savez_compressed(tmp_path / f"{name}.npz", values)
        with (tmp_path / f"{name}2.npy").open("wb") as file:
            np.lib.format.write_array(file, values, version=(2, 0))
        for file in (f"{name}.npy", f"{name}.npz", f"{name}2.npy"):
            assert holds_whole_numbers(tmp_path / file) == (name == "whole"), file
    for name in ("broken.npy", "broken.npz"):
        (tmp_path / name).write_bytes(b"no numbers")
        assert not holds_whole_numbers(tmp_path / name)
    np.savez(tmp_path / "two.npz", a=np.ones(2, int), b=np.ones(2))
    assert not holds_whole_numbers(tmp_path / "two.npz")
    assert holds_whole_numbers(Path("x.png")) and not holds_whole_numbers(Path("x.exr"))

"""`ns-fewshot depth`: a tiny network on tiny scenes, alignment to points, sensor and bounds, what is written."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Tuple

import cv2
import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra 'priors'")

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig  # noqa: E402
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig  # noqa: E402
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset  # noqa: E402
from fewshot_ns.data.depth.encoding import read_note  # noqa: E402
from fewshot_ns.data.depth.maps import read_depth_map  # noqa: E402
from fewshot_ns.pretrained import monocular_depth as monocular  # noqa: E402
from fewshot_ns.scripts.cli import main  # noqa: E402
from fewshot_ns.scripts.scenes import scene_config, split_dataparser  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A random DPT of the real class."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny-dpt"
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
        is_hybrid=False,
    )
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def honest_network(monkeypatch, tiny_nerfstudio_scene) -> None:
    """Gives the network's outputs the relief of the tiny capture, up to a scale and shift of inverse depth.

    Random weights know nothing of depth; everything around the network stays real.
    """
    files = sorted((tiny_nerfstudio_scene / "images").iterdir())
    known = {}
    for path in files:
        depth = cv2.imread(str(tiny_nerfstudio_scene / "depths" / path.name), cv2.IMREAD_UNCHANGED) / 1000
        known[cv2.imread(str(path))[..., ::-1].tobytes()] = (7.0 / depth + 3.0).astype(np.float32)
    monkeypatch.setattr(monocular._Network, "__call__", lambda self, images: [known[i.tobytes()] for i in images])


def run(*arguments: Any) -> int:
    return main(["depth", *(str(argument) for argument in arguments)])


def network(model: Path, tmp_path: Path) -> Tuple[Any, ...]:
    return ("--model", model, "--cache-dir", tmp_path / "cache", "--device", "cpu")


def test_maps_without_scale_are_found_by_the_dataparser(tiny_llff_scene, model, tmp_path, capsys):
    for path in (tiny_llff_scene / "depth_maps").iterdir():
        path.unlink()
    flags = ("--data", tiny_llff_scene, *network(model, tmp_path), "llff-data", "--num-views", "4")
    assert run(*flags) == 0
    assert "maps of 4 training views" in capsys.readouterr().out
    files = sorted(path.name for path in (tiny_llff_scene / "depth_maps").iterdir())
    assert files == ["depth.json"] + [f"image{index:03d}.npz" for index in (1, 4, 7, 11)]
    assert read_note(tiny_llff_scene / "depth_maps") == {"polarity": "inverse_depth", "meaning": "z_depth"}
    dataset = FewShotDataset(
        LLFFDataParserConfig(data=tiny_llff_scene, num_views=4).setup().get_dataparser_outputs("train")
    )
    encoding = dataset.fewshot.depth_encoding
    for view, path in enumerate(dataset.fewshot.depth_prior_filenames or ()):
        assert read_depth_map(path, encoding.polarity, dataset.size_of(view), encoding).valid.all()
    # A second call, for other views, replaces what the first one wrote.
    assert run("--data", tiny_llff_scene, *network(model, tmp_path), "llff-data", "--num-views", "3") == 0


def test_maps_of_another_origin_are_left_alone(tiny_llff_scene, model, tmp_path, capsys):
    before = sorted((tiny_llff_scene / "depth_maps").iterdir())
    assert run("--data", tiny_llff_scene, *network(model, tmp_path)) == 1
    assert "expected an empty folder or maps of this command" in " ".join(capsys.readouterr().err.split())
    assert sorted((tiny_llff_scene / "depth_maps").iterdir()) == before
    assert run("--data", tiny_llff_scene, *network(model, tmp_path), "--output", tmp_path / "other") == 0
    assert (tmp_path / "other" / "image001.npz").is_file()


@pytest.mark.parametrize("composite", [False, True])
def test_alignment_to_the_sensor(tiny_nerfstudio_scene, model, honest_network, tmp_path, capsys, composite):
    # The sensor is blind in the left half of the photos.
    for path in (tiny_nerfstudio_scene / "depths").iterdir():
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        depth[:, :16] = 0
        cv2.imwrite(str(path), depth)
    flags = ["--data", tiny_nerfstudio_scene, *network(model, tmp_path), "--align", "sensor"]
    assert run(*flags, *(["--composite"] if composite else [])) == 0
    assert "monocular depth aligned to sensor" in capsys.readouterr().out
    folder = tiny_nerfstudio_scene / "depth_maps"
    assert read_note(folder) == {"polarity": "distance", "meaning": "z_depth", "unit": 1.0}
    rows = json.loads((folder / "depth.json").read_text())["views"]
    for row in rows:
        assert row["inliers"] > 0.9 and row["correlation"] > 0.99 and row["residual"] < 1e-3 and row["written"]
        assert row["sensor"] == (0.5 if composite else 0.0)
        # The network gives 7 / z + 3, up to the shift that keeps its maps above zero.
        assert row["scale"] == pytest.approx(1 / 7, rel=5e-3)
    config = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene, depth_dir=folder)
    dataset = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    sensor = FewShotDataset(
        FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().get_dataparser_outputs("train")
    )
    for view in range(3):
        aligned, measured = dataset.metric_depth(view), sensor.metric_depth(view)
        assert aligned.valid.all() and not measured.valid[:, :16].any()
        np.testing.assert_allclose(aligned.z_depth[measured.valid], measured.z_depth[measured.valid], rtol=2e-3)
        # The blind half continues the plane: depth is linear in 1 / z along a row.
        inverse = 1.0 / aligned.z_depth[10]
        np.testing.assert_allclose(np.diff(inverse), np.diff(inverse).mean(), atol=2e-3 * float(inverse.mean()))
        assert aligned.sigma is not None
        np.testing.assert_allclose(aligned.sigma / aligned.z_depth, 0.01, rtol=0.05)


def test_what_does_not_fit_is_dropped(tiny_nerfstudio_scene, model, tmp_path, capsys, monkeypatch):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(
        monocular._Network,
        "__call__",
        lambda self, images: [generator.random(image.shape[:2]).astype(np.float32) for image in images],
    )
    flags = (
        "--data",
        tiny_nerfstudio_scene,
        *network(model, tmp_path),
        "--align",
        "sensor",
        "--output",
        tmp_path / "o",
    )
    assert run(*flags) == 1
    shown = capsys.readouterr()
    assert "no map of" in shown.err and "frame_00001.png: dropped," in shown.out
    assert not list((tmp_path / "o").glob("*.npz"))
    assert run(*flags, "--composite") == 0
    shown = capsys.readouterr().out
    assert "frame_00001.png: the aligned map is left out, the sensor's depth stays," in shown and "dropped" not in shown
    with np.load(tmp_path / "o" / "frame_00001.npz") as archive:
        # The sensor alone, in the units of the scene's files.
        depth = cv2.imread(str(tiny_nerfstudio_scene / "depths" / "frame_00001.png"), cv2.IMREAD_UNCHANGED) / 1000
        np.testing.assert_allclose(archive["depth"], depth, rtol=1e-4)


def test_alignment_to_colmap_points(tiny_nerfstudio_scene, model, honest_network, tmp_path, capsys):
    """Points of the plane z = -4, in the frame of transforms.json, seen by no recorded image."""
    generator = np.random.default_rng(1)
    points = np.stack([generator.uniform(-2, 2, 400), generator.uniform(-2, 2, 400), np.full(400, -4.0)], axis=1)
    points[:60, 2] = generator.uniform(-9, -5, 60)
    content = struct.pack("<Q", 400)
    for number, point in enumerate(points):
        content += struct.pack("<QdddBBBdQ", number + 1, *point, 1, 1, 1, 0.4, 1) + struct.pack("<ii", 99, 0)
    (tiny_nerfstudio_scene / "sparse" / "0").mkdir(parents=True)
    (tiny_nerfstudio_scene / "sparse" / "0" / "points3D.bin").write_bytes(content)
    flags = (
        "--data",
        tiny_nerfstudio_scene,
        *network(model, tmp_path),
        "--align",
        "colmap",
        "--output",
        tmp_path / "o",
    )
    assert run(*flags) == 0
    for row in json.loads((tmp_path / "o" / "depth.json").read_text())["views"]:
        assert row["points"] > 100 and row["inliers"] > 0.7 and row["residual"] < 0.02
        depth = cv2.imread(str(tiny_nerfstudio_scene / "depths" / row["view"]), cv2.IMREAD_UNCHANGED) / 1000
        with np.load(tmp_path / "o" / f"{Path(row['view']).stem}.npz") as archive:
            np.testing.assert_allclose(archive["depth"], depth, rtol=0.03)


def test_alignment_to_the_bounds_of_the_scene(tiny_llff_scene, model, tmp_path, capsys):
    flags = ("--data", tiny_llff_scene, *network(model, tmp_path), "--align", "near-far", "--output", tmp_path / "o")
    assert run(*flags) == 0
    bounds = np.load(tiny_llff_scene / "poses_bounds.npy")[:, 15:]
    for index in (1, 5, 11):
        with np.load(tmp_path / "o" / f"image{index:03d}.npz") as archive:
            low, high = np.quantile(archive["depth"], (0.02, 0.98))
        np.testing.assert_allclose([low, high], bounds[index], rtol=0.05)
    capsys.readouterr()
    assert run(*flags, "--composite") == 1
    assert "--composite needs maps of known scale" in capsys.readouterr().err


def test_scenes_without_a_name(tiny_llff_scene, tiny_nerfstudio_scene, tmp_path):
    for name, scene, kind in (
        ("auto", tiny_llff_scene, LLFFDataParserConfig),
        ("fewshot-data", tiny_nerfstudio_scene, FewShotNerfstudioDataParserConfig),
    ):
        config = scene_config(scene, name, ["--num-views", "4"] if name == "fewshot-data" else [])
        assert type(config) is kind and config.data == scene
        assert config.num_views == (4 if name == "fewshot-data" else None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected the files of a scene, one of poses_bounds\.npy \(llff-data"):
        scene_config(tmp_path / "empty", "auto", [])
    assert split_dataparser(["depth", "--data", "x", "llff-data", "--num-views", "3"]) == (
        ["depth", "--data", "x", "llff-data"],
        ["--num-views", "3"],
    )
    assert split_dataparser(["video", "--fps", "3"]) == (["video", "--fps", "3"], [])

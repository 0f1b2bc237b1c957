"""Multi-scale Blender scenes: conversion against loops, cameras, weights in batch and loss, averages per size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_ns.data.dataparsers.single.multiscale_blender import MultiscaleBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.multiscale_conversion import (
    METADATA_NAME,
    convert_blender,
    halve,
    read_multiscale,
)
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.evaluation.records.ledger import ledger_path, read_rows
from fewshot_ns.model_components.losses import colour_loss
from fewshot_ns.scripts.cli import main


@pytest.fixture
def scene(tiny_blender_scene, tmp_path) -> Path:
    """The tiny Blender scene of 20x20 frames in three sizes."""
    assert convert_blender(tiny_blender_scene, tmp_path / "multi", levels=3) == 28 * 3
    return tmp_path / "multi"


def dataset_of(scene: Path, split: str = "train", **flags: Any) -> FewShotDataset:
    config = MultiscaleBlenderDataParserConfig(data=scene, **{"num_views": 3, **flags})
    return FewShotDataset(config.setup().get_dataparser_outputs(split))


def test_boxes_against_a_loop():
    image = np.random.default_rng(0).random((5, 6, 4))
    expected = np.array(
        [[image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((0, 1)) for c in range(3)] for r in range(2)]
    )
    np.testing.assert_allclose(halve(image), expected)


def test_conversion(scene, tiny_blender_scene):
    original = np.asarray(Image.open(tiny_blender_scene / "train" / "r_3.png")).astype(float)
    for level, size in enumerate((20, 10, 5)):
        found = np.asarray(Image.open(scene / "images_train" / f"003_d{level}.png"))
        step = 2**level
        boxes = original.reshape(size, step, size, step, 4).mean((1, 3))
        assert found.shape == (size, size, 4)
        np.testing.assert_allclose(found, boxes, atol=0.51)
    meta = json.loads((scene / METADATA_NAME).read_text())
    assert set(meta) == {"train", "val", "test"} and len(meta["train"]["file_path"]) == 30
    assert meta["train"]["lossmult"][:3] == [1, 4, 16] and meta["train"]["label"][:3] == [0, 1, 2]
    # The inverse camera matrix turns pixel centres into directions with z = -1.
    inverse, focal = np.array(meta["test"]["pix2cam"][1]), meta["test"]["focal"][1]
    direction = inverse @ np.array([7.5, 2.5, 1.0])
    np.testing.assert_allclose(direction, [(7.5 - 5) / focal, -(2.5 - 5) / focal, -1.0])


def test_each_view_brings_its_sizes(scene):
    dataset = dataset_of(scene)
    record = dataset.fewshot
    assert record.protocol == "multiscale-blender-3" and record.image_indices == (0, 1, 2, 12, 13, 14, 27, 28, 29)
    assert dataset.cameras.width[:, 0].tolist() == [20, 10, 5] * 3
    np.testing.assert_allclose(dataset.cameras.fx[:, 0].numpy(), [24, 12, 6] * 3, rtol=1e-6)
    assert record.loss_weights == (1.0, 4.0, 16.0) * 3 and record.scale_labels == (0, 1, 2) * 3
    assert record.geometry.near == 2 and record.geometry.far == 6 and record.geometry.background == "white"
    assert [dataset.get_data(view)["image"].shape[0] for view in range(3)] == [20, 10, 5]
    validate_dataset(dataset)
    test = dataset_of(scene, "test").fewshot
    assert len(test.image_indices) == 6 and min(test.image_indices) == 30
    assert dataset_of(scene, train_indices=(7, 2)).fewshot.image_indices == (21, 22, 23, 6, 7, 8)
    assert len(dataset_of(scene, num_views=0).fewshot.image_indices) == 30
    with pytest.raises(ValueError, match=r"--train-indices must lie in 0\.\.9 \(10 frames\), got \[10\]"):
        dataset_of(scene, train_indices=(1, 10))


def test_rays_of_all_sizes_meet_the_same_points(scene):
    """A pixel of the small picture looks between the four of the large one."""
    cameras = dataset_of(scene).cameras
    large = cameras.generate_rays(0, coords=torch.tensor([[6.0, 8.0]]))
    small = cameras.generate_rays(1, coords=torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(large.directions, small.directions)
    torch.testing.assert_close(large.origins, small.origins)


def test_weights_in_the_batch_and_averages_per_size(scene, tiny_pipeline_config, tmp_path):
    config = tiny_pipeline_config(MultiscaleBlenderDataParserConfig(data=scene, num_views=3, test_indices=(1, 5)))
    config.depth.enabled = False
    config.run_dir = tmp_path / "run"
    pipeline = config.setup(device="cpu", test_mode="val")
    manager = pipeline.datamanager
    _, batch = manager.next_train(0)
    weights = torch.tensor(manager.fewshot_metadata.loss_weights)
    torch.testing.assert_close(batch["loss_weight"][:, 0], weights[batch["indices"][:, 0]])
    assert len(batch["loss_weight"].unique()) > 1
    averages = pipeline.get_average_eval_image_metrics(step=1)
    rows = read_rows(ledger_path(tmp_path / "run", 1))
    assert len(rows) == 6
    for label in range(3):
        values = [float(row.metrics["psnr"] or 0) for row in rows if row.file_name.endswith(f"_d{label}.png")]
        assert averages[f"psnr_d{label}"] == pytest.approx(np.mean(values))
    assert averages["psnr"] == pytest.approx(np.mean([averages[f"psnr_d{label}"] for label in range(3)]))


def test_weighted_colours_against_a_loop():
    rgb, target, weights = torch.rand(6, 3), torch.rand(6, 3), torch.rand(6, 1)
    expected = sum(float(w) * float(((a - b) ** 2).sum()) for a, b, w in zip(rgb, target, weights, strict=True))
    assert float(colour_loss(rgb, target, weights)) == pytest.approx(expected / float(weights.sum()), rel=1e-5)
    torch.testing.assert_close(colour_loss(rgb, target, torch.full((6, 1), 4.0)), colour_loss(rgb, target))


def test_other_scenes_batches_have_no_weights(tiny_llff_scene, tiny_pipeline_config):
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig

    manager = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene)).setup(device="cpu").datamanager
    assert "loss_weight" not in manager.next_train(0)[1]


def test_command(tiny_blender_scene, capsys, tmp_path):
    flags = ["convert", "multiscale-blender", "--data", str(tiny_blender_scene), "--levels", "2"]
    assert main([*flags, "--splits", "train", "test"]) == 0
    target = tiny_blender_scene.with_name("blender_multiscale")
    assert f"{target}: 38 pictures in 2 sizes" in capsys.readouterr().out
    assert set(read_multiscale(target)) == {"train", "test"}
    assert main(flags) == 1
    assert "expected no such folder or an empty one" in capsys.readouterr().err
    assert main([*flags, "--levels", "9", "--output", str(tmp_path / "deep")]) == 1
    assert "r_0.png: 20x20 pixels cannot be halved 8 times" in capsys.readouterr().err


def test_damaged_metadata(scene):
    with pytest.raises(FileNotFoundError, match=r"metadata\.json: expected the cameras .*convert multiscale-blender"):
        read_multiscale(scene / "images_train")
    path = scene / METADATA_NAME
    whole = json.loads(path.read_text())
    for change, message in (
        ({"test": None}, "expected the splits train and test"),
        ({"train": {**whole["train"], "focal": [1.0]}}, "expected equally long lists"),
        ({"train": {**whole["train"], "cam2world": [[1]] * 30}}, "expected numbers and 4x4 matrices|4x4 matrices"),
        ({"train": {key: value for key, value in whole["train"].items() if key != "label"}}, r"lacking \['label'\]"),
    ):
        content = {key: value for key, value in {**whole, **change}.items() if value is not None}
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_multiscale(scene)
    path.write_text("{")
    with pytest.raises(ValueError, match="expected JSON"):
        read_multiscale(scene)


def test_masks_and_depth_are_said_to_be_unread(tiny_blender_scene, tmp_path, capsys):
    frames = tmp_path / "frames"
    shutil.copytree(tiny_blender_scene, frames)
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(frames / "mask.png")
    meta = json.loads((frames / "transforms_train.json").read_text())
    for frame in meta["frames"]:
        frame.update(mask_path="mask.png", depth_file_path="none.png")
    (frames / "transforms_train.json").write_text(json.dumps(meta))
    convert_blender(frames, tmp_path / "multi", levels=2)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("'mask_path'") == 1 and "no place for masks" in said and "depth_file_path" not in said

    meta = json.loads((tmp_path / "multi" / METADATA_NAME).read_text())
    assert "not read" not in str(
        MultiscaleBlenderDataParserConfig(data=tmp_path / "multi").setup().read_views()[0].remarks
    )
    for name in ("mask", "depth"):
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "multi" / f"{name}.png")
    for part in meta.values():
        part.update(mask_path=["none.png", "mask.png"], depth_path=["depth.png"], weights=[1.0])
    (tmp_path / "multi" / METADATA_NAME).write_text(json.dumps(meta))
    remarks = MultiscaleBlenderDataParserConfig(data=tmp_path / "multi").setup().read_views()[0].remarks
    masks, depth = [remark for remark in remarks if "not read" in remark]
    assert "'mask_path'" in masks and "--training-mask-dir" in masks and "'depth_path'" in depth

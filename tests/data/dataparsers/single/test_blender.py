"""fewshot-blender-data: views, intrinsics at any size, background, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.files.images import read_image
from fewshot_ns.data.records.metadata import get_fewshot_metadata


def parse(scene: Path, split: str = "train", **flags):
    return FewShotBlenderDataParserConfig(data=scene, **{"num_views": 3, **flags}).setup().get_dataparser_outputs(split)


def test_views(tiny_blender_scene):
    outputs = parse(tiny_blender_scene)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == (0, 4, 9) and record.test_indices == (10, 18)
    assert [path.name for path in outputs.image_filenames] == ["r_0.png", "r_4.png", "r_9.png"]
    assert [path.parent.name for path in parse(tiny_blender_scene, "test").image_filenames] == ["test", "test"]
    validation = parse(tiny_blender_scene, "val")
    assert [f"{p.parent.name}/{p.name}" for p in validation.image_filenames] == ["val/r_0.png", "val/r_8.png"]
    record = get_fewshot_metadata(validation.metadata)
    assert record.image_indices == (19, 27)
    torch.testing.assert_close(validation.cameras.camera_to_worlds, record.scene_camera_to_worlds[[19, 27]])


def test_explicit_indices_count_in_their_own_file(tiny_blender_scene):
    flags: Dict[str, Any] = {"train_indices": (7, 2), "test_indices": (2, 8)}
    record = get_fewshot_metadata(parse(tiny_blender_scene, **flags).metadata)
    assert record.train_indices == (7, 2) and record.test_indices == (12, 18) and record.protocol == "indices"
    for split in ("test", "val"):
        names = [f"{p.parent.name}/{p.name}" for p in parse(tiny_blender_scene, split, **flags).image_filenames]
        assert names == ["test/r_2.png", "test/r_8.png"]
    with pytest.raises(ValueError, match=r"--test-indices must lie in 0..8 \(9 frames\), got \[9\]"):
        parse(tiny_blender_scene, test_indices=(9,))
    with pytest.raises(ValueError, match=r"--train-indices must lie in 0..9"):
        parse(tiny_blender_scene, train_indices=(0, 10))


def test_camera_and_background(tiny_blender_scene):
    for factor in (1, 2):
        outputs = parse(tiny_blender_scene, downscale_factor=factor)
        np.testing.assert_allclose(outputs.cameras.fx.numpy(), 1.2 * 20 / factor, rtol=1e-6)
        np.testing.assert_allclose(outputs.cameras.fy.numpy(), 1.2 * 20 / factor, rtol=1e-6)
    geometry = get_fewshot_metadata(outputs.metadata).geometry
    assert (geometry.near, geometry.far, geometry.ray_shape, geometry.background) == (2.0, 6.0, "cone", "white")

    dataset = FewShotDataset(parse(tiny_blender_scene))
    validate_dataset(dataset)
    rgba = read_image(dataset.image_filenames[0]).astype(np.float32) / 255
    white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    np.testing.assert_allclose(dataset[0]["image"].numpy(), white, atol=1e-6)
    black = FewShotDataset(parse(tiny_blender_scene, background="black"))[0]["image"].numpy()
    np.testing.assert_allclose(black, rgba[..., :3] * rgba[..., 3:], atol=1e-6)
    assert dataset.get_data(0, "uint8")["image"].dtype == torch.uint8


def test_priors_belong_to_the_training_frames(tiny_blender_scene):
    folder = tiny_blender_scene / "depth_maps"
    folder.mkdir()
    for index in range(10):
        np.save(folder / f"r_{index}.npy", np.ones((20, 20)))
    record = get_fewshot_metadata(parse(tiny_blender_scene, depth_polarity="distance").metadata)
    assert record.depth_prior_filenames is not None and record.depth_prior_filenames[1].name == "r_4.npy"
    assert get_fewshot_metadata(parse(tiny_blender_scene, "test").metadata).depth_prior_filenames is None


def test_bad_scenes_are_refused(tiny_blender_scene):
    path = tiny_blender_scene / "transforms_train.json"
    meta = json.loads(path.read_text())

    def refused(text, message):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            parse(tiny_blender_scene)
        path.write_text(json.dumps(meta))

    refused("{", r"transforms_train\.json: expected JSON")
    refused("{}", r"non-empty list 'frames'")
    refused(json.dumps({"frames": meta["frames"]}), r"expected 'camera_angle_x'")
    refused(json.dumps({**meta, "frames": [{"file_path": "x"}]}), r"'transform_matrix' in frame 0")
    refused(json.dumps(meta).replace("[0.0, 0.0, 0.0, 1.0]", "[0.0, 0.0, 0.0]"), r"4x4 transform_matrix in frame 0")
    broken = json.loads(json.dumps(meta))
    broken["frames"][3]["transform_matrix"][0][3] = float("nan")
    refused(json.dumps(broken), r"transforms_train\.json: .*NaN or infinite values for frame 3 \(train")
    broken["frames"][3]["transform_matrix"] = [[1, 0], [0, 1]]
    refused(json.dumps(broken), r"4x4 transform_matrix in frame 3, found shape \(2, 2\)")
    with pytest.raises(ValueError, match="--testskip must be at least 1"):
        parse(tiny_blender_scene, testskip=0)
    (tiny_blender_scene / "train" / "r_9.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"r_9\.png: expected the photo of view 9"):
        parse(tiny_blender_scene)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"transforms_train\.json"):
        parse(tiny_blender_scene)


def test_validation_falls_back_to_the_test_views(tiny_blender_scene):
    (tiny_blender_scene / "transforms_val.json").unlink()
    assert parse(tiny_blender_scene, "val").image_filenames == parse(tiny_blender_scene, "test").image_filenames


@pytest.mark.goldens
def test_half_resolution_against_the_reference(goldens_dir, tmp_path):
    """Area-averaged RGBA on white, as DietNeRF's loader gives it for half_res."""
    import cv2

    with np.load(goldens_dir / "dietnerf" / "blender_loading.npz") as golden:
        skip, size = int(golden["testskip"]), golden["images"].shape[1]
        for split in ("train", "val", "test"):
            frames = []
            (tmp_path / split).mkdir()
            for index, rgba in enumerate(golden[f"rgba_{split}"]):
                cv2.imwrite(str(tmp_path / split / f"r_{index}.png"), rgba[..., [2, 1, 0, 3]])
                frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": np.eye(4).tolist()})
            meta = {"camera_angle_x": float(golden["camera_angle_x"]), "frames": frames}
            (tmp_path / f"transforms_{split}.json").write_text(json.dumps(meta))
        factor = golden["rgba_train"].shape[1] // size
        expected = iter(np.split(golden["images"], np.cumsum(golden["split_sizes"])[:-1]))
        for split in ("train", "val", "test"):
            outputs = parse(tmp_path, split, num_views=0, testskip=skip, downscale_factor=factor)
            dataset = FewShotDataset(outputs)
            images = np.stack([dataset[index]["image"].numpy() for index in range(len(dataset))])
            np.testing.assert_allclose(images, next(expected)[..., :3], atol=1e-5)
            np.testing.assert_allclose(outputs.cameras.fx.numpy(), golden["hwf"][2], rtol=1e-6)


def test_real_scene(data_dir):
    outputs = parse(data_dir / "nerf_synthetic_half" / "lego", num_views=8, downscale_factor=4)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == (26, 86, 2, 55, 75, 93, 16, 73) and len(record.test_indices) == 25
    validate_dataset(FewShotDataset(outputs))


@pytest.fixture(scope="module")
def whole_scene(tmp_path_factory) -> Path:
    """100 training and 200 test frames, as NeRF's scenes have; every frame is one and the same picture."""
    folder = tmp_path_factory.mktemp("blender") / "scene"
    pose = [[1.0, 0, 0, 0], [0, 0, -1.0, -4.0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]]
    for split, count in (("train", 100), ("test", 200)):
        (folder / split).mkdir(parents=True)
        cv2.imwrite(str(folder / split / "one.png"), np.full((8, 8, 4), 128, np.uint8))
        frames = [{"file_path": f"./{split}/one", "transform_matrix": pose}] * count
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))
    return folder


PUBLISHED = {
    "the eight views": ({"num_views": 8}, (26, 86, 2, 55, 75, 93, 16, 73)),
    "four of them": ({"num_views": 4}, (26, 86, 2, 55)),
    "drawn by seed 0": ({"num_views": 8, "view_protocol": "seeded"}, (26, 86, 2, 55, 75, 93, 16, 73)),
    "a list": ({"num_views": 8, "train_indices": (5, 3, 99)}, (5, 3, 99)),
    "one side of lego unseen": (
        {"view_protocol": "dietnerf-unseen"},
        (2, 5, 8, 9, 10, 16, 34, 35, 40, 52, 53, 54, 58, 60),
    ),
    "occluded, first list": (
        {"view_protocol": "occluded-a"},
        (12, 28, 32, 33, 35, 36, 38, 44, 55, 66, 67, 88, 95, 96),
    ),
    "occluded, second list": (
        {"view_protocol": "occluded-b"},
        (2, 5, 10, 40, 52, 53, 69, 78, 83, 85, 90, 94, 96, 97),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_choices_of_views(whole_scene, name):
    flags, views = PUBLISHED[name]
    outputs = parse(whole_scene, downscale_factor=2, **flags)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == views and len(outputs.image_filenames) == len(views)
    # Every eighth of the 200 test frames, at half the size, on white.
    assert record.test_indices == tuple(range(100, 300, 8)) and len(record.test_indices) == 25
    assert record.pool_indices == tuple(range(100))
    assert int(outputs.cameras.width[0]) == 4 and record.geometry.background == "white"

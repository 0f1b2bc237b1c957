"""Masks of training photos: in every format by a flag, in a transforms.json by its frames, checked before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colmap_models import write_spheres
from PIL import Image

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.files.images import image_size

CONFIGS = {
    "tiny_llff_scene": LLFFDataParserConfig,
    "tiny_dtu_scene": DTUDataParserConfig,
    "tiny_blender_scene": FewShotBlenderDataParserConfig,
    "tiny_nerfstudio_scene": FewShotNerfstudioDataParserConfig,
    "tiny_rgbd_scene": RGBDDataParserConfig,
    "colmap": FewShotColmapDataParserConfig,
}


def scene_of(kind: str, request: Any, tmp_path: Path) -> Path:
    if kind != "colmap":
        return request.getfixturevalue(kind)
    write_spheres(tmp_path / "colmap", count=12)
    return tmp_path / "colmap"


def write_masks(folder: Path, dataset: FewShotDataset) -> np.ndarray:
    """Masks of the photos of a dataset, whose left quarter may not train. Returns the mask."""
    folder.mkdir(parents=True)
    height, width = image_size(dataset.image_filenames[0])
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 4 :] = 255
    for photo in dataset.image_filenames:
        Image.fromarray(mask).save(folder / f"{photo.stem}.png")
    return np.asarray(mask > 0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_format_takes_a_folder_of_masks(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    config = CONFIGS[kind](data=scene_of(kind, request, tmp_path), num_views=3)
    train = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    folder = config.data / "masks"
    expected = write_masks(folder, train)
    before = train[0]["image"]
    config.training_mask_dir = Path("masks")
    train = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    validate_dataset(train)
    assert (train[0]["mask"][..., 0].numpy() == expected).all() and (train[0]["image"] == before).all()
    # Test photos need none; the folder may lie elsewhere.
    assert "mask" not in FewShotDataset(config.setup().get_dataparser_outputs("test"))[0]
    config.training_mask_dir = folder
    config.setup().get_dataparser_outputs("train")

    path = folder / f"{train.image_filenames[1].stem}.png"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{path.name}: expected the mask of .* \(--training-mask-dir\)"):
        config.setup().get_dataparser_outputs("train")
    path.write_bytes(content[:-30])
    with pytest.raises(ValueError, match=rf"masks/{path.name}: expected a complete image"):
        validate_dataset(FewShotDataset(config.setup().get_dataparser_outputs("train")))
    config.training_mask_dir = Path("nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder of masks \(--training-mask-dir\)"):
        config.setup().get_dataparser_outputs("train")


@pytest.fixture
def masked_capture(tiny_nerfstudio_scene: Path) -> Path:
    """Photos of 32x24 pixels with a mask each, named by the frames."""
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    (tiny_nerfstudio_scene / "masks").mkdir()
    for frame in meta["frames"]:
        frame["mask_path"] = f"masks/{Path(frame['file_path']).name}"
        Image.fromarray(np.full((24, 32), 255, np.uint8)).save(tiny_nerfstudio_scene / frame["mask_path"])
    path.write_text(json.dumps(meta))
    return tiny_nerfstudio_scene


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_turned_mask_is_an_error_before_training(split: str, masked_capture: Path) -> None:
    dataset = FewShotDataset(
        FewShotNerfstudioDataParserConfig(data=masked_capture, downscale_factor=2).setup().get_dataparser_outputs(split)
    )
    validate_dataset(dataset)
    name = dataset.image_filenames[1].name
    Image.fromarray(np.full((32, 24), 255, np.uint8)).save(masked_capture / "masks" / name)
    message = rf"masks/{name}: expected the proportions of {name} \(32x24 pixels, width x height\), found 24x32"
    with pytest.raises(ValueError, match=message):
        validate_dataset(dataset)
    with pytest.raises(ValueError, match=message):
        dataset.get_data(1)


def test_a_smaller_mask_of_the_same_frame_is_no_error(masked_capture: Path) -> None:
    dataset = FewShotDataset(
        FewShotNerfstudioDataParserConfig(data=masked_capture).setup().get_dataparser_outputs("train")
    )
    mask = np.zeros((12, 16), np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(masked_capture / "masks" / dataset.image_filenames[0].name)
    found = dataset.training_mask(0)[..., 0].numpy()
    assert not found[:, :16].any() and found[:, 17:].all()


def test_masks_that_blender_frames_name(tiny_blender_scene: Path) -> None:
    config = FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3)
    train = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    path = tiny_blender_scene / "transforms_train.json"
    meta = json.loads(path.read_text())
    height, width = image_size(train.image_filenames[0])
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 4 :] = 255
    (tiny_blender_scene / "masks").mkdir()
    for number, frame in enumerate(meta["frames"]):
        frame["mask_path"] = f"masks/{number}.png"
        Image.fromarray(mask).save(tiny_blender_scene / frame["mask_path"])
    path.write_text(json.dumps(meta))
    parser = config.setup()
    train, test = (FewShotDataset(parser.get_dataparser_outputs(split)) for split in ("train", "test"))
    validate_dataset(train)
    validate_dataset(test)
    assert np.array_equal(train.training_mask(0)[..., 0].numpy(), mask > 0)
    meta["frames"][0].pop("mask_path")
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="transforms_train.json: expected a 'mask_path' of every frame or of none"):
        config.setup().get_dataparser_outputs("train")

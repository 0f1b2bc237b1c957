"""The few-shot dataset and the checks before training."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.files.images import read_image


def llff(scene, split="train", scale=1.0, **flags):
    return FewShotDataset(LLFFDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs(split), scale)


def dtu(scan, split="train", **flags):
    return FewShotDataset(DTUDataParserConfig(data=scan, **flags).setup().get_dataparser_outputs(split))


@pytest.mark.parametrize("mode", ["bilinear", "area"])
def test_images_have_the_size_of_their_cameras(tiny_llff_scene, mode):
    dataset = llff(tiny_llff_scene, downscale_factor=2, resize=mode)
    data = dataset[1]
    assert set(data) == {"image_idx", "image"} and data["image_idx"] == 1
    assert data["image"].shape == (12, 16, 3) and data["image"].dtype == torch.float32
    full = read_image(dataset.image_filenames[1]).astype(np.float32) / 255
    # At factor two both ways are the mean of 2x2 pixels.
    np.testing.assert_allclose(data["image"].numpy(), full.reshape(12, 2, 16, 2, 3).mean((1, 3)), atol=1e-6)


def test_nerfstudio_s_scale_factor_scales_cameras_and_images(tiny_llff_scene):
    dataset = llff(tiny_llff_scene, scale=0.5)
    assert dataset[0]["image"].shape == (12, 16, 3) and dataset.size_of(0) == (12, 16)
    assert (dataset.cameras.width == 16).all()


def test_uint8_images(tiny_llff_scene):
    dataset = llff(tiny_llff_scene)
    data = dataset.get_data(0, "uint8")
    np.testing.assert_array_equal(data["image"].numpy(), read_image(dataset.image_filenames[0]))


def test_object_masks_are_fractional_at_their_border(tiny_dtu_scene):
    mask = dtu(tiny_dtu_scene, "test", downscale_factor=2)[0]["object_mask"]
    assert mask.shape == (6, 8, 1) and mask.dtype == torch.float32
    assert mask.max() == 1 and mask.min() == 0 and ((mask > 0) & (mask < 1)).any()


def test_only_255_belongs_to_the_object(tiny_dtu_scene):
    folder = tiny_dtu_scene.parents[1] / "idrmasks" / "scan1"
    cv2.imwrite(str(folder / "001.png"), np.full((12, 16), 254, np.uint8))
    assert dtu(tiny_dtu_scene, "test")[0]["object_mask"].sum() == 0


def test_valid_data_passes(tiny_dtu_scene, tiny_llff_scene):
    for split in ("train", "test"):
        validate_dataset(dtu(tiny_dtu_scene, split, depth_polarity="distance"))
        validate_dataset(llff(tiny_llff_scene, split, downscale_factor=3))


def test_damaged_files_are_named(tiny_dtu_scene):
    root = tiny_dtu_scene.parents[1]
    photo = tiny_dtu_scene / "rect_026_3_r5000.png"
    content = photo.read_bytes()
    photo.write_bytes(content[:-60])
    with pytest.raises(ValueError, match=r"rect_026_3_r5000\.png: expected a complete image"):
        validate_dataset(dtu(tiny_dtu_scene))
    photo.write_bytes(content)

    mask = root / "idrmasks" / "scan1" / "001.png"
    dataset = dtu(tiny_dtu_scene, "test")
    cv2.imwrite(str(mask), np.zeros((16, 12), np.uint8))
    with pytest.raises(ValueError, match=r"001\.png: expected the proportions of rect_002_3_r5000\.png"):
        validate_dataset(dataset)
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"001\.png"):
        validate_dataset(dataset)


def test_a_photo_that_changes_after_parsing_is_noticed(tiny_llff_scene):
    dataset = llff(tiny_llff_scene)
    cv2.imwrite(str(dataset.image_filenames[0]), np.zeros((32, 24, 3), np.uint8))
    with pytest.raises(ValueError, match=r"image001\.png: expected the proportions of its camera \(32x24"):
        validate_dataset(dataset)


def test_bad_priors_stop_nobody_who_does_not_need_them(tiny_dtu_scene):
    np.save(tiny_dtu_scene.parents[1] / "mono_depth" / "scan1" / "rect_026_3_r5000.npy", np.full((12, 16), np.nan))
    validate_dataset(dtu(tiny_dtu_scene, depth_polarity="distance"))


def blender(scene, **flags):
    return FewShotDataset(FewShotBlenderDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs("train"))


def test_alpha_is_that_of_the_file_at_the_cameras_size(tiny_blender_scene):
    dataset = blender(tiny_blender_scene)
    stored = read_image(dataset.image_filenames[2])[..., 3].astype(np.float32) / 255
    alpha = dataset.alpha(2)
    assert alpha is not None
    np.testing.assert_array_equal(alpha.numpy(), stored)
    small = blender(tiny_blender_scene, downscale_factor=2)
    alpha, alphas = small.alpha(2), small.alphas()
    assert alpha is not None and alphas is not None and small.has_alpha
    np.testing.assert_allclose(alpha.numpy(), stored.reshape(10, 2, 10, 2).mean((1, 3)), atol=1e-6)
    assert [tuple(one.shape) for one in alphas] == [(10, 10, 1)] * len(small)
    assert torch.equal(alphas[2][..., 0], alpha)


def test_photos_without_alpha_have_none(tiny_llff_scene, tiny_blender_scene):
    dataset = llff(tiny_llff_scene)
    assert dataset.alpha(0) is None and dataset.alphas() is None and not dataset.has_alpha
    # One photo without it is one too many, and alpha that nothing shows through says nothing.
    dataset = blender(tiny_blender_scene)
    cv2.imwrite(str(dataset.image_filenames[0]), np.zeros((20, 20, 3), np.uint8))
    assert dataset.alpha(0) is None and dataset.alpha(1) is not None and not dataset.has_alpha
    for path in dataset.image_filenames:
        cv2.imwrite(str(path), np.full((20, 20, 4), 255, np.uint8))
    assert dataset.alpha(0) is not None and dataset.alphas() is None and not dataset.has_alpha

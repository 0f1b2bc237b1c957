"""Images, masks and boxes of many scenes: values, bounded memory, errors; and draws of pixels and colours."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.files.images import read_image
from fewshot_ns.data.multiscene import images as scene_images
from fewshot_ns.data.multiscene.colour_jitter import ColourJitter, draw_colour_jitter
from fewshot_ns.data.multiscene.images import SceneImages, box_of, pixels_in_boxes
from fewshot_ns.data.records.scene import SceneError


def opened(data: Path, place: int = 0, **flags):
    parser = SRNDataParserConfig(data=data, **flags).setup()
    return parser.open_scene(parser.scene_table("train")[place])


@pytest.mark.parametrize("factor", [1, 2])
def test_images_are_those_on_disk(solids_once, factor):
    scene = opened(solids_once, downscale_factor=factor)
    image = SceneImages().image(scene, 2)
    full = read_image(scene.image_filenames[2]) / 255.0
    expected = full.reshape(16 // factor, factor, 16 // factor, factor, 3).mean(axis=(1, 3))
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image, expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2])
def test_single_colours_are_those_of_the_images(solids_once, factor):
    scene, images = opened(solids_once, downscale_factor=factor), SceneImages()
    side = 16 // factor
    indices = torch.stack([torch.randint(high, (200,)) for high in (5, side, side)], dim=-1)
    whole = images.images(scene, range(5))
    torch.testing.assert_close(images.colours(scene, indices), whole[tuple(indices.T)])
    assert images.colours(scene, indices[:0]).shape == (0, 3)


def transparent(scene, folder: Path):
    """The scene with one image half of which is transparent."""
    image = np.zeros((16, 16, 4), np.uint8)
    image[:, :8] = (0, 0, 200, 255)
    image[4, 10] = (0, 9, 0, 0)
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), image)
    return replace(scene, image_filenames=(folder / "a.png",) * 5, mask_from_background=False)


@pytest.mark.parametrize("background, value", [("white", 1.0), ("black", 0.0)])
@pytest.mark.parametrize("factor", [1, 2])
def test_transparent_pixels_lie_on_the_background(solids_once, tmp_path, background, value, factor):
    scene = transparent(opened(solids_once, background=background, downscale_factor=factor), tmp_path / "images")
    images = SceneImages()
    image, mask = images.image(scene, 0), images.mask(scene, 0)
    torch.testing.assert_close(image[0, 0], torch.tensor([200 / 255, 0.0, 0.0]))
    torch.testing.assert_close(image[0, -1], torch.full((3,), value))
    assert mask is not None and mask[:, : 8 // factor].eq(1).all() and mask[:, 8 // factor :].eq(0).all()
    # A transparent pixel with a colour belongs to the box, as in the original.
    assert images.box(scene, 0).tolist() == [0, 0, 10 / factor, 15 / factor]


def test_saturated_pixels_of_the_object_count_as_background(solids, tmp_path):
    scene = opened(solids)
    image = np.full((16, 16, 3), 255, np.uint8)
    image[3:9, 4:7] = (90, 100, 110)
    image[8, 6] = (255, 100, 110)
    cv2.imwrite(str(scene.image_filenames[0]), image)
    mask = SceneImages().mask(scene, 0)
    assert mask is not None and mask.sum() == 6 * 3 - 1 and mask[8, 6] == 0
    assert SceneImages().box(scene, 0).tolist() == [4, 3, 6, 8]
    black = replace(scene, background="black")
    assert SceneImages().box(black, 0).tolist() == [0, 0, 15, 15]


def test_an_empty_mask_gives_the_whole_image(solids):
    scene = opened(solids, downscale_factor=2)
    cv2.imwrite(str(scene.image_filenames[1]), np.full((16, 16, 3), 255, np.uint8))
    assert SceneImages().box(scene, 1).tolist() == [0, 0, 7, 7]
    assert SceneImages().boxes(scene, (0, 1)).shape == (2, 4)


def test_boxes_against_a_search():
    generator = np.random.default_rng(0)
    for density in (0.0, 0.01, 0.1):
        mask = generator.random((9, 13)) < density
        rows, columns = np.nonzero(mask)
        box = box_of(mask)
        if len(rows) == 0:
            assert box is None
        else:
            assert box is not None
            assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_pixels_fill_their_boxes_and_stay_in_the_image():
    boxes = torch.tensor([[2.0, 1.0, 4.0, 1.0], [3.5, 0.0, 7.5, 7.5]]).repeat_interleave(2000, dim=0)
    rows, columns = pixels_in_boxes(boxes, torch.rand(4000, 2), size=(8, 8))
    assert set(columns[:2000].tolist()) == {2, 3, 4} and set(rows[:2000].tolist()) == {1}
    assert set(columns[2000:].tolist()) == {3, 4, 5, 6, 7} and set(rows[2000:].tolist()) == set(range(8))
    rows, columns = pixels_in_boxes(boxes[-1:], torch.tensor([[0.9999, 0.9999]]))
    assert (rows.item(), columns.item()) == (8, 8)


def test_memory_is_bounded(solids_once, monkeypatch):
    scenes = [opened(solids_once, place) for place in range(5)]
    one = 16 * 16 * 3 + 512
    images, read = SceneImages(max_bytes=4 * one), []
    monkeypatch.setattr(scene_images, "read_image", lambda path: read.append(path) or read_image(path))
    for _ in range(2):
        for scene in scenes:
            for view in range(5):
                images.image(scene, view)
                assert images.cache.size <= 4 * one
    assert len(images.cache) == 4 and len(read) == 2 * 5 * 5
    images.image(scenes[-1], 4)
    assert len(read) == 2 * 5 * 5


def test_masks_from_files(solids):
    scene = opened(solids)
    path = solids / "mask.png"
    mask = np.zeros((16, 16), np.uint8)
    mask[2:5, 6:9] = (0, 128, 255)
    cv2.imwrite(str(path), mask)
    scene = replace(scene, mask_filenames=(path,) * 5, mask_from_background=False)
    found = SceneImages().mask(scene, 0)
    assert found is not None and found[3, 7].item() == pytest.approx(128 / 255)
    assert SceneImages().box(scene, 0).tolist() == [7, 2, 8, 4]
    assert SceneImages().mask(replace(scene, mask_filenames=None), 0) is None
    cv2.imwrite(str(path), np.zeros((16, 20), np.uint8))
    with pytest.raises(SceneError, match="mask.png: expected the proportions of its camera .*found 20x16"):
        SceneImages().mask(scene, 0)


def test_damaged_images_are_named_and_not_kept(solids, damage):
    scene = opened(solids)
    images = SceneImages()
    path = scene.image_filenames[3]
    kept = path.read_bytes()
    damage(path)
    for ask in (images.image, images.box, images.mask):
        with pytest.raises(SceneError, match="000003.png: expected a complete image, found a damaged or cut file"):
            ask(scene, 3)
    with pytest.raises(SceneError, match="000003.png"):
        images.colours(scene, torch.tensor([[3, 0, 0]]))
    path.write_bytes(kept)
    assert images.image(scene, 3).shape == (16, 16, 3)
    shutil.copy(scene.image_filenames[0], path)
    scene.image_filenames[4].unlink()
    with pytest.raises(SceneError, match="000004.png: expected an image file, found none"):
        images.image(scene, 4)
    cv2.imwrite(str(scene.image_filenames[0]), np.zeros((16, 32, 3), np.uint8))
    with pytest.raises(SceneError, match=r"000000.png: expected the proportions of its camera \(16x16 .*found 32x16"):
        images.image(scene, 0)


def test_draws_of_colour_jitter():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_colour_jitter(0.1, generator) for _ in range(300)]
    values = np.array([(draw.hue, draw.saturation - 1, draw.brightness - 1, draw.contrast - 1) for draw in draws])
    assert (np.abs(values) <= 0.1).all() and (np.abs(values).max(axis=0) > 0.09).all()
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.2
    assert draw_colour_jitter(0.1, torch.Generator().manual_seed(0)) == draws[0]
    for amount in (-0.1, 0.6):
        with pytest.raises(ValueError, match=r"in \[0, 0.5\]"):
            draw_colour_jitter(amount)


def test_no_jitter_changes_nothing_and_all_images_change_alike():
    images = torch.rand(3, 4, 5, 3)
    torch.testing.assert_close(ColourJitter().apply(images), images, atol=1e-5, rtol=0)
    jitter = ColourJitter(0.05, 1.1, 0.9, 1.05)
    changed = jitter.apply(images)
    assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 1
    torch.testing.assert_close(jitter.apply(images[1:2])[0], changed[1])

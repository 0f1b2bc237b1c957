"""A photo of an object made ready for pixelNeRF: against the original's rule, written out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.one_photo import (
    Ellipse,
    Square,
    fit_ellipse,
    normalised_image,
    outline_of,
    read_mask,
    read_photo,
    resampling_weights,
    square_about_box,
    square_about_ellipse,
)

RNG = np.random.default_rng(0)


def ellipse_mask(
    size: Tuple[int, int], centre: Tuple[float, float], axes: Tuple[float, float], turn: float
) -> np.ndarray:
    """(H, W) of an ellipse with whole axes `axes`, the first at `turn` degrees from the columns' axis."""
    row, column = np.mgrid[: size[0], : size[1]]
    x, y = column - centre[0], row - centre[1]
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    along, across = c * x + s * y, -s * x + c * y
    return ((2 * along / axes[0]) ** 2 + (2 * across / axes[1]) ** 2 <= 1).astype(np.float32)


def padded_crop(photo: np.ndarray, mask: np.ndarray, square: Square, background: float) -> np.ndarray:
    """What the original does before it resizes: paint, then pad, pixel by pixel."""
    crop = np.full((square.side, square.side, 3), background, np.float64)
    for row in range(square.side):
        for column in range(square.side):
            y, x = square.top + row, square.left + column
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]:
                crop[row, column] = photo[y, x] / 255 * mask[y, x] + background * (1 - mask[y, x])
    return crop


@pytest.mark.parametrize("turn", [0.0, 25.0, 90.0])
def test_the_ellipse_is_found_with_its_whole_axes(turn: float):
    mask = ellipse_mask((240, 320), (150.0, 110.0), (200.0, 80.0), turn)
    ellipse = fit_ellipse(outline_of(mask, "x"), "x")
    np.testing.assert_allclose(ellipse.centre, (150.0, 110.0), atol=0.6)
    # The outline runs through the centres of the outermost pixels.
    assert ellipse.major == pytest.approx(200.0, abs=2.0) and ellipse.minor == pytest.approx(80.0, abs=2.0)


def test_the_largest_part_counts_and_its_holes_do_not():
    mask = ellipse_mask((200, 300), (90.0, 100.0), (120.0, 70.0), 0.0)
    alone = outline_of(mask, "x")
    mask[95:105, 80:100] = 0
    mask[10:30, 250:290] = 1
    np.testing.assert_array_equal(outline_of(mask, "x"), alone)


@pytest.mark.parametrize(
    "minor, major, side",
    [
        # A car from the side: 4.37 times its height. half = ceil(4.37 * 100 / 2).
        (100.0, 300.0, 2 * 219),
        # A long one: half = ceil(0.8 * 700 / 2), above ceil(4.37 * 100 / 2).
        (100.0, 700.0, 2 * 280),
    ],
)
def test_the_square_follows_the_published_rule(minor: float, major: float, side: int):
    square = square_about_ellipse(Ellipse((320.4, 199.6), minor, major), 4.37, 0.8)
    assert square == Square(320 - side // 2, 200 - side // 2, side)


def test_the_flags_change_the_square():
    ellipse = Ellipse((50.0, 50.0), 10.0, 20.0)
    assert square_about_ellipse(ellipse, 2.0, 3.0).side == 60
    with pytest.raises(ValueError, match="--minor-scale and --major-scale"):
        square_about_ellipse(ellipse, 0.0, 0.8)
    outline = np.array([[10, 20], [49, 20], [49, 39], [10, 39]], np.int32)
    # 40 columns are half of 80; the box's middle is the edge between pixels 29 and 30.
    assert square_about_box(outline, 0.5) == Square(30 - 40, 30 - 40, 80)
    with pytest.raises(ValueError, match="--fill: expected a share above 0 and at most 1, got 1.5"):
        square_about_box(outline, 1.5)


@pytest.mark.parametrize("background", ["white", "black"])
@pytest.mark.parametrize("square", [Square(10, 5, 48), Square(-20, -7, 96), Square(30, 20, 36), Square(60, 10, 40)])
def test_cropping_equals_painting_padding_and_averaging(square: Square, background: str):
    photo = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    mask = RNG.random((50, 70)).astype(np.float32)
    found = normalised_image(photo, mask, square, 12, background)  # type: ignore[arg-type]
    crop = padded_crop(photo, mask, square, float(background == "white"))
    expected = cv2.resize(crop, (12, 12), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


def test_uneven_sizes_are_averaged_too():
    photo, mask = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8), np.ones((50, 70), np.float32)
    found = normalised_image(photo, mask, Square(3, -6, 50), 16, "white")
    crop = padded_crop(photo, mask, Square(3, -6, 50), 1.0)
    fine = np.repeat(np.repeat(crop, 16, axis=0), 16, axis=1)
    np.testing.assert_allclose(found, fine.reshape(16, 50, 16, 50, 3).mean(axis=(1, 3)), atol=1e-5)


def test_a_small_photo_is_enlarged_without_steps():
    photo, mask = RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8), RNG.random((20, 20)).astype(np.float32)
    square = Square(-2, 11, 10)
    crop = padded_crop(photo, mask, square, 1.0)
    expected = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(normalised_image(photo, mask, square, 32, "white"), expected, atol=1e-5)


def test_a_square_beside_the_photo_is_background():
    photo, mask = np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.float32)
    assert (normalised_image(photo, mask, Square(40, -50, 16), 8, "white") == 1.0).all()
    assert resampling_weights(-4, 8, 4, 10).sum(axis=1).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_an_object_lands_in_the_middle_as_large_as_said():
    mask = ellipse_mask((400, 600), (380.0, 150.0), (240.0, 70.0), 0.0)
    photo = np.zeros((400, 600, 3), np.uint8)
    square = square_about_ellipse(fit_ellipse(outline_of(mask, "x"), "x"), 4.37, 0.8)
    seen = normalised_image(photo, mask, square, 128, "white")[..., 0] < 0.5
    rows, columns = np.nonzero(seen)
    assert abs(columns.mean() - 63.5) < 1.0 and abs(rows.mean() - 63.5) < 1.0
    assert np.ptp(columns) + 1 == pytest.approx(128 * 240 / (4.37 * 70), abs=2.5)


def test_transparency_is_the_mask(tmp_path: Path):
    image = RNG.integers(0, 256, (8, 10, 4), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "cut.png")
    photo, mask = read_photo(tmp_path / "cut.png")
    np.testing.assert_array_equal(photo, image[..., :3])
    assert mask is not None
    np.testing.assert_allclose(mask, image[..., 3] / 255, atol=1e-6)
    image[..., 3] = 255
    Image.fromarray(image).save(tmp_path / "opaque.png")
    assert read_photo(tmp_path / "opaque.png")[1] is None
    Image.fromarray(image[..., :3]).save(tmp_path / "plain.png")
    assert read_photo(tmp_path / "plain.png")[1] is None


@pytest.mark.parametrize("orientation, turned", [(6, -1), (8, 1), (3, 2)])
def test_photos_are_turned_as_viewers_show_them(tmp_path: Path, orientation: int, turned: int):
    image = np.zeros((24, 40, 3), np.uint8)
    image[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "x.jpg", exif=exif, quality=95)
    photo, _ = read_photo(tmp_path / "x.jpg")
    np.testing.assert_allclose(photo.astype(int), np.rot90(image, turned).astype(int), atol=40)


def test_masks_of_every_kind(tmp_path: Path):
    inside = np.zeros((20, 30), np.uint8)
    inside[5:15, 10:25] = 1
    grey, ones = inside * 255, inside
    kinds = {
        "grey.png": grey,
        "ones.png": ones,
        "rgb.png": np.repeat(grey[..., None], 3, axis=-1),
        "cut.png": np.concatenate([np.full((20, 30, 3), 90, np.uint8), grey[..., None]], axis=-1),
    }
    for name, array in kinds.items():
        Image.fromarray(array).save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name, Path("p.jpg"), (20, 30)), inside)
    Image.fromarray(grey > 0).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png", Path("p.jpg"), (20, 30)), inside)


def test_bad_masks_are_named(tmp_path: Path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png: expected a mask of p\.jpg's size, 40x20 pixels .* found 30x20"):
        read_mask(tmp_path / "m.png", Path("p.jpg"), (20, 40))
    with pytest.raises(ValueError, match=r"m\.png: expected a mask with an object in it, found none; give --mask"):
        outline_of(read_mask(tmp_path / "m.png", Path("p.jpg"), (20, 30)), "m.png")
    tiny = np.zeros((20, 30), np.float32)
    tiny[4:7, 4:7] = 1
    with pytest.raises(ValueError, match="at least 5x5 pixels"):
        outline_of(tiny, "m.png")


def test_shapes_that_no_ellipse_fits_are_named():
    corner = np.zeros((400, 400), np.float32)
    corner[50:350, 200:220] = corner[330:350, 50:220] = 1
    outline = outline_of(corner, "m.png")
    with pytest.raises(ValueError, match=r"m\.png: expected an outline that an ellipse fits.*give --fill"):
        fit_ellipse(outline, "m.png")
    # 300 rows, three quarters of 400, about the middle of columns 50 to 219 and rows 50 to 349.
    assert square_about_box(outline, 0.75) == Square(round(135) - 200, 200 - 200, 400)


def test_bad_photos_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"x\.jpg: expected a readable image"):
        read_photo(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError, match=r"y\.jpg: expected an image file, found none"):
        read_photo(tmp_path / "y.jpg")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"big\.png: expected a readable image"):
        read_photo(tmp_path / "big.png")

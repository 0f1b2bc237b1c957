"""Pictures for people: colours, sizes, captions."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_ns.presentation.pictures import (
    INVALID,
    STRIPE,
    LabelledImage,
    colorize_depth,
    colorize_error,
    contact_sheet,
    hatch,
    save_png,
    shared_depth_range,
    side_by_side,
    to_uint8,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(colour: tuple[int, int, int], height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def test_to_uint8_takes_all_that_a_model_gives() -> None:
    image = torch.rand(5, 6, 3)
    expected = (image.numpy().astype(np.float64) * 255).round().astype(np.uint8)
    assert np.array_equal(to_uint8(image), expected)
    assert np.array_equal(to_uint8(image.double().numpy()), expected)
    assert np.array_equal(to_uint8(expected), expected)
    assert np.array_equal(to_uint8(image[..., :1]), np.repeat(expected[..., :1], 3, axis=-1))
    assert np.array_equal(to_uint8(image[..., 0]), np.repeat(expected[..., :1], 3, axis=-1))
    assert to_uint8(image.bfloat16().requires_grad_()).shape == (5, 6, 3)
    assert to_uint8(np.array([[-1.0, 2.0, np.nan]]))[0, :, 0].tolist() == [0, 255, 0]
    for shape in [(3, 5, 6), (5, 6, 4), (5,), (0, 6, 3), (1, 5, 6, 3)]:
        with pytest.raises(ValueError, match="expected an image of shape"):
            to_uint8(np.zeros(shape))


def test_depth_runs_through_turbo_from_near_to_far() -> None:
    depth = torch.linspace(2.0, 6.0, 256).reshape(16, 16, 1)
    turbo = (matplotlib.colormaps["turbo"](np.linspace(0, 1, 256))[:, :3] * 255).round()
    picture = colorize_depth(depth).reshape(-1, 3).astype(int)
    assert np.abs(picture - turbo).max() <= 8
    assert picture[0, 2] > picture[0, 0] and picture[-1, 0] > picture[-1, 2]
    # In a shared range one depth has one colour in both pictures.
    near, far = 2.0, 10.0
    first, second = (colorize_depth(np.full((4, 4), 5.0) + extra, near, far) for extra in (0.0, np.eye(4)))
    assert np.array_equal(first[0, 1], second[0, 1]) and not np.array_equal(first[0, 0], second[0, 0])
    assert np.array_equal(colorize_depth(np.array([[99.0]]), near, far), colorize_depth(np.array([[10.0]]), near, far))


def test_depth_that_is_not_finite_is_grey_and_constant_depth_works() -> None:
    depth = np.array([[1.0, 2.0], [np.nan, np.inf]])
    picture = colorize_depth(depth)
    assert [tuple(pixel) for pixel in picture[1]] == [INVALID, INVALID]
    assert not np.array_equal(picture[0, 0], picture[0, 1])
    assert (colorize_depth(np.full((3, 3), np.nan)) == INVALID).all()
    assert colorize_depth(np.full((3, 3), 4.0)).shape == (3, 3, 3)
    with pytest.raises(ValueError, match=r"depth image: expected shape.*got \(4, 4, 3\)"):
        colorize_depth(np.zeros((4, 4, 3)))


def test_shared_depth_range() -> None:
    assert shared_depth_range([torch.full((2, 2, 1), 3.0), np.full((3, 3), 7.0)]) == (3.0, 7.0)
    outlier = np.full((100, 100), 2.0)
    outlier[:50] = 4.0
    outlier[0, 0], outlier[0, 1], outlier[0, 2] = 1e6, np.nan, np.inf
    assert shared_depth_range([outlier]) == (2.0, 4.0)
    near, far = shared_depth_range([np.full((2, 2), 5.0)])
    assert near == 5.0 and far > near
    # What splats show nothing at has no part in it.
    outlier[:30] = 0.0
    assert shared_depth_range([outlier, np.zeros((300, 300))]) == (2.0, 4.0)
    assert shared_depth_range([np.zeros((2, 2))])[0] == 0.0
    with pytest.raises(ValueError, match="at least one finite depth"):
        shared_depth_range([np.full((2, 2), np.inf)])


def test_error_is_black_where_equal_and_brighter_where_worse() -> None:
    truth = torch.full((1, 4, 3), 0.5)
    pred = truth + torch.tensor([0.0, 0.1, 0.3, 0.5]).reshape(1, 4, 1)
    brightness = colorize_error(pred, truth)[0].astype(int).sum(axis=-1)
    assert brightness[0] <= 8 and (np.diff(brightness) > 100).all()
    with pytest.raises(ValueError, match="one shape"):
        colorize_error(pred, truth[:, :3])


@pytest.mark.parametrize("widths", [(40, 40), (41, 40), (40,)])
def test_side_by_side_keeps_pixels_and_is_even(widths: tuple[int, ...]) -> None:
    joined = side_by_side([plain(colour, 31, width) for colour, width in zip([RED, BLUE], widths, strict=False)], gap=4)
    total = sum(widths) + 4 * (len(widths) - 1)
    assert joined.shape == (32, total + total % 2, 3)
    assert (joined[:31, : widths[0]] == RED).all()
    if len(widths) == 2:
        assert (joined[:31, widths[0] : widths[0] + 4] == 255).all()
        assert (joined[:31, widths[0] + 4 : total] == BLUE).all()
    taller = side_by_side([plain(RED, 30, 40), plain(BLUE, 60, 40)], gap=0)
    assert taller.shape == (30, 60, 3) and (taller[:, 40:] == BLUE).all()
    with pytest.raises(ValueError, match="at least one image"):
        side_by_side([])


def ink(sheet: np.ndarray) -> np.ndarray:
    """Where the sheet is dark like text."""
    return (sheet.astype(int).sum(axis=-1) < 300) & (np.ptp(sheet.astype(int), axis=-1) < 30)


def test_contact_sheet_holds_every_image_with_ink_below() -> None:
    colours = [[RED, GREEN, BLUE], [BLUE, RED]]
    rows = [[LabelledImage(plain(colour), f"view {n}") for n, colour in enumerate(row)] for row in colours]
    sheet = contact_sheet(rows, title="Title", row_titles=["first", "second"], cell_width=80, gap=10)
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 3 * 80 + 4 * 10
    for colour, count in ((RED, 2), (GREEN, 1), (BLUE, 2)):
        assert (sheet == colour).all(axis=-1).sum() == count * 80 * 60
    # Each image has its caption below, within its own column.
    top = int(np.argmax((sheet[:, 10] == RED).all(axis=-1)))
    for column in range(3):
        left = 10 + column * 90
        assert ink(sheet[top + 60 : top + 85, left : left + 80]).sum() > 20
    # The second row is one image short: white to the right of it.
    second = top + 60 + int(np.argmax((sheet[top + 60 :, 10] == BLUE).all(axis=-1)))
    assert (sheet[second:, 190:] == 255).all()
    # The two headings stand above their rows.
    assert ink(sheet[:top]).sum() > 100


def test_long_captions_wrap_and_keep_to_their_column() -> None:
    caption = "one caption that is much too long for the narrow picture that it stands under"
    short = contact_sheet([[LabelledImage(plain(RED), "x"), LabelledImage(plain(RED))]], cell_width=80, gap=10)
    long = contact_sheet([[LabelledImage(plain(RED), caption), LabelledImage(plain(RED))]], cell_width=80, gap=10)
    assert long.shape[0] > short.shape[0] + 50
    assert ink(long[70:, 10:90]).sum() > 200
    assert not ink(long[70:, 92:]).any()


def test_sheet_errors() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([[]])
    with pytest.raises(ValueError, match="expected 1 row titles, got 2"):
        contact_sheet([[LabelledImage(plain(RED))]], row_titles=["a", "b"])


def test_saved_png_is_the_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    save_png(image, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as opened:
        assert opened.format == "PNG" and np.array_equal(np.array(opened), image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_what_is_unknown_is_hatched():
    picture = np.full((16, 24, 3), 7, np.uint8)
    unknown = np.zeros((16, 24), bool)
    unknown[4:, 10:] = True
    hatched = hatch(picture, unknown)
    assert (picture == 7).all() and (hatched[~unknown] == 7).all()
    colours = {tuple(colour) for colour in hatched[unknown].tolist()}
    assert colours == {INVALID, STRIPE}
    # Stripes run diagonally: one step to the right and one up is the same colour.
    assert (hatched[6:15, 11:22] == hatched[5:14, 12:23]).all()

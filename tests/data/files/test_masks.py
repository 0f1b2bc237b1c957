"""Masks as any tool writes them: what is read of them, and which of them belongs to which photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.files.masks import check_mask_of, find_masks, mask_values, read_mask
from fewshot_ns.data.files.photo_files import photo_names

INSIDE = np.zeros((24, 32), dtype=bool)
INSIDE[6:18, 9:25] = True
WHITE = np.where(INSIDE, 255, 0).astype(np.uint8)
BLACK = np.zeros_like(WHITE)
OPAQUE = np.full_like(WHITE, 255)


def palette() -> Image.Image:
    """Index 1 is the object, drawn in blue."""
    image = Image.fromarray(INSIDE.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 0, 200])
    return image


def stacked(*channels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack(channels, axis=-1))


KINDS: Dict[str, Callable[[], Image.Image]] = {
    "grey": lambda: Image.fromarray(WHITE),
    "ones": lambda: Image.fromarray(INSIDE.astype(np.uint8)),
    "one dark grey": lambda: Image.fromarray(np.where(INSIDE, 90, 0).astype(np.uint8)),
    "one bit": lambda: Image.fromarray(WHITE).convert("1"),
    "palette": palette,
    "rgb": lambda: stacked(WHITE, WHITE, WHITE),
    "green alone": lambda: stacked(BLACK, WHITE, BLACK),
    "rgba, drawn in alpha": lambda: stacked(BLACK, BLACK, BLACK, WHITE),
    "rgba, white in alpha": lambda: stacked(OPAQUE, OPAQUE, OPAQUE, WHITE),
    "rgba, opaque": lambda: stacked(BLACK, BLACK, WHITE, OPAQUE),
    "rgba, nowhere opaque": lambda: stacked(BLACK, BLACK, WHITE, BLACK),
    "grey and alpha": lambda: Image.fromarray(np.stack([BLACK, WHITE], axis=-1), "LA"),
    "soft": lambda: Image.fromarray(np.where(INSIDE, 129, 126).astype(np.uint8)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_png_is_one_mask(kind: str, tmp_path: Path) -> None:
    KINDS[kind]().save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), INSIDE)


def test_what_jpeg_leaves_around_an_edge_does_not_count(tmp_path: Path) -> None:
    Image.fromarray(WHITE).save(tmp_path / "m.jpg", quality=30)
    values = mask_values(tmp_path / "m.jpg")
    assert ((values > 0) & ~INSIDE).any(), "the file has to ring for this test to mean anything"
    np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg"), INSIDE)


@pytest.mark.parametrize(("grey", "expected"), [(0, False), (255, True), (128, True), (1, True)])
def test_masks_of_one_value(grey: int, expected: bool, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png") == expected).all()


def test_white_alone_where_the_format_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 254], [255, 128]], np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 255), [[0, 0], [1, 0]])
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [[0, 1], [1, 1]])


def test_labels_and_other_depths_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8)).save(tmp_path / "labels.png")
    with pytest.raises(ValueError, match=r"labels\.png: expected a mask that is white .* found 2 values from 1 to 2"):
        read_mask(tmp_path / "labels.png")
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: expected an image of 8 bits"):
        read_mask(tmp_path / "deep.png")


def test_proportions(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    check_mask_of(tmp_path / "m.png", (24, 32), tmp_path / "photo.png")
    message = r"m\.png: expected the proportions of photo\.png \(64x48 pixels, width x height\), found 48x64"
    with pytest.raises(ValueError, match=message):
        check_mask_of(tmp_path / "m.png", (64, 48), tmp_path / "photo.png")


def touch(folder: Path, *names: str) -> Any:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return tuple(folder / name for name in names)


def test_masks_are_found_by_the_path_of_their_photo(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "left/1.jpg", "right/1.jpg", "right/2.JPG", "right/3.png")
    masks = tmp_path / "masks"
    expected = touch(masks, "left/1.png", "right/1.jpg.png", "2.jpeg")
    assert find_masks(masks, photo_names(images)) == (*expected, None)
    # Photos of one folder need no folder of masks.
    assert find_masks(masks / "left", photo_names(images[:1])) == expected[:1]


def test_a_name_of_several_photos_is_refused(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "left/1.jpg", "right/1.jpg")
    touch(tmp_path / "masks", "1.png")
    with pytest.raises(ValueError, match=r"masks/1\.png: .* found 2 photos of that name, left/1\.jpg and right/1\.jpg"):
        find_masks(tmp_path / "masks", photo_names(images))


def test_colours_are_no_mask_unless_they_are_dark_somewhere(tmp_path: Path) -> None:
    inside = np.zeros((4, 4, 1), bool)
    inside[:2] = True
    Image.fromarray(np.where(inside, [255, 0, 0], [0, 0, 255]).astype(np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match=r"colours\.png: expected a mask that is dark off the object"):
        read_mask(tmp_path / "colours.png")
    Image.fromarray(np.where(inside, [255, 0, 0], [0, 0, 0]).astype(np.uint8)).save(tmp_path / "red.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "red.png"), inside[..., 0])


def test_alpha_that_hides_nothing_is_no_mask(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    image[:2, :, :3], image[..., 3] = 255, 255
    image[0, 0, 3] = 254
    Image.fromarray(image).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png")[:, 0], [1, 1, 0, 0])

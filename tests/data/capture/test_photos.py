"""Photos of any kind to upright pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from fewshot_ns.data.capture.photos import gather_photos, warnings_of


def picture(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 255, (height, width, 3)).astype(np.uint8))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = picture()
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "a.png", exif=exif)
    (photo,) = gather_photos(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "in" / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB")).astype(int)
    assert (photo.height, photo.width) == expected.shape[:2] == ((40, 60) if orientation < 5 else (60, 40))
    np.testing.assert_array_equal(pixels(tmp_path / "out" / photo.name), expected)
    with Image.open(tmp_path / "out" / photo.name) as written:
        assert written.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_focal_length_follows_the_size_that_is_written(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Maker", "Phone"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    (tmp_path / "in").mkdir()
    picture(400, 300).save(tmp_path / "in" / "a.jpg", exif=exif)
    (photo,) = gather_photos(tmp_path / "in", tmp_path / "out", max_side=200)
    assert (photo.width, photo.height) == (200, 150)
    # 26 mm on 35 mm film, whose diagonal is 43.27 mm; that of the picture is 250 pixels.
    assert photo.focal == pytest.approx(26 * 250 / math.hypot(36, 24))
    assert photo.focal_source == "FocalLengthIn35mmFilm" and "Maker Phone" in photo.camera


def test_order_duplicates_and_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, seed in (("IMG_10.png", 1), ("IMG_9.png", 0), ("IMG_9.webp", 2), ("zcopy.png", 0)):
        picture(seed=seed).save(tmp_path / "in" / name, lossless=True)
    photos = gather_photos(tmp_path / "in", tmp_path / "out")
    assert [Path(photo.source).name for photo in photos] == ["IMG_9.png", "IMG_9.webp", "IMG_10.png"]
    assert len({Path(photo.name).stem for photo in photos}) == 3


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "a.png")
    first = gather_photos(tmp_path / "in", tmp_path / "out")
    written = tmp_path / "out" / first[0].name
    before = written.stat().st_mtime_ns
    assert gather_photos(tmp_path / "in", tmp_path / "out") == first and written.stat().st_mtime_ns == before
    picture(seed=5).save(tmp_path / "in" / "a.png")
    assert gather_photos(tmp_path / "in", tmp_path / "out") != first


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", ".png"), ("P", ".png"), ("CMYK", ".jpg"), ("LA", ".png"), ("RGBA", ".png"), ("1", ".png")],
)
def test_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    picture(64, 64).convert(mode).save(tmp_path / "in" / f"a{suffix}")
    (photo,) = gather_photos(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out" / photo.name) as image:
        assert image.mode == "RGB"


def test_sixteen_bits_and_transparency(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "in" / "deep.png")
    clear = picture(64, 64).convert("RGBA")
    clear.putalpha(Image.fromarray((np.arange(64 * 64).reshape(64, 64) % 256).astype(np.uint8)))
    clear.save(tmp_path / "in" / "clear.png")
    found = {photo.name: photo for photo in gather_photos(tmp_path / "in", tmp_path / "out")}
    np.testing.assert_allclose(pixels(tmp_path / "out" / "deep.png")[..., 0], values / 65535 * 255, atol=0.51)
    with Image.open(tmp_path / "out" / "clear.png") as image:
        assert image.mode == "RGBA" and set(found) == {"deep.png", "clear.png"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format PNG, as its name says, found EPS"),
        ("a.jpg", b"no image at all", "format JPEG, as its name says, found something else"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "a.png: expected"),
    ],
)
def test_what_is_no_photo_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        gather_photos(tmp_path / "in", tmp_path / "out")


def test_cut_tiny_and_missing_photos_are_refused(tmp_path: Path) -> None:
    for folder in ("cut", "tiny", "none"):
        (tmp_path / folder).mkdir()
    picture(200, 200).save(tmp_path / "whole.jpg")
    (tmp_path / "cut" / "a.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    picture(9, 9).save(tmp_path / "tiny" / "a.png")
    (tmp_path / "none" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="a.jpg: expected a complete photo"):
        gather_photos(tmp_path / "cut", tmp_path / "out")
    with pytest.raises(ValueError, match="at least 32 pixels a side, found 9x9"):
        gather_photos(tmp_path / "tiny", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="expected photos .* found files"):
        gather_photos(tmp_path / "none", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="nowhere: expected a folder of photos"):
        gather_photos(tmp_path / "nowhere", tmp_path / "out")


def test_warnings_name_blurred_and_plain_photos(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        picture(320, 320, number).save(tmp_path / "in" / f"sharp{number}.png")
    smooth = Image.fromarray(np.tile(np.linspace(0, 255, 320).astype(np.uint8), (320, 1)))
    smooth.save(tmp_path / "in" / "blurred.png")
    Image.new("RGB", (320, 320), (90, 90, 90)).save(tmp_path / "in" / "plain.png")
    said = warnings_of(gather_photos(tmp_path / "in", tmp_path / "out"))
    assert [line.split(":")[0] for line in said] == ["blurred.png", "plain.png"]
    assert "blurred" in said[0] and "one colour" in said[1]

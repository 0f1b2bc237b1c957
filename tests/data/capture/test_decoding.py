"""Photos of all formats to upright sRGB pixels; what is none of them is refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from fewshot_ns.data.capture.decoding import FORMATS, decode_photo, shrink

HAS_HEIF = find_spec("pillow_heif") is not None


def noise(height: int = 40, width: int = 60, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


STORED: Dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera stores an upright picture under each orientation tag (Exif 2.32, tag 0x0112): where the stored row 0
and column 0 are in the picture, 6 for instance 'right side, top'."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_orientation_is_applied_exactly(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright, exif = noise(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    # Only WebP knows `lossless`; the others ignore it.
    stored.save(tmp_path / f"a{suffix}", exif=exif, lossless=True)
    np.testing.assert_array_equal(decode_photo(tmp_path / f"a{suffix}").pixels, upright)


def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 9
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.png").pixels, noise())


def test_sixteen_bits_keep_black_and_white(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for name, grey in (("all.png", values), ("all.tif", values), ("dark.png", values // 300)):
        Image.fromarray(grey).save(tmp_path / name)
        pixels = decode_photo(tmp_path / name).pixels
        assert pixels.shape == (64, 64, 3)
        np.testing.assert_allclose(pixels[..., 1], grey / 65535 * 255, atol=0.51)


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    deep = np.random.RandomState(0).randint(0, 65536, (40, 60, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    np.testing.assert_allclose(decode_photo(tmp_path / "a.png").pixels, deep / 257, atol=1.0)


def test_numbers_without_a_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((40, 40), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif: expected 8 or 16 bits per channel, found F"):
        decode_photo(tmp_path / "a.tif")


def test_cmyk_and_palettes(tmp_path: Path) -> None:
    red = Image.new("RGB", (40, 40), (250, 10, 10))
    red.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b.png")
    for name in ("a.jpg", "b.png"):
        pixels = decode_photo(tmp_path / name).pixels
        np.testing.assert_allclose(pixels, np.broadcast_to([250, 10, 10], (40, 40, 3)), atol=4)


def test_transparency_stays_where_there_is_some(tmp_path: Path) -> None:
    clear = noise(channels=4)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(decode_photo(tmp_path / "clear.png").pixels, clear)
    clear[..., 3] = 255
    Image.fromarray(clear).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(decode_photo(tmp_path / "opaque.png").pixels, clear[..., :3])
    palette = Image.fromarray(noise()).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=0)
    pixels = decode_photo(tmp_path / "palette.png").pixels
    np.testing.assert_array_equal(pixels[..., 3] == 0, np.asarray(palette) == 0)


def profile_with_swapped_primaries() -> bytes:
    """An sRGB profile whose red and green primaries have changed places: pixels (r, g, b) mean (g, r, b)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    # Its own name would say sRGB.
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    pixels = np.clip(noise(), 30, 220)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile_with_swapped_primaries())
    np.testing.assert_allclose(decode_photo(tmp_path / "a.png").pixels, pixels[..., [1, 0, 2]], atol=3)
    clear = np.concatenate([pixels, noise(channels=1, seed=1)], axis=-1)
    Image.fromarray(clear).save(tmp_path / "b.png", icc_profile=profile_with_swapped_primaries())
    np.testing.assert_allclose(decode_photo(tmp_path / "b.png").pixels, clear[..., [1, 0, 2, 3]], atol=3)


@pytest.mark.parametrize("profile", [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_a_broken_profile_and_that_of_srgb_change_nothing(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.png").pixels, noise())


def test_several_pictures_in_a_file_count_as_the_first(tmp_path: Path) -> None:
    one, other = Image.new("RGB", (64, 48), (200, 0, 0)), Image.new("RGB", (64, 48), (0, 0, 200))
    one.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[other])
    one.save(tmp_path / "moving.webp", save_all=True, append_images=[other], lossless=True)
    one.save(tmp_path / "moving.png", save_all=True, append_images=[other])
    for name in ("phone.jpg", "moving.webp", "moving.png"):
        np.testing.assert_allclose(decode_photo(tmp_path / name).pixels[0, 0], (200, 0, 0), atol=3)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says to be so large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "format PNG, .* found EPS"),
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "format JPEG, .* found EPS"),
        ("a.jpg", b"no image at all, by any format", "format JPEG, .* found something else"),
        ("a.jpg", b"", "found an empty file"),
        ("a.jpg", encoded("WEBP"), "format JPEG, .* found WEBP; rename it to a.webp"),
        ("a.jpeg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "found HEIF; rename it to a.heic"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "damaged or cut file"),
        ("a.png", png_header(40000, 40000), "fits into memory, found a larger one"),
        ("a.png", png_header(1, 1), "a.png: expected"),
        ("a.gif", encoded("GIF"), r"a.gif: expected a photo \(.jpg, .*\), found .gif"),
        ("a", encoded("PNG"), "found no extension"),
    ],
)
def test_what_is_no_photo_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        decode_photo(tmp_path / name)


def test_nothing_but_the_named_format_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of EPS would start Ghostscript."""
    from PIL import EpsImagePlugin

    def started(*_: Any, **__: Any) -> None:
        pytest.fail("Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    Image.fromarray(noise()).save(tmp_path / "a.eps")
    for suffix in FORMATS:
        if suffix not in (".heic", ".heif"):
            (tmp_path / "a.eps").rename(tmp_path / f"a{suffix}")
            with pytest.raises(ValueError, match="found EPS"):
                decode_photo(tmp_path / f"a{suffix}")
            (tmp_path / f"a{suffix}").rename(tmp_path / "a.eps")


def test_one_pixel_and_no_file_are_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(1, 1)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least 32 pixels a side, found 1x1"):
        decode_photo(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="b.png: expected a photo, found no such file"):
        decode_photo(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_no_damage_is_anything_but_a_message(tmp_path: Path, suffix: str) -> None:
    random, file = np.random.RandomState(0), tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    Image.fromarray(noise()).save(file, exif=exif)
    whole, refused = file.read_bytes(), 0
    for round_ in range(60):
        data = bytearray(whole)
        for _ in range(6):
            data[random.randint(min(len(data), 300))] = random.randint(256)
        file.write_bytes(bytes(data[: random.randint(1, len(data))] if round_ % 2 else data))
        try:
            decode_photo(file)
        except ValueError as error:
            assert f"a{suffix}: expected" in str(error)
            refused += 1
    assert refused >= 15


def test_a_cut_photo_is_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(200, 200)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-3000])
    with pytest.raises(ValueError, match="a.jpg: expected a complete photo, found a damaged or cut file"):
        decode_photo(tmp_path / "a.jpg")


@pytest.mark.skipif(HAS_HEIF, reason="pillow-heif is installed")
def test_heic_names_the_package_it_needs(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError, match=r"a.heic: HEIC photos need pillow-heif, .*'fewshot-ns\[photos\]'"):
        decode_photo(tmp_path / "a.heic")


@pytest.mark.skipif(not HAS_HEIF, reason="needs the Python package pillow-heif")
def test_heic_is_upright_and_has_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    upright = np.repeat(np.repeat(noise(8, 12), 16, axis=0), 16, axis=1)
    import pillow_heif

    # As phones do: the tag, and the file's own transformation beside it, which is the one that counts.
    stored = pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(STORED[6](upright))))
    stored.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=100)
    photo = decode_photo(tmp_path / "a.heic")
    assert photo.exif.focal_source == "FocalLengthIn35mmFilm" and photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 8
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:700])
    with pytest.raises(ValueError, match="a.heic: expected a complete photo"):
        decode_photo(tmp_path / "a.heic")


def test_the_reader_of_tiff_leaves_no_orientation_behind(tmp_path: Path) -> None:
    """Pillow applies TIFF's own when it loads since version 11; it must not be applied twice."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = 6
    Image.fromarray(np.ascontiguousarray(STORED[6](noise()))).save(tmp_path / "a.tiff", tiffinfo=tags)
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.tiff").pixels, noise())


def test_shrinking_averages_and_never_enlarges() -> None:
    pixels = noise(40, 60)
    np.testing.assert_array_equal(shrink(pixels, 60), pixels)
    expected = pixels.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrink(pixels, 30), expected, atol=0.51)
    assert shrink(pixels, 59).shape == (39, 59, 3)


def test_what_is_transparent_does_not_colour_what_is_not() -> None:
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:, ::2] = (200, 100, 50, 255)
    small = shrink(pixels, 30)
    np.testing.assert_array_equal(small[..., :3], np.broadcast_to([200, 100, 50], (20, 30, 3)))
    np.testing.assert_allclose(small[..., 3], 127.5, atol=0.51)

"""Reading and resizing photos and masks."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from fewshot_ns.data.capture.decoding import decode_photo
from fewshot_ns.data.files.images import (
    downscaled_size,
    has_alpha,
    image_size,
    is_plain,
    list_images,
    read_image,
    resize_float,
    same_aspect,
)
from fewshot_ns.data.files.masks import read_mask

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG", ".jpeg"])
def test_every_format_is_listed_and_read(tmp_path, suffix):
    image = np.full((6, 8, 3), 120, np.uint8)
    for name in ("b", "a"):
        Image.fromarray(image).save(tmp_path / f"{name}{suffix}")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / f"._a{suffix}").write_text("left by a file system")
    files = list_images(tmp_path)
    assert [path.name for path in files] == [f"a{suffix}", f"b{suffix}"]
    assert image_size(files[0]) == (6, 8)
    np.testing.assert_allclose(read_image(files[0]), image, atol=2)


@pytest.mark.parametrize("mode, channels", [("L", 3), ("P", 3), ("RGB", 3), ("RGBA", 4), ("LA", 4)])
def test_modes_become_rgb_or_rgba(tmp_path, mode, channels):
    Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)).convert(mode).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").shape == (5, 7, channels)


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: expected an image of 8 bits per channel"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_missing_and_foreign_files(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert image_size(path) == (64, 64)
    with pytest.raises(ValueError, match=rf"x\{suffix}: expected a complete image, found a damaged or cut file"):
        read_image(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="expected a readable image"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.png: expected an image file, found none"):
        read_image(tmp_path / "absent.png")
    empty = tmp_path / "nothing"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="expected images"):
        list_images(empty)
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        list_images(tmp_path / "absent")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.eps"])
def test_no_photo_starts_a_program(tmp_path, monkeypatch, name):
    """Pillow goes by content, and hands PostScript to the program called gs."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho started >> {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / name
    path.write_bytes(EPS)
    for read in (read_image, image_size, has_alpha, is_plain, read_mask, decode_photo):
        with pytest.raises(ValueError, match=rf"{name}: expected"):
            read(path)
    assert not (tmp_path / "started").exists()
    with pytest.raises(OSError), Image.open(path) as image:
        image.load()
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("name", ["a.png", "a.JPG"])
def test_pictures_of_pixels_are_read_under_any_name(tmp_path, kind, name):
    image = np.full((6, 8, 3), 120, np.uint8)
    Image.fromarray(image).save(tmp_path / name, kind)
    assert image_size(tmp_path / name) == (6, 8)
    np.testing.assert_allclose(read_image(tmp_path / name), image, atol=2)


def test_targa_is_read_by_its_name_alone(tmp_path):
    image = np.full((6, 8, 3), 120, np.uint8)
    Image.fromarray(image).save(tmp_path / "a.tga")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tga"), image)
    (tmp_path / "a.tga").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected a readable image"):
        read_image(tmp_path / "a.png")


def test_bilinear_by_four_is_the_mean_of_the_central_block():
    image = RNG.random((8, 12, 3)).astype(np.float32)
    blocks = image.reshape(2, 4, 3, 4, 3)
    np.testing.assert_allclose(resize_float(image, (2, 3), "bilinear"), blocks[:, 1:3, :, 1:3].mean((1, 3)), atol=1e-6)
    np.testing.assert_allclose(resize_float(image, (2, 3), "area"), blocks.mean((1, 3)), atol=1e-6)


def test_resize_keeps_channels_and_the_identity():
    image = RNG.random((4, 6, 1)).astype(np.float32)
    assert resize_float(image, (2, 3), "area").shape == (2, 3, 1)
    assert resize_float(image[..., 0], (2, 3), "area").shape == (2, 3)
    assert resize_float(image, (4, 6), "area") is image


def test_sizes(tmp_path):
    assert downscaled_size((189, 252), 2, tmp_path) == (94, 126)
    assert downscaled_size((189, 252), 2.0, tmp_path) == (94, 126)
    for factor in (0, -1, 0.5):
        with pytest.raises(ValueError, match="--downscale-factor must be at least 1"):
            downscaled_size((189, 252), factor, tmp_path)
    with pytest.raises(ValueError, match="leaves"):
        downscaled_size((189, 252), 200, tmp_path)
    assert same_aspect((189, 252), (94, 126)) and same_aspect((384, 384), (300, 300))
    assert not same_aspect((384, 384), (300, 400)) and not same_aspect((252, 189), (189, 252))

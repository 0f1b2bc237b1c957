"""Depth files of every format, written here byte by byte or by another library than the one that reads them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Dict

import numpy as np
import numpy.typing as npt
import OpenEXR
import pytest
from PIL import Image

from fewshot_ns.data.depth.maps import find_depth_maps, read_depth_map
from fewshot_ns.data.files.depth_formats import MIDAS_FOLDERS, implied_polarity, read_depth_file, resolve_polarity
from fewshot_ns.data.files.exr import read_exr_channels, read_exr_vectors

VALUES = (np.random.default_rng(0).random((5, 7)) * 9 + 1).astype(np.float32)


def exr_bytes(channels: Dict[str, npt.NDArray], half: bool = False) -> bytes:
    """An uncompressed scan-line EXR file, after the OpenEXR file layout document."""
    height, width = next(iter(channels.values())).shape
    names = sorted(channels)

    def attribute(name: str, kind: str, data: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(data)) + data

    listed = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", 1 if half else 2, 0, 1, 1) for name in names)
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<ii", 20000630, 2)
    header += attribute("channels", "chlist", listed + b"\0") + attribute("compression", "compression", b"\0")
    header += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    header += attribute("lineOrder", "lineOrder", b"\0") + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    header += attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    kind = np.dtype("<f2" if half else "<f4")
    row = len(names) * width * kind.itemsize
    start = len(header) + 8 * height
    table = b"".join(struct.pack("<Q", start + line * (row + 8)) for line in range(height))
    lines = b"".join(
        struct.pack("<ii", line, row) + b"".join(channels[name][line].astype(kind).tobytes() for name in names)
        for line in range(height)
    )
    return header + table + lines


def pfm_bytes(values: npt.NDArray, little: bool = True) -> bytes:
    """A PFM file: rows from the bottom up, the sign of the scale gives the byte order."""
    kind, order = ("PF" if values.ndim == 3 else "Pf"), ("<f4" if little else ">f4")
    header = f"{kind}\n{values.shape[1]} {values.shape[0]}\n{-1.0 if little else 1.0}\n"
    return header.encode() + values[::-1].astype(order).tobytes()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("little", [True, False])
def test_pfm_of_either_byte_order(tmp_path, little):
    path = write(tmp_path / "d.pfm", pfm_bytes(VALUES, little))
    np.testing.assert_array_equal(read_depth_file(path), VALUES)
    prior = read_depth_map(path, "distance", (5, 7))
    assert prior.polarity == "distance" and prior.valid.all()


@pytest.mark.parametrize("names", ["Y", "R", "RGB", "RGBA", "Z", "V"])
@pytest.mark.parametrize("half", [False, True])
def test_exr_with_the_channels_that_programs_write(tmp_path, names, half):
    channels = {name: np.ones_like(VALUES) if name == "A" else VALUES for name in names}
    path = write(tmp_path / "d.exr", exr_bytes(channels, half))
    expected = VALUES.astype(np.float16).astype(np.float32) if half else VALUES
    np.testing.assert_array_equal(read_depth_file(path), expected)
    assert tuple(read_exr_channels(path)) == tuple(sorted(names))


def test_exr_holes_of_blender_and_infinities_are_kept_as_they_are(tmp_path):
    values = VALUES.copy()
    values[0, :3] = np.inf, np.nan, 0.0
    path = write(tmp_path / "d.exr", exr_bytes({"R": values, "G": values, "B": values}))
    np.testing.assert_array_equal(read_depth_file(path), values)
    prior = read_depth_map(path, "distance", (5, 7))
    assert not prior.valid[0, :3].any() and prior.valid[0, 3:].all() and prior.valid[1:].all()


def test_exr_without_depth_is_refused(tmp_path):
    path = write(tmp_path / "colour.exr", exr_bytes({"R": VALUES, "G": VALUES + 1, "B": VALUES}))
    with pytest.raises(ValueError, match=r"colour\.exr: expected one depth per pixel, found different values"):
        read_depth_file(path)
    path = write(tmp_path / "layers.exr", exr_bytes({"Depth.V": VALUES, "Mist.V": VALUES}))
    with pytest.raises(ValueError, match=r"layers\.exr: .*channel R or Y.* found \('Depth\.V', 'Mist\.V'\)"):
        read_depth_file(path)


@pytest.mark.parametrize("compression", ["RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "DWAA"])
@pytest.mark.parametrize("half", [False, True])
def test_exr_under_the_compressions_that_programs_choose(tmp_path, compression, half):
    """Channels named by Blender's layers, too, which are no single letters."""
    values = np.tile(VALUES, (9, 5)).astype(np.float16 if half else np.float32)
    kind = getattr(OpenEXR, f"{compression}_COMPRESSION")
    path = tmp_path / "d.exr"
    OpenEXR.File({"compression": kind, "type": OpenEXR.scanlineimage}, {"ViewLayer.Depth.Z": values}).write(str(path))
    found = read_depth_file(path)
    assert found.dtype == np.float32 and found.shape == values.shape
    # PXR24 keeps 24 bits of a float; the others lose nothing of these.
    tolerance = 2.0**-15 if compression == "PXR24" else 0.0
    np.testing.assert_allclose(found, values.astype(np.float32), rtol=tolerance, atol=0)


def test_exr_vectors_in_the_order_of_their_names(tmp_path):
    channels = {"R": VALUES, "G": -VALUES, "B": VALUES + 1}
    path = write(tmp_path / "n.exr", exr_bytes(channels))
    np.testing.assert_array_equal(read_exr_vectors(path), np.stack([channels[name] for name in "RGB"], axis=-1))
    with pytest.raises(ValueError, match=r"d\.exr: expected the channels R, G and B, found \('Y',\)"):
        read_exr_vectors(write(tmp_path / "d.exr", exr_bytes({"Y": VALUES})))


def test_exr_of_several_parts_is_refused(tmp_path):
    parts = [OpenEXR.Part({"name": name, "type": OpenEXR.scanlineimage}, {"Z": VALUES}) for name in "ab"]
    OpenEXR.File(parts).write(str(tmp_path / "two.exr"))
    with pytest.raises(ValueError, match=r"two\.exr: expected an EXR file of one part, found 2"):
        read_depth_file(tmp_path / "two.exr")


def test_png_in_millimetres_written_by_another_library(tmp_path):
    millimetres = np.round(VALUES * 1000).astype(np.uint16)
    millimetres[2, 3] = 0
    Image.fromarray(millimetres).save(tmp_path / "d.png")
    prior = read_depth_map(tmp_path / "d.png", "distance", (5, 7))
    np.testing.assert_array_equal(prior.values, millimetres)
    assert prior.valid.sum() == 34 and not prior.valid[2, 3]
    nearest = np.unravel_index(np.where(prior.valid, prior.nearness(), -np.inf).argmax(), (5, 7))
    assert nearest == np.unravel_index(np.where(millimetres > 0, millimetres, 65535).argmin(), (5, 7))


@pytest.mark.parametrize(
    "name, content",
    [("d.pfm", pfm_bytes(VALUES)), ("d.exr", exr_bytes({"Y": VALUES})), ("d.exr", exr_bytes({"Z": VALUES}))],
)
@pytest.mark.parametrize("keep", [0, 1, 3, 9, 40, -41, -1])
def test_a_cut_file_is_refused(tmp_path, capfd, name, content, keep):
    path = write(tmp_path / name, content[:keep])
    with pytest.raises(ValueError, match=rf"d\{path.suffix}: expected .*found"):
        read_depth_file(path)
    if path.suffix != ".exr":  # OpenEXR says on the terminal where the damage is, and cannot be told not to
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["d.pfm", "d.exr", "d.png", "d.npy"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{name}: expected a depth prior, found no such file"):
        read_depth_file(tmp_path / name)


def test_a_pfm_of_three_channels_is_refused(tmp_path):
    path = write(tmp_path / "d.pfm", pfm_bytes(np.stack([VALUES] * 3, axis=-1)))
    with pytest.raises(ValueError, match=r"d\.pfm: expected a PFM file of one channel.* found b'PF'"):
        read_depth_file(path)


@pytest.mark.parametrize("name, content", [("d.pfm", pfm_bytes(VALUES)), ("d.exr", exr_bytes({"Y": VALUES}))])
def test_formats_that_do_not_say_what_is_near(tmp_path, name, content):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match="give --depth-polarity"):
        read_depth_map(path, None, (5, 7))
    assert resolve_polarity(path, "inverse_depth") == "inverse_depth"


@pytest.mark.parametrize("folder", MIDAS_FOLDERS)
def test_the_folders_of_the_original_script_say_what_is_near(tmp_path, folder):
    path = write(tmp_path / folder / "LLFF" / "fern" / "depth_a.pfm", pfm_bytes(VALUES))
    assert implied_polarity(path) == "inverse_depth"
    assert read_depth_map(path, None, (5, 7)).polarity == "inverse_depth"


def test_eight_bits_only_where_the_layout_has_them(tmp_path):
    grey = np.linspace(0, 255, 35).reshape(5, 7).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "grey.jpg", quality=100)
    Image.fromarray(np.stack([grey, 255 - grey, grey], axis=-1)).save(tmp_path / "colour.jpg", quality=100)
    for name in ("grey.png", "grey.jpg"):
        with pytest.raises(ValueError, match=rf"{name}: expected a PNG of 16 bits, found uint8"):
            read_depth_file(tmp_path / name)
        np.testing.assert_allclose(read_depth_file(tmp_path / name, eight_bit=True), grey, atol=2)
    with pytest.raises(ValueError, match=r"colour\.jpg: expected a grey depth map, found colours"):
        read_depth_file(tmp_path / "colour.jpg", eight_bit=True)


def test_jpeg_maps_are_found_only_where_the_layout_has_them(tmp_path):
    for name in ("a.jpg", "b.pfm", "c.exr"):
        (tmp_path / name).touch()
    images = [Path(f"images/{stem}.jpg") for stem in "abc"]
    assert find_depth_maps(tmp_path, images) == (None, tmp_path / "b.pfm", tmp_path / "c.exr")
    assert find_depth_maps(tmp_path, images, eight_bit=True)[0] == tmp_path / "a.jpg"

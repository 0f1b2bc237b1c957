"""Any wrong bytes in any file: values of the right kind, or one error that names the file, and soon."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest
import torch
from colmap_models import write_spheres
from file_bytes import DEPTH, PHOTO, checkpoint, depth_png, exr, npy, npz, pfm, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_ns.engine.error_lines import is_of_this_package

SECONDS = 5.0
"""That no file may take, however slow the machine: an endless one is meant."""
PROFILE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Change = Tuple[float, bytes]
WORDS = [struct.pack("<i", number) for number in (-1, -(2**31), 2**31 - 1, 0, 1 << 20, -4)] + [b"\xff" * 8]
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.binary(min_size=1, max_size=2), st.sampled_from(WORDS))),
    min_size=1,
    max_size=3,
)
"""Places, as shares of the file or of its first 128 bytes, and what stands there."""


def changed(content: bytes, changes: list, cut: float, at_the_start: bool) -> bytes:
    broken = bytearray(content)
    for share, value in changes:
        at = int(share * (min(128, len(broken) - 1) if at_the_start else len(broken) - 1))
        broken[at : at + len(value)] = value
    return bytes(broken[: int(len(broken) * cut)]) if cut < 1 else bytes(broken)


def depth(path: Path) -> None:
    from fewshot_ns.data.files.depth_formats import read_depth_file

    values = read_depth_file(path)
    assert values.dtype == np.float32 and values.ndim == 2


def photo(path: Path) -> None:
    from fewshot_ns.data.files.images import image_size, may_be_turned, read_image

    may_be_turned(path)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and image_size(path) == pixels.shape[:2]


def capture(path: Path) -> None:
    from fewshot_ns.data.capture.decoding import decode_photo

    assert decode_photo(path).pixels.dtype == np.uint8


def mask(path: Path) -> None:
    from fewshot_ns.data.files.masks import read_mask

    assert read_mask(path).dtype == np.bool_


def arrays(path: Path) -> None:
    from fewshot_ns.utils.arrays import array_names, read_arrays

    names = array_names(path, "arrays")
    assert read_arrays(path, "arrays").keys() == set(names)


def colmap(path: Path) -> None:
    from fewshot_ns.data.files.colmap import read_colmap

    model = read_colmap(path.parent / f"points3D{path.suffix}")
    assert model.positions.shape == (len(model.ids), 3) and np.isfinite(model.positions).all()


def saved(path: Path) -> None:
    from fewshot_ns.utils.checkpoints import load_checkpoint

    state = load_checkpoint(path)
    # What is taken is what was saved, bit for bit.
    assert torch.equal(state["pipeline"]["weight"], torch.arange(6.0)) and state["step"] == 3


def cloud(path: Path) -> None:
    from fewshot_ns.data.files.ply_header import count_vertices

    assert 0 <= count_vertices(path) <= path.stat().st_size


def points() -> bytes:
    header = b"ply\nformat binary_little_endian 1.0\nelement vertex 12\n"
    return header + b"".join(b"property float %c\n" % axis for axis in b"xyz") + b"end_header\n" + DEPTH[:3].tobytes()


def _large(pixels: np.ndarray) -> np.ndarray:
    return np.tile(pixels, (3, 3) + (1,) * (pixels.ndim - 2))


FILES: Dict[str, Tuple[str, Callable[[], bytes], Callable[[Path], None]]] = {
    "npy": ("d.npy", npy, depth),
    "npz": ("d.npz", npz, depth),
    "compressed npz": ("d.npz", lambda: npz(True), depth),
    "several arrays": ("d.npz", lambda: npz(a=DEPTH, b=np.array("key"), c=np.arange(3)), arrays),
    "pfm": ("d.pfm", pfm, depth),
    "exr": ("d.exr", exr, depth),
    "16-bit png": ("d.png", depth_png, depth),
    "png": ("a.png", picture, photo),
    "jpeg": ("a.jpg", lambda: picture("JPEG", exif=_exif()), photo),
    "webp": ("a.png", lambda: picture("WEBP"), photo),
    "tiff": ("a.png", lambda: picture("TIFF"), photo),
    "bmp": ("a.bmp", lambda: picture("BMP"), photo),
    "gif": ("a.png", lambda: picture("GIF"), photo),
    "mask": ("m.png", lambda: picture("PNG", np.tile(np.array([[0, 255]], np.uint8), (12, 8))), mask),
    "capture": ("a.jpg", lambda: picture("JPEG", _large(PHOTO), exif=_exif()), capture),
    "ply": ("p.ply", points, cloud),
    "checkpoint": ("step-000000003.ckpt", checkpoint, saved),
}


def _exif() -> bytes:
    from PIL import Image

    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "maker"
    return tags.tobytes()


def check(path: Path, read: Callable[[Path], None], named: str) -> None:
    """Reads a broken file and looks at what is said, if anything."""
    began = time.monotonic()
    try:
        read(path)
    except AssertionError:
        raise
    # Whatever comes: that it is no error of ours is what the test is about.
    except Exception as error:
        said = str(error)
        assert is_of_this_package(error, error.__traceback__), f"raw {type(error).__name__}: {said}"
        assert named in said and len(said) < 2000, said
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("name", FILES)
@PROFILE
@given(changes=CHANGES, cut=st.one_of(st.just(1.0), st.floats(0, 1)), start=st.booleans())
def test_wrong_bytes(name: str, tmp_path: Path, changes: list, cut: float, start: bool) -> None:
    file, make, read = FILES[name]
    path = tmp_path / file
    path.write_bytes(changed(make(), changes, cut, start))
    check(path, read, file)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    found = {}
    for suffix in (".bin", ".txt"):
        folder = tmp_path_factory.mktemp("colmap")
        write_spheres(folder, suffix=suffix, count=3)
        found[suffix] = folder / "sparse" / "0"
    return found


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@settings(PROFILE, max_examples=25)
@given(changes=CHANGES, cut=st.one_of(st.just(1.0), st.floats(0, 1)), start=st.booleans())
def test_wrong_bytes_of_colmap(
    models: Dict[str, Path], suffix: str, name: str, changes: list, cut: float, start: bool
) -> None:
    path = models[suffix] / f"{name}{suffix}"
    content = path.read_bytes()
    try:
        path.write_bytes(changed(content, changes, cut, start))
        check(path, colmap, str(path.parent))
    finally:
        path.write_bytes(content)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

    folder = tmp_path_factory.mktemp("sets") / "solids"
    write_solids(folder, SolidsConfig(objects=4, views=2, size=8, supersample=1, val_share=0.25, test_share=0.25))
    return folder


@pytest.mark.parametrize("pattern", ["rgb/000000.png", "pose/000001.txt", "intrinsics.txt"])
@settings(PROFILE, max_examples=25)
@given(changes=CHANGES, cut=st.one_of(st.just(1.0), st.floats(0, 1)), start=st.booleans())
def test_a_damaged_scene_of_many_is_one_that_can_be_skipped(
    objects: Path, pattern: str, changes: list, cut: float, start: bool
) -> None:
    """`--on-bad-scene skip` leaves out what raises SceneError, and nothing else."""
    from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
    from fewshot_ns.data.multiscene.images import SceneImages
    from fewshot_ns.data.records.scene import SceneError

    parser: Any = SRNDataParserConfig(data=objects).setup()
    entry = parser.scene_table("train")[0]
    path = entry.folder / pattern
    content = path.read_bytes()
    try:
        path.write_bytes(changed(content, changes, cut, start))
        scene = parser.open_scene(entry)
        images = SceneImages()
        images.images(scene, range(2))
        images.boxes(scene, range(2))
        images.mask(scene, 0)
    except SceneError as error:
        assert path.parent.name in str(error)
    finally:
        path.write_bytes(content)

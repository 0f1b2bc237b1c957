"""Binary files that are cut, damaged, of another kind than their name says, or claim more than they hold."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import numpy as np
from colmap_models import write_spheres
from corpus import Action, Case, training_inputs
from file_bytes import (
    DEPTH,
    EPS,
    attribute,
    checkpoint,
    depth_png,
    encrypted,
    exr,
    in_directory,
    npy,
    npy_claiming,
    npy_header,
    npz,
    of_unknown_method,
    pfm,
    picture,
    png_claiming,
    zipped,
)

Reader = Callable[[Path], object]


def _depth(path: Path) -> object:
    from fewshot_ns.data.files.depth_formats import read_depth_file

    values = read_depth_file(path)
    assert values.shape == DEPTH.shape and values.dtype == np.float32
    return values


def _photo(path: Path) -> object:
    from fewshot_ns.data.files.images import has_alpha, image_size, is_plain, may_be_turned, read_image

    for of_the_header in (may_be_turned, has_alpha, is_plain):
        of_the_header(path)
    pixels = read_image(path)
    assert image_size(path) == pixels.shape[:2] and pixels.dtype == np.uint8
    return pixels


def _mask(path: Path) -> object:
    from fewshot_ns.data.files.masks import read_mask

    return read_mask(path)


def _normals(path: Path) -> object:
    from fewshot_ns.data.files.normals import read_normals

    return read_normals(path, (12, 16))


def _sigma(path: Path) -> object:
    from fewshot_ns.data.depth.metric import read_sigma

    return read_sigma(path)


def _checkpoint(path: Path) -> object:
    from fewshot_ns.utils.checkpoints import load_checkpoint

    return load_checkpoint(path)


def _weights(path: Path) -> object:
    from fewshot_ns.pretrained.weights import load_weights

    return load_weights(path)


def _cameras(path: Path) -> object:
    from fewshot_ns.data.dataparsers.multi.dvr import CameraFile

    return CameraFile(path)


def _names(path: Path) -> object:
    from fewshot_ns.data.dataparsers.multi.dvr import read_list

    return read_list(path)


def _viewlist(path: Path) -> object:
    from fewshot_ns.data.views.viewlist import read_viewlist

    return read_viewlist(path)


def _pairs(path: Path) -> object:
    from fewshot_ns.data.files.mvsnet import read_pairs

    return read_pairs(path, 4)


def _mvsnet_camera(path: Path) -> object:
    from fewshot_ns.data.files.mvsnet import read_mvsnet_camera

    return read_mvsnet_camera(path)


def _model_config(path: Path) -> object:
    from fewshot_ns.pretrained.monocular_depth import model_polarity

    return model_polarity(path.parent)


def _capture(path: Path) -> object:
    from fewshot_ns.data.capture.decoding import decode_photo

    return decode_photo(path)


def _absent_from_cache(path: Path) -> object:
    """An entry of a cache is computed again, with no word, where it cannot be read."""
    from fewshot_ns.utils.cache import read_npz

    assert read_npz(path, "depth") is None
    return None


def _case(name: str, kind: str, file: str, content: bytes, read: Reader, *says: str, accepted: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        path = folder / file
        path.write_bytes(content)
        return lambda: read(path)

    return Case(name, kind, prepare, None if accepted else (file, *says))


_BOMB = "(100000, 100000)"
_DEPTH_ARRAYS = [
    ("npy-claims-40-gigabytes", "d.npy", npy_claiming(_BOMB), "beyond the 64 bytes"),
    ("npy-of-a-huge-side", "d.npy", npy_claiming(f"({10**40}, 2)"), "d.npy"),
    ("npy-of-a-negative-side", "d.npy", npy_claiming("(-4, -4)"), "beyond"),
    ("npy-of-many-sides", "d.npy", npy_claiming(f"({'2, ' * 200})"), "beyond"),
    ("npy-that-is-npz", "d.npy", npz(), ".npz, under another name"),
    ("npy-that-is-text", "d.npy", b"hello", "d.npy"),
    ("npy-empty", "d.npy", b"", "d.npy"),
    ("npy-cut", "d.npy", npy()[:-4], "beyond"),
    ("npy-of-objects", "d.npy", npy(np.array([[{}, []]] * 2, dtype=object)), "never loaded"),
    ("npy-of-words", "d.npy", npy(np.array([["a", "b"]] * 2)), "real numbers"),
    ("npy-of-records", "d.npy", npy(np.zeros((4, 4), dtype=[("a", "<f4"), ("b", "<i4")])), "real numbers"),
    ("npy-complex", "d.npy", npy(DEPTH.astype(np.complex64)), "real numbers"),
    ("npy-of-one-number", "d.npy", npy(np.array(3.0, np.float32)), "one depth value per pixel"),
    ("npy-nested-header", "d.npy", npy_header("(" * 5000 + ")" * 5000), "d.npy"),
    ("npy-header-is-no-dictionary", "d.npy", npy_header("[1, 2]"), "d.npy"),
    ("npy-header-lacks-the-shape", "d.npy", npy_header("{'descr': '<f4'}"), "d.npy"),
    ("npy-unknown-format", "d.npy", npy_claiming("(2, 2)", "<q77"), "d.npy"),
    ("npy-unknown-version", "d.npy", b"\x93NUMPY\x09\x00" + npy()[8:], "d.npy"),
    ("npz-that-is-npy", "d.npz", npy(), ".npy, under another name"),
    ("npz-encrypted", "d.npz", encrypted(npz()), "encrypted"),
    ("npz-of-an-unknown-compression", "d.npz", of_unknown_method(npz()), "d.npz"),
    ("npz-claims-40-gigabytes", "d.npz", zipped({"depth.npy": npy_claiming(_BOMB)}), "beyond"),
    ("npz-directory-claims-3-gigabytes", "d.npz", in_directory(npz(), 24, b"\xf0\xff\xff\xbf"), "claims"),
    ("npz-without-arrays", "d.npz", zipped({}), "found []"),
    ("npz-of-text", "d.npz", zipped({"depth.npy": b"hello, this is no array"}), "d.npz"),
    ("npz-of-objects", "d.npz", zipped({"depth.npy": npy(np.array([[{}]], dtype=object))}), "never loaded"),
    ("npz-of-another-name", "d.npz", npz(first=DEPTH, second=DEPTH), "'depth'"),
    ("npz-cut", "d.npz", npz()[:-30], "d.npz"),
    ("npz-wrong-bytes", "d.npz", npz().replace(DEPTH[3].tobytes(), DEPTH[4].tobytes()), "CRC"),
    ("npz-wrong-compressed-bytes", "d.npz", npz(True)[:200] + bytes(60) + npz(True)[260:], "d.npz"),
    ("npz-empty", "d.npz", b"", "not a zip file"),
    ("pfm-claims-40-gigabytes", "d.pfm", pfm(100000, 100000), "40000000000 bytes"),
    ("pfm-of-no-columns", "d.pfm", pfm(0, 12), "d.pfm"),
    ("pfm-of-negative-rows", "d.pfm", pfm(16, -12), "damaged header"),
    ("pfm-without-a-size", "d.pfm", b"Pf\nabc def\n-1.0\n" + bytes(999), "damaged header"),
    ("pfm-cut", "d.pfm", pfm()[:-9], "expected the 768 bytes"),
    ("depth-png-claims-3-gigapixels", "d.png", png_claiming(60000, 60000), "d.png"),
    ("depth-png-claims-100-megapixels", "d.png", png_claiming(10000, 10000), "claimed by"),
    ("depth-png-is-eps", "d.png", EPS, "readable image"),
    ("depth-png-cut", "d.png", depth_png()[:120], "d.png"),
]

_WINDOW = struct.pack("<4i", 0, 0, 99_999, 99_999)
_EXR: List[Tuple[str, bytes, str]] = [
    ("negative-size", exr(attribute("note", "string", b"abcd", -4)), "claims -4 bytes"),
    ("smallest-size", exr(attribute("note", "string", b"abcd", -(2**31))), "claims -2147483648 bytes"),
    ("size-beyond-the-file", exr(attribute("note", "string", b"abcd", 2**31 - 1)), "claims 2147483647 bytes"),
    ("negative-text", exr(attribute("notes", "stringvector", struct.pack("<i", -4))), "a text of -4 bytes"),
    ("preview-too-large", exr(attribute("preview", "preview", struct.pack("<2I", 40000, 40000))), "40000x40000"),
    ("number-of-three-bytes", exr(attribute("iso", "float", b"abc")), "3 bytes"),
    ("claims-40-gigabytes", exr(dataWindow=_WINDOW, displayWindow=_WINDOW), "100000x100000"),
    ("compressed-claims-40-gigabytes", exr(dataWindow=_WINDOW, compression=b"\x03"), "100000x100000"),
    ("reversed-window", exr(dataWindow=struct.pack("<4i", 5, 5, 0, 0)), "dataWindow from 5, 5 to 0, 0"),
    ("window-of-all-integers", exr(dataWindow=struct.pack("<4i", -(2**31), 0, 2**31 - 1, 0)), "4294967296x1"),
    ("no-window", exr(dataWindow=b""), "no attribute 'dataWindow'"),
    ("no-channels", exr(channel=b"\0"), "names none"),
    ("unending-channels", exr(channel=b"YYYYYYYY"), "does not end"),
    ("unknown-pixels", exr(channel=b"Y\0" + struct.pack("<iB3xii", 9, 0, 1, 1) + b"\0"), "pixel type 9"),
    ("thinned-channel", exr(channel=b"Y\0" + struct.pack("<iB3xii", 2, 0, 2, 2) + b"\0"), "2x2"),
    ("thinned-by-nothing", exr(channel=b"Y\0" + struct.pack("<iB3xii", 2, 0, 0, 0) + b"\0"), "0x0"),
    ("unending-name", exr(b"n" * 500), "a name of more than 31 bytes"),
    ("deep", exr(version=2 | 0x800), "one sample"),
    ("unknown-version", exr(version=7), "version 2"),
    ("no-parts", exr(version=2 | 0x1000)[:-800], "d.exr"),
    ("tiles-of-nothing", exr(attribute("tiles", "tiledesc", bytes(9)), 2 | 0x200), "tiles of 0x0"),
    ("ends-in-its-header", exr()[:90], "ends within its header"),
    ("is-an-npy", npy(), "starts with"),
]

_PHOTOS: List[Tuple[str, str, bytes, str]] = [
    ("eps-called-png", "a.png", EPS, "readable image"),
    ("eps-called-jpg", "a.jpg", EPS, "readable image"),
    ("eps-with-a-preview-called-png", "a.png", b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 70) + bytes(18) + EPS, ""),
    ("eps", "a.eps", EPS, "readable image"),
    ("pdf-called-png", "a.png", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", "readable image"),
    ("psd-called-jpg", "a.jpg", b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(200), ""),
    ("svg-called-png", "a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "readable image"),
    ("fits-called-png", "a.png", b"SIMPLE  =                    T".ljust(2880), "readable image"),
    ("png-claims-3-gigapixels", "a.png", png_claiming(60000, 60000), "a.png"),
    ("png-claims-100-megapixels", "a.png", png_claiming(10000, 10000), "claimed by"),
    ("png-of-no-columns", "a.png", png_claiming(0, 9), "a.png"),
    ("png-cut", "a.png", picture()[:200], "a.png"),
    ("png-wrong-bytes", "a.png", picture()[:60] + bytes(80) + picture()[140:], "a.png"),
    ("jpeg-cut", "a.jpg", picture("JPEG")[:-200], "a.jpg"),
    ("jpeg-of-marks-alone", "a.jpg", b"\xff\xd8\xff" * 40, "a.jpg"),
    ("tiff-called-png-cut", "a.png", picture("TIFF")[:40], "a.png"),
    ("tiff-directory-elsewhere", "a.tif", b"II*\0\xff\xff\xff\x7f" + bytes(40), "a.tif"),
    ("photo-empty", "a.png", b"", "readable image"),
    ("photo-of-zeros", "a.jpg", bytes(4096), "readable image"),
]

_TAKEN: List[Tuple[str, str, bytes]] = [
    ("png-called-jpg", "a.jpg", picture()),
    ("jpeg-called-png", "a.png", picture("JPEG")),
    ("webp-called-jpg", "a.jpg", picture("WEBP")),
    ("gif-called-png", "a.png", picture("GIF")),
    ("jpeg-with-broken-exif", "a.jpg", picture("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")),
    ("bmp", "a.bmp", picture("BMP")),
]

_CHECKPOINTS: List[Tuple[str, bytes, str]] = [
    ("encrypted", encrypted(checkpoint()), "encrypted"),
    ("of-an-unknown-compression", of_unknown_method(checkpoint()), "a checkpoint"),
    ("entry-called-a-folder", in_directory(checkpoint(), 38, b"\x10", 4), "wrong bytes in its part"),
    ("entry-of-another-name", in_directory(checkpoint(), 46, b"\xff"), "a checkpoint"),
    ("entry-elsewhere", in_directory(checkpoint(), 42, b"\xff\xff\xff\x7f"), "a checkpoint"),
    ("newer-zip", in_directory(checkpoint(), 6, b"\xff\x00"), "a checkpoint"),
    ("directory-cut", checkpoint()[:-40], "a checkpoint"),
    ("of-zeros", bytes(5000), "a checkpoint"),
    ("empty", b"", "a checkpoint"),
    ("that-is-npz", npz(), "a checkpoint"),
]

_CACHED: List[Tuple[str, bytes]] = [
    ("encrypted", encrypted(npz())),
    ("of-an-unknown-compression", of_unknown_method(npz())),
    ("wrong-compressed-bytes", npz(True)[:200] + bytes(60) + npz(True)[260:]),
    ("claims-40-gigabytes", zipped({"depth.npy": npy_claiming(_BOMB)})),
    ("of-text", zipped({"depth.npy": b"hello"})),
    ("is-npy", npy()),
    ("of-objects", zipped({"depth.npy": npy(np.array([{}], dtype=object))})),
]


def _colmap(file: str, change: Callable[[bytes], bytes], suffix: str = ".bin") -> Callable[[Path], Action]:
    def prepare(folder: Path) -> Action:
        write_spheres(folder, suffix=suffix, count=3)
        path = folder / "sparse" / "0" / file
        path.write_bytes(change(path.read_bytes()))

        def action() -> object:
            from fewshot_ns.data.files.colmap import find_colmap

            return find_colmap(folder)

        return action

    return prepare


def _at(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:offset] + value + content[offset + len(value) :]


def _first_image_points(content: bytes) -> bytes:
    end = content.index(b"\0", 8 + 64)
    return content[: end + 1] + struct.pack("<Q", 1 << 33) + content[end + 9 :]


def _word(number: int, text: bytes) -> Callable[[bytes], bytes]:
    """Another word in the first line of a text that is no comment."""

    def change(content: bytes) -> bytes:
        lines = content.split(b"\n")
        first = next(index for index, line in enumerate(lines) if line and not line.startswith(b"#"))
        words = lines[first].split(b" ")
        words[number] = text
        lines[first] = b" ".join(words)
        return b"\n".join(lines)

    return change


_MANY = struct.pack("<Q", 1 << 60)
_COLMAP: List[Tuple[str, str, Callable[[bytes], bytes], str, str]] = [
    ("points-claimed", "points3D.bin", _at(0, _MANY), ".bin", "the number of points"),
    ("a-point-s-track", "points3D.bin", _at(8 + 43, struct.pack("<Q", 1 << 40)), ".bin", "the track of point 0"),
    ("a-point-s-number", "points3D.bin", _at(8, b"\xff" * 8), ".bin", "damaged"),
    ("a-point-at-nan", "points3D.bin", _at(16, struct.pack("<d", np.nan)), ".bin", "no finite position"),
    ("points-cut", "points3D.bin", lambda content: content[:-5], ".bin", "more than"),
    ("images-claimed", "images.bin", _at(0, _MANY), ".bin", "the number of images"),
    ("points-of-an-image", "images.bin", _first_image_points, ".bin", "points in image 0"),
    ("unending-image-name", "images.bin", lambda content: content[:72] + b"n" * 500, ".bin", "does not end"),
    ("name-of-an-image-is-no-text", "images.bin", _at(72, b"\xff\xfe"), ".bin", "damaged"),
    ("cameras-claimed", "cameras.bin", _at(0, _MANY), ".bin", "the number of cameras"),
    ("unknown-camera-model", "cameras.bin", _at(12, struct.pack("<i", 77)), ".bin", "unknown model 77"),
    ("cameras-empty", "cameras.bin", lambda content: b"", ".bin", "cameras"),
    ("text-colour-above-255", "points3D.txt", _word(4, b"300"), ".txt", "0 to 255"),
    ("text-point-at-infinity", "points3D.txt", _word(1, b"inf"), ".txt", "no finite position"),
    ("text-point-without-z", "points3D.txt", lambda content: b"1 0.5 0.5\n", ".txt", "damaged"),
    ("text-number-too-large", "points3D.txt", _word(0, b"9" * 30), ".txt", "damaged"),
    ("text-image-of-words", "images.txt", _word(2, b"left"), ".txt", "damaged"),
    ("text-is-binary", "cameras.txt", lambda content: bytes(range(256)), ".txt", "damaged"),
]


def _llff(change: Callable[[Path], Any], says: Optional[Tuple[str, ...]], **flags: Any) -> Tuple[Any, Any]:
    def prepare(folder: Path) -> Action:
        _write_llff(folder)
        change(folder)
        return training_inputs("llff-data", folder, **flags)

    return prepare, says


def _write_llff(folder: Path) -> None:
    """Nine small photos that look at one point, and their poses."""
    (folder / "images_4").mkdir()
    rows = []
    for view in range(9):
        (folder / "images_4" / f"image{view:03d}.png").write_bytes(picture())
        place = [0.1 * view - 0.4, 0.05 * (view % 3), 0.0]
        matrix = np.concatenate([[[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.c_[place], np.c_[[12, 16, 16]]], axis=1)
        # LLFF's axes: down, right, backwards.
        rows.append(np.concatenate([matrix.reshape(-1), [1.0, 9.0]]))
    np.save(folder / "poses_bounds.npy", np.stack(rows))


def _every_photo(content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in (folder / "images_4").iterdir():
            path.write_bytes(content)

    return change


def _bounds(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "poses_bounds.npy").write_bytes(content)


_SCENES = [
    ("scene-as-it-should-be", _llff(lambda folder: None, None)),
    ("scene-of-photos-called-jpeg", _llff(_every_photo(picture("JPEG", quality=90)), None)),
    ("scene-of-eps-called-png", _llff(_every_photo(EPS), ("image001.png", "readable image"))),
    (
        "scene-of-eps-for-nerfacto",
        _llff(_every_photo(EPS), ("image001.png", "readable image"), camera_sized_files=True),
    ),
    ("scene-of-photos-that-claim-too-much", _llff(_every_photo(png_claiming(10000, 10000)), ("image001.png", "claim"))),
    ("poses-claim-40-gigabytes", _llff(_bounds(npy_claiming(_BOMB, "<f8")), ("poses_bounds.npy", "beyond"))),
    ("poses-are-npz", _llff(_bounds(npz()), ("poses_bounds.npy", "(N, 17)"))),
    ("poses-are-objects", _llff(_bounds(npy(np.array([{}], dtype=object))), ("poses_bounds.npy", "never loaded"))),
    ("poses-are-words", _llff(_bounds(npy(np.array([["a"] * 17] * 9))), ("poses_bounds.npy", "real numbers"))),
]

_OTHERS: List[Tuple[str, str, str, bytes, Reader, str]] = [
    ("mask-is-eps", "mask", "m.png", EPS, _mask, "readable image"),
    ("mask-cut", "mask", "m.png", picture()[:90], _mask, "m.png"),
    ("normals-are-eps", "normals", "n.png", EPS, _normals, "readable image"),
    ("normals-of-negative-size", "normals", "n.exr", exr(attribute("a", "string", b"", -9)), _normals, "-9 bytes"),
    ("normals-of-one-channel", "normals", "n.exr", exr(), _normals, "R, G and B"),
    ("sigma-is-npy", "depth", "d.npz", npy(), _sigma, ".npy, under another name"),
    ("sigma-encrypted", "depth", "d.npz", encrypted(npz(sigma=DEPTH)), _sigma, "encrypted"),
    ("sigma-of-words", "depth", "d.npz", npz(sigma=np.array(["a"])), _sigma, "real numbers"),
    ("cameras-are-npy", "cameras", "cameras.npz", npy(), _cameras, "archive of matrices"),
    ("cameras-encrypted", "cameras", "cameras.npz", encrypted(npz()), _cameras, "archive of matrices"),
    ("cameras-claim-too-much", "cameras", "cameras.npz", zipped({"a.npy": npy_claiming(_BOMB)}), _cameras, "beyond"),
    ("capture-eps-called-png", "photo", "a.png", EPS, _capture, "found EPS"),
    ("capture-cut", "photo", "a.jpg", picture("JPEG")[:-300], _capture, "damaged or cut"),
    ("capture-too-large", "photo", "a.png", png_claiming(60000, 60000), _capture, "a.png"),
    ("list-is-binary", "list", "train.lst", bytes(range(200, 256)), _names, "expected text"),
    ("list-names-a-zero-byte", "list", "train.lst", b"one\na\0b\n", _names, "line 2"),
    ("viewlist-is-binary", "list", "views.txt", bytes(range(200, 256)), _viewlist, "expected text"),
    ("pairs-of-negative-views", "list", "pair.txt", b"2\n-1\n1 1 0.5\n0\n1 -2 0.5\n", _pairs, "negative"),
    ("pairs-are-binary", "list", "pair.txt", bytes(range(200, 256)), _pairs, "expected text"),
    ("camera-is-binary", "cameras", "0_cam.txt", bytes(range(200, 256)), _mvsnet_camera, "expected text"),
    ("weights-encrypted", "weights", "w.pth", encrypted(checkpoint()), _weights, "a weights-only torch checkpoint"),
    ("weights-are-npz", "weights", "w.pth", npz(), _weights, "a weights-only torch checkpoint"),
    ("model-config-is-a-list", "weights", "config.json", b"[1]", _model_config, "the configuration of a model"),
    ("model-config-is-binary", "weights", "config.json", bytes(range(200, 256)), _model_config, "the configuration"),
    ("model-config-nests", "weights", "config.json", b"[" * 99999, _model_config, "the configuration of a model"),
    (
        "model-backbone-is-a-word",
        "weights",
        "config.json",
        b'{"backbone_config": "x"}',
        _model_config,
        "backbone_config",
    ),
    ("weights-are-empty", "weights", "w.pth", b"", _weights, "a weights-only torch checkpoint"),
    (
        "safetensors-claim",
        "weights",
        "w.safetensors",
        struct.pack("<Q", 1 << 60) + b"{}",
        _weights,
        "a safetensors file",
    ),
]

CASES = [
    *(_case(f"depth-{name}", "depth", file, content, _depth, says) for name, file, content, says in _DEPTH_ARRAYS),
    *(_case(f"exr-{name}", "exr", "d.exr", content, _depth, says) for name, content, says in _EXR),
    _case("exr-as-it-should-be", "exr", "d.exr", exr(), _depth, accepted=True),
    _case("depth-arrays-as-they-should-be", "depth", "d.npz", npz(True), _depth, accepted=True),
    *(_case(f"photo-{name}", "photo", file, content, _photo, says) for name, file, content, says in _PHOTOS),
    *(_case(f"photo-{name}", "photo", file, content, _photo, accepted=True) for name, file, content in _TAKEN),
    *(_case(f"checkpoint-{name}", "checkpoint", "step-000000003.ckpt", content, _checkpoint, says)
      for name, content, says in _CHECKPOINTS),
    *(_case(f"cache-{name}", "cache", "entry.npz", content, _absent_from_cache, accepted=True)
      for name, content in _CACHED),
    *(_case(name, kind, file, content, read, says) for name, kind, file, content, read, says in _OTHERS),
    *(Case(f"colmap-{name}", "colmap", _colmap(file, change, suffix), (file, says))
      for name, file, change, suffix, says in _COLMAP),
    *(Case(f"llff-{name}", "scene", prepare, says) for name, (prepare, says) in _SCENES),
]  # fmt: skip

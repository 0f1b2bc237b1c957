"""Reading a photo of any usual format into upright 8-bit sRGB pixels."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Tuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fewshot_ns.data.capture.exif import Exif, read_exif
from fewshot_ns.data.files.images import bits_of_png
from fewshot_ns.utils.reading import DAMAGE, reason_of

FORMATS: Dict[str, Tuple[str, ...]] = {
    ".jpg": ("JPEG",),
    ".jpeg": ("JPEG",),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".bmp": ("BMP", "DIB"),
    ".heic": ("HEIF",),
    ".heif": ("HEIF",),
}
"""What a file of each extension may hold. Pillow goes by content, and what calls itself .png could start a program.
JPEG has phones' several pictures in one file (MPO) with it."""
HEIF_SUFFIXES = (".heic", ".heif")
MIN_SIDE = 32
"""Shorter side of a picture below which nothing can be matched."""

Pixels = npt.NDArray[np.uint8]

_SIGNATURES: Tuple[Tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIF"),
    (4, b"ftyphev", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftyp", "MP4"),
)
"""(offset, bytes, format) of files, the first that fits."""


@dataclass(frozen=True)
class Decoded:
    """A photo in memory."""

    pixels: Pixels
    """(H, W, 3) upright sRGB, or (H, W, 4) where some pixel is transparent."""
    exif: Exif


def decode_photo(file: Path) -> Decoded:
    """Reads a photo as what its extension says; of several pictures in it the first.

    Its orientation tag is applied (of HEIC the file's own rotation, beside which the tag has no say, ISO 23008-12), and
    its colour profile. 16-bit greyscale, palettes and CMYK become 8-bit RGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format than its name says, a damaged file, a size that cannot be used, or a HEIC photo
            without pillow-heif.
    """
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{file}: expected a photo ({', '.join(FORMATS)}), found {suffix or 'no extension'}")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a photo, found no such file")
    if suffix in HEIF_SUFFIXES:
        _register_heif(file)
    try:
        with warnings.catch_warnings():
            # Cameras of 100 megapixels exist; twice as many are an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(file, formats=FORMATS[suffix])
        with opened:
            opened.load()
            exif = read_exif(opened)
            pixels = _as_srgb(ImageOps.exif_transpose(opened), file)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{file}: expected a photo that fits into memory, found a larger one ({error})") from error
    except UnidentifiedImageError as error:
        raise ValueError(_stranger(file, suffix)) from error
    except _Unusual as error:
        raise ValueError(str(error)) from error
    # What Pillow's readers raise for files that are cut or garbled differs by format.
    except DAMAGE as error:
        reason = reason_of(error)
        raise ValueError(f"{file}: expected a complete photo, found a damaged or cut file ({reason})") from error
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{file}: expected a photo of at least {MIN_SIDE} pixels a side, found {width}x{height}")
    return Decoded(pixels, exif)


def shrink(pixels: Pixels, max_side: int) -> Pixels:
    """A picture (H, W, C) whose longer side is at most `max_side`, averaged over areas; never enlarged."""
    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if pixels.shape[2] == 3:
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    # What is transparent has a colour too, often black, that must not run into what is not.
    alpha = pixels[..., 3:].astype(np.float32)
    weighted = np.concatenate([pixels[..., :3] * alpha, alpha], axis=-1)
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    return np.clip(np.round(small), 0, 255).astype(np.uint8)


class _Unusual(Exception):
    """A photo that is whole and of no use, with the message."""


def _register_heif(file: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError(
            f"{file}: HEIC photos need pillow-heif, which is not installed: pip install 'fewshot-ns[photos]', or "
            "export the photos as JPEG"
        ) from error
    register_heif_opener()


def _stranger(file: Path, suffix: str) -> str:
    """The message for a file that Pillow does not know as what its name says."""
    with file.open("rb") as stream:
        head = stream.read(16)
    found = next((name for at, mark, name in _SIGNATURES if head[at:].startswith(mark)), None)
    if found in FORMATS[suffix]:
        return f"{file}: expected a complete photo, found a damaged or cut file"
    expected = f"{file}: expected a file in the format {FORMATS[suffix][0]}, as its name says, found "
    names = [other for other, formats in FORMATS.items() if found in formats]
    if names:
        return f"{expected}{found}; rename it to {file.stem}{names[0]}"
    return expected + (found or ("an empty file" if not head else "something else"))


def _as_srgb(image: Image.Image, file: Path) -> Pixels:
    if image.mode.startswith("I;16") or (image.mode == "I" and bits_of_png(file) == 16):
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode.startswith(("I", "F")):
        raise _Unusual(f"{file}: expected 8 or 16 bits per channel, found {image.mode}, whose white is unknown")
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if transparent:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if profile:
        image = _by_profile(image, profile)
    pixels = np.array(image.convert("RGBA" if transparent else "RGB"), dtype=np.uint8)
    return pixels if not transparent or pixels[..., 3].min() < 255 else np.ascontiguousarray(pixels[..., :3])


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB; as it is where the profile is broken or of another kind of image, as viewers show it."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode != "CMYK" and "sRGB" in ImageCms.getProfileDescription(own):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if converted is None else converted

"""Reading images and masks, and bringing them to the size of the cameras."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Tuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.records.metadata import ResizeMode
from fewshot_ns.utils.arrays import DEFLATE_RATIO
from fewshot_ns.utils.reading import DAMAGE, reading

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Image formats looked for in a folder, in any case."""
RASTER_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Formats that a file of any name may hold, since photos are often renamed: pictures of pixels, which Pillow decodes
itself. Its other readers are never asked; that of EPS would start Ghostscript on what calls itself .png."""
_FORMATS_OF_SUFFIX: Dict[str, Tuple[str, ...]] = {
    ".tga": ("TGA",),
    ".pcx": ("PCX",),
    **dict.fromkeys((".sgi", ".rgb", ".rgba", ".bw"), ("SGI",)),
}
"""Formats that only a file of their own name may hold; most of them are known by little else."""
_TOO_LARGE = (Image.DecompressionBombError,)
"""Pillow's error for 179 megapixels or more."""

# 'bilinear' is what the loaders of RegNeRF and SparseNeRF do in effect: the flag for area averaging that they pass
# lands in another argument of cv2.resize. At factor 4 it is the mean of the central 2x2 pixels of each 4x4 block.
_INTERPOLATION: Dict[str, int] = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


def list_images(folder: Path) -> Tuple[Path, ...]:
    """Returns the images of a folder sorted by name (capitals first).

    Raises:
        FileNotFoundError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none")
    # Names that start with a dot are what some systems leave beside the images.
    names = (path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    files = tuple(folder / name for name in sorted(names) if not name.startswith("."))
    if not files:
        raise FileNotFoundError(f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}), found none")
    return files


def raster_formats(path: Path) -> Tuple[str, ...]:
    """Names of the formats that a file of this name may hold, of those that the installed Pillow knows."""
    Image.init()  # does nothing the second time
    allowed = (*RASTER_FORMATS, *_FORMATS_OF_SUFFIX.get(path.suffix.lower(), ()))
    return tuple(name for name in allowed if name in Image.OPEN)


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """An image for as long as the block reads of it; its pixels are not decoded yet.

    Args:
        path: its file, of one of `raster_formats`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image, of another format, larger than can be used, or damaged where the block reads.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an image file, found {'a folder' if path.is_dir() else 'none'}")
    with reading(path, "a readable image", "a file that cannot be opened", also=_TOO_LARGE):
        image = Image.open(path, formats=raster_formats(path))
    with image, reading(path, "a complete image", "a damaged or cut file", also=_TOO_LARGE):
        if image.format == "PNG" and image.width * image.height > 8 * DEFLATE_RATIO * os.path.getsize(path):
            raise ValueError(f"{image.width}x{image.height} pixels claimed by {os.path.getsize(path)} bytes")
        yield image


def image_size(path: Path) -> Size:
    """Returns (height, width) of an image from its header, without decoding it.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image.
    """
    with opened_image(path) as image:
        width, height = image.size
    return height, width


def exif_orientation(path: Path) -> int:
    """The orientation that a JPEG's EXIF states, 1 to 8: 3 upside down, 5 to 8 with sides exchanged; 1 where it states
    none that can be read, and for other formats, whose readers do not turn either.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return 1
    with opened_image(path) as image:
        try:
            stated = image.getexif().get(ExifTags.Base.Orientation, 1)
        except DAMAGE:
            return 1
    return int(stated) if stated in range(1, 9) else 1


def may_be_turned(path: Path, states_size: bool = True) -> bool:
    """Whether a photo's EXIF says that it is to be turned, and its proportions do not show if a camera is of the
    photo as it is stored or as it is shown: upside down, mirrored, square, or a camera of unknown proportions.

    Args:
        path: The photo.
        states_size: Whether the width and height that its camera is of are known.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image.
    """
    orientation = exif_orientation(path)
    height, width = image_size(path) if orientation > 1 else (1, 1)
    return (
        1 < orientation < 5
        or (orientation >= 5 and not states_size)
        or (orientation >= 5 and same_aspect((height, width), (width, height)))
    )


def has_alpha(path: Path) -> bool:
    """Whether an image has transparent pixels, by its header.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image.
    """
    with opened_image(path) as image:
        return _is_transparent(image)


def is_plain(path: Path) -> bool:
    """Whether the pixels of an image are stored as 8-bit grey, RGB or RGBA values, by its header.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image.
    """
    with opened_image(path) as image:
        return image.mode in ("L", "RGB", "RGBA") and "transparency" not in image.info


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def bits_of_png(path: Path) -> int:
    """Bits per channel that the header of a PNG states; 0 for other files."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24] if len(header) == 26 and header.startswith(b"\x89PNG") else 0


def read_image(path: Path, upright: bool = False) -> npt.NDArray[np.uint8]:
    """Decodes an image.

    Args:
        path: its file.
        upright: whether it is turned as its EXIF orientation says, as viewers show it. The images of a scene are not:
            their cameras are of the pixels as they are stored.

    Returns:
        (H, W, 3) or, with transparency, (H, W, 4); uint8.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image, is cut short, or has more than 8 bits per channel.
    """
    with opened_image(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{path}: expected an image of 8 bits per channel, found mode {image.mode}")
        turned = ImageOps.exif_transpose(image) if upright else image
        return np.array(turned.convert("RGBA" if _is_transparent(image) else "RGB"), dtype=np.uint8)


def resize_float(image: npt.NDArray[np.float32], size: Size, mode: ResizeMode) -> npt.NDArray[np.float32]:
    """Resizes a float image, or returns it as it is where the size fits.

    Args:
        image: (H, W) or (H, W, C) float32.
        size: (height, width) wanted.
        mode: 'bilinear' (cv2.INTER_LINEAR, no smoothing) or 'area' (box average; bilinear where it enlarges).

    Returns:
        float32 of the wanted size.
    """
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    resized = cv2.resize(image, (width, height), interpolation=_INTERPOLATION[mode])
    return resized.astype(np.float32).reshape((height, width) + image.shape[2:])


def downscaled_size(size: Size, factor: float, where: Path) -> Size:
    """Returns the size of an image after dividing both sides by `factor`, rounded down.

    Args:
        size: (height, width) on disk.
        factor: 1 or more.
        where: The image, for the error message.

    Raises:
        ValueError: a factor below 1, or one that leaves less than two pixels.
    """
    if not factor >= 1:
        raise ValueError(f"--downscale-factor must be at least 1, got {factor}")
    height, width = int(size[0] / factor), int(size[1] / factor)
    if min(height, width) < 2:
        raise ValueError(f"{where}: --downscale-factor {factor} leaves {width}x{height} of {size[1]}x{size[0]} pixels")
    return height, width


def same_aspect(size: Size, reference: Size) -> bool:
    """Whether two (height, width) sizes show the same frame: equal proportions to 2 % or to two pixels of rounding."""
    scale = max(reference[0] / size[0], reference[1] / size[1])
    off = max(abs(size[0] * scale - reference[0]), abs(size[1] * scale - reference[1]))
    return off <= max(2.0, 0.02 * max(reference))


def check_proportions(path: Path, found: Tuple[int, ...], size: Size, what: str) -> None:
    """Checks that what a file holds, of size (height, width), shows the same frame as its camera or image of `size`.

    Raises:
        ValueError: it does not; names `what` was expected.
    """
    if not same_aspect((found[0], found[1]), size):
        raise ValueError(
            f"{path}: expected the proportions of {what} ({size[1]}x{size[0]} pixels, width x height), "
            f"found {found[1]}x{found[0]}"
        )

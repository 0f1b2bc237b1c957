"""From any folder of photos, or a video, to upright pictures of a bounded size and what is known of their cameras."""

from __future__ import annotations

import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fewshot_ns.data.capture.exif import read_exif
from fewshot_ns.data.capture.frames import VIDEO_SUFFIXES, Frame, pick_frames
from fewshot_ns.utils.files import replacing, write_json
from fewshot_ns.utils.hashing import digest, file_hash

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
"""What a file of each extension may hold. Pillow goes by content, and what calls itself .png could start a program."""
HEIF_SUFFIXES = (".heic", ".heif")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp", *HEIF_SUFFIXES)
"""Sources whose pictures are written as JPEG: as PNG they would be three times as large and no better."""
JPEG_QUALITY = 97
MIN_SIDE = 32
"""Shorter side of a picture below which nothing can be matched."""
WORKING_SIDE = 512
"""Longer side at which sharpness and contrast are measured, so that pictures of all sizes compare."""
RECORD = "photos.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Photo:
    """An upright picture."""

    name: str
    """File name below the folder that was written to."""
    source: str
    """The file that it was made of; of a frame the video."""
    height: int
    """Pixels of the written picture."""
    width: int
    """Pixels of the written picture."""
    focal: Optional[float]
    """Focal length in pixels of the written picture, by EXIF; None unknown."""
    focal_source: str
    """The EXIF tag that says it; empty without."""
    camera: str
    """Photos with the same text share camera, zoom and size, hence intrinsics."""
    sharpness: float
    """Variance of the Laplacian of grey values 0 to 255, at the working size."""
    contrast: float
    """Standard deviation of grey values 0 to 255, at the working size."""
    brightness: float
    """Mean of grey values 0 to 255."""
    time: Optional[float] = None
    """Seconds into the video."""


def gather_photos(
    source: Union[Path, Sequence[Path]],
    output: Path,
    max_side: int = 1600,
    frames: int = 8,
    progress: Optional[Progress] = None,
) -> Tuple[Photo, ...]:
    """Writes upright pictures of photos, or of the sharpest frames of a video. What is there already stays.

    Args:
        source: A folder (its own images, in natural order), a video, or a list of photos.
        output: Folder to write to.
        max_side: Longer side above which pictures are made smaller, pixels.
        frames: How many frames of a video are taken.
        progress: Called with (done, total).

    Returns:
        The photos in order. Those with the same pixels as an earlier one are left out.

    Raises:
        FileNotFoundError: nothing there, or no photo in the folder.
        ValueError: a file that cannot be read as what its name says.
    """
    if max_side < MIN_SIDE:
        raise ValueError(f"--max-side: expected at least {MIN_SIDE} pixels, got {max_side}")
    files = _files_of(source)
    key = digest(max_side, frames, *(part for file in files for part in (file.name, file_hash(file))))
    kept = _read_record(output / RECORD, key, output)
    if kept is not None:
        return kept
    output.mkdir(parents=True, exist_ok=True)
    photos: List[Photo] = []
    seen: Dict[str, str] = {}
    pictures = _Pictures(files, frames)
    for done, picture in enumerate(pictures):
        if progress is not None:
            progress(done, len(pictures))
        fingerprint = digest(picture.image.size, picture.image.tobytes())
        if fingerprint not in seen:
            seen[fingerprint] = picture.source.name
            photos.append(_write(picture, output, max_side, {photo.name for photo in photos}))
    if progress is not None:
        progress(len(pictures), len(pictures))
    write_json(output / RECORD, {"key": key, "photos": [asdict(photo) for photo in photos]})
    return tuple(photos)


def warnings_of(photos: Sequence[Photo]) -> Tuple[str, ...]:
    """What may go wrong with these photos, a sentence each."""
    if not photos:
        return ()
    said = []
    median = float(np.median([photo.sharpness for photo in photos]))
    bright = float(np.median([photo.brightness for photo in photos]))
    for photo in photos:
        if photo.contrast < 8:
            said.append(f"{photo.name}: nearly one colour; nothing in it can be matched")
        elif photo.sharpness < 0.2 * median:
            said.append(f"{photo.name}: blurred (sharpness {photo.sharpness:.0f}, the others {median:.0f})")
        if abs(photo.brightness - bright) > 50:
            said.append(f"{photo.name}: exposed otherwise than the others (mean {photo.brightness:.0f}, {bright:.0f})")
        if min(photo.height, photo.width) < 240:
            said.append(f"{photo.name}: only {photo.width}x{photo.height} pixels")
    cameras = sorted({photo.camera for photo in photos})
    if len(cameras) > 1:
        said.append(f"{len(cameras)} cameras, zooms or sizes, each calibrated alone: {'; '.join(cameras)}")
    return tuple(said)


@dataclass(frozen=True)
class _Picture:
    """A decoded upright picture."""

    source: Path
    stem: str
    image: Image.Image
    focal: Optional[float]
    focal_source: str
    camera: str
    time: Optional[float] = None


class _Pictures:
    """Pictures of files, decoded one at a time."""

    def __init__(self, files: Sequence[Path], frames: int) -> None:
        self.files = files
        self._frames: Tuple[Frame, ...] = ()
        if len(files) == 1 and files[0].suffix.lower() in VIDEO_SUFFIXES:
            self._frames = pick_frames(files[0], frames)

    def __len__(self) -> int:
        return len(self._frames) or len(self.files)

    def __iter__(self):
        if self._frames:
            for number, frame in enumerate(self._frames):
                stem = f"{self.files[0].stem}_{number:03d}"
                yield _Picture(self.files[0], stem, Image.fromarray(frame.pixels), None, "", "video", frame.time)
            return
        for file in self.files:
            yield _decode(file)


def _files_of(source: Union[Path, Sequence[Path]]) -> Tuple[Path, ...]:
    if not isinstance(source, Path):
        return tuple(source)
    if source.is_file():
        return (source,)
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: expected a folder of photos or a video (--images), found nothing")
    found = [path for path in source.iterdir() if path.is_file() and not path.name.startswith(".")]
    files = sorted((path for path in found if path.suffix.lower() in FORMATS), key=lambda path: _natural(path.name))
    if files:
        return tuple(files)
    videos = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(videos) == 1:
        return (videos[0],)
    folders = sorted(path.name for path in source.iterdir() if path.is_dir())
    others = sorted({path.suffix.lower() or path.name for path in found})
    raise FileNotFoundError(
        f"{source}: expected photos ({', '.join(FORMATS)}) or one video ({', '.join(VIDEO_SUFFIXES)}), found "
        + (f"{len(videos)} videos; name one of them" if videos else f"files {others} and folders {folders}")
    )


def _natural(name: str) -> Tuple[Tuple[int, str], ...]:
    """Order in which IMG_9 comes before IMG_10."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _decode(file: Path) -> _Picture:
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{file}: expected a photo ({', '.join(FORMATS)}), found {suffix or 'no extension'}")
    if suffix in HEIF_SUFFIXES:
        _register_heif(file)
    try:
        with Image.open(file, formats=FORMATS[suffix]) as opened:
            exif = read_exif(opened)
            upright = ImageOps.exif_transpose(opened)
            image = _as_rgb(upright if upright is not None else opened)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}: expected a photo, found no such file") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{file}: expected a photo, found one of an impossible size ({error})") from error
    except UnidentifiedImageError as error:
        formats = " or ".join(FORMATS[suffix])
        raise ValueError(f"{file}: expected a file in the format {formats}, found something else") from error
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, MemoryError) as error:
        raise ValueError(f"{file}: expected a complete photo, found a damaged or cut file ({error})") from error
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise ValueError(f"{file}: expected a photo of at least {MIN_SIDE} pixels a side, found {width}x{height}")
    return _Picture(file, file.stem, image, exif.focal, exif.focal_source, exif.camera)


def _register_heif(file: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError(
            f"{file}: HEIC photos need pillow-heif; pip install pillow-heif, or export the photos as JPEG"
        ) from error
    register_heif_opener()


def _as_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB in sRGB, or RGBA where some pixel is transparent."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        # 16-bit greyscale; 32-bit integers that hold no more than that are the same thing to Pillow.
        top = 65535.0 if values.max() > 255 else 255.0
        return Image.fromarray(np.clip(values / top * 255 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if profile and not transparent and image.mode in ("RGB", "CMYK", "L"):
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            # A broken profile leaves the pixels as they are, which is what viewers do.
            pass
    if not transparent:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return image if np.asarray(image)[..., 3].min() < 255 else image.convert("RGB")


def _write(picture: _Picture, output: Path, max_side: int, taken: set) -> Photo:
    image = picture.image
    scale = min(1.0, max_side / max(image.size))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = Image.fromarray(cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_AREA))
    lossy = image.mode == "RGB" and (picture.source.suffix.lower() in LOSSY_SUFFIXES or picture.time is not None)
    suffix = ".jpg" if lossy else ".png"
    stem = re.sub(r"[^\w.-]", "_", picture.stem)
    name, number = f"{stem}{suffix}", 2
    # COLMAP and depth maps go by names without extension, so these are what must differ.
    while Path(name).stem.lower() in {Path(other).stem.lower() for other in taken}:
        name, number = f"{stem}_{number}{suffix}", number + 1
    with replacing(output / name) as path:
        if lossy:
            image.save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        else:
            image.save(path, "PNG")
    grey = _working_grey(image)
    camera = f"{picture.camera or 'unknown camera'}, {image.width}x{image.height}"
    return Photo(
        name=name,
        source=str(picture.source),
        height=image.height,
        width=image.width,
        focal=None if picture.focal is None else picture.focal * scale,
        focal_source=picture.focal_source,
        camera=camera,
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        contrast=float(grey.std()),
        brightness=float(grey.mean()),
        time=picture.time,
    )


def _working_grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    grey = np.asarray(image.convert("L"))
    scale = WORKING_SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _read_record(path: Path, key: str, output: Path) -> Optional[Tuple[Photo, ...]]:
    """The photos of an earlier call with the same files; None where something differs or is missing."""
    try:
        record = json.loads(path.read_text("utf8"))
        if record["key"] != key:
            return None
        photos = tuple(Photo(**entry) for entry in record["photos"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return photos if all((output / photo.name).is_file() for photo in photos) else None

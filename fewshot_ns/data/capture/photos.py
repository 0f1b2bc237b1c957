"""From any folder of photos, or a video, to upright pictures of a bounded size and what is known of their cameras."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from fewshot_ns.data.capture.decoding import FORMATS, HEIF_SUFFIXES, MIN_SIDE, Pixels, decode_photo, shrink
from fewshot_ns.data.capture.frames import VIDEO_SUFFIXES, pick_frames
from fewshot_ns.data.capture.quality import sharpness_of, working_grey
from fewshot_ns.utils.files import replacing, write_json
from fewshot_ns.utils.hashing import digest, file_hash, file_key
from fewshot_ns.utils.json_files import (
    FILE_NAME,
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    checked,
    is_file_name,
    list_of,
    read_json_object,
)
from fewshot_ns.utils.natural_order import natural_key

LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp", *HEIF_SUFFIXES)
"""Sources whose pictures are written as JPEG: as PNG they would be three times as large and no better."""
JPEG_QUALITY = 97
RECORD = "photos.json"
BLURRED = 0.2
"""Share of the median sharpness below which a photo may be blurred."""
PLENTY = 1 / 3
"""Share of the median number of features from which a photo is not blurred, whatever its sharpness."""
PLAIN = 8.0
"""Contrast below which a photo is nearly one colour."""
_VERSION = 3
"""Part of the key of what is kept; a change of what is written or measured makes another."""

_ENTRY = {
    "name": FILE_NAME,
    **dict.fromkeys(("source", "focal_source", "camera"), TEXT),
    **dict.fromkeys(("height", "width", "full_height", "full_width"), WHOLE),
    **dict.fromkeys(("focal", "sharpness", "contrast", "brightness", "time"), NUMBER),
    "duplicates": list_of(TEXT, "a list of names of files"),
}
"""What the record of a photo holds."""

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
    """Photos with the same text share camera, zoom and size, hence intrinsics. One camera upright and on its side are
    two; photos that say nothing of their camera are taken to share one where their sizes are equal."""
    sharpness: float
    """Variance of the Laplacian of grey values 0 to 255, at the working size."""
    contrast: float
    """Standard deviation of grey values 0 to 255, at the working size."""
    brightness: float
    """Mean of grey values 0 to 255."""
    full_height: int = 0
    """Pixels of the picture before it was made smaller, upright; 0 where that is not known."""
    full_width: int = 0
    """Pixels of the picture before it was made smaller, upright; 0 where that is not known."""
    time: Optional[float] = None
    """Seconds into the video."""
    duplicates: Tuple[str, ...] = ()
    """Files with the very same pixels, which were left out."""


def gather_photos(
    source: Union[Path, Sequence[Path]],
    output: Path,
    max_side: int = 1600,
    frames: int = 8,
    progress: Optional[Progress] = None,
) -> Tuple[Photo, ...]:
    """Writes upright pictures of photos, or of the sharpest frames of a video. What is there already stays.

    Args:
        source: A folder (its own images in natural order, not those of folders in it; without any, its one video), a
            video, or a list of photos, whose order is kept.
        output: Folder to write to, another one than the photos'. Pictures of an earlier call that are none of these
            photos are removed.
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
    if any(file.parent.resolve() == output.resolve() for file in files):
        raise ValueError(f"{output}: expected another folder than the photos' own, found {files[0].name} in it")
    key = digest(_VERSION, max_side, frames, *(part for file in files for part in (str(file), file_hash(file))))
    record = _read_record(output / RECORD)
    kept = _kept_photos(record, key, output)
    if kept is not None:
        return kept
    output.mkdir(parents=True, exist_ok=True)
    photos = _write_all(files, output, max_side, frames, progress)
    names = {photo.name for photo in photos}
    for name in record.get("pictures", {}):
        # Only what an earlier call has written here, whatever the record says.
        if is_file_name(name) and name == Path(name).name and name not in names:
            (output / name).unlink(missing_ok=True)
    written = {photo.name: file_key(output / photo.name) for photo in photos}
    write_json(output / RECORD, {"key": key, "pictures": written, "photos": [asdict(photo) for photo in photos]})
    return photos


def is_blurred(photo: Photo, photos: Sequence[Photo], features: Mapping[str, int]) -> bool:
    """Whether a photo is blurred: far less sharp than the others, and not by what it shows.

    Args:
        photo: One of `photos`.
        photos: All of the capture.
        features: COLMAP's features of each by name, empty where not known; a blurred photo has few of them.
    """
    if photo.sharpness >= BLURRED * _median_sharpness(photos):
        return False
    return features.get(photo.name, 0) < PLENTY * float(np.median([*features.values()] or [1.0]))


def _median_sharpness(photos: Sequence[Photo]) -> float:
    return float(np.median([photo.sharpness for photo in photos]))


def warnings_of(photos: Sequence[Photo], features: Mapping[str, int] = MappingProxyType({})) -> Tuple[str, ...]:
    """What may go wrong with these photos, a sentence each; `features` as in `is_blurred`."""
    if not photos:
        return ()
    said = []
    median = _median_sharpness(photos)
    bright = float(np.median([photo.brightness for photo in photos]))
    for photo in photos:
        if photo.contrast < PLAIN:
            said.append(f"{photo.name}: nearly one colour; nothing in it can be matched")
        elif is_blurred(photo, photos, features):
            said.append(f"{photo.name}: blurred (sharpness {photo.sharpness:.0f}, the others {median:.0f})")
        if abs(photo.brightness - bright) > 50:
            said.append(f"{photo.name}: exposed otherwise than the others (mean {photo.brightness:.0f}, {bright:.0f})")
        if min(photo.height, photo.width) < 240:
            said.append(f"{photo.name}: only {photo.width}x{photo.height} pixels")
        if photo.duplicates:
            said.append(f"{photo.name}: left out {', '.join(photo.duplicates)}, the same pixels once more")
    cameras = sorted({photo.camera for photo in photos})
    if len(cameras) > 1:
        said.append(f"{len(cameras)} cameras, zooms or sizes, each calibrated alone: {'; '.join(cameras)}")
    return tuple(said)


@dataclass(frozen=True)
class _Picture:
    """A decoded upright picture."""

    source: Path
    stem: str
    pixels: Pixels
    focal: Optional[float]
    focal_source: str
    camera: str
    time: Optional[float] = None


def _files_of(source: Union[Path, Sequence[Path]]) -> Tuple[Path, ...]:
    if not isinstance(source, Path):
        files = tuple(source)
        if not files:
            raise FileNotFoundError("expected photos, got an empty list of them (--images)")
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]}: expected a photo, found no such file")
        return files
    if source.is_file():
        return (source,)
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: expected a folder of photos or a video (--images), found nothing")
    found = [path for path in source.iterdir() if path.is_file() and not path.name.startswith(".")]
    files = sorted((path for path in found if path.suffix.lower() in FORMATS), key=lambda path: natural_key(path.name))
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


def _write_all(
    files: Sequence[Path], output: Path, max_side: int, frames: int, progress: Optional[Progress]
) -> Tuple[Photo, ...]:
    photos: List[Photo] = []
    seen: Dict[str, int] = {}
    is_video = len(files) == 1 and files[0].suffix.lower() in VIDEO_SUFFIXES
    total = frames if is_video else len(files)
    for done, picture in enumerate(_frames_of(files[0], frames) if is_video else map(_photo_of, files)):
        if progress is not None:
            progress(done, total)
        fingerprint = digest(picture.pixels.shape, picture.pixels.tobytes())
        if fingerprint in seen:
            first = photos[seen[fingerprint]]
            photos[seen[fingerprint]] = replace(first, duplicates=(*first.duplicates, picture.source.name))
            continue
        seen[fingerprint] = len(photos)
        photos.append(_write(picture, output, max_side, [photo.name for photo in photos]))
    if progress is not None:
        progress(total, total)
    return tuple(photos)


def _frames_of(video: Path, count: int) -> Iterator[_Picture]:
    for number, frame in enumerate(pick_frames(video, count)):
        yield _Picture(video, f"{video.stem}_{number:03d}", frame.pixels, None, "", "video", frame.time)


def _photo_of(file: Path) -> _Picture:
    decoded = decode_photo(file)
    exif = decoded.exif
    return _Picture(file, file.stem, decoded.pixels, exif.focal, exif.focal_source, exif.camera)


def _write(picture: _Picture, output: Path, max_side: int, taken: Sequence[str]) -> Photo:
    pixels = shrink(picture.pixels, max_side)
    height, width = pixels.shape[:2]
    scale = max(height, width) / max(picture.pixels.shape[:2])
    lossy = pixels.shape[2] == 3 and (picture.source.suffix.lower() in LOSSY_SUFFIXES or picture.time is not None)
    name = _free_name(picture.stem, ".jpg" if lossy else ".png", taken)
    # An array has none of the tags and profiles that were applied to it, and that would be applied once more.
    image = Image.fromarray(pixels)
    with replacing(output / name) as path:
        if lossy:
            image.save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        else:
            image.save(path, "PNG")
    grey = working_grey(pixels)
    return Photo(
        name=name,
        source=str(picture.source),
        height=height,
        width=width,
        focal=None if picture.focal is None else picture.focal * scale,
        focal_source=picture.focal_source,
        camera=f"{picture.camera or 'unknown camera'}, {width}x{height}",
        sharpness=sharpness_of(grey),
        contrast=float(grey.std()),
        brightness=float(grey.mean()),
        full_height=picture.pixels.shape[0],
        full_width=picture.pixels.shape[1],
        time=picture.time,
    )


def _free_name(stem: str, suffix: str, taken: Sequence[str]) -> str:
    """A name whose stem no other has: COLMAP and depth maps go by names without extension, in any case."""
    stem = re.sub(r"[^\w.-]", "_", stem)
    stems = {Path(other).stem.lower() for other in taken}
    free, number = stem, 2
    while free.lower() in stems:
        free, number = f"{stem}_{number}", number + 1
    return f"{free}{suffix}"


def _read_record(path: Path) -> Dict[str, Any]:
    """What an earlier call has left; empty where there is nothing that can be read."""
    try:
        return checked(read_json_object(path), {"pictures": OBJECT, "photos": LIST}, str(path), ("pictures",))
    except (OSError, ValueError):
        return {}


def _photo(entry: Any) -> Photo:
    values = checked({**entry}, _ENTRY, RECORD, ("name", "duplicates"))
    return Photo(**{"focal": None, **values, "duplicates": tuple(values["duplicates"])})


def _kept_photos(record: Dict[str, Any], key: str, output: Path) -> Optional[Tuple[Photo, ...]]:
    """The photos of an earlier call with the same files; None where something differs, is missing or was changed."""
    if record.get("key") != key:
        return None
    try:
        photos = tuple(_photo(entry) for entry in record["photos"])
    except (KeyError, TypeError, ValueError):
        return None
    same = all(record["pictures"].get(photo.name) == file_key(output / photo.name) for photo in photos)
    return photos if same else None

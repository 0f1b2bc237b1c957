"""What a photo's EXIF says of the camera that took it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from PIL import ExifTags, Image

from fewshot_ns.utils.reading import DAMAGE

FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)
"""Diagonal of 35 mm film, millimetres."""
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
"""Length of a unit of FocalPlaneResolutionUnit (Exif 2.32, tag 0xA210)."""
_POSSIBLE = 0.2, 30.0
"""Focal lengths in longer sides that a camera may have: from 7 mm to 1000 mm of 35 mm film. Others are mistakes."""
_CROPPED = 0.02
"""Relative difference of proportions above which a photo is no longer what the camera wrote."""


@dataclass(frozen=True)
class Exif:
    """The tags that matter for geometry."""

    focal: Optional[float]
    """Focal length in pixels of the photo as it is stored; None unknown."""
    focal_source: str
    """The tag that it comes from; empty without."""
    camera: str
    """Make, model, lens, focal length and whether the photo was cropped, as far as known; empty where nothing is."""


UNKNOWN = Exif(None, "", "")


def read_exif(image: Image.Image) -> Exif:
    """Reads the tags of an opened photo; wrong or missing ones count as unknown.

    The focal length comes from FocalLengthIn35mmFilm, which compares angles of view over the diagonal (CIPA DCG-001)
    and counts digital zoom, else from FocalLength and the pitch of the sensor's pixels. A photo whose proportions are
    not those that the camera wrote has been cropped by somebody; its focal length is unknown then.
    """
    try:
        base = image.getexif()
        tags: Mapping[int, Any] = {**base, **base.get_ifd(ExifTags.IFD.Exif)}
    except DAMAGE:
        return UNKNOWN
    cropped = _is_cropped(tags, image.size)
    focal, source = (None, "") if cropped else _focal(tags, image.size)
    if focal is not None and not _POSSIBLE[0] <= focal / max(image.size) <= _POSSIBLE[1]:
        focal, source = None, ""
    names = [str(tags.get(tag, "")).strip("\0 ") for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
    names.append(str(tags.get(ExifTags.Base.LensModel, "")).strip("\0 "))
    length = _positive(tags.get(ExifTags.Base.FocalLength))
    zoom = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    parts = [*names, "" if length is None else f"{length:g} mm"]
    parts += ["" if zoom is None else f"({zoom:g} mm of 35 mm film)", "cropped" if cropped else ""]
    return Exif(focal, source, " ".join(part for part in parts if part))


def _focal(tags: Mapping[int, Any], size: Tuple[int, int]) -> Tuple[Optional[float], str]:
    equivalent = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent is not None:
        return equivalent * math.hypot(*size) / FULL_FRAME_DIAGONAL, "FocalLengthIn35mmFilm"
    length = _positive(tags.get(ExifTags.Base.FocalLength))
    pitch = _positive(tags.get(ExifTags.Base.FocalPlaneXResolution))
    unit = _MILLIMETRES.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    if length is None or pitch is None or unit is None:
        return None, ""
    written = _written_size(tags)
    # The resolution counts pixels as the camera wrote them; the file may have been made smaller since.
    shrunk = 1.0 if written is None else max(size) / max(written)
    return length * pitch / unit * shrunk, "FocalPlaneXResolution"


def _written_size(tags: Mapping[int, Any]) -> Optional[Tuple[float, float]]:
    """Width and height that the camera wrote."""
    width, height = (_positive(tags.get(tag)) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight))
    return None if width is None or height is None else (width, height)


def _is_cropped(tags: Mapping[int, Any], size: Tuple[int, int]) -> bool:
    written = _written_size(tags)
    if written is None:
        return False
    # Programs that turn a photo leave these tags as they are, so a side is the longer or the shorter one.
    before, now = (min(sides) / max(sides) for sides in (written, size))
    return abs(now / before - 1) > max(_CROPPED, 2 / min(size))


def _positive(value: Any) -> Optional[float]:
    """A tag's number; None where it is missing, broken, or not above zero."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) and number > 0 else None

"""What a photo's EXIF says of the camera that took it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from PIL import ExifTags, Image

FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)
"""Diagonal of 35 mm film, millimetres."""
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
"""Length of a unit of FocalPlaneResolutionUnit (Exif 2.32, tag 0xA210)."""


@dataclass(frozen=True)
class Exif:
    """The tags that matter for geometry."""

    focal: Optional[float]
    """Focal length in pixels of the photo as it is stored; None unknown."""
    focal_source: str
    """The tag that it comes from; empty without."""
    camera: str
    """Make, model, lens and focal length, as far as they are known; empty where none is."""


def read_exif(image: Image.Image) -> Exif:
    """Reads the tags of an opened photo; wrong or missing ones count as unknown.

    The focal length comes from FocalLengthIn35mmFilm, which compares angles of view over the diagonal (CIPA DCG-001)
    and counts digital zoom, else from FocalLength and the pitch of the sensor's pixels.
    """
    try:
        base = image.getexif()
        tags: Mapping[int, Any] = {**base, **base.get_ifd(ExifTags.IFD.Exif)}
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, AttributeError):
        return Exif(None, "", "")
    focal, source = _focal(tags, image.size)
    names = [str(tags.get(tag, "")).strip("\0 ") for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
    names.append(str(tags.get(ExifTags.Base.LensModel, "")).strip("\0 "))
    known = " ".join(name for name in names if name)
    length = _positive(tags.get(ExifTags.Base.FocalLength))
    zoom = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    parts = [known, "" if length is None else f"{length:g} mm", "" if zoom is None else f"({zoom:g} mm of 35 mm film)"]
    return Exif(focal, source, " ".join(part for part in parts if part))


def _focal(tags: Mapping[int, Any], size: Tuple[int, int]) -> Tuple[Optional[float], str]:
    equivalent = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent is not None:
        return equivalent * math.hypot(*size) / FULL_FRAME_DIAGONAL, "FocalLengthIn35mmFilm"
    length = _positive(tags.get(ExifTags.Base.FocalLength))
    pitch = _positive(tags.get(ExifTags.Base.FocalPlaneXResolution))
    unit = _MILLIMETRES.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    width = _positive(tags.get(ExifTags.Base.ExifImageWidth))
    if length is None or pitch is None or unit is None:
        return None, ""
    # The resolution counts pixels as the camera wrote them; the file may have been made smaller since.
    shrunk = 1.0 if width is None else max(size) / max(width, _positive(tags.get(ExifTags.Base.ExifImageHeight)) or 0)
    return length * pitch / unit * shrunk, "FocalPlaneXResolution"


def _positive(value: Any) -> Optional[float]:
    """A tag's number; None where it is missing, broken, or not above zero."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None

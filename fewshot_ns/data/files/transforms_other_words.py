"""What a `transforms*.json` says of its cameras in words that are not read, however they are spelled.

Programs write fisheye lenses, rolling shutters, distortion and intrinsics under many keys. Those here change the rays
and nothing uses them, so that they stop a scene, or are held against what is read.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

_PARTS = ("cam", "intrin", "calib", "lens", "sensor", "optic", "distort")
"""Parts of the names of objects that may hold a camera."""
_DEEPEST = 4
_NO_CAMERA = ("path", "file", "name", "maker", "serial", "comment", "mask")
"""Parts of the names of keys that hold texts about other things."""
_LENS_KEYS = ("fisheye", "equirect", "panoram", "omnidirection", "latlong", "orthographic", "orthoscale", "ftheta")
_MODEL_KEYS = ("model", "type", "lens", "projection", "camera", "distortion")
_MODEL_PARTS = ("fisheye", "equirect", "ftheta", "kannala", "omnidirection", "orthograph", "vr180", "thinprism")
_MODELS = frozenset(
    "equidistant equisolid stereographic spherical panorama panoramic ortho fov kb3 kb4 kb8 mei ucm eucm ds "
    "doublesphere cylindrical division scaramuzza ocam latlong".split()
)
_SHUTTER_KEYS = ("rollingshutter", "readouttime", "readoutduration", "linedelay", "rowdelay", "shutterskew")
_TERM = re.compile(r"(radial|tangential|dist|distortion|lens)?(k[1-9]|p[1-9]|s[1-4]|tau[xy12]|b[12])")
_COEFFICIENTS = ("distcoeffs", "distcoefs", "distcoeff", "distcoef")
_SHIFTS = ("shiftx", "shifty", "lensshiftx", "lensshifty", "lensshift")
_READ_LISTS = ("distortion_params",)
_READ_TERMS = ("k1", "k2", "k3", "k4", "p1", "p2")
REMEDIES = {
    "a rolling shutter": "; where it is too short to matter, remove the key",
    "a shifted lens": "; state cx and cy instead of it",
}
"""What to do about some of what `other_lens` finds; about all else: undistort the photos."""
_MATRIX_KEYS = frozenset(
    "k intrinsic intrinsics intrinsicmatrix intrinsicsmatrix cameramatrix kmatrix camerak calibrationmatrix "
    "cameraintrinsic cameraintrinsics camintrinsics cameraintrinsicmatrix".split()
)
_FOCAL, _CENTRE = (("fl_x", "fl_y"), ("fx", "fy")), ("cx", "cy")
_OFF_PIXELS, _OFF_ASPECT = 0.5, 2e-3
"""Largest differences, pixels and a fraction, of two statements of one camera."""


def plain_key(key: str) -> str:
    """A key without the spelling: small letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def says_something(value: Any) -> bool:
    """Whether a value is more than false, nothing or zeros, also in words."""
    if isinstance(value, (list, dict)):
        return any(says_something(entry) for entry in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "0.0", "false", "no", "none", "null", "off")
    return bool(value)


def other_lens(stated: Dict[str, Any], of_photos: bool) -> Optional[Tuple[str, str]]:
    """The first key that says that cameras are no perspective ones with the distortion that is read.

    Args:
        stated: Keys of a file or of a frame, without its frames.
        of_photos: Whether the cameras have taken photos; False: they are rendered, and may have any distortion.

    Returns:
        The key, with those of the objects it lies in, and what it says in words; None where nothing does.
    """
    for place, key, value in _entries(stated):
        found = _lens_of(key, value, of_photos)
        if found is None and of_photos and says_something(value):
            found = _distortion_of(key, value, nested=place != key, read=stated)
        if found is not None:
            return place, found
    return None


def _entries(stated: Dict[str, Any], place: str = "", depth: int = 0) -> Iterator[Tuple[str, str, Any]]:
    """Place, key and value of each entry, and of those of the objects in it that may hold a camera."""
    for key, value in stated.items():
        where = f"{place}.{key}" if place else key
        yield where, key, value
        if depth < _DEEPEST and any(part in plain_key(key) for part in _PARTS):
            for number, entry in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(entry, dict):
                    yield from _entries(entry, f"{where}[{number}]" if isinstance(value, list) else where, depth + 1)


def _lens_of(key: str, value: Any, of_photos: bool) -> Optional[str]:
    plain = plain_key(key)
    if not says_something(value) or any(part in plain for part in _NO_CAMERA):
        return None
    if any(part in plain for part in _SHUTTER_KEYS):
        return None if plain_key(str(value)) == "global" else "a rolling shutter"
    lens = next((part for part in _LENS_KEYS if part in plain), None)
    if lens is not None:
        return lens
    if isinstance(value, str) and any(part in plain for part in _MODEL_KEYS):
        model = plain_key(value)
        if model in _MODELS or any(part in model for part in _MODEL_PARTS) or (of_photos and model == "fullopencv"):
            return value.lower()[:40]
    if plain in _SHIFTS and _numbers(value):
        return "a shifted lens"
    if "skew" in plain and _numbers(value):
        return "skewed"
    return None


def _distortion_of(key: str, value: Any, nested: bool, read: Dict[str, Any]) -> Optional[str]:
    plain, numbers = plain_key(key), _numbers(value)
    if not numbers or key in _READ_LISTS and not nested:
        return None
    term = _TERM.fullmatch(plain)
    if term is not None and (nested or key not in _READ_TERMS):
        # What is read, too, says nothing new.
        same = term.group(2) in _READ_TERMS and read.get(term.group(2)) == value
        return None if same else "distortion that is not read"
    listed = ("distort" in plain and "undistort" not in plain) or plain in _COEFFICIENTS
    if listed or (plain == "d" and len(numbers) >= 4):
        return "distortion that is not read"
    return None


def _numbers(value: Any) -> List[float]:
    """Numbers of a value, of lists and of objects in it; none where it holds anything else."""
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    found: List[float] = []
    for entry in entries:
        if isinstance(entry, list):
            inner = _numbers(entry)
            if not inner:
                return []
            found += inner
        elif isinstance(entry, (int, float)) and not isinstance(entry, bool):
            # Whole numbers may be larger than any that a camera has.
            found.append(float(entry) if abs(entry) < sys.float_info.max else math.inf)
        else:
            return []
    return found


Intrinsics = Tuple[Optional[float], Optional[float], float, float]
"""fx, fy, cx, cy; no focal lengths where the principal point alone is stated."""


def other_intrinsics(stated: Dict[str, Any]) -> Tuple[Tuple[str, Intrinsics], ...]:
    """Intrinsics that are stated as a matrix, as a list of four, as an object, or as a principal point.

    Args:
        stated: Keys of a file and a frame, without its frames.
    """
    found: List[Tuple[str, Intrinsics]] = []
    for place, key, value in _entries(stated):
        plain = plain_key(key)
        if plain in _MATRIX_KEYS and isinstance(value, list):
            intrinsics = _of_matrix(_numbers(value))
        elif isinstance(value, dict) and any(part in plain for part in _PARTS):
            intrinsics = _of_object(value)
        elif plain in ("principalpoint", "principalpointxy", "opticalcentre", "opticalcenter"):
            numbers = _numbers(value)
            intrinsics = (None, None, numbers[0], numbers[1]) if len(numbers) == 2 else None
        else:
            intrinsics = None
        if intrinsics is not None:
            found.append((place, intrinsics))
    return tuple(found)


def _of_matrix(numbers: List[float]) -> Optional[Intrinsics]:
    places = {4: (0, 1, 2, 3), 9: (0, 4, 2, 5), 12: (0, 5, 2, 6), 16: (0, 5, 2, 6)}.get(len(numbers))
    if places is None:
        return None
    fx, fy, cx, cy = (numbers[place] for place in places)
    return (fx, fy, cx, cy) if fx > 0 and fy > 0 else None


def _of_object(value: Dict[str, Any]) -> Optional[Intrinsics]:
    for across, down in _FOCAL:
        numbers = _numbers([value.get(across), value.get(down, value.get(across)), *map(value.get, _CENTRE)])
        if len(numbers) == 4:
            return _of_matrix(numbers)
    return None


def intrinsics_differ(other: Intrinsics, fractions: Tuple[float, float, float, float], size: Tuple[int, int]) -> bool:
    """Whether other intrinsics cast other rays than those that are read.

    Args:
        other: As stated, in pixels of a photo of any size, or in fractions of its sides.
        fractions: fx / W, fy / H, cx / W, cy / H that are read.
        size: (width, height) in pixels, by which differences count.
    """
    fx, fy = fractions[0] * size[0], fractions[1] * size[1]
    if other[0] is None or other[1] is None:
        ways = (other[2:], (other[2] * size[0], other[3] * size[1]))
        centre = (fractions[2] * size[0], fractions[3] * size[1])
        return all(math.dist(way, centre) > _OFF_PIXELS for way in ways)
    across = abs(other[2] / other[0] - fractions[2] / fractions[0]) * fx
    down = abs(other[3] / other[1] - fractions[3] / fractions[1]) * fy
    aspects = (other[1] / other[0], other[1] * size[1] / (other[0] * size[0]))
    return max(across, down) > _OFF_PIXELS or all(abs(aspect * fx / fy - 1.0) > _OFF_ASPECT for aspect in aspects)

"""How far recovered poses can be trusted, and why photos were left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import AbstractSet, Any, Dict, List, Literal, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.capture.photos import PLAIN, Photo, is_blurred
from fewshot_ns.data.capture.poses import CapturedPoses

Verdict = Literal["good", "fair", "doubtful"]
FEW_MATCHES = 30
"""Verified matches below which a pair says little."""
FEW_FEATURES = 100
FEW_POINTS = 30
TOO_FEW_POINTS = 10
"""Points below which there is no scene: poses of any photos can be made to agree with so few."""
SMALL_ANGLE = 2.0
"""Median angle between the rays of a point, degrees, below which depth is uncertain."""
LARGE_ERROR = 1.5
"""Mean reprojection error, pixels, above which poses are doubtful."""
USUAL_FOCAL = (0.45, 3.5)
"""Focal lengths, as shares of the longer side, that cameras and phones have: from 16 to 126 mm of the small format."""
WHAT_TO_DO = (
    "Take photos that overlap by two thirds, from places a step apart (5 to 20 degrees around the subject), sharp, "
    "of something that has texture; or give poses by --poses."
)


@dataclass(frozen=True)
class PhotoTrust:
    """What is known of one registered photo."""

    name: str
    points: int
    """Points that it shows."""
    error: float
    """Mean reprojection error, pixels."""


@dataclass(frozen=True)
class Trust:
    """Figures by which poses can be judged."""

    verdict: Verdict
    reasons: Tuple[str, ...]
    """Why it is not good; empty where it is."""
    photos: Tuple[PhotoTrust, ...]
    num_points: int
    error: Optional[float]
    """Mean reprojection error of all observations, pixels; None where observations are not known."""
    angle: Optional[float]
    """Median over the points of the largest angle between rays to the photos that show them, degrees."""
    matches: Optional[int]
    """Fewest verified matches by which any registered photo hangs on the best of its neighbours."""

    def as_json(self) -> Dict[str, Any]:
        """For files."""
        return asdict(self)


def judge(
    poses: CapturedPoses,
    pairs: Sequence[Tuple[str, str, int]] = (),
    left_out: int = 0,
    focal_is_a_guess: bool = False,
    flat: AbstractSet[Tuple[str, str]] = frozenset(),
) -> Trust:
    """Measures how well the points agree with the photos.

    Args:
        poses: With observations, or without (then only what does not need them).
        pairs: Verified matches of pairs of photos.
        left_out: How many photos have no pose.
        focal_is_a_guess: Whether neither EXIF nor the photos say the focal length.
        flat: Pairs of photos whose matches one homography explains.
    """
    registered = set(poses.names)
    best: Dict[str, int] = {}
    for first, second, count in pairs:
        if {first, second} <= registered:
            best[first], best[second] = max(best.get(first, 0), count), max(best.get(second, 0), count)
    matches = min(best.values()) if best else None
    if not poses.observations:
        return Trust(
            "fair", ("poses were given; nothing here checks them",), (), len(poses.points), None, None, matches
        )
    photos, errors = [], []
    for index, name in enumerate(poses.names):
        off = reprojection_errors(poses, index)
        errors.append(off)
        photos.append(PhotoTrust(name, len(off), float(off.mean()) if len(off) else float("inf")))
    all_errors = np.concatenate(errors)
    error = float(all_errors.mean()) if len(all_errors) else float("inf")
    angles = ray_angles(poses)
    angle = float(np.median(angles)) if len(angles) else 0.0
    reasons: List[str] = []
    if len(poses.points) < FEW_POINTS:
        reasons.append(f"only {count_of(len(poses.points), 'point')}")
    if error > LARGE_ERROR:
        reasons.append(f"points miss the photos by {error:.1f} pixels on average")
    if angle < SMALL_ANGLE:
        reasons.append(f"the photos were taken from nearly one place (median angle {angle:.1f} degrees)")
    if _no_parallax(registered, pairs, flat):
        reasons.append(
            "no parallax: one flat picture explains all matches, as of a turn on the spot, of two crops of one photo, "
            "or of a wall; nothing says how far anything is"
        )
    bad = bool(reasons) or left_out >= len(poses.names)
    if left_out > 0:
        reasons.append(f"{left_out} of {left_out + len(poses.names)} photos could not be placed")
    if matches is not None and matches < FEW_MATCHES:
        reasons.append(f"a photo hangs on {count_of(matches, 'match', 'matches')}")
    lonely = [photo.name for photo in photos if photo.points < FEW_POINTS]
    if lonely:
        reasons.append(f"{', '.join(lonely)}: fewer than {FEW_POINTS} points")
    if focal_is_a_guess:
        reasons.append("the focal length is a guess, and all depth with it: two photos cannot correct it, EXIF can")
    shares = poses.intrinsics[:, 0] / poses.sizes.max(axis=1)
    unusual = shares[(shares < USUAL_FOCAL[0]) | (shares > USUAL_FOCAL[1])]
    if len(unusual):
        reasons.append(f"a focal length of {unusual[0]:.2f} times the longer side is unlikely")
    verdict: Verdict = "doubtful" if bad else "fair" if reasons else "good"
    return Trust(verdict, tuple(reasons), tuple(photos), len(poses.points), error, angle, matches)


def count_of(number: int, one: str, many: str = "") -> str:
    """A number of things in words; `many` is `one` with an s where it is not given."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _no_parallax(
    registered: AbstractSet[str], pairs: Sequence[Tuple[str, str, int]], flat: AbstractSet[Tuple[str, str]]
) -> bool:
    """Whether of no two photos that have poses, and enough matches to tell, the matches show that the camera moved."""
    telling = [(one, two) for one, two, count in pairs if {one, two} <= registered and count >= FEW_MATCHES]
    return bool(telling) and all(pair in flat for pair in telling)


def reprojection_errors(poses: CapturedPoses, index: int) -> npt.NDArray[np.float64]:
    """(K,) distances in pixels between where a photo shows its points and where its pinhole camera does."""
    numbers, seen = poses.observations[index]
    pose = poses.camera_to_worlds[index]
    local = (poses.points[numbers] - pose[:, 3]) @ pose[:, :3]
    fx, fy, cx, cy = poses.intrinsics[index]
    depth = np.where(np.abs(local[:, 2]) > 1e-12, local[:, 2], 1e-12)
    projected = np.stack([cx + fx * local[:, 0] / depth, cy + fy * local[:, 1] / depth], axis=1)
    return np.linalg.norm(projected - seen, axis=1)


def ray_angles(poses: CapturedPoses) -> npt.NDArray[np.float64]:
    """Of each point that two photos show the largest angle between its rays, degrees."""
    rays: Dict[int, List[npt.NDArray[np.float64]]] = {}
    for index, (numbers, _) in enumerate(poses.observations):
        offsets = poses.points[numbers] - poses.camera_to_worlds[index, :, 3]
        units = offsets / np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), 1e-12)
        for number, unit in zip(numbers, units, strict=True):
            rays.setdefault(int(number), []).append(unit)
    cosines = [float((np.stack(units) @ np.stack(units).T).min()) for units in rays.values() if len(units) > 1]
    return np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def why_left_out(
    photos: Sequence[Photo], registered: Sequence[str], features: Dict[str, int], pairs: Sequence[Tuple[str, str, int]]
) -> Dict[str, str]:
    """The likely reason why each photo has no pose, by name."""
    reasons: Dict[str, str] = {}
    sharp = float(np.median([photo.sharpness for photo in photos]))
    for photo in photos:
        if photo.name in registered:
            continue
        matched = [(count, other) for one, two, count in pairs for other in _other(photo.name, one, two)]
        count, other = max(matched, default=(0, ""))
        found = features.get(photo.name, 0)
        if photo.contrast < PLAIN:
            reason = f"it has {count_of(found, 'feature')}: nearly one colour"
        elif is_blurred(photo, photos, features):
            reason = f"it is blurred (sharpness {photo.sharpness:.0f}, the others {sharp:.0f})"
        elif found < FEW_FEATURES:
            reason = f"it has {count_of(found, 'feature')}: nearly one colour, or too small"
        elif count < FEW_MATCHES:
            beside = f" (the most, {count}, with {other})" if count else ""
            reason = f"too few matches with the others{beside}: no overlap, too large a step, or repeated texture"
        else:
            found_with = f"its {count_of(count, 'match', 'matches')} with {other}"
            reason = f"{found_with} do not fit one position: too small a baseline, or one plane"
        reasons[photo.name] = reason
    return reasons


def _other(name: str, one: str, two: str) -> Tuple[str, ...]:
    return (two,) if name == one else (one,) if name == two else ()

"""What a `transforms*.json` states of the camera of each frame: its lens, intrinsics and distortion, in every spelling.

The keys are those of NeRF's Blender scenes, instant-ngp and nerfstudio. A frame's own value wins over the file's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Hashable, Iterator, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.checks import size_fault
from fewshot_ns.data.files.one_photo_once import file_identity
from fewshot_ns.data.files.transforms_other_words import (
    REMEDIES,
    Intrinsics,
    intrinsics_differ,
    other_intrinsics,
    other_lens,
    plain_key,
    says_something,
)
from fewshot_ns.utils.shown_values import shown

PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")
_NO_LENS = ("NONE", "BROWN", "BROWN_CONRADY", "PLUMB_BOB", "RADTAN")
"""Names of no distortion, and of the one that is used, in capitals."""
"""Names of camera models that can be read, in capitals."""
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Terms of a lens's distortion that are used, in nerfstudio's order."""
_TERMS = (*DISTORTION, "distortion_params")
_MODEL_KEYS = ("camera_model", "camera_type", "lens_model", "distortion_model", "projection", "projection_model")
_OTHER_LENSES = {
    "is_fisheye": "fisheye",
    "fisheye": "fisheye",
    "latlong": "equirectangular",
    "equirectangular": "equirectangular",
    "orthographic": "orthographic",
    "fisheye_crop_radius": "fisheye",
    "xi": "omnidirectional",
    "skew": "skewed",
}
"""Keys that say another camera model where they are true."""
_FTHETA, _SHUTTER = "ftheta_p", ("rolling_shutter", "shutter")
_EXPOSURE = ("speed", "count", "angle")
"""Parts of the names of keys about a shutter that say nothing of how it opens."""
_MORE_TERMS = re.compile(r"k[5-9]|p[3-9]|s[1-4]|tau_?[xy12]")
_LISTS = (
    "distortion",
    "distortion_coefficients",
    "dist_coeffs",
    "distCoeffs",
    "radial_distortion",
    "tangential_distortion",
)
_ALIKE = 0.1
"""Largest relative difference of a focal length and an angle that mean the same camera."""
_LEAST_SIDE = 16
"""Pixels of a side from which on a principal point in its first pixel is a fraction of the side."""
_SAME = 1e-6
"""Largest relative difference of two statements of one focal length that is the rounding of a file."""


def check_lens(meta: Dict[str, Any], path: Path, of_photos: bool = True) -> None:
    """Checks that a file states perspective cameras, without rolling shutter or more distortion than is used.

    Args:
        meta: Content of the file.
        path: The file.
        of_photos: Whether the cameras have taken photos; False: they are rendered alone, and may have any distortion of
            a perspective camera, which is left out (`bends`).

    Raises:
        ValueError: another camera model, a rolling shutter, or terms of distortion that are not used.
    """
    way_out = "; undistort the photos" if of_photos else ""
    for where, stated in _statements(meta):
        for key in _MODEL_KEYS:
            _check_model(stated.get(key), f"{path}{where}", key, of_photos)
        for key, value in stated.items():
            lens = _OTHER_LENSES.get(key) or ("f-theta" if key.startswith(_FTHETA) else None)
            if lens is not None and says_something(value):
                raise ValueError(f"{path}{where}: expected a perspective camera model, found {lens} ({key!r}){way_out}")
            if _is_shutter(key) and says_something(value) and str(value).lower() not in ("global", "none"):
                raise ValueError(
                    f"{path}{where}: expected a perspective camera model, found a rolling shutter ({key!r} is "
                    f"{shown(value)}), where it is too short to matter, remove the key"
                )
            if of_photos and _is_unused_term(key) and says_something(value):
                raise ValueError(
                    f"{path}{where}: expected a perspective camera model with the distortion {', '.join(DISTORTION)}, "
                    f"found {key!r}; undistort the photos"
                )
        if of_photos:
            distortion_of(stated, f"{path}{where}")
        other = other_lens(stated, of_photos)
        if other is not None:
            raise ValueError(
                f"{path}{where}: expected a perspective camera model, with distortion as {', '.join(DISTORTION)}, "
                f"found {other[1]} ({other[0]!r}){REMEDIES.get(other[1], way_out)}"
            )


def bends(meta: Dict[str, Any], number: int) -> bool:
    """Whether a file states distortion of a frame's camera, of any kind; the frame's own words win over the file's.

    Args:
        meta: Content of the file.
        number: Of the frame.
    """
    own = meta["frames"][number]

    def terms(stated: Dict[str, Any]) -> Dict[str, Any]:
        return {key: stated[key] for key in stated if key in _TERMS or _is_unused_term(key)}

    return any(says_something(value) for value in (terms(own) or terms(meta)).values())


def _is_shutter(key: str) -> bool:
    return key.startswith(_SHUTTER) and not any(part in plain_key(key) for part in _EXPOSURE)


def _is_unused_term(key: str) -> bool:
    return key in _LISTS or _MORE_TERMS.fullmatch(key) is not None


def _check_model(name: Any, where: str, key: str, of_photos: bool) -> None:
    models = PERSPECTIVE if of_photos else (*PERSPECTIVE, "FULL_OPENCV")
    if name is None or str(name).upper() in (*models, *_NO_LENS):
        return
    known = ", ".join(model for model in models if model != "PERSPECTIVE")
    lens = "fisheye" if "FISHEYE" in str(name).upper() else shown(name).strip("'").lower()
    way_out = "; undistort the photos, e.g. by `colmap image_undistorter`" if of_photos else ""
    raise ValueError(
        f"{where}: expected a perspective camera model, found {lens} ({key} {shown(name)}, can be {known}){way_out}"
    )


def _statements(meta: Dict[str, Any]) -> Iterator[Tuple[str, Dict[str, Any]]]:
    yield "", {key: value for key, value in meta.items() if key != "frames"}
    for number, frame in enumerate(meta["frames"]):
        if isinstance(frame, dict):
            yield f", frame {number}", frame


def distortion_of(stated: Dict[str, Any], where: str) -> Tuple[float, ...]:
    """k1, k2, k3, k4, p1, p2 that a file or a frame states; zeros where it is silent.

    Args:
        stated: Its keys.
        where: Its name in the message.

    Raises:
        ValueError: no finite numbers, or a list of another length, whose order nothing says.
    """
    listed = stated.get("distortion_params")
    if listed is None:
        return tuple(_number(stated, name, where) or 0.0 for name in DISTORTION)
    if not isinstance(listed, list) or (len(listed) != len(DISTORTION) and says_something(listed)):
        raise ValueError(f"{where}: expected 'distortion_params' {', '.join(DISTORTION)}, found {shown(listed)}")
    values: Dict[str, Any] = dict(zip(DISTORTION, listed, strict=False))
    return tuple(_number(values, name, where) or 0.0 for name in DISTORTION)


def _number(stated: Dict[str, Any], key: str, where: str) -> Optional[float]:
    value = stated.get(key)
    if value is None:
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError(f"{where}: expected a number for {key!r}, found {shown(value)}")
    return number


@dataclass(frozen=True)
class StatedCamera:
    """What is stated of one frame's camera; None where nothing is."""

    focal: Tuple[Optional[float], Optional[float]]
    """Focal lengths along x and y, pixels."""
    tangents: Tuple[Optional[float], Optional[float]]
    """Half the width and height of what is seen at unit depth, from the opening angles."""
    centre: Tuple[Optional[float], Optional[float]]
    """Principal point (x, y), pixels from the corner of the image."""
    size: Tuple[Optional[int], Optional[int]]
    """(width, height) that the pixels are of."""
    distortion: Tuple[float, ...]
    """As `DISTORTION`."""
    where: str = ""
    """File and frame, for messages."""
    others: Tuple[Tuple[str, Intrinsics], ...] = ()
    """Keys that state intrinsics in words that are not read, and what they state."""

    @classmethod
    def of_frame(cls, meta: Dict[str, Any], number: int, path: Path) -> StatedCamera:
        """The camera of a frame.

        Args:
            meta: Content of the file.
            number: Of the frame.
            path: The file.

        Raises:
            ValueError: no number, a focal length or size that is not positive, or an angle outside of 0..pi.
        """
        where = f"{path}, frame {number}"
        stated = {key: value for key, value in meta.items() if key != "frames"} | meta["frames"][number]

        def positive(*keys: str) -> Optional[float]:
            value, key = next(
                ((found, key) for key in keys if (found := _number(stated, key, where)) is not None), (None, "")
            )
            if value is not None and value <= 0:
                raise ValueError(f"{where}: expected a positive number for {key!r}, found {value:g}")
            return value

        def tangent(axis: str) -> Optional[float]:
            angle = _number(stated, f"camera_angle_{axis}", where)
            degrees = None if angle is not None else _number(stated, f"{axis}_fov", where)
            angle = angle if degrees is None else math.radians(degrees)
            if angle is None:
                return None
            if not 0.0 < angle < math.pi:
                hint = f", which in degrees is {math.radians(angle):.6g}" if math.pi <= angle < 180.0 else ""
                raise ValueError(f"{where}: expected 'camera_angle_{axis}' between 0 and pi, found {angle:g}{hint}")
            # numpy's, since its tangent may differ from math's in the last bit.
            return float(np.tan(0.5 * np.float64(angle)))

        # Only what is written beside the angles in one frame may speak of another camera than the file's.
        own = meta["frames"][number]
        if any(key in own for key in ("camera_angle_x", "camera_angle_y")) and not any(
            key in own for key in ("fl_x", "fl_y", "fx", "fy")
        ):
            stated = {key: value for key, value in stated.items() if key not in ("fl_x", "fl_y", "fx", "fy")}
        width, height = positive("w"), positive("h")
        fault = size_fault(1.0 if height is None else height, 1.0 if width is None else width)
        if fault is not None:
            raise ValueError(f"{where}: {fault} ('w', 'h')")
        lens = own if any(name in own for name in (*DISTORTION, "distortion_params")) else stated
        return cls(
            focal=(positive("fl_x", "fx"), positive("fl_y", "fy")),
            tangents=(tangent("x"), tangent("y")),
            centre=(_number(stated, "cx", where), _number(stated, "cy", where)),
            size=(None if width is None else int(width), None if height is None else int(height)),
            distortion=distortion_of(lens, where),
            where=where,
            others=other_intrinsics(stated),
        )

    def is_like(self, other: StatedCamera) -> bool:
        """Whether another statement says the same, but for the rounding of a file."""
        sides = zip(self._numbers(), other._numbers(), strict=True)
        return all(
            one == two or (one is not None and two is not None and math.isclose(one, two, rel_tol=_SAME))
            for one, two in sides
        )

    def _numbers(self) -> Tuple[Optional[float], ...]:
        return (*self.focal, *self.tangents, *self.centre, *self.size, *self.distortion)

    @property
    def states_size(self) -> bool:
        """Whether anything says how wide and high the photo is."""
        return None not in self.size

    @property
    def is_one_angle(self) -> bool:
        """Whether nothing but one opening angle says how the camera sees."""
        return self.focal == (None, None) and None in self.tangents and self.size == (None, None)

    @property
    def has_focal(self) -> bool:
        """Whether anything says how wide the camera sees."""
        return any(value is not None for value in (*self.focal, *self.tangents))

    def size_at(self, image: Tuple[int, int]) -> Tuple[int, int]:
        """(width, height) that the pixels are of: the stated one, else that of the image on disk."""
        return self.size[0] or image[0], self.size[1] or image[1]

    def fractions(self, image: Tuple[int, int]) -> Tuple[float, float, float, float]:
        """fx / W, fy / H, cx / W, cy / H; pixels are square and the principal point the centre where nothing says more.

        Args:
            image: (width, height) of the image on disk.
        """
        width, height = self.size_at(image)
        self._check_angles(width, height)
        fx = _focal_fraction(self.focal[0], self.tangents[0], width)
        fy = _focal_fraction(self.focal[1], self.tangents[1], height)
        if fx is None and fy is not None:
            fx = fy * image[1] / image[0]
        if fx is None:
            raise ValueError("expected a focal length or an opening angle, found none")
        square = fx * image[0] / image[1]
        fy = square if fy is None or abs(fy - square) <= _SAME * square else fy
        cx, cy = self.centre
        found = fx, fy, 0.5 if cx is None else cx / width, 0.5 if cy is None else cy / height
        self.check_others(found, (width, height))
        return found

    def check_others(self, read: Tuple[float, float, float, float], size: Tuple[int, int]) -> None:
        """Checks that intrinsics in words that are not read say the same, and that the principal point is in pixels.

        Args:
            read: fx / W, fy / H, cx / W, cy / H that are taken.
            size: (width, height) that pixels are of.

        Raises:
            ValueError: a matrix, a list or an object states others, or the principal point is a fraction.
        """
        cx, cy = self.centre
        if cx is not None and cy is not None and 0 < cx <= 1 and 0 < cy <= 1 and min(size) >= _LEAST_SIDE:
            raise ValueError(
                f"{self.where}: expected a principal point cx, cy in pixels of {size[0]}x{size[1]}, found {cx:g}, "
                f"{cy:g}, as of fractions of the sides; multiply them by w and h"
            )
        for key, intrinsics in self.others:
            if intrinsics_differ(intrinsics, read, size):
                numbers = ", ".join(f"{number:g}" for number in intrinsics if number is not None)
                raise ValueError(
                    f"{self.where}: expected intrinsics as fl_x, fl_y, cx, cy (and w, h), found others in {key!r} "
                    f"({numbers}), which is not read; state them so, or remove the key"
                )

    def _check_angles(self, width: int, height: int) -> None:
        """Checks that focal lengths and opening angles say the same."""
        for axis, side, focal, tangent in zip("xy", (width, height), self.focal, self.tangents, strict=True):
            if focal is None or tangent is None or abs(0.5 * side / tangent - focal) <= _ALIKE * focal:
                continue
            raise ValueError(
                f"{self.where}: expected one focal length, found fl_{axis} {focal:g} and camera_angle_{axis}, by which "
                f"it is {0.5 * side / tangent:g} pixels of an image of {width}x{height}; the focal length is in pixels "
                "of the size that w and h state: state it, or remove one of the two"
            )


def _focal_fraction(focal: Optional[float], tangent: Optional[float], side: int) -> Optional[float]:
    """Focal length as a fraction of a side; the stated one unless the angle says the same."""
    by_angle = None if tangent is None else 0.5 / tangent
    if focal is None:
        return by_angle
    return by_angle if by_angle is not None and abs(by_angle * side - focal) <= _SAME * focal else focal / side


def stated_cameras(meta: Dict[str, Any], path: Path) -> Tuple[StatedCamera, ...]:
    """`StatedCamera.of_frame` of each frame of a file."""
    return tuple(StatedCamera.of_frame(meta, number, path) for number in range(len(meta["frames"])))


def check_listed_once(
    names: Sequence[str],
    files: Sequence[Path],
    poses: npt.NDArray[np.floating],
    path: Path,
    cameras: Optional[Sequence[StatedCamera]] = None,
) -> None:
    """Checks that no photo is listed with two poses, or with two cameras; it is the same file by whatever path.

    Args:
        names: How each frame is called in the message.
        files: The photo of each frame.
        poses: (N, 3 or 4, 4).
        path: The file that lists them.
        cameras: What is stated of each frame's camera; None: not compared.

    Raises:
        ValueError: one photo has two poses or two cameras; names both frames.
    """
    first: Dict[Hashable, int] = {}
    for number, file in enumerate(files):
        other = first.setdefault(file_identity(file), number)
        if not np.allclose(poses[number], poses[other], rtol=1e-6, atol=1e-6):
            raise ValueError(
                f"{path}: expected one pose for each photo, found two of {file.name}: {names[other]} and "
                f"{names[number]}; remove one of them"
            )
        if cameras is not None and not cameras[number].is_like(cameras[other]):
            raise ValueError(
                f"{path}: expected one camera for each photo, found two of {file.name} (focal length, principal point, "
                f"size or distortion): {names[other]} and {names[number]}; remove one of them"
            )

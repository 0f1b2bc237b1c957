"""What numbers a camera can have, so that its rays are finite in float32 and models can sample along them.

Every dataparser's cameras pass through here before anything is computed with them. The functions say what is wrong in
words that go after the name of a file and of a view, or raise them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Dict, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

Numbers = npt.NDArray[np.floating]

NARROWEST, WIDEST = 0.02, 179.0
"""Opening angles of a photo, degrees: a telescope sees less than the first, no perspective camera more than the
second. A focal length of another unit than the photo's pixels, or an angle of another unit, lies beyond them."""
OFF_CENTRE = 10.0
"""Sides of its photo that a principal point may lie off its middle; of a crop it may lie outside of the photo."""
FARTHEST = 1e6
"""World units from the origin to where cameras stand and rays end: the sixth powers of distances in mip-NeRF's
Gaussians must hold in float32."""
NEAREST_END = 1e-6
"""World units below which no ray may end, for the same reason."""
THINNEST = 1e-5
"""Least length of the sampled interval, as a fraction of far."""
_FEWEST_STEPS = 100.0
"""Steps of float32, at the place of a camera, that the sampled interval must have."""
_GRID = 33
"""Points per side of a photo at which its lens is tried."""
_OFF_TARGET, _MOST_FOLDED = 0.02, 0.5
"""A point of the photo that undoing the lens misses by more than the first, as a fraction of the photo, is not undone;
the share of such points up to which the lens is one."""
_SIZE_LIMIT = 1e6
"""Pixels per side."""


def size_fault(height: float, width: float) -> Optional[str]:
    """What is wrong with the height and width, pixels, that a camera is stated for; None where nothing is."""
    # Said so that NaN fails.
    if 1.0 <= height <= _SIZE_LIMIT and 1.0 <= width <= _SIZE_LIMIT:
        return None
    return f"expected a photo of 1 to {_SIZE_LIMIT:g} pixels in width and height, found {width:g}x{height:g}"


def intrinsics_fault(intrinsics: Sequence[float]) -> Optional[str]:
    """What is wrong with fx / W, fy / H, cx / W, cy / H of one photo; None where nothing is."""
    fx, fy, cx, cy = (float(number) for number in intrinsics)
    for name, side, focal in (("fx", "width", fx), ("fy", "height", fy)):
        if not (math.isfinite(focal) and focal > 0.0):
            return f"expected a positive focal length, found {name} {focal:.4g} of the photo's {side}"
        angle = math.degrees(2.0 * math.atan2(0.5, focal))
        if not NARROWEST <= angle <= WIDEST:
            return (
                f"expected a focal length in pixels of the photo, by which it shows {NARROWEST:g} to {WIDEST:g} "
                f"degrees, found {name} {focal:.4g} of its {side}, by which it shows {angle:.3g}"
            )
    for name, side, place in (("cx", "width", cx), ("cy", "height", cy)):
        if not abs(place - 0.5) <= OFF_CENTRE:
            return (
                f"expected a principal point within {OFF_CENTRE:g} sides of the photo, found {name} at {place:.4g} of "
                f"its {side}"
            )
    return None


def lens_fault(intrinsics: Sequence[float], distortion: Sequence[float]) -> Optional[str]:
    """What is wrong with the lens of a photo, whose intrinsics are right; None where nothing is.

    Args:
        intrinsics: fx / W, fy / H, cx / W, cy / H.
        distortion: k1, k2, k3, k4, p1, p2.

    Returns:
        Words, where the distortion is not finite, or where undoing it, as rays are cast, leads to directions beyond
        the widest perspective camera somewhere in the photo.
    """
    terms = np.asarray(distortion, dtype=np.float64)
    if not terms.any():
        return None
    listed = ", ".join(f"{term:.4g}" for term in terms)
    with np.errstate(over="ignore"):
        finite = np.isfinite(terms.astype(np.float32)).all()
    if not finite:
        return f"expected finite distortion k1, k2, k3, k4, p1, p2, found {listed}"
    # Here, since it takes seconds to load, and few scenes have lenses.
    import torch
    from nerfstudio.cameras.camera_utils import radial_and_tangential_undistort

    from fewshot_ns.cameras.lenses import bent

    fx, fy, cx, cy = intrinsics
    along = torch.linspace(0.0, 1.0, _GRID)
    down, across = torch.meshgrid((along - cy) / fy, (along - cx) / fx, indexing="ij")
    target = torch.stack([across, down], dim=-1)
    seen = radial_and_tangential_undistort(target, torch.from_numpy(terms).float().expand(_GRID, _GRID, -1))
    widest = math.tan(math.radians(0.5 * WIDEST))
    if bool((seen.abs() <= widest).all()):
        off = (bent(seen, torch.from_numpy(terms).float()) - target).abs().max(dim=-1).values
        # Lenses that were measured may fold in the corners, where nothing was seen.
        if float((off > _OFF_TARGET * target.abs().max()).float().mean()) <= _MOST_FOLDED:
            return None
        return (
            f"expected distortion that can be undone, found k1, k2, k3, k4, p1, p2 of {listed}, by which most of the "
            "photo shows nothing"
        )
    return (
        f"expected distortion that can be undone all over the photo, found k1, k2, k3, k4, p1, p2 of {listed}, by "
        f"which parts of it show more than {WIDEST:g} degrees"
    )


def camera_faults(
    intrinsics: Numbers, distortion: Optional[Numbers] = None, sizes: Optional[Numbers] = None
) -> Dict[int, str]:
    """What is wrong with the cameras of some photos, poses aside.

    Args:
        intrinsics: (N, 4) fx / W, fy / H, cx / W, cy / H.
        distortion: (N, 6) k1, k2, k3, k4, p1, p2; None: no lens bends anything.
        sizes: (N, 2) height and width that the cameras are stated for; None: those of the photos.

    Returns:
        Words by the place of the camera in the list; those that are right are left out.
    """
    found: Dict[int, str] = {}
    tried: Dict[bytes, Optional[str]] = {}
    for index, numbers in enumerate(intrinsics):
        fault = None if sizes is None else size_fault(float(sizes[index, 0]), float(sizes[index, 1]))
        fault = fault or intrinsics_fault(numbers)
        if fault is None and distortion is not None:
            key = np.concatenate([numbers, distortion[index]]).tobytes()
            if key not in tried:
                tried[key] = lens_fault(numbers, distortion[index])
            fault = tried[key]
        if fault is not None:
            found[index] = fault
    return found


def check_cameras(cameras: Cameras, names: Sequence[str], where: str) -> None:
    """Checks nerfstudio's cameras as they are handed over, poses aside.

    Args:
        cameras: (N,).
        names: (N) what their photos are called.
        where: File or folder named in the message.

    Raises:
        ValueError: one that casts no finite rays; names its photo.
    """
    width, height = cameras.width.double(), cameras.height.double()
    sizes = np.concatenate([height.cpu().numpy(), width.cpu().numpy()], axis=1)
    sides = ((cameras.fx, width), (cameras.fy, height), (cameras.cx, width), (cameras.cy, height))
    fractions = np.concatenate([(number / side).cpu().numpy() for number, side in sides], axis=1)
    lenses = None if cameras.distortion_params is None else cameras.distortion_params.double().cpu().numpy()
    for index, fault in camera_faults(fractions, lenses, sizes).items():
        raise ValueError(f"{where}: photo {names[index]}: {fault}")


def check_range(near: float, far: float, where: str) -> None:
    """Checks what rays are sampled between, world units or those of NDC.

    Raises:
        ValueError: not 0 <= near < far, more than `FARTHEST`, or too thin to hold different samples in float32.
    """
    if not 0.0 <= near < far:
        raise ValueError(f"{where}: expected 0 <= near < far, got near {near} and far {far} (--near, --far)")
    if not NEAREST_END <= far <= FARTHEST:
        raise ValueError(
            f"{where}: expected far between {NEAREST_END:g} and {FARTHEST:g} world units, got near {near:g} and far "
            f"{far:g}; give --near and --far, or files of another unit"
        )
    if far - near < THINNEST * far:
        raise ValueError(
            f"{where}: expected near and far apart by {THINNEST:g} of far or more, got near {near!r} and far {far!r} "
            "(--near, --far)"
        )


def check_places(poses: Numbers, names: Sequence[str], where: str, scale: float = 1.0) -> None:
    """Checks that cameras stand where distances hold in float32.

    Args:
        poses: (N, 3 or 4, 4) finite.
        names: (N) what their photos are called.
        where: File or folder named in the message.
        scale: World units per unit of the files, for the message.

    Raises:
        ValueError: a camera farther than `FARTHEST` from the origin; names its photo.
    """
    worst, reach = _farthest(poses)
    if reach > FARTHEST:
        scaled = "" if scale == 1.0 else f" (a unit of the files is {scale:.3g})"
        raise ValueError(
            f"{where}: photo {names[worst]}: expected cameras near the origin, {FARTHEST:g} world units at most, found "
            f"one {reach:.4g} from it{scaled}; move or scale the world of the files"
        )


def check_steps(poses: Numbers, names: Sequence[str], where: str, interval: float) -> None:
    """Checks that float32 can tell samples along a ray apart from where cameras stand.

    Args:
        poses: (N, 3 or 4, 4) finite.
        names: (N) what their photos are called.
        where: File or folder named in the message.
        interval: far minus near, world units.

    Raises:
        ValueError: a camera whose rounding is a large part of what is sampled; names its photo.
    """
    worst, reach = _farthest(poses)
    step = float(np.spacing(np.float32(reach)))
    if _FEWEST_STEPS * step > interval:
        raise ValueError(
            f"{where}: photo {names[worst]}: expected cameras near the origin, found one {reach:.6g} from it, where "
            f"float32 counts in steps of {step:.2g}, of a sampled interval of {interval:.4g}; subtract a common offset "
            "from the positions, as of map coordinates"
        )


def check_float32_places(poses: Numbers, names: Sequence[str], where: str) -> None:
    """Checks that cameras are told apart in float32, where a world is centred and turned in it.

    Args:
        poses: (N, 3 or 4, 4) finite.
        names: (N) what their photos are called.
        where: File or folder named in the message.

    Raises:
        ValueError: they stand so far from the origin, or one so far from the others, that rounding moves them by a part
            of how far they are apart.
    """
    worst, reach = _farthest(poses)
    if reach <= FARTHEST:
        return
    places = poses[:, :3, 3]
    step = float(np.spacing(np.float32(reach)))
    apart = float(np.ptp(places, axis=0).max())
    # Of one camera far from all others the distance of these counts.
    usual = float(np.median(np.abs(places - np.median(places, axis=0)).max(axis=1)))
    if _FEWEST_STEPS * step <= apart and step <= usual:
        return
    raise ValueError(
        f"{where}: photo {names[worst]}: expected cameras around the origin, found this one {reach:.6g} from it and "
        f"the cameras {min(apart, usual):.4g} apart, where float32 counts in steps of {step:.2g}; subtract a common "
        "offset from the positions, as of map coordinates"
    )


def _farthest(poses: Numbers) -> Tuple[int, float]:
    """Which of poses (N, 3 or 4, 4), N at least 1, is farthest from the origin, and its largest coordinate."""
    reach = np.abs(poses[:, :3, 3]).max(axis=1)
    worst = int(reach.argmax())
    return worst, float(reach[worst])


def check_bounds(bounds: Numbers, names: Sequence[str], where: str) -> None:
    """Checks the nearest and farthest depth (N, 2) that a file states of each photo.

    Raises:
        ValueError: not 0 < nearest <= farthest; names the row and its photo.
    """
    for row, (near, far) in enumerate(bounds):
        # Said so that NaN fails.
        if not 0.0 < near <= far < np.inf:
            raise ValueError(
                f"{where}: photo {names[row]}: expected positive depth bounds, the nearer first, in row {row}, found "
                f"{near:g} and {far:g}"
            )


def check_world(transform: Numbers, scale: float, where: str) -> None:
    """Checks the transform (3, 4) and the scale from a file's world to that of the scene.

    Raises:
        ValueError: numbers that are not finite in float32, or a scale that is not positive.
    """
    with np.errstate(over="ignore", under="ignore"):
        numbers = np.asarray([*np.asarray(transform).ravel(), scale], dtype=np.float64).astype(np.float32)
    if not np.isfinite(numbers).all() or not numbers[-1] > 0.0:
        raise ValueError(
            f"{where}: expected a finite transform and a positive scale of the world, found the scale {scale:g} and "
            f"numbers up to {np.abs(numbers[:-1]).max():g}"
        )


def check_mean_axes(poses: Numbers, columns: Tuple[int, ...], where: str, remedy: str) -> None:
    """Checks that axes of cameras have a mean, by which a world is turned.

    Args:
        poses: (N, 3 or 4, 4) rotations and places.
        columns: Which axes: 1 up, 2 viewing axis.
        where: File or folder named in the message.
        remedy: What to do, for the message.

    Raises:
        ValueError: the axes cancel each other out, or the means of both are parallel.
    """
    means = [poses[:, :3, column].mean(axis=0) for column in columns]
    named = {1: "up", 2: "viewing axes"}
    for column, mean in zip(columns, means, strict=True):
        if np.linalg.norm(mean) < 1e-4:
            raise ValueError(
                f"{where}: expected cameras whose {named[column]} has a mean, found that all cancel; {remedy}"
            )
    if len(means) == 2 and np.linalg.norm(np.cross(means[0], means[1])) < 1e-6:
        raise ValueError(f"{where}: expected cameras with a mean pose, found their mean axes parallel; {remedy}")

"""Geometry of camera poses: average pose, recentring, focus point, look-at.

All poses are camera-to-world matrices (..., 3, 4) in float64 whose columns are the camera's axes and its position.
The functions work for OpenGL axes (x right, y up, looking along -z) and OpenCV axes (x right, y down, looking along z)
alike unless they say otherwise. The formulas are those of RegNeRF's and SparseNeRF's loaders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

Poses = npt.NDArray[np.floating]

LARGEST = 1e15
"""Largest number of a pose, of either sign: squares of it hold in float32."""
_ROTATION_TOLERANCE = 1e-2
"""Largest entry of R^T R - I that counts as the rounding of a file with few digits."""
_MOST_PARALLEL = float(np.cos(np.radians(5.0)))
"""Cosine of the angle between two axes below which a common point can be told."""
AXES_HINT = (
    "all cameras look away from the point that their axes meet in: either they look outwards, or the poses have "
    "OpenCV's axes (x right, y down, z forward) and the second and third column of each transform_matrix has to be "
    "negated, which has OpenGL's (x right, y up, z backward)"
)
"""What is said of a file for which `look_away` holds."""


def normalize(vector: Poses) -> Poses:
    """Scales vectors (..., 3) to unit length."""
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def homogeneous(poses: Poses) -> Poses:
    """(..., 3, 4) -> (..., 4, 4) with the last row 0 0 0 1."""
    row = np.broadcast_to(np.array([0.0, 0.0, 0.0, 1.0]), poses.shape[:-2] + (1, 4))
    return np.concatenate([poses[..., :3, :4], row], axis=-2)


def flip_camera_axes(poses: Poses) -> Poses:
    """OpenCV <-> OpenGL camera axes: negates the y and z columns; the world frame and the position stay."""
    return poses[..., :3, :4] * np.array([1.0, -1.0, -1.0, 1.0])


def pose_from_axes(z_axis: Poses, up: Poses, position: Poses) -> Poses:
    """Builds a pose (3, 4) from its z axis and a rough y axis (both (3,), any length), and its position (3,)."""
    z_axis = normalize(z_axis)
    x_axis = normalize(np.cross(up, z_axis))
    return np.stack([x_axis, np.cross(z_axis, x_axis), z_axis, position], axis=1)


def look_at(position: Poses, target: Poses, up: Poses) -> Poses:
    """OpenGL pose (3, 4) at `position` (3,) that looks at `target` (3,), with `up` (3,) upwards in the image."""
    return pose_from_axes(position - target, up, position)


def planar_depth(poses: Poses, points: Poses) -> Poses:
    """Depth (N, P) of points (P, 3) along the viewing axes of OpenGL poses (N, 3, 4), in world units."""
    offsets = points[None] - poses[:, None, :, 3]
    return -(offsets * poses[:, None, :, 2]).sum(-1)


def average_pose(poses: Poses) -> Poses:
    """(N, 3, 4) -> (3, 4): mean position, mean z axis, y axis as near to the mean y axis as it can be."""
    return pose_from_axes(poses[:, :3, 2].mean(0), poses[:, :3, 1].mean(0), poses[:, :3, 3].mean(0))


def recenter(poses: Poses) -> Tuple[Poses, Poses]:
    """Moves the world so that the average pose becomes the identity.

    Args:
        poses: (N, 3, 4).

    Returns:
        (N, 3, 4) new poses and the (3, 4) rigid transform of world points that leads there.
    """
    transform = np.linalg.inv(homogeneous(average_pose(poses)))
    return (transform @ homogeneous(poses))[..., :3, :4], transform[:3, :4]


def focus_point(poses: Poses) -> Poses:
    """(N, 3, 4) -> (3,): the point nearest to all optical axes, in the least-squares sense.

    Raises:
        ValueError: the optical axes are all parallel, so there is none.
    """
    directions, origins = poses[:, :3, 2:3], poses[:, :3, 3:4]
    across = np.eye(3) - directions * np.swapaxes(directions, 1, 2)
    gram = np.swapaxes(across, 1, 2) @ across
    mean = gram.mean(0)
    if np.linalg.cond(mean) > 1e9:
        raise ValueError("the cameras' optical axes are parallel, so they have no common focus point")
    return (np.linalg.inv(mean) @ (gram @ origins).mean(0))[:, 0]


def focus_depths(poses: Poses) -> Optional[Poses]:
    """(N, 3, 4) OpenGL poses -> (N,) planar depths of the point that the cameras look at, negative where it lies behind
    them; None where there is no such point, or too little between their axes to tell."""
    axes = normalize(poses[:, :3, 2])
    if (axes @ axes.T).min() > _MOST_PARALLEL:
        return None
    try:
        return planar_depth(poses, focus_point(poses)[None])[:, 0]
    except ValueError:
        return None


def look_away(poses: Poses) -> bool:
    """Whether all cameras (N, 3, 4), OpenGL axes, turn their back on the point that their axes meet in."""
    depths = focus_depths(poses)
    # Cameras in one place have the point in it, to rounding.
    extent = np.ptp(poses[:, :3, 3], axis=0).max()
    return depths is not None and bool((depths < -1e-3 * extent).all())


def focus_depth(bounds: Poses) -> float:
    """Depth at which a forward-facing scene is in focus, from its bounds.

    Args:
        bounds: (N, 2) nearest and farthest depth seen by each camera, in world units.

    Returns:
        The depth in world units: in disparity a quarter of the near end (0.9 times the nearest bound) and three
        quarters of the far end (5 times the farthest).
    """
    close, far = 0.9 * bounds.min(), 5.0 * bounds.max()
    return float(1.0 / (0.25 / close + 0.75 / far))


def position_extent(poses: Poses, percentile: float) -> Poses:
    """(N, 3, 4) -> (3,): percentile of the absolute camera coordinate on each world axis."""
    return np.percentile(np.abs(poses[:, :3, 3]), percentile, axis=0)


def intrinsic_fractions(cameras: Cameras) -> Poses:
    """(N, 4) fx / W, fy / H, cx / W, cy / H of nerfstudio's cameras."""
    width, height = cameras.width.double(), cameras.height.double()
    parts = (cameras.fx / width, cameras.fy / height, cameras.cx / width, cameras.cy / height)
    return np.concatenate([part.cpu().numpy() for part in parts], axis=1)


def check_finite_poses(poses: Poses, where: str, names: Sequence[str] = ()) -> None:
    """Checks poses as read from a file.

    Args:
        poses: (N, ...) anything that holds one pose per row.
        where: File named in the message.
        names: (N) what each is called in the message; none: by its number.

    Raises:
        ValueError: an entry that is NaN, infinite or so large that its square overflows float32.
    """
    rows = poses.reshape(len(poses), -1)
    # Said so that NaN fails.
    bad = np.flatnonzero(~(np.abs(rows) <= LARGEST).all(axis=1))
    if len(bad):
        kind = "NaN or infinite values" if not np.isfinite(rows[bad]).all() else f"values beyond {LARGEST:g}"
        named = ", ".join(str(names[view]) for view in bad[:3]) if names else f"views {bad.tolist()[:20]}"
        more = f" and {len(bad) - 3} more" if names and len(bad) > 3 else ""
        raise ValueError(f"{where}: expected finite camera poses, found {kind} for {named}{more}")


def in_one_place(poses: Poses) -> bool:
    """Whether several cameras (N, 3 or 4, 4) all stand in one place, from where no depth can be told."""
    places = poses[:, :3, 3]
    return len(places) > 1 and bool(np.ptp(places, axis=0).max() <= 1e-6 * max(1.0, float(np.abs(places).max())))


def check_rotations(poses: Poses, names: Sequence[str], where: str, mirrored: bool = False) -> None:
    """Checks that the axes of cameras are those of a rotation: of unit length, at right angles and right-handed.

    Args:
        poses: (N, 3 or 4, 4).
        names: What each pose is called in the message, such as the view's image.
        where: File or folder named in the message.
        mirrored: Whether left-handed axes pass as well.

    Raises:
        ValueError: the 3x3 part of a pose is no rotation.
    """
    axes = poses[:, :3, :3]
    # Where files hold large numbers the products overflow, which is no rotation either.
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(np.swapaxes(axes, 1, 2) @ axes - np.eye(3)).max(axis=(1, 2))
        # Said so that NaN fails.
        good = (off <= _ROTATION_TOLERANCE) & (mirrored | (np.linalg.det(axes) > 0))
    bad = [name for name, right in zip(names, good, strict=True) if not right]
    if bad:
        named = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        scale = _common_scale(axes[~good])
        hint = (
            ""
            if scale is None
            else (
                f": axes of length {scale:.4g}, as of a camera below a scaled parent; apply the scale in the program "
                "that wrote it (Blender: Object > Apply > Scale), or divide the first three columns of each pose by it"
            )
        )
        raise ValueError(
            f"{where}: expected a rotation in the 3x3 part of each camera pose, found none for {named}{hint}"
        )


def _common_scale(axes: Poses) -> Optional[float]:
    """Length of the axes (N, 3, 3) of poses that are rotations but for one factor; None where they are something
    else."""
    if not np.isfinite(axes).all():
        return None
    lengths = np.linalg.norm(axes, axis=1)
    scale = float(np.median(lengths))
    if scale <= 0.0 or not (np.linalg.det(axes) > 0).all():
        return None
    turned = axes / scale
    off = np.abs(np.swapaxes(turned, 1, 2) @ turned - np.eye(3)).max()
    return scale if off <= _ROTATION_TOLERANCE else None

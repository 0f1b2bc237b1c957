"""Cameras on a sphere, and between others: where DietNeRF looks at a scene from.

Poses are OpenGL camera-to-world matrices (N, 3, 4) in float64; z is up. Every function takes the draws themselves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import Poses

_TURN = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""From the axes in which a camera at zero angles stands upright to those of the synthetic scenes."""


def spherical_poses(azimuth: Poses, elevation: Poses, radius: Poses, centre: Poses | None = None) -> Poses:
    """Cameras on spheres that look at the centre, upright; also straight from above, where no direction is up.

    Args:
        azimuth: (N,) angle about the z axis, rad, as in NeRF's render paths.
        elevation: (N,) height above the horizon, rad; the negative of the angle phi in NeRF's and DietNeRF's code.
        radius: (N,) distance from the centre, world units.
        centre: (3,) point looked at; None: the origin.

    Returns:
        (N, 3, 4).
    """
    zero, one = np.zeros_like(azimuth), np.ones_like(azimuth)
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    about_up = _stack([[ca, zero, -sa], [zero, one, zero], [sa, zero, ca]])
    upwards = _stack([[one, zero, zero], [zero, ce, se], [zero, -se, ce]])
    axes = _TURN @ about_up @ upwards
    position = axes[..., 2] * radius[:, None] + (0.0 if centre is None else np.asarray(centre))
    return np.concatenate([axes, position[..., None]], axis=-1)


def interpolated_poses(first: Poses, second: Poses, third: Poses, shares: Poses, shortest: bool = False) -> Poses:
    """Cameras between three: from the first towards the second, from there towards the third.

    Args:
        first: (N, 3, 4); so are `second` and `third`.
        shares: (N, 2) how far towards the second and how far towards the third camera, in [0, 1].
        shortest: whether a turn is never longer than half a circle; DietNeRF's code takes the quaternions with the
            signs that scipy gives them, and so sometimes the long way.

    Returns:
        (N, 3, 4); positions are interpolated linearly, axes spherically.
    """
    # Imported late: nerfstudio has not loaded scipy when it asks for the methods.
    from scipy.spatial.transform import Rotation

    towards_second, towards_third = np.asarray(shares, dtype=np.float64).T
    turns = [Rotation.from_matrix(poses[:, :3, :3]).as_quat() for poses in (first, second, third)]
    turn = _slerp(_slerp(turns[0], turns[1], towards_second, shortest), turns[2], towards_third, shortest)
    position = _lerp(_lerp(first[..., 3], second[..., 3], towards_second), third[..., 3], towards_third)
    return np.concatenate([Rotation.from_quat(turn).as_matrix(), position[..., None]], axis=-1)


def _stack(rows: list) -> npt.NDArray[np.float64]:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _lerp(start: Poses, end: Poses, share: Poses) -> Poses:
    return start + share[:, None] * (end - start)


def _slerp(start: Poses, end: Poses, share: Poses, shortest: bool) -> Poses:
    """Spherical interpolation of unit quaternions (N, 4)."""
    cosine = (start * end).sum(-1)
    if shortest:
        end, cosine = np.where(cosine < 0, -1.0, 1.0)[:, None] * end, np.abs(cosine)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    sine = np.sin(angle)
    close = sine < 1e-6
    safe = np.where(close, 1.0, sine)
    before = np.where(close, 1.0 - share, np.sin((1.0 - share) * angle) / safe)
    after = np.where(close, share, np.sin(share * angle) / safe)
    return before[:, None] * start + after[:, None] * end

"""The ray geometry of a scene, and sizes of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional, Tuple

RaySpace = Literal["metric", "ndc"]
RayShape = Literal["cone", "cylinder"]
Spacing = Literal["linear", "geometric"]
LONG_RATIO, LONG_EXTENT, FAR_EXTENT = 20.0, 5.0, 10.0
"""Quotient of far and near, and their difference in world units, above which a metric interval is long (those of the
published protocols end at 7 and 4); and the difference above which its middle is not what cameras look at."""
Size = Tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class SceneGeometry:
    """How a world ray becomes the ray that the model samples.

    The ray parameter t multiplies the un-normalised direction whose camera-space z component is -1, as in all the
    original implementations; in a metric scene without `origin_plane_z` it is therefore planar z-depth.
    """

    ray_space: RaySpace
    """'metric': samples lie in world space; 'ndc': in normalised device coordinates (forward-facing scenes)."""
    near: float
    """First ray parameter sampled, in units of the ray space."""
    far: float
    """Last ray parameter sampled, in units of the ray space."""
    ray_shape: RayShape = "cone"
    """Shape of a pixel's footprint along the ray."""
    background: Literal["black", "white"] = "black"
    """What a ray sees behind the scene, in training and at evaluation."""
    origin_plane_z: Optional[float] = None
    """Metric only: ray origins move along the ray to the world plane z = this (DTU); None leaves them at the camera."""
    ndc_focal: Optional[Tuple[float, float]] = None
    """NDC only: (2 fx / W, 2 fy / H), the same at every image resolution."""
    ndc_near: float = 1.0
    """NDC only: distance of the near plane in world units."""


def spacing_of(geometry: SceneGeometry) -> Spacing:
    """How samples lie along the rays of a scene: at equal steps, or in metric scenes of long intervals each a share
    farther than the one before, since equal steps would be longer than what stands close to the cameras."""
    return "geometric" if _is_longer(geometry, LONG_EXTENT) else "linear"


def reaches_far(geometry: SceneGeometry) -> bool:
    """Whether the interval is so long that halfway between near and far lies behind what the cameras look at."""
    return _is_longer(geometry, FAR_EXTENT)


def _is_longer(geometry: SceneGeometry, extent: float) -> bool:
    from_camera = geometry.ray_space == "metric" and geometry.origin_plane_z is None and geometry.near > 0.0
    near, far = geometry.near, geometry.far
    return from_camera and (far > LONG_RATIO * near or far - near > extent)

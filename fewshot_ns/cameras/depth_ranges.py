"""Near and far of a scene: as distances along unit rays, and as planar depths along the viewing axes.

Formats say one of the two, and methods sample by one of the two; over an image they differ by the length of the rays
whose component along the viewing axis is 1.
"""

from __future__ import annotations

from typing import List, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.cameras.ray_space import to_model_rays, world_distance
from fewshot_ns.cameras.scene_geometry import SceneGeometry

Range = Tuple[float, float]


def planar_of_distances(near: float, far: float, cameras: Cameras) -> Range:
    """Planar depths that reach over all points between two distances from pinhole cameras (N,)."""
    return near / _longest_ray(cameras), far


def distances_of_planar(near: float, far: float, cameras: Cameras) -> Range:
    """Distances along unit rays that reach over all points between two planar depths from pinhole cameras (N,)."""
    return near, far * _longest_ray(cameras)


def _longest_ray(cameras: Cameras) -> float:
    """Length of the longest ray of an image whose component along the viewing axis is 1: to a corner."""
    across = torch.maximum(cameras.cx, cameras.width - cameras.cx) / cameras.fx
    down = torch.maximum(cameras.cy, cameras.height - cameras.cy) / cameras.fy
    return float((1.0 + across**2 + down**2).sqrt().max())


def world_ranges(cameras: Cameras, geometry: SceneGeometry) -> Tuple[Range, Range]:
    """What a scene's own near and far come to over all cameras: smallest and largest distance, then planar depth.

    Args:
        cameras: (N,) cameras.
        geometry: of the scene; its near and far are parameters of rays whose directions have length 1 along the
            viewing axis, and may start at a plane of the world.
    """
    distances: List[torch.Tensor] = []
    depths: List[torch.Tensor] = []
    for index in range(len(cameras)):
        height, width = float(cameras.height[index].item()), float(cameras.width[index].item())
        corners = [[0.0, 0.0], [0.0, width], [height, 0.0], [height, width], [height / 2, width / 2]]
        rays = cameras.generate_rays(camera_indices=index, coords=torch.tensor(corners))
        model_rays = to_model_rays(rays, geometry)
        ends = [world_distance(bound, model_rays, geometry) for bound in (model_rays.near, model_rays.far)]
        distances.append(torch.cat(ends))
        depths.append(torch.cat([end / model_rays.z_scale for end in ends]))
    reach, planar = torch.stack(distances), torch.stack(depths)
    return (float(reach.min()), float(reach.max())), (float(planar.min()), float(planar.max()))

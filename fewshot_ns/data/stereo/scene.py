"""The views of a dataset as stereo takes them: photos at the size on disk, not at that of training."""

from __future__ import annotations

from typing import List, Tuple

import torch

from fewshot_ns.cameras.depth_ranges import world_ranges
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.images import image_size
from fewshot_ns.data.stereo.views import StereoView

_LEAST_SHARE = 0.02
"""Smallest depth as a share of the largest, where the scene does not say more."""


def stereo_views(dataset: FewShotDataset, max_side: int) -> List[StereoView]:
    """The views of a dataset, with the photos as large as they are on disk.

    Args:
        dataset: of one of our dataparsers; its cameras are pinhole cameras.
        max_side: longest side of the photos, pixels; larger ones are averaged down.

    Raises:
        FileNotFoundError: a photo is missing.
        ValueError: a photo is damaged, or the largest side is too small to match anything.
    """
    if max_side < 32:
        raise ValueError(f"expected photos of at least 32 pixels to match, got a largest side of {max_side}")
    ranges = planar_ranges(dataset)
    views = []
    for index, path in enumerate(dataset.image_filenames):
        camera_size, size = dataset.size_of(index), image_size(path)
        longest = max(size)
        if longest > max_side:
            size = round(size[0] * max_side / longest), round(size[1] * max_side / longest)
        image, mask = dataset.photo_at(index, size)
        camera = dataset.cameras[index]
        scale = torch.tensor([size[1] / camera_size[1], size[0] / camera_size[0]] * 2)
        intrinsics = torch.cat([camera.fx, camera.fy, camera.cx, camera.cy]).cpu() * scale
        pose = camera.camera_to_worlds.cpu()
        views.append(StereoView(image, pose, intrinsics, *ranges[index], mask, path.name))
    return views


def planar_ranges(dataset: FewShotDataset) -> List[Tuple[float, float]]:
    """Smallest and largest planar depth that each view may show, world units; in NDC up to infinity."""
    geometry = dataset.fewshot.geometry
    if geometry.ray_space == "ndc":
        # A camera behind the others sees the near plane from farther away, one before them from nearer.
        ahead = [float(-pose[2, 3]) for pose in dataset.cameras.camera_to_worlds]
        return [(max(geometry.ndc_near - offset, 0.1 * geometry.ndc_near), float("inf")) for offset in ahead]
    near, far = world_ranges(dataset.cameras, geometry)[1]
    if geometry.origin_plane_z is not None or near <= 0:
        # Where rays start at a plane of the world (DTU), cameras may stand before it, and there is no nearest depth.
        near = max(near, _LEAST_SHARE * far)
    return [(near, far)] * len(dataset)

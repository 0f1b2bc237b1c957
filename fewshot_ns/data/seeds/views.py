"""Training photos and their depth as pinhole cameras would have them, at the size of training."""

from __future__ import annotations

from typing import List, Sequence

import torch

from fewshot_ns.cameras.lenses import lens_of
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.metric import MetricDepth
from fewshot_ns.data.stereo.lens import depth_straightened, straightened
from fewshot_ns.data.stereo.scene import planar_ranges
from fewshot_ns.data.stereo.views import StereoView, ViewDepth

UNKNOWN_SIGMA = 0.01
"""Standard deviation, as a fraction of depth, of maps that give none."""


def training_views(dataset: FewShotDataset) -> List[StereoView]:
    """The photos of a split with the colours that training sees, straightened where the lens bends lines; masked where
    they may not train or show the background through.

    Raises:
        FileNotFoundError: a photo is missing.
        ValueError: a photo is damaged.
    """
    ranges, views = planar_ranges(dataset), []
    for index, photo in enumerate(dataset.photos):
        camera = dataset.cameras[index]
        intrinsics = torch.cat([camera.fx, camera.fy, camera.cx, camera.cy]).float().cpu()
        image = dataset.get_image_float32(index)[..., :3]
        mask = dataset.photo_at(index, dataset.size_of(index))[1]
        pose = camera.camera_to_worlds.float().cpu()
        view = StereoView(image, pose, intrinsics, *ranges[index], mask, photo.name)
        lens = lens_of(dataset.cameras, index)
        views.append(view if lens is None else straightened(view, lens))
    return views


def training_depths(
    dataset: FewShotDataset, views: Sequence[StereoView], maps: Sequence[MetricDepth]
) -> List[ViewDepth]:
    """Depth maps of the views as `training_views` gives them.

    Args:
        dataset: the split.
        views: its views.
        maps: one for each, at the size of its camera.
    """
    depths = []
    for index, (view, found) in enumerate(zip(views, maps, strict=True)):
        z_depth, valid = torch.from_numpy(found.z_depth), torch.from_numpy(found.valid & (found.z_depth > 0))
        sigma = UNKNOWN_SIGMA * z_depth if found.sigma is None else torch.from_numpy(found.sigma)
        depth, lens = ViewDepth(z_depth, sigma, valid), lens_of(dataset.cameras, index)
        depths.append(depth if lens is None else depth_straightened(depth, view, lens))
    return depths

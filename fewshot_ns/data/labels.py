"""Values of training pixels that are measured: depth as the model's own ray parameter, nearness by maps of any scale,
normals in the world, alpha."""

from __future__ import annotations

from typing import List

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.cameras.ray_space import attach_radii, depth_slope, ray_parameter, to_model_rays
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.encoding import to_z_depth
from fewshot_ns.data.files.normals import NORMAL_PLACES
from fewshot_ns.data.records.metadata import NormalAxes

DEPTH_KEY = "depth"
"""Batch key of the measured depths (R, 1) as ray parameters, 0 where there is none."""
DEPTH_SIGMA_KEY = "depth_sigma"
"""Batch key of their standard deviations (R, 1), world units of planar depth, 0 where the map gives none."""
DEPTH_SLOPE_KEY = "depth_slope"
"""Batch key of the ray parameter per world unit of planar depth (R, 1) at these depths, 1 where there is none."""
NEARNESS_KEY = "nearness"
"""Batch key of what depth maps of any scale say of the pixels (R, 4), see `nearness_labels`."""
NORMAL_KEY = "normal"
"""Batch key of the measured unit normals (R, 3) in the world, zero where there is none."""
ALPHA_KEY = "alpha"
"""Batch key of the photos' opacity (R, 1), 0 to 1; of scenes alone all of whose photos have it."""


def depth_labels(dataset: FewShotDataset) -> List[Tensor]:
    """Measured depth of every pixel of a split.

    Returns:
        (H, W, 3) for each view: ray parameter of the depth, 0 where there is none; standard deviation of the planar
        depth in world units, 0 where the map gives none; ray parameter per unit of planar depth there, 1 where there is
        none.

    Raises:
        ValueError: where the scene has no depth maps, or theirs has no scale.
    """
    geometry, labels = dataset.fewshot.geometry, []
    for view in range(len(dataset)):
        depth = dataset.metric_depth(view)
        bundle = dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
        rays = to_model_rays(attach_radii(bundle, geometry).flatten().to("cpu"), geometry)
        distance, valid = (torch.as_tensor(x).reshape(-1, 1) for x in (depth.ray_distance, depth.valid))
        at = ray_parameter(distance, rays, geometry)
        # What lies before the ray's origin cannot be rendered.
        valid = valid & (at > 0)
        sigma = torch.zeros_like(at) if depth.sigma is None else torch.as_tensor(depth.sigma).reshape(-1, 1)
        none = torch.tensor([0.0, 0.0, 1.0])
        label = torch.where(valid, torch.cat([at, sigma, depth_slope(at, rays, geometry)], dim=-1), none)
        labels.append(label.reshape(*depth.z_depth.shape, 3))
    return labels


def nearness_labels(dataset: FewShotDataset) -> List[Tensor]:
    """What depth maps of any scale and polarity say of every pixel of a split.

    Returns:
        (H, W, 4) for each view: nearness; 1 where the map says something and the pixel may train, else 0; distance
        along the ray per unit of planar depth; and 1 where nearness is inverse planar depth up to scale and shift, 0
        where it is negative planar depth up to these. Of maps of known scale it is inverse planar depth, world units.

    Raises:
        ValueError: the scene has no depth maps, or one of them is unusable.
    """
    record, labels = dataset.fewshot, []
    if record.depth_prior_filenames is None:
        raise ValueError(
            f"{dataset.image_filenames[0].parent}: expected depth maps of the {record.split} views, found none"
        )
    for view in range(len(dataset)):
        norms = dataset.ray_norms(view)
        if dataset.has_metric_depth(view):
            measured = dataset.metric_depth(view)
            valid, inverse = measured.valid, True
            nearness = 1.0 / np.where(valid, measured.z_depth, 1.0)
        else:
            depth = dataset.depth_map(view)
            valid, inverse = depth.valid, depth.polarity == "inverse_depth"
            # The shift of such a map is unknown, so that its reciprocal would mean nothing.
            nearness = depth.values if inverse else -to_z_depth(depth.values, record.depth_encoding.meaning, norms)
        trains = torch.from_numpy(valid) & dataset.training_mask(view)[..., 0]
        parts = torch.from_numpy(nearness), trains, torch.from_numpy(norms), torch.full(trains.shape, float(inverse))
        labels.append(torch.stack([part.float() for part in parts], dim=-1))
    return labels


def world_normals(normals: Tensor, axes: NormalAxes, camera_to_world: Tensor, file_to_world: Tensor) -> Tensor:
    """Turns normals into the world of the cameras.

    Args:
        normals: (..., 3) in `axes`.
        axes: axes of the normals in the files.
        camera_to_world: (3, 4) pose of the view, OpenGL axes.
        file_to_world: (3, 4) rigid transform from the world of the scene's files, where the axes `world` are.

    Returns:
        (..., 3), as long as they were.
    """
    if axes == "opencv":
        normals = normals * torch.tensor([1.0, -1.0, -1.0])
    rotation = file_to_world if axes == "world" else camera_to_world
    return normals @ rotation[:, :3].t().to(normals)


def normal_labels(dataset: FewShotDataset) -> List[Tensor]:
    """(H, W, 3) unit normals in the world for each view of a split, zero where there is none.

    Raises:
        ValueError: no view has any, or a normal map is unusable.
    """
    record = dataset.fewshot
    if record.normal_filenames is None:
        paths = ", ".join(pattern.format(folder=".", parent="..", stem="NAME") + ".png" for pattern in NORMAL_PLACES)
        raise ValueError(
            f"{dataset.image_filenames[0].parent}: expected measured normals of the {record.split} views ({paths} "
            "from the photo NAME.*, or .exr), which --pipeline.normals.weight needs, found none"
        )
    labels = []
    for view in range(len(dataset)):
        vectors = dataset.normals(view)
        pose = dataset.cameras.camera_to_worlds[view].cpu()
        labels.append(world_normals(torch.from_numpy(vectors), record.normal_axes, pose, dataset.file_to_world))
    return labels

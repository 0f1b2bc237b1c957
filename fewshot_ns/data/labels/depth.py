"""Measured depth of the training rays, as the model's own ray parameter."""

from __future__ import annotations

from typing import List

import torch
from torch import Tensor

from fewshot_ns.cameras.ray_space import attach_radii, depth_slope, ray_parameter, to_model_rays
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset

DEPTH_KEY = "depth"
"""Batch key of the measured depths (R, 1) as ray parameters, 0 where there is none."""
DEPTH_SIGMA_KEY = "depth_sigma"
"""Batch key of their standard deviations (R, 1), world units of planar depth, 0 where the map gives none."""
DEPTH_SLOPE_KEY = "depth_slope"
"""Batch key of the ray parameter per world unit of planar depth (R, 1) at these depths, 1 where there is none."""


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
        # Depth before the ray's origin cannot be rendered.
        valid = valid & (at > 0)
        sigma = torch.zeros_like(at) if depth.sigma is None else torch.as_tensor(depth.sigma).reshape(-1, 1)
        none = torch.tensor([0.0, 0.0, 1.0])
        label = torch.where(valid, torch.cat([at, sigma, depth_slope(at, rays, geometry)], dim=-1), none)
        labels.append(label.reshape(*depth.z_depth.shape, 3))
    return labels

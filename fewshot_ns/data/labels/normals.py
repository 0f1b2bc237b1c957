"""Measured normals of training pixels, in the world."""

from __future__ import annotations

from typing import List

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.normals import NORMAL_PLACES, read_normals
from fewshot_ns.data.records.metadata import NormalAxes

NORMAL_KEY = "normal"
"""Batch key of the measured unit normals (R, 3) in the world, zero where there is none."""


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
    for view, path in enumerate(record.normal_filenames):
        size = dataset.size_of(view)
        vectors = np.zeros((*size, 3), np.float32) if path is None else read_normals(path, size)[0]
        pose = dataset.cameras.camera_to_worlds[view].cpu()
        labels.append(world_normals(torch.from_numpy(vectors), record.normal_axes, pose, dataset.file_to_world))
    return labels

"""Measured surface normals: pictures of them, the axes they are in, and one world normal for each training ray.

A PNG holds a coordinate in each channel, 0 to 255 for -1 to 1; an EXR file holds the coordinates as they are. Grey,
black and transparent pixels hold no normal.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_ns.data.dataparsers.scene_folder import Files
from fewshot_ns.data.dataset import FewShotDataset
from fewshot_ns.data.exr import read_exr_vectors
from fewshot_ns.data.images import Size, read_image, resize_float, same_aspect
from fewshot_ns.data.scene_geometry import NormalAxes

NORMAL_KEY = "normal"
"""Batch key of the measured unit normals (R, 3) in the world, zero where there is none."""
NORMAL_PLACES = (
    "{folder}/{stem}_normal_0001",
    "{folder}/{stem}_normal0001",
    "{folder}/{stem}_normal",
    "{parent}/omni/{stem}_normal",
    "{parent}/normals/{stem}_normal",
    "{parent}/normals/{stem}",
)
"""Where the normals of a photo may lie: beside it (Blender's names first), in Omnidata's folder or their own."""

_LENGTHS = (0.5, 1.25)
"""A pixel whose vector is shorter, such as grey, or longer, such as black, holds no normal."""


def find_normals(images: Sequence[Path]) -> Files:
    """Pictures of normals of the photos, None for those without."""
    return tuple(_normals_of(image) for image in images)


def _normals_of(image: Path) -> Optional[Path]:
    names = (place.format(folder=image.parent, parent=image.parent.parent, stem=image.stem) for place in NORMAL_PLACES)
    candidates = (Path(f"{name}{suffix}") for name in names for suffix in (".exr", ".png"))
    return next((path for path in candidates if path.is_file()), None)


def read_normals(path: Path, size: Size) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Reads normals in the axes of their file.

    Args:
        path: 8-bit RGB picture, or EXR.
        size: (height, width) of the camera.

    Returns:
        (H, W, 3) unit vectors, zero where there is none, and (H, W) where there is one.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image or has other proportions.
    """
    if path.suffix.lower() == ".exr":
        vectors = np.nan_to_num(read_exr_vectors(path), posinf=0.0, neginf=0.0).astype(np.float32)
    else:
        picture = read_image(path)
        vectors = (picture[..., :3] / 127.5 - 1).astype(np.float32)
        vectors[(picture[..., 3:] == 0).any(-1)] = 0.0
    if not same_aspect((vectors.shape[0], vectors.shape[1]), size):
        raise ValueError(
            f"{path}: expected the proportions of the image ({size[1]}x{size[0]} pixels, width x height), "
            f"found {vectors.shape[1]}x{vectors.shape[0]}"
        )
    vectors[np.linalg.norm(vectors, axis=-1) > _LENGTHS[1]] = 0.0
    vectors = resize_float(vectors, size, "area")
    length = np.linalg.norm(vectors, axis=-1)
    valid = length > _LENGTHS[0]
    return np.where(valid[..., None], vectors / np.where(valid, length, 1)[..., None], 0).astype(np.float32), valid


def world_normals(normals: Tensor, axes: NormalAxes, camera_to_world: Tensor, file_to_world: Tensor) -> Tensor:
    """Turns normals into the world of the cameras.

    Args:
        normals: (..., 3) in the given axes.
        axes: see `FewShotMetadata.normal_axes`.
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
        ValueError: no view has any, or a picture of them cannot be used.
    """
    record = dataset.fewshot
    if record.normal_filenames is None:
        places = ", ".join(place.format(folder=".", parent="..", stem="NAME") + ".png" for place in NORMAL_PLACES)
        raise ValueError(
            f"{dataset.image_filenames[0].parent}: expected measured normals of the {record.split} views ({places} "
            "from the photo NAME.*, or .exr), which --pipeline.model.normal-weight needs, found none"
        )
    labels = []
    for view, path in enumerate(record.normal_filenames):
        size = dataset.size_of(view)
        vectors = np.zeros((*size, 3), np.float32) if path is None else read_normals(path, size)[0]
        pose = dataset.cameras.camera_to_worlds[view].cpu()
        labels.append(world_normals(torch.from_numpy(vectors), record.normal_axes, pose, dataset.file_to_world))
    return labels

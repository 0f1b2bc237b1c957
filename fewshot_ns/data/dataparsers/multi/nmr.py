"""ShapeNet renderings of the Neural Mesh Renderer (NMR) in DVR format: 64x64 pixels, 24 views per object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.dataparsers.multi.dvr import CameraFile, DVRDataParser, DVRDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews, listed_files
from fewshot_ns.data.files.images import IMAGE_SUFFIXES, image_size
from fewshot_ns.data.records.scene import SceneEntry, SceneError, SceneWorld

NEAR, FAR = 1.2, 4.0
"""Published sampling range."""
Z_UP = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""From the files' world, y up, to the original's, z up."""


@dataclass
class NMRDataParserConfig(DVRDataParserConfig):
    """ShapeNet objects of many categories in DVR format."""

    _target: Type = field(default_factory=lambda: NMRDataParser)
    """Parser class to instantiate."""
    list_prefix: str = "softras_"
    """Beginning of the names of the lists in each category's folder: softras_ for all categories, gen_ for training on
    some and testing on others."""


class NMRDataParser(DVRDataParser):
    """Parser of NMR ShapeNet. Scenes are named category/object."""

    config: NMRDataParserConfig

    def _read_views(self, entry: SceneEntry) -> SceneViews:
        images = self._images_of(entry)
        height, width = image_size(images[0])
        cameras = CameraFile(entry.folder / "cameras.npz")
        # The focal length is meant for an image of side 2; the original uses no principal point.
        focal = [np.abs(np.diag(cameras.matrix("camera_mat", index))[:2]) for index in range(len(images))]
        poses = Z_UP @ np.stack([_camera_to_world(cameras, index) for index in range(len(images))])
        return SceneViews(
            images=images,
            camera_to_worlds=flip_camera_axes(poses),
            focal=np.asarray(np.stack(focal) * np.array([width / 2, height / 2]), dtype=np.float64),
            near=NEAR,
            far=FAR,
            world=SceneWorld(tuple(map(tuple, Z_UP[:3].tolist()))),
            masks=listed_files(entry.folder / "mask", IMAGE_SUFFIXES) or None,
            # The set was made with a renderer whose axes are left-handed, and no copy was at hand to see its matrices.
            may_be_mirrored=True,
        )


def _camera_to_world(cameras: CameraFile, index: int) -> npt.NDArray[np.float64]:
    """(4, 4) with OpenCV camera axes."""
    if cameras.has("world_mat_inv", index):
        return cameras.matrix("world_mat_inv", index)
    try:
        return np.linalg.inv(cameras.matrix("world_mat", index))
    except np.linalg.LinAlgError as error:
        raise SceneError(f"{cameras.path}: expected an invertible world_mat_{index}, found {error}") from error

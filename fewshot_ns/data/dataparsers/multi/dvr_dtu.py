"""DTU scans in DVR format (`rs_dtu_4`): 300x400 pixels, the data of pixelNeRF's DTU model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.projections import check_projection
from fewshot_ns.data.dataparsers.multi.dvr import CameraFile, DVRDataParser, DVRDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews
from fewshot_ns.data.dataparsers.single.dtu import decompose_projections
from fewshot_ns.data.files.masks import find_masks
from fewshot_ns.data.files.photo_files import photo_names
from fewshot_ns.data.records.scene import EvaluationMasks, SceneEntry, SceneError, SceneWorld

NEAR, FAR = 0.1, 5.0
"""Published sampling range."""
_FLIP = np.array([1.0, -1.0, -1.0, 1.0])
"""Diagonal of the change of axes that the original applies to the camera and to the world."""


@dataclass
class DVRDTUDataParserConfig(DVRDataParserConfig):
    """DTU scans in DVR format."""

    _target: Type = field(default_factory=lambda: DVRDTUDataParser)
    """Parser class to instantiate."""
    list_prefix: str = "new_"
    """Beginning of the names of the lists: new_train.lst and new_val.lst, which also tests where no new_test.lst is."""
    background: Literal["black", "white"] = "black"
    """What lies behind the scenes, and under transparent pixels."""
    average_intrinsics: bool = True
    """Whether all views of a scan get the mean of their intrinsics, as in the original; False: each its own."""
    max_train_views: Optional[int] = 49
    """Views of a scan that training uses, the first ones; None: all. The original limits training only."""


class DVRDTUDataParser(DVRDataParser):
    """Parser of DTU in DVR format, and of sets of scans of IDR and NeuS, which have the same files.

    The camera file holds whole projection matrices. Masks serve evaluation alone, as the published set has none.
    """

    config: DVRDTUDataParserConfig
    list_of_split = {"train": ("train",), "val": ("val",), "test": ("test", "val")}
    may_have_evaluation_masks = True

    def _read_views(self, entry: SceneEntry) -> SceneViews:
        config = self.config
        images = self._images_of(entry)
        if entry.split == "train" and config.max_train_views is not None:
            images = images[: config.max_train_views]
        cameras = CameraFile(entry.folder / "cameras.npz")
        projections = np.stack([cameras.matrix("world_mat", index)[:3] for index in range(len(images))])
        for index, projection in enumerate(projections):
            check_projection(projection, f"{cameras.path}, world_mat_{index}")
        intrinsics, poses = decompose_projections(
            projections, [f"{cameras.path}, world_mat_{index}" for index in range(len(images))]
        )
        for index in range(len(images)):
            if cameras.has("scale_mat", index):
                poses[index, :, 3] = _normalised(poses[index, :, 3], cameras, index)
        if config.average_intrinsics:
            intrinsics = np.broadcast_to(intrinsics.mean(axis=0), intrinsics.shape)
        return SceneViews(
            images=images,
            camera_to_worlds=np.asarray(_FLIP[:3, None] * poses * _FLIP, dtype=np.float64),
            focal=np.abs(intrinsics[:, [0, 1], [0, 1]]),
            centre=intrinsics[:, :2, 2],
            near=NEAR,
            far=FAR,
            world=_world(cameras, len(images)),
            evaluation_masks=_masks(entry.folder / "mask", images),
        )


def _world(cameras: CameraFile, count: int) -> SceneWorld:
    """How lengths and places of the files are read; of scans whose `scale_mat` differ, or scale axes unlike, as if
    there were none."""
    flipped = np.diag(_FLIP)[:3]
    if not all(cameras.has("scale_mat", index) for index in range(count)):
        return SceneWorld(tuple(map(tuple, flipped.tolist())))
    matrices = np.stack([cameras.matrix("scale_mat", index) for index in range(count)])
    scale, middle = matrices[0, 0, 0], matrices[0, :3, 3]
    expected = np.diag([scale, scale, scale, 1.0])
    expected[:3, 3] = middle
    if scale <= 0 or not np.allclose(matrices, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()):
        return SceneWorld(tuple(map(tuple, flipped.tolist())))
    flipped[:, 3] = -flipped[:, :3] @ middle
    return SceneWorld(tuple(map(tuple, flipped.tolist())), float(1.0 / scale))


def _masks(folder: Path, images: Tuple[Path, ...]) -> Optional[EvaluationMasks]:
    """Masks named like the images; None where there is none."""
    found = find_masks(folder, photo_names(images))
    if all(mask is None for mask in found):
        return None
    named = (folder / f"{image.stem}.png" for image in images)
    return EvaluationMasks(tuple(path if mask is None else mask for mask, path in zip(found, named, strict=True)))


def _normalised(centre: npt.NDArray[np.float64], cameras: CameraFile, index: int) -> npt.NDArray[np.float64]:
    """A camera centre (3,) in the unit of the scan's `scale_mat`."""
    matrix = cameras.matrix("scale_mat", index)
    scale = np.diag(matrix)[:3]
    if not (scale != 0).all():
        raise SceneError(f"{cameras.path}: expected a scale_mat_{index} without zeros on its diagonal, found {scale}")
    return (centre - matrix[:3, 3]) / scale

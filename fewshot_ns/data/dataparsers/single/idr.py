"""Single scans in the layout of IDR and NeuS: `image/`, `mask/` and the projection matrices of `cameras_sphere.npz`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Literal, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import LARGEST, flip_camera_axes
from fewshot_ns.cameras.projections import Matrices, split_projection
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser, FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.files.images import image_size, list_images, same_aspect
from fewshot_ns.data.files.masks import find_masks
from fewshot_ns.data.files.photo_files import photo_names
from fewshot_ns.data.files.scene_folder import Files
from fewshot_ns.data.views.selection import every_eighth_protocol

CAMERA_FILES = ("cameras_sphere.npz", "cameras.npz")
"""Files of the matrices; the first there is is taken. NeuS's own comes first: its sphere is the tighter one."""
IMAGES, MASKS = "image", "mask"
NEAREST = 0.05
"""Near where a camera stands within the sphere, as a fraction of its radius."""
_SKEW = 0.5
"""Most that skew may move a pixel of a photo, pixels."""
_OFF_CENTRE = 0.2
"""Most that the principal point may lie off the middle, as a fraction of the photo; of halved photos it is the edge."""


@dataclass
class IDRDataParserConfig(FewShotDataParserConfig):
    """Single scans in the layout of IDR and NeuS."""

    _target: Type = field(default_factory=lambda: IDRDataParser)
    """Parser class to instantiate."""
    cameras_file: Optional[Path] = None
    """File of world_mat_0, scale_mat_0 and so on in the scene; None takes cameras_sphere.npz, else cameras.npz."""
    masks: Literal["alpha", "training", "evaluation"] = "alpha"
    """What the masks are for, beside masked metrics. alpha: photos are transparent off the object; training: only the
    object trains; evaluation: nothing else."""
    integer_pixels: bool = True
    """Whether the principal point counts from the centre of the first pixel, as IDR and NeuS cast their rays; False:
    from its corner, as COLMAP's cameras."""


class IDRDataParser(FewShotDataParser):
    """Parser of the layout of IDR and NeuS.

    The world is that of `scale_mat`, in which the object lies in the unit sphere: this is the scene's box, and near and
    far bound it for all cameras.
    """

    config: IDRDataParserConfig

    def _read_scene(self) -> SceneFiles:
        config = self.config
        images = list_images(config.data / IMAGES)
        path = self._cameras_path()
        arrays = _read_arrays(path)
        numbers = _numbers(images, arrays, path)
        scale_mat = _common_scale(arrays, numbers, path)
        cameras = [self._camera(arrays, number, image, path) for number, image in zip(numbers, images, strict=True)]
        poses = flip_camera_axes(np.stack([pose for _, pose in cameras]))
        # Depth of the sphere's centre along the viewing axes, which the sphere reaches one beyond.
        depth = (poses[:, :, 2] * poses[:, :, 3]).sum(axis=1)
        if depth.max() <= -1:
            raise ValueError(f"{path}: expected cameras that see the unit sphere, found it behind all of them")
        near, far = self._near_far(max(float(depth.min()) - 1.0, NEAREST), float(depth.max()) + 1.0)
        masks = self._masks(images)
        scale = float(np.cbrt(np.linalg.det(scale_mat[:3, :3])))
        turn = scale_mat[:3, :3].T / scale
        return SceneFiles(
            images=images,
            camera_to_worlds=poses,
            intrinsics=np.array([fractions for fractions, _ in cameras]),
            protocol=every_eighth_protocol(len(images), "idr"),
            geometry=SceneGeometry("metric", near, far, "cone", config.background),
            cameras_file=path,
            transform=np.concatenate([turn, -turn @ scale_mat[:3, 3:]], axis=1),
            scale=1.0 / scale,
            depths=self._find_depths([config.data / "depth_maps"], images),
            object_masks=masks,
            training_masks=masks if config.masks == "training" else None,
            alphas=masks if config.masks == "alpha" else None,
            box=1.0,
        )

    def _cameras_path(self) -> Path:
        config = self.config
        names = CAMERA_FILES if config.cameras_file is None else (str(config.cameras_file),)
        found = next((config.data / name for name in names if (config.data / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(
                f"{config.data}: expected the cameras of the scan, {' or '.join(names)} (--cameras-file), found none"
            )
        return found

    def _masks(self, images: Tuple[Path, ...]) -> Optional[Files]:
        """Masks of all photos; None where the scan has none. Of some alone, it is an error when they are needed."""
        masks = find_masks(self.config.data / MASKS, photo_names(images))
        if all(mask is None for mask in masks):
            return None
        for mask, image in zip(masks, images, strict=True):
            if mask is None or not mask.is_file():
                continue
            (height, width), (own_height, own_width) = image_size(image), image_size(mask)
            # Other proportions are a fault of the mask, which is named where it is read.
            if height != own_height and same_aspect((height, width), (own_height, own_width)):
                raise ValueError(
                    f"{image}: expected a photo of the size of its mask, {own_width}x{own_height}, which the matrices "
                    f"are made for, found {width}x{height}; give the photos as they were (--downscale-factor shrinks "
                    "them)"
                )
        lacking = (self.config.data / MASKS / f"{image.stem}.png" for image in images)
        return tuple(path if mask is None else mask for mask, path in zip(masks, lacking, strict=True))

    def _camera(
        self, arrays: Dict[str, npt.NDArray], number: int, image: Path, path: Path
    ) -> Tuple[npt.NDArray[np.float64], Matrices]:
        """Intrinsics (4,) as fractions of the photo, and the pose (3, 4) in the unit sphere's world, OpenCV axes."""
        projection = _matrix(arrays, f"world_mat_{number}", path) @ _matrix(arrays, f"scale_mat_{number}", path)
        try:
            intrinsics, pose = split_projection(projection[:3])
        except ValueError as error:
            raise ValueError(
                f"{path}: expected a projection matrix in world_mat_{number} @ scale_mat_{number}, {error}"
            ) from error
        height, width = image_size(image)
        if abs(intrinsics[0, 1]) * 0.5 * height / intrinsics[1, 1] > _SKEW:
            raise ValueError(
                f"{path}: expected a camera without skew for {image.name}, found {intrinsics[0, 1]:.3g} pixels; a "
                f"scale_mat_{number} that does not scale all axes alike leads to one"
            )
        shift = 0.5 if self.config.integer_pixels else 0.0
        centre = (intrinsics[:2, 2] + shift) / (width, height)
        if (np.abs(centre - 0.5) > _OFF_CENTRE).any():
            raise ValueError(
                f"{path}: expected the camera of a photo of {width}x{height} pixels for {image.name}, found its "
                f"principal point at {intrinsics[0, 2]:.6g}, {intrinsics[1, 2]:.6g}; the matrices hold for photos of "
                "the size they were made for, which --downscale-factor then divides"
            )
        return np.array([intrinsics[0, 0] / width, intrinsics[1, 1] / height, *centre]), pose


def _read_arrays(path: Path) -> Dict[str, npt.NDArray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"{path}: expected an archive of matrices, found a damaged file ({error})") from error


def _matrix(arrays: Dict[str, npt.NDArray], key: str, path: Path) -> Matrices:
    """A matrix of the archive, (4, 4); one of three rows gets 0 0 0 1 below."""
    if key not in arrays:
        raise ValueError(f"{path}: expected {key}, found {len(arrays)} arrays without it")
    array = arrays[key]
    if array.shape not in ((4, 4), (3, 4)) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected a 4x4 matrix {key}, found {array.dtype} of shape {array.shape}")
    # Said so that NaN fails.
    if not (np.abs(array) <= LARGEST).all():
        raise ValueError(f"{path}: expected finite numbers in {key}, found NaN, infinite or huge values")
    return np.concatenate([array[:3], [[0.0, 0.0, 0.0, 1.0]]]).astype(np.float64)


def _numbers(images: Tuple[Path, ...], arrays: Dict[str, npt.NDArray], path: Path) -> List[int]:
    """Number of the matrices of each photo: its place in the order, or, where photos were left out, its own number.

    Raises:
        ValueError: another number of matrices than of photos, whose names do not say which are theirs; or DVR's files,
            whose intrinsics lie elsewhere.
    """
    count = sum(key.startswith("world_mat_") and key[10:].isdigit() for key in arrays)
    # DVR's own scenes have intrinsics, of pixels from -1 to 1, apart from world_mat.
    apart = arrays.get("camera_mat_0")
    if apart is not None and apart.shape == (4, 4) and not np.allclose(apart, np.eye(4)):
        raise ValueError(
            f"{path}: expected whole projection matrices in world_mat, found their intrinsics apart in camera_mat, as "
            "in sets in DVR format; give the folder of the set to nmr-data"
        )
    if count == len(images):
        return list(range(count))
    numbers = [int(image.stem) if image.stem.isdigit() else -1 for image in images]
    if len(set(numbers)) == len(images) and all(f"world_mat_{number}" in arrays for number in numbers):
        if 0 not in numbers:
            raise ValueError(
                f"{path}: expected the photo of world_mat_0 in {images[0].parent}, found {len(images)} photos from "
                f"{images[0].name} on for {count} matrices; their numbers may count from 0 or from 1: add the "
                "photos that are missing, or remove their matrices"
            )
        return numbers
    raise ValueError(
        f"{path}: expected world_mat_0, world_mat_1, ... of the photos in {images[0].parent}, or photos named by their "
        f"numbers, found {count} matrices and {len(images)} photos"
    )


def _common_scale(arrays: Dict[str, npt.NDArray], numbers: List[int], path: Path) -> Matrices:
    """The `scale_mat` of all views, (4, 4).

    Raises:
        ValueError: views have several, or it does not scale all axes alike.
    """
    matrices = np.stack([_matrix(arrays, f"scale_mat_{number}", path) for number in numbers])
    first = matrices[0]
    extent = np.abs(first[:3]).max()
    if np.abs(matrices - first).max() > 1e-4 * extent:
        raise ValueError(f"{path}: expected one scale_mat for all views, found several")
    gram = first[:3, :3].T @ first[:3, :3]
    size = np.trace(gram) / 3.0
    if not size > 0 or np.abs(gram - size * np.eye(3)).max() > 1e-3 * size or np.linalg.det(first[:3, :3]) <= 0:
        raise ValueError(f"{path}: expected a scale_mat that scales all axes alike, found {first[:3, :3].tolist()}")
    return first

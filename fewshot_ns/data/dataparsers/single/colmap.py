"""COLMAP's reconstructions as they are: photos and `sparse/0` with cameras, images and points, binary or text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.cameras.poses import check_finite_poses, homogeneous
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.left_out import NO_POSE
from fewshot_ns.data.dataparsers.single.nerfstudio import (
    FewShotNerfstudioDataParser,
    FewShotNerfstudioDataParserConfig,
)
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.seed_points import SceneCameras, SeedPoints
from fewshot_ns.data.files.colmap import COLMAP_FOLDERS, SparseModel, find_model, read_model
from fewshot_ns.data.files.images import IMAGE_SUFFIXES
from fewshot_ns.data.files.photo_files import find_photo
from fewshot_ns.data.files.transforms_camera import check_listed_once
from fewshot_ns.data.views.selection import ViewSelection, every_eighth_protocol
from fewshot_ns.utils.json_files import is_file_name
from fewshot_ns.utils.shown_values import shown

IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8", "images_16", "input", ".")
"""Where the photos of a model lie in a scene's folder; the first that holds one of them."""
PARAMETERS: Dict[str, Tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}
"""Parameters of the camera models that nerfstudio's perspective cameras can be, in COLMAP's order."""
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Distortion in nerfstudio's order."""
UPRIGHT = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""From COLMAP's world, whose y points down in most captures, to z up, as ns-process-data turns it."""


@dataclass
class FewShotColmapDataParserConfig(FewShotNerfstudioDataParserConfig):
    """Photos and COLMAP's reconstruction of them."""

    _target: Type = field(default_factory=lambda: FewShotColmapDataParser)
    """Parser class to instantiate."""
    near: Optional[float] = None
    """First ray parameter sampled, in units of the scaled scene; None estimates it from the sparse points, else from
    the point that the cameras look at. Such a guess is replaced where training finds depth in the photos (the depth
    prior's sources stereo, mvs and auto)."""
    far: Optional[float] = None
    """Last ray parameter sampled, in units of the scaled scene; None estimates it."""
    images_dir: Optional[Path] = None
    """Folder that the names of COLMAP's images are relative to, itself relative to the scene; None takes images, else
    images_2, images_4, images_8, images_16, input or the scene's own folder."""
    colmap_dir: Optional[Path] = None
    """Folder of cameras, images and points3D (.bin or .txt), relative to the scene; None looks for sparse/0,
    colmap/sparse/0, sparse, colmap/sparse and colmap."""


class FewShotColmapDataParser(FewShotNerfstudioDataParser):
    """Parser of COLMAP's reconstructions.

    Views are COLMAP's images, sorted by name, under the rule of fewshot-nerfstudio-data; the world is turned, centred
    and scaled like there.
    """

    config: FewShotColmapDataParserConfig
    no_points = "no camera sees one of COLMAP's points"
    axes_hint = None

    def _read_scene(self) -> SceneFiles:
        config, model = self.config, self._model
        entries = sorted(model.images.values(), key=lambda image: image.name)
        images = self._images([image.name for image in entries])
        poses = camera_to_worlds(entries, model.path.parent)
        check_listed_once([image.name for image in entries], images, poses, model.path.parent)
        cameras = [model.cameras[image.camera_id] for image in entries]
        lenses = [read_camera(camera, model.path.parent) for camera in cameras]
        intrinsics = np.array([lens for lens, _ in lenses])
        distortion = np.array([bent for _, bent in lenses])
        self._check_turned(poses, [image.name for image in entries], model.path.parent)
        poses, transform, scale = self._upright(poses)
        scene = SceneCameras(images, poses, intrinsics, transform, scale)
        points = scene.to_world(model.positions) if len(model.positions) else None
        bounds, guessed = self._estimate(poses, intrinsics, points, model.path)
        near, far = self._near_far(*bounds)
        return SceneFiles(
            images=images,
            camera_to_worlds=poses,
            intrinsics=intrinsics,
            protocol=every_eighth_protocol(len(images), "colmap"),
            left_out=self._left_out_of(images),
            geometry=SceneGeometry("metric", near, far, "cone", config.background),
            bounds_guessed=guessed,
            calibrated_sizes=np.array([[camera.height, camera.width] for camera in cameras], dtype=np.float64),
            calibration="COLMAP's camera",
            cameras_file=model.path.parent,
            transform=transform,
            scale=scale,
            depths=self._find_depths([config.data / name for name in self.depth_folders], images),
            distortion=distortion if distortion.any() else None,
        )

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        scene = super()._complete(scene, selection)
        return replace(scene, seed_points=self._seed_points(scene, selection.train))

    def _generate_dataparser_outputs(
        self, split: str = "train", views: Optional[Tuple[int, ...]] = None, **kwargs: Any
    ) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, views, **kwargs)
        if split == "train" and views is None:
            self._echo_left_out()
        return outputs

    @cached_property
    def _model(self) -> SparseModel:
        config = self.config
        given = None if config.colmap_dir is None else config.data / config.colmap_dir
        folder = find_model(config.data, given)
        if folder is None:
            where = f"{config.data}/{{{','.join(COLMAP_FOLDERS)}}}" if given is None else given
            raise FileNotFoundError(
                f"{where}: expected COLMAP's cameras and images (.bin or .txt), found none; give --colmap-dir"
            )
        return read_model(folder)

    def _images(self, names: List[str]) -> Tuple[Path, ...]:
        """Files of COLMAP's images by name.

        Raises:
            FileNotFoundError: all of them are missing, or one with `--on-missing stop`.
            ValueError: a name that leads out of the folder.
        """
        data, given = self.config.data, self.config.images_dir
        for name in names:
            path = PurePosixPath(name.replace("\\", "/"))
            outside = not self.config.allow_outside and (path.is_absolute() or ".." in path.parts)
            if outside or not is_file_name(name):
                raise ValueError(
                    f"{self._model.path.parent}: expected names of photos below a folder, found {shown(name)}"
                )
        folders = [data / name for name in IMAGE_FOLDERS] if given is None else [data / given]
        for folder in folders:
            files = [find_photo(folder, name, other_suffix=True) for name in names]
            if any(file.is_file() for file in files):
                break
        else:
            raise FileNotFoundError(
                f"{self._model.path.parent}: expected the photos that it names, such as {names[0]}, in "
                f"{', '.join(str(folder) for folder in folders)}, found none of them; give --images-dir"
            )
        missing = [name for name, file in zip(names, files, strict=True) if not file.is_file()]
        if missing and (self.config.on_missing == "stop" or (self.config.on_missing is None and self._whole)):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise FileNotFoundError(
                f"{folder}: expected the {len(names)} photos of COLMAP's model {self._model.path.parent}, found no "
                f"{', '.join(missing[:3])}{more}; add them, or --on-missing skip to go on without them"
            )
        self._folder = folder
        return tuple(files)

    def _left_out_of(self, images: Tuple[Path, ...]) -> Dict[str, int]:
        """Counts of COLMAP's images without a photo, and of photos that it has found no pose for.

        Raises:
            ValueError: there are such photos, with `--on-missing stop`.
        """
        unplaced, total = self._unplaced()
        if unplaced and self.config.on_missing == "stop":
            raise ValueError(
                f"{self._folder}: expected a pose of every photo, found none of {unplaced} among {total} in COLMAP's "
                "model; remove these photos, or --on-missing skip to go on without them"
            )
        return self._left_out(images, {}) | ({NO_POSE: unplaced} if unplaced else {})

    def _unplaced(self) -> Tuple[int, int]:
        """Number of photos that COLMAP has found no pose for, and of all photos."""
        folder = self._folder
        known = {PurePosixPath(name) for name in self._model.images}
        plain = {name.with_suffix("") for name in known}
        files = folder.glob("*") if folder == self.config.data / "." else folder.rglob("*")
        photos = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        names = [PurePosixPath(photo.relative_to(folder).as_posix()) for photo in photos]
        placed = [name in known or name.with_suffix("") in plain or name.with_suffix("") in known for name in names]
        return len(placed) - sum(placed), len(placed)

    def _upright(self, poses: npt.NDArray[np.float64]) -> Tuple[npt.NDArray, npt.NDArray, float]:
        """Poses (N, 3, 4) turned, centred and scaled by nerfstudio, the rigid transform (3, 4) and the scale.

        In float32 and in the same steps as nerfstudio reads what ns-process-data makes of the same reconstruction.
        """
        turned, rigid = auto_orient_and_center_poses(
            torch.from_numpy(UPRIGHT @ homogeneous(poses)).float(),
            method=self.config.orientation_method,
            center_method=self.config.center_method,
        )
        scale = 1.0
        if self.config.auto_scale_poses:
            largest = float(turned[:, :3, 3].abs().max())
            if largest <= 0.0:
                raise ValueError(
                    f"{self._model.path.parent}: expected cameras at several places, found all at one; give "
                    "--auto-scale-poses False"
                )
            scale = 1.0 / largest
        turned = turned[:, :3].double().numpy()
        turned[:, :, 3] *= scale
        return turned, rigid[:3].double().numpy() @ UPRIGHT, scale

    def _seed_points(self, scene: SceneFiles, train: Tuple[int, ...]) -> Optional[SeedPoints]:
        """The points that training views have seen; where all of them lie all photos have decided."""
        model = self._model
        entries = sorted(model.images.values(), key=lambda image: image.name)
        counts = np.sum([model.seen_by(entries[view].id) for view in train], axis=0, dtype=np.int64)
        seen = counts > 0
        if not seen.any():
            return None
        cameras = SceneCameras(
            scene.images, scene.camera_to_worlds, scene.intrinsics, np.asarray(scene.transform), scene.scale
        )
        world = cameras.to_world(model.positions[seen]).astype(np.float32)
        return SeedPoints(world, model.colours[seen], model.path, counts[seen])

    def _echo(self, scene: SceneFiles, *chosen: Any) -> None:
        # Photos without a pose are said once, in words of COLMAP's.
        lacking = {what: count for what, count in scene.left_out.items() if what != NO_POSE}
        super()._echo(replace(scene, left_out=lacking), *chosen)

    def _echo_left_out(self) -> None:
        """Says how many photos COLMAP has found no pose for, and where there are more models."""
        model, folder = self._model, self._folder
        unplaced, total = self._unplaced()
        if unplaced:
            CONSOLE.print(f"{folder}: {unplaced} of {total} photos have no pose in COLMAP's model and are left out")
        others = [path.parent.name for path in sorted(model.path.parent.parent.glob("[0-9]*/images.*"))]
        others = sorted(set(others) - {model.path.parent.name})
        if model.path.parent.name.isdigit() and others:
            CONSOLE.print(
                f"{model.path.parent}: one of several models; the others are {', '.join(others)} (--colmap-dir)"
            )


def camera_to_worlds(entries: List[Any], where: Path) -> npt.NDArray[np.float64]:
    """(N, 3, 4) OpenGL poses of COLMAP's images.

    Raises:
        ValueError: a pose is no rotation and translation.
    """
    vectors = np.array([[*image.qvec, *image.tvec] for image in entries], dtype=np.float64)
    check_finite_poses(vectors, str(where), [image.name for image in entries])
    lengths = np.linalg.norm(vectors[:, :4], axis=1)
    for image, length in zip(entries, lengths, strict=True):
        if abs(length - 1.0) > 1e-3:
            raise ValueError(f"{where}: expected a unit quaternion for {image.name}, found one of length {length:g}")
    rotations = np.stack([image.qvec2rotmat() for image in entries])
    centres = -np.einsum("nji,nj->ni", rotations, vectors[:, 4:])
    # COLMAP's cameras look along +z with y down.
    axes = rotations.transpose(0, 2, 1) * np.array([1.0, -1.0, -1.0])
    return np.concatenate([axes, centres[:, :, None]], axis=2).astype(np.float64)


def read_camera(camera: Any, where: Path) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """Intrinsics fx / W, fy / H, cx / W, cy / H of one of COLMAP's cameras, and its distortion in nerfstudio's order.

    Raises:
        ValueError: a camera model that is not perspective with up to four coefficients, or numbers that are no camera.
    """
    names = PARAMETERS.get(camera.model)
    if names is None:
        raise ValueError(
            f"{where}: expected cameras of the models {', '.join(PARAMETERS)}, found {camera.model}; straighten the "
            f"photos by `colmap image_undistorter --image_path IMAGES --input_path {where} --output_path SCENE`, or by "
            f"`ns-fewshot prepare --poses {where} --images IMAGES --output SCENE`"
        )
    whole = len(camera.params) == len(names) and bool(np.isfinite(camera.params).all())
    if not whole or min(camera.width, camera.height) < 1:
        raise ValueError(
            f"{where}: expected a size and {len(names)} finite parameters of camera {camera.id} ({camera.model}), "
            f"found {camera.width}x{camera.height} and {camera.params.tolist()}"
        )
    value = dict(zip(names, (float(number) for number in camera.params), strict=True))
    focal_x, focal_y = value.get("fx", value.get("f", 0.0)), value.get("fy", value.get("f", 0.0))
    if min(focal_x, focal_y) <= 0.0:
        raise ValueError(f"{where}: expected positive focal lengths of camera {camera.id}, found {focal_x}, {focal_y}")
    width, height = float(camera.width), float(camera.height)
    inner = (focal_x / width, focal_y / height, value["cx"] / width, value["cy"] / height)
    return inner, tuple(value.get(name, 0.0) for name in DISTORTION)

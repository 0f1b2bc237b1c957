"""RGB-D captures: a transforms.json with depth maps beside it, or the layout of depth-mipnerf's ScanNet scenes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.depth_maps import alike_hint
from fewshot_ns.data.dataparsers.single.named_masks import masks_of_training, named_masks
from fewshot_ns.data.dataparsers.single.nerfstudio import (
    MILLIMETRE,
    FewShotNerfstudioDataParser,
    FewShotNerfstudioDataParserConfig,
)
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.unread_keys import unread_keys
from fewshot_ns.data.depth.encoding import override_encoding, read_note
from fewshot_ns.data.depth.stated_unit import WHOLE_NUMBERS, holds_whole_numbers, named_depth_map, stated_depth_unit
from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.files.images import image_size
from fewshot_ns.data.files.normals import find_normals
from fewshot_ns.data.files.photo_files import files_beside
from fewshot_ns.data.files.scene_folder import Files, check_same_aspect
from fewshot_ns.data.files.transforms_camera import check_lens, check_listed_once, stated_cameras
from fewshot_ns.data.files.transforms_json import frame_poses, read_transforms, with_local_files
from fewshot_ns.data.records.metadata import DepthEncoding, NormalAxes
from fewshot_ns.data.views.selection import DEFAULT_VIEWS, Protocol, ViewSelection, pick_first
from fewshot_ns.utils.json_files import NUMBER, NUMBER_OR_TEXT, checked, read_json_object, shown_keys
from fewshot_ns.utils.number_flags import check_positive

SENSOR_FOLDERS = ("depth", "depths", "target_depth", "depth_maps")
"""Folders beside a transforms.json in which sensor depth is looked for."""
MIN_DEPTH = 0.1
"""Metres below which depth-mipnerf does not believe the sensor."""


@dataclass
class RGBDDataParserConfig(FewShotNerfstudioDataParserConfig):
    """Captures with sensor depth. Maps of whole numbers (PNG, integers in .npy and .npz) hold millimetres, all others
    metres, unless --depth-unit says otherwise."""

    _target: Type = field(default_factory=lambda: RGBDDataParser)
    """Parser class to instantiate."""
    auto_scale_poses: bool = False
    """Whether the scene is scaled so that the cameras fit into a cube from -1 to 1; False: the world stays in metres.
    Frames of a sensor are often taken from nearly one position, and then this makes a room a hundred units wide."""
    depth_source: Literal["sensor", "mono"] = "sensor"
    """ScanNet layout: sensor takes target_depth/, mono the maps omni/*_depth.npy, whose scale is unknown."""
    normal_axes: NormalAxes = "opencv"
    """Axes of measured normals (NAME_normal.png beside the images, in omni/ or normals/): the camera's as in OpenCV (x
    right, y down, z forward; Omnidata) or OpenGL (x right, y up, z backward), or the world's."""


class RGBDDataParser(FewShotNerfstudioDataParser):
    """Parser of RGB-D captures: `transforms.json` (views as in fewshot-nerfstudio-data), or depth-mipnerf's layout:
    `transforms_{train,test}.json` with `<split>/rgb`, `<split>/target_depth`, `<split>/omni` and `config.json` (the
    first n training frames)."""

    config: RGBDDataParserConfig
    depth_folders = SENSOR_FOLDERS

    def _read_scene(self) -> SceneFiles:
        folder, self._needs_bounds = self.config.data, False
        if folder.is_dir() and not (folder / "transforms.json").is_file():
            scene = self._read_split_scene()
        else:
            scene = super()._read_scene()
        normals = find_normals(scene.images)
        return replace(scene, normals=normals, normal_axes=self.config.normal_axes, in_metres=True)

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        if self.config.depth_source == "mono":
            return scene
        files = self._train_depths(scene, selection.train)
        encoding = self._sensor_encoding(files)
        geometry = self._with_bounds(scene, files, encoding) if self._needs_bounds else scene.geometry
        return replace(scene, depth_encoding=encoding, geometry=geometry)

    def _estimate(
        self, poses: npt.NDArray, intrinsics: npt.NDArray, points: Optional[npt.NDArray], path: Path
    ) -> Tuple[Tuple[float, float], bool]:
        """No bounds for now: they come from the sensor's depth, once it is known where that lies."""
        self._needs_bounds = self.config.near is None or self.config.far is None
        return (0.0, float("inf")), False

    def _unit_remark(self, encoding: DepthEncoding, path: Path) -> Tuple[str, ...]:
        """Nothing: fractions are metres here, and that is not known before views are chosen."""
        return ()

    def _sensor_encoding(self, files: Sequence[Path]) -> DepthEncoding:
        whole = {holds_whole_numbers(path) for path in files}
        if len(whole) != 1:
            raise ValueError(
                f"{files[0].parent}: expected depth maps of one kind, found whole numbers, as in .png (millimetres), "
                "beside fractions (metres)"
            )
        unit, source = (MILLIMETRE, WHOLE_NUMBERS) if whole.pop() else (1.0, "the layout: fractions count metres")
        encoding = DepthEncoding(
            "distance", unit=unit, min_depth=MIN_DEPTH, max_depth=self._max_depth(), unit_from=source
        )
        return self._with_stated_unit(encoding, files)

    def _train_depths(self, scene: SceneFiles, train: Sequence[int]) -> List[Path]:
        """Depth maps of the training views.

        Raises:
            FileNotFoundError: a view has none.
        """
        files = []
        for index in train:
            path = None if scene.depths is None else scene.depths[index]
            if path is None or not path.is_file():
                raise FileNotFoundError(
                    f"{path or self.config.data}: expected the sensor's depth of view {index} "
                    f"({scene.photos[index].name}) in {', '.join(SENSOR_FOLDERS)}, under depth_file_path or in "
                    f"--depth-dir, found no such file{alike_hint(scene, [index])}"
                )
            files.append(path)
        return files

    def _with_bounds(self, scene: SceneFiles, files: Sequence[Path], encoding: DepthEncoding) -> SceneGeometry:
        """Near and far from the sensor's depth."""
        encoding = override_encoding(encoding, **read_note(files[0].parent))
        unit = self.config.depth_unit or encoding.unit or 1.0
        low, high = sensor_range(files, unit, encoding)
        near, far = self._near_far(0.8 * low * scene.scale, 1.25 * high * scene.scale)
        return replace(scene.geometry, near=near, far=far)

    def _read_split_scene(self) -> SceneFiles:
        config = self.config
        splits = {"train": self._read_split("train")}
        held_out = [name for name in ("test", "val") if (config.data / f"transforms_{name}.json").is_file()]
        splits |= {name: self._read_split(name) for name in held_out}
        images = tuple(image for split in splits.values() for image in split.images)
        num_train = len(splits["train"].images)
        # Where there is no test split, the validation split tests.
        num_test = len(splits[held_out[0]].images) if held_out else 0
        pool, tested = tuple(range(num_train)), tuple(range(num_train, num_train + num_test))
        meta = splits["train"].meta
        self._stated_unit = stated_depth_unit(meta, config.data / "transforms_train.json")
        bounds = checked(meta, {"near": NUMBER, "far": NUMBER}, str(config.data / "transforms_train.json"))
        self._needs_bounds = "near" not in bounds or "far" not in bounds
        near, far = float(bounds.get("near", 0.0)), float(bounds.get("far", "inf"))
        if config.near is None and config.far is None and not 0 <= near < far:
            where = config.data / "transforms_train.json"
            raise ValueError(f"{where}: expected numbers 0 <= near < far, found near {near} and far {far}")
        near, far = self._near_far(near, far)
        name = "{stem}_depth.npy" if config.depth_source == "mono" else "{stem}.png"
        folder = "omni" if config.depth_source == "mono" else "target_depth"
        depths: Optional[Files] = files_beside(images, folder, lambda stem: name.format(stem=stem), "depth map")
        named = tuple(file for split in splits.values() for file in split.depths)
        if config.depth_source == "sensor" and not any(file is not None and file.is_file() for file in depths or ()):
            # Dense Depth Priors' scenes lie in train/depth, under the names that the frames give them.
            depths = tuple(given or usual for given, usual in zip(named, depths or (), strict=True))
        if config.depth_dir is not None:
            depths = self._find_depths([], images)
        left_out = self._left_out(images, {})
        distortion = np.concatenate([split.distortion for split in splits.values()])
        return SceneFiles(
            images=images,
            camera_to_worlds=np.concatenate([split.poses for split in splits.values()]),
            intrinsics=np.concatenate([split.intrinsics for split in splits.values()]),
            protocol=Protocol("rgbd", num_train + num_test, pool, tested, pick_first, min(DEFAULT_VIEWS, num_train)),
            geometry=SceneGeometry("metric", near, far, "cone", config.background),
            list_lengths=tuple(len(split.images) for split in splits.values()),
            left_out=left_out,
            states_sizes=all(split.states_sizes for split in splits.values()),
            depths=depths,
            depth_encoding=DepthEncoding("distance"),
            validation=tuple(range(num_train + num_test, len(images))) or None,
            remarks=unread_keys(meta, config.data / "transforms_train.json", config.data),
            training_masks=masks_of_training(splits["train"].masks, len(images)),
            distortion=distortion if distortion.any() else None,
        )

    def _max_depth(self) -> Optional[float]:
        """`max_depth` of the scene's config.json, metres."""
        data = self.config.data
        path = (data.parent if data.suffix == ".json" else data) / "config.json"
        if not path.is_file():
            return None
        try:
            value = checked(read_json_object(path), {"max_depth": NUMBER_OR_TEXT}, str(path)).get("max_depth")
        except ValueError as error:
            raise ValueError(f"{path}: expected a JSON object with a number max_depth ({error})") from error
        limit = None if value is None else float(value)
        check_positive(f"{path}, 'max_depth'", limit, finite=False)
        return limit

    def _read_split(self, split: str) -> _Split:
        path = self.config.data / f"transforms_{split}.json"
        meta = read_transforms(path, may_be_empty=split != "train")
        meta = with_local_files(meta, path, self.config.data, self.config.allow_outside)
        poses = frame_poses(meta["frames"], path)[:, :3]
        check_lens(meta, path)
        images = tuple(self.config.data / frame["file_path"] for frame in meta["frames"])
        # Before anything is divided by what they state.
        cameras = stated_cameras(meta, path)
        intrinsics = [
            frame_intrinsics(frame, meta, image, path) for frame, image in zip(meta["frames"], images, strict=True)
        ]
        for camera, image, read in zip(cameras, images, intrinsics, strict=True):
            if image.is_file():
                height, width = image_size(image)
                camera.check_others(read, camera.size_at((width, height)))
        names = [f"frame {number} ({frame['file_path']})" for number, frame in enumerate(meta["frames"])]
        check_listed_once(names, images, poses, path, cameras)
        for camera, image in zip(cameras, images, strict=True):
            width, height = camera.size
            if width is not None and height is not None and image.is_file():
                check_same_aspect(image, (height, width), f"w and h of its frame in {path.name}")
        maps = [named_depth_map(frame) for frame in meta["frames"]]
        return _Split(
            meta,
            images,
            poses,
            np.array(intrinsics).reshape(-1, 4),
            np.array([camera.distortion for camera in cameras]).reshape(-1, 6),
            tuple(None if name is None else self.config.data / name for name in maps),
            all(camera.states_size for camera in cameras),
            named_masks(meta, path, self.config.data) if split == "train" else (),
        )


@dataclass
class _Split:
    """One transforms file of the ScanNet layout."""

    meta: Dict[str, Any]
    images: Tuple[Path, ...]
    poses: npt.NDArray[np.float64]
    intrinsics: npt.NDArray[np.float64]
    distortion: npt.NDArray[np.float64]
    """(N, 6) in nerfstudio's order."""
    depths: Files
    """Depth maps that the frames name."""
    states_sizes: bool = False
    """Whether width and height of every photo are stated."""
    masks: Files = ()
    """Masks that the frames of the training split name."""


def frame_intrinsics(
    frame: Dict[str, Any], meta: Dict[str, Any], image: Path, path: Path
) -> Tuple[float, float, float, float]:
    """fx / W, fy / H, cx / W, cy / H of a frame; fy is fx and the principal point the centre where the file is silent.

    Raises:
        ValueError: no focal length.
    """
    found = {**meta, **frame}
    focal = found.get("fx", found.get("fl_x"))
    if focal is None:
        raise ValueError(f"{path}: expected the focal length fx of {image.name}, found {shown_keys(frame)}")
    if "w" in found and "h" in found:
        width, height = float(found["w"]), float(found["h"])
    elif image.is_file():
        height, width = (float(side) for side in image_size(image))
    else:
        # An image that is not there cannot be used either; the caller says so where it is chosen.
        return float(focal), float(focal), 0.5, 0.5
    return (
        float(focal) / width,
        float(found.get("fy", found.get("fl_y", focal))) / height,
        float(found.get("cx", width / 2)) / width,
        float(found.get("cy", height / 2)) / height,
    )


def sensor_range(files: Sequence[Path], unit: float, encoding: DepthEncoding) -> Tuple[float, float]:
    """1 % and 99 % quantile of the valid depths of some maps, in units of the scene's files.

    Raises:
        ValueError: no map has a valid depth.
    """
    values = np.concatenate([read_depth_file(path)[::4, ::4].ravel() for path in files]) * unit
    limit = np.inf if encoding.max_depth is None else encoding.max_depth
    values = values[np.isfinite(values) & (values >= (encoding.min_depth or 0.0)) & (values > 0) & (values <= limit)]
    if len(values) == 0:
        raise ValueError(f"{files[0].parent}: expected valid depths to take near and far from, found none")
    low, high = np.quantile(values, (0.01, 0.99))
    return float(low), float(high)

"""LLFF captures: a folder of images and `poses_bounds.npy`, with the conventions of RegNeRF and SparseNeRF."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Literal, Mapping, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt
from tyro.conf import Suppress

from fewshot_ns.cameras.checks import check_bounds, check_mean_axes, check_world
from fewshot_ns.cameras.poses import check_finite_poses, check_rotations, look_away, recenter
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.capture_checks import bounds_of_views, resolve_ray_space
from fewshot_ns.data.dataparsers.single.left_out import OnMissing
from fewshot_ns.data.dataparsers.single.llff_rows import photos_of_rows
from fewshot_ns.data.dataparsers.single.nvs_rgbd import DEVICES, TRAIN_SUFFIX, Device, nvs_rgbd_protocol
from fewshot_ns.data.dataparsers.single.odd_bounds import PlainBounds, plain_bounds
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.seed_points import SeedPoints
from fewshot_ns.data.dataparsers.single.skipping import SkippingDataParser, SkippingDataParserConfig
from fewshot_ns.data.depth.maps import usual_names
from fewshot_ns.data.files.colmap import find_points_file
from fewshot_ns.data.files.depth_formats import MIDAS_FOLDERS
from fewshot_ns.data.files.images import list_images
from fewshot_ns.data.files.scene_folder import find_upward
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.data.views.selection import Protocol, ViewSelection, every_eighth_protocol
from fewshot_ns.utils.arrays import read_array
from fewshot_ns.utils.natural_order import natural_key

IMAGE_FOLDERS = ("images_8", "images_4", "images_2", "images_16", "images")
BOUND_FACTOR = 0.75
"""The scene is scaled so that this share of the nearest bound lies at distance 1, the near plane of NDC."""


@dataclass
class LLFFDataParserConfig(SkippingDataParserConfig):
    """Forward-facing captures in the LLFF layout."""

    _target: Type = field(default_factory=lambda: LLFFDataParser)
    """Parser class to instantiate."""
    images_dir: Optional[Path] = None
    """Folder of the images, relative to the scene; None takes images_8, else images_4, images_2, images_16, images."""
    ray_space: Optional[Literal["ndc", "metric"]] = None
    """ndc: forward-facing capture, sampled in normalised device coordinates; metric: sampled in world space between
    the bounds of the training views, for captures that look in several directions. None: by the cameras, metric where
    viewing axes are more than 45 degrees apart, or a camera stands beyond the near plane of NDC."""
    bounds_of_all_photos: Suppress[bool] = False
    """Metric: whether near and far come from the bounds of all photos of the file, as in runs of earlier versions."""
    odd_bounds_count: Suppress[bool] = False
    """Whether bounds that are far off those of all other photos count, as in runs of earlier versions."""
    view_protocol: Optional[Literal["llff", "nvs-kinect", "nvs-zed", "nvs-iphone"]] = None
    """llff: every eighth image tests; nvs-...: NVS-RGBD, images called *_train train and all others test, with the
    polarity, names and boxes of that camera's depth maps. None: llff, and an error where images are called *_train."""

    on_missing: Optional[OnMissing] = None
    """Of rows without a photo and photos without a row, where COLMAP's model or another folder of photos tells which
    they are, or (only with skip) numbers in names: skip, and say how many, or stop. Views keep their indices, those of
    rows. None skips what is told, and stops where only order and numbers speak."""

    def __setstate__(self, saved: Mapping[str, Any]) -> None:
        """Keeps the scale of a run that an earlier version trained, and in world space its near and far."""
        younger = {"bounds_of_all_photos": True} if saved.get("ray_space") == "metric" else {}
        vars(self).update({"odd_bounds_count": True, **younger, **saved})


_ORDER_OF_NAMES = (
    "rows belong to photos in the order of their names, as LLFF's own script writes them, which is not that of the "
    "numbers in them"
)
_OTHER_AXES = (
    "all cameras look away from the point that their axes meet in: either they look outwards, or the columns of the "
    "poses are not LLFF's axes (down, right, backward)"
)


class LLFFDataParser(SkippingDataParser):
    """Parser of the LLFF layout."""

    config: LLFFDataParserConfig
    skips_unasked = True

    def _read_scene(self) -> SceneFiles:
        config, device = self.config, self._device
        path = config.data / "poses_bounds.npy"
        photos, rows = list_images(self._images_dir()), self._read_poses_bounds(path)
        images, left_out = photos_of_rows(photos, len(rows), path, IMAGE_FOLDERS, config.on_missing)
        matrices, stated = rows[:, :15].reshape(-1, 3, 5), rows[:, 15:]
        names = [image.name for image in images]
        # The world is centred on all rows.
        check_finite_poses(matrices[:, :, :4], str(path), names)
        check_bounds(stated, names, str(path))
        bounds, odd = PlainBounds(stated, None) if config.odd_bounds_count else plain_bounds(stated, names)
        hwf = matrices[:, :, 4]
        # The file's axes are down, right, backward.
        poses = np.stack([matrices[:, :, 1], -matrices[:, :, 0], matrices[:, :, 2], matrices[:, :, 3]], axis=2)
        check_rotations(poses, names, str(path))
        check_mean_axes(poses, (1, 2), str(path), "LLFF's world is turned by them")
        poses, transform = recenter(poses)
        scale = 1.0 / (BOUND_FACTOR * bounds.min())
        check_world(transform, scale, str(path))
        poses[:, :, 3] *= scale
        bounds = bounds * scale

        # A size of 0, of a photo that is used, is refused with the other cameras.
        with np.errstate(divide="ignore", invalid="ignore"):
            focal_x, focal_y = hwf[:, 2] / hwf[:, 1], hwf[:, 2] / hwf[:, 0]
        half = np.full(len(images), 0.5)
        space = resolve_ray_space(config.ray_space, poses)
        remarks = () if odd is None else (f"{path}: {odd}",)
        if not left_out and sorted(names, key=str.lower) != sorted(names, key=natural_key):
            remarks = (*remarks, f"{path}: {_ORDER_OF_NAMES}, {', '.join(names[:3])}, ...")
        if space.space == "ndc":
            near, far = self._near_far(0.0, 1.0)
            # The first camera's focal length serves the whole scene, as in the originals.
            geometry = SceneGeometry(
                "ndc",
                near,
                far,
                ray_shape="cylinder",
                background=config.background,
                ndc_focal=(2.0 * float(focal_x[0]), 2.0 * float(focal_y[0])),
            )
        else:
            # Of all photos, until the training views are chosen.
            near, far = self._near_far(0.9 * float(bounds.min()), 1.1 * float(bounds.max()))
            geometry = SceneGeometry("metric", near, far, ray_shape="cone", background=config.background)
            if look_away(poses):
                remarks = (*remarks, f"{path}: {_OTHER_AXES}")
        return SceneFiles(
            images=images,
            camera_to_worlds=poses,
            intrinsics=np.stack([focal_x, focal_y, half, half], axis=1),
            protocol=self._protocol(images),
            left_out=left_out,
            geometry=geometry,
            ray_space_from=space.reason,
            remarks=remarks if space.warning is None else (f"{config.data}: {space.warning}", *remarks),
            calibrated_sizes=hwf[:, :2],
            calibration="poses_bounds.npy",
            cameras_file=path,
            transform=transform,
            scale=scale,
            bounds=bounds,
            depths=self._find_depths(
                self._depth_folders(),
                images,
                usual_names if device is None else device.names,
                eight_bit=device is not None,
            ),
            depth_encoding=DepthEncoding() if device is None else device.encoding,
            pair_box=None if device is None else device.box,
            colmap_points=find_points_file(config.data),
        )

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        """In world space near and far are those of what the training views see."""
        if scene.geometry.ray_space != "metric" or self.config.bounds_of_all_photos:
            return scene
        points = self._points_for(scene, selection.train)
        found = bounds_of_views(scene, selection.train, points)
        near, far = self._near_far(found.near, found.far)
        given = self.config.near is not None and self.config.far is not None
        remark = f"{self.config.data / 'poses_bounds.npy'}: {found.warning}"
        remarks = scene.remarks if found.warning is None or given else (*scene.remarks, remark)
        geometry = replace(scene.geometry, near=near, far=far)
        return replace(scene, geometry=geometry, remarks=remarks, seed_points=points, colmap_points=None)

    def _points_for(self, scene: SceneFiles, train: Tuple[int, ...]) -> Optional[SeedPoints]:
        """COLMAP's points, read once for all splits."""
        if train not in self._points:
            self._points[train] = scene.read_seed_points(train)
        return self._points[train]

    @cached_property
    def _points(self) -> Dict[Tuple[int, ...], Optional[SeedPoints]]:
        return {}

    @property
    def _device(self) -> Optional[Device]:
        return DEVICES.get(self.config.view_protocol or "")

    def _protocol(self, images: Tuple[Path, ...]) -> Protocol:
        kind = self.config.view_protocol
        stems = [path.stem for path in images]
        if kind is not None and self._device is not None:
            return nvs_rgbd_protocol(kind, stems, str(images[0].parent))
        if kind is None and self.config.train_indices is None and any(stem.endswith(TRAIN_SUFFIX) for stem in stems):
            raise ValueError(
                f"{images[0].parent}: photos called *{TRAIN_SUFFIX} are those of NVS-RGBD; give --view-protocol "
                f"{', '.join(DEVICES)} (or llff for every eighth photo)"
            )
        return every_eighth_protocol(len(images))

    def _depth_folders(self) -> List[Path]:
        """Where depth maps lie: beside the images, or where SparseNeRF's script leaves them."""
        script = find_upward(self.config.data, [f"{folder}/LLFF/{self.scene_name}" for folder in MIDAS_FOLDERS])
        return [self.config.data / "depth_maps"] + ([] if script is None else [script])

    def _images_dir(self) -> Path:
        if self.config.images_dir is not None:
            return self.config.data / self.config.images_dir
        preferred = () if self._device is None else (self._device.images_dir,)
        for name in (*preferred, *IMAGE_FOLDERS):
            if (self.config.data / name).is_dir():
                return self.config.data / name
        raise FileNotFoundError(
            f"{self.config.data}: expected a folder of photos named {', '.join(IMAGE_FOLDERS)} (or --images-dir), "
            "found none of them"
        )

    def _read_poses_bounds(self, path: Path) -> npt.NDArray[np.float64]:
        """(N, 17) rows."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the poses of the LLFF layout, found no such file")
        stored = read_array(path, "a numeric array (N, 17)")
        if stored.dtype.kind not in "uif":
            raise ValueError(f"{path}: expected a numeric array (N, 17) of real numbers, found dtype {stored.dtype}")
        rows = stored.astype(np.float64)
        if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
            raise ValueError(f"{path}: expected shape (N, 17), found {rows.shape}")
        return rows

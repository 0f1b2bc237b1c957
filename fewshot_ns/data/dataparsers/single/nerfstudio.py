"""Any capture with a `transforms.json` (ns-process-data, Polycam, Record3D, ...), read by nerfstudio's own parser."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Literal, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from tyro.conf import Suppress

from fewshot_ns.cameras.checks import check_float32_places, check_mean_axes
from fewshot_ns.cameras.poses import AXES_HINT, check_rotations, focus_point, look_away, planar_depth
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser, FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.capture_bounds import bounds_from_points
from fewshot_ns.data.dataparsers.single.completed_transforms import CompletedTransforms, completed_transforms
from fewshot_ns.data.dataparsers.single.left_out import (
    OnMissing,
    among_those_there,
    echo_left_out,
    files_beside_frames,
    frames_without_photo,
    photos_without_pose,
)
from fewshot_ns.data.dataparsers.single.named_masks import check_masks_of_all
from fewshot_ns.data.dataparsers.single.nerfstudio_frames import SPLITS, PooledFrames, pooled_frames
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.unread_keys import unread_keys
from fewshot_ns.data.depth.stated_unit import (
    WHOLE_NUMBERS,
    StatedUnit,
    holds_whole_numbers,
    stated_depth_unit,
)
from fewshot_ns.data.files.applied_world import applied_scale, check_applied_world
from fewshot_ns.data.files.colmap import find_points_file
from fewshot_ns.data.files.transforms_camera import check_lens, check_listed_once, stated_cameras
from fewshot_ns.data.files.transforms_json import (
    frame_poses,
    read_transforms,
    stated_bounds,
    with_local_files,
)
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.data.views.selection import Protocol, ViewSelection, every_eighth_protocol, photos_protocol
from fewshot_ns.utils.shown_values import shown

HELD_OUT = "held_out"
"""Key of the list of frames (as their file_path says) that are not trained on."""
_NO_POINT_SEEN = (
    "no camera sees any of the sparse points (ply_file_path), which may be of another world; near and far are a guess "
    "from the cameras"
)
MILLIMETRE = 1e-3
"""Unit of the maps that `depth_file_path` names, as nerfstudio reads them."""
FRACTIONS = "nerfstudio: depth_file_path counts millimetres, also in fractions"
"""What a record says of the unit of maps that hold more than whole numbers."""


@dataclass
class FewShotNerfstudioDataParserConfig(FewShotDataParserConfig):
    """Captures with a transforms.json."""

    _target: Type = field(default_factory=lambda: FewShotNerfstudioDataParser)
    """Parser class to instantiate."""
    near: Optional[float] = None
    """First ray parameter sampled, in units of the scaled scene; None takes the file's `near`, else estimates it from
    the file's sparse points that the training views see, else from the point that the cameras look at. Such a guess is
    replaced where training finds depth in the photos (the depth prior's sources stereo, mvs and auto)."""
    far: Optional[float] = None
    """Last ray parameter sampled, in units of the scaled scene; None takes the file's `far`, else estimates it."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """How nerfstudio turns the scene upright."""
    auto_scale_poses: bool = True
    """Whether the scene is scaled so that the cameras fit into a cube from -1 to 1, as nerfstudio does."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """How nerfstudio chooses the centre of the scene."""
    bounds_of_all_photos: Suppress[bool] = False
    """Whether near and far hold the sparse points that any photo of the file sees, as in runs of earlier versions."""
    on_missing: Optional[OnMissing] = None
    """Of frames whose photo is missing and photos that no frame names: skip, and say how many, or stop. Views keep
    their indices. None skips, but stops at a missing view in use of a scene of `ns-fewshot prepare` or of a set."""

    allow_outside: bool = False
    """Whether photos, masks, depth maps and points that the scene's files name may lie outside of its folder."""

    def __setstate__(self, saved: Mapping[str, Any]) -> None:
        """Keeps near and far, and the photos, of a run that an earlier version trained."""
        vars(self).update({"bounds_of_all_photos": True, "allow_outside": True, **saved})


class FewShotNerfstudioDataParser(FewShotDataParser):
    """Parser of transforms.json captures.

    All frames of the file are pooled and sorted by name; splits that the file itself may list are ignored in favour of
    the few-shot rule (every eighth frame tests, training frames at equal steps among the others), unless its list
    `held_out` says which frames alone are not trained on, as `ns-fewshot prepare` writes it.
    """

    config: FewShotNerfstudioDataParserConfig
    depth_folders: Tuple[str, ...] = ("depth_maps",)
    """Folders beside the transforms file in which depth maps are looked for."""
    _whole: bool = False
    """Whether a missing photo is a fault unless the user says otherwise."""
    no_points: str = "the file names no sparse points (ply_file_path)"
    """Why near and far cannot be taken from sparse points, for the message."""
    axes_hint: Optional[str] = AXES_HINT
    """What is said of cameras that all look outwards; None where their axes are sure."""
    _stated_unit: Optional[StatedUnit] = None
    """What the transforms file says of its depth maps' unit."""
    _sees_no_point: bool = False
    """Whether the scene has sparse points of which no camera sees any."""
    _bounding_points: Optional[npt.NDArray] = None
    """(P, 3) sparse points that near and far come from; None where they come from elsewhere."""

    def _read_scene(self) -> SceneFiles:
        data = self.config.data
        path = data if data.suffix == ".json" else data / "transforms.json"
        return self._scene_of(path, path.parent)

    def _scene_of(self, path: Path, folder: Path) -> SceneFiles:
        """The scene of a transforms file, beside which, in `folder`, lie depth maps and COLMAP's points."""
        config = self.config
        meta = with_local_files(read_transforms(path), path, path.parent, config.allow_outside)
        file_poses = frame_poses(meta["frames"], path)
        if len(file_poses) < self.least_views:
            raise ValueError(f"{path}: expected at least {self.least_views} frames, found one")
        check_lens(meta, path)
        check_applied_world(meta, path)
        names = [str(frame["file_path"]) for frame in meta["frames"]]
        # Before anything is made of the poses, which would be blamed for it.
        check_rotations(file_poses, [Path(name).name for name in names], str(path))
        frame_names = [f"frame {number} ({name})" for number, name in enumerate(names)]
        lenses, applied = stated_cameras(meta, path), applied_scale(meta, path)
        check_listed_once(frame_names, [path.parent / name for name in names], file_poses, path, lenses)
        self._stated_unit = stated_depth_unit(meta, path)
        check_masks_of_all(meta, path)
        _check_splits(meta, path)
        frames = self._read_frames(completed_transforms(meta, file_poses, path), file_poses, path)
        cameras, images = frames.cameras, frames.images
        self._whole |= HELD_OUT in meta
        left_out = self._left_out(images, meta)
        height, width = cameras.height.double(), cameras.width.double()
        intrinsics = torch.cat(
            [cameras.fx / width, cameras.fy / height, cameras.cx / width, cameras.cy / height], dim=1
        ).numpy()
        poses = cameras.camera_to_worlds.double().numpy()
        bounds, guessed = stated_bounds(meta, path), False
        if bounds is None:
            bounds, guessed = self._estimate(poses, intrinsics, frames.points, path)
        else:
            # Unlike the scale of the outputs, near and far count from the poses as the file has them.
            bounds = (bounds[0] * frames.scale / applied, bounds[1] * frames.scale / applied)
        near, far = self._near_far(*bounds)
        depths, encoding = frames.depths, DepthEncoding()
        if depths is not None and config.depth_dir is None:
            encoding = DepthEncoding(polarity="distance", unit=MILLIMETRE, unit_from=WHOLE_NUMBERS)
            if not all(path is None or holds_whole_numbers(path) for path in depths):
                encoding = replace(encoding, unit_from=FRACTIONS)
            encoding = self._with_stated_unit(encoding, depths)
        else:
            depths = self._find_depths([folder / name for name in self.depth_folders], images)
            if self._stated_unit is not None and frames.depths is None and any(depths or ()):
                # Nothing else can be what the file speaks of.
                encoding = self._with_stated_unit(DepthEncoding(polarity="distance"), depths or ())
        return SceneFiles(
            images=images,
            camera_to_worlds=poses,
            intrinsics=intrinsics,
            protocol=_protocol(meta, images, path),
            left_out=left_out,
            geometry=SceneGeometry("metric", near, far, "cone", config.background),
            bounds_guessed=guessed,
            calibrated_sizes=torch.cat([height, width], dim=1).numpy(),
            calibration=path.name,
            states_sizes=all(lens.states_size for lens in lenses),
            cameras_file=path,
            transform=frames.transform,
            scale=frames.scale,
            depths=depths,
            depth_encoding=encoding,
            in_metres=encoding.unit is not None,
            training_masks=frames.masks,
            distortion=None if cameras.distortion_params is None else cameras.distortion_params.numpy(),
            seed_points=frames.seed_points(path.parent / str(meta.get("ply_file_path"))),
            colmap_points=find_points_file(folder),
            remarks=(
                *((f"{path}: {AXES_HINT}",) if look_away(poses) else ()),
                *((f"{path}: {_NO_POINT_SEEN}",) if self._sees_no_point else ()),
                *unread_keys(meta, path, folder),
                *self._unit_remark(encoding, path),
            ),
        )

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        # Of a capture from all around, the other photos see what is behind these.
        points, train = self._bounding_points, list(selection.train)
        if points is None or self.config.bounds_of_all_photos:
            return scene
        bounds = bounds_from_points(scene.camera_to_worlds[train], scene.intrinsics[train], points)
        if bounds is None:
            return scene
        near, far = self._near_far(*bounds)
        return replace(scene, geometry=replace(scene.geometry, near=near, far=far))

    def _left_out(self, images: Tuple[Path, ...], meta: Mapping[str, Any]) -> Dict[str, int]:
        """Counts of what is skipped: frames without photos, and photos without poses."""
        where, on_missing = self.config.data, self.config.on_missing
        found = frames_without_photo(images, where, on_missing)
        if meta:
            folder = where if where.is_dir() else where.parent
            found |= photos_without_pose(images, files_beside_frames(meta, folder), where, on_missing)
        return found

    def _select(self, scene: SceneFiles) -> ViewSelection:
        """As of every format; where views of the rule have no photo, by the same rule among those that have one."""
        selection = super()._select(scene)
        skips = self.config.on_missing == "skip" or (self.config.on_missing is None and not self._whole)
        if not skips or all(scene.images[view].is_file() for view in selection.views):
            return selection
        return super()._select(replace(scene, protocol=among_those_there(scene.protocol, scene.images)))

    def read_views(self) -> Tuple[SceneFiles, ViewSelection, Cameras]:
        """As of every format; a scene of a set stops at a missing view in use, since nobody reads a line per scene."""
        self._whole = True
        return super().read_views()

    def _echo(self, scene: SceneFiles, *chosen: Any) -> None:
        super()._echo(scene, *chosen)
        echo_left_out(self.config.data, scene.left_out, len(scene.images))

    def _with_stated_unit(self, encoding: DepthEncoding, files: Sequence[Optional[Path]]) -> DepthEncoding:
        """The encoding with the unit that the transforms file states, where the maps hold whole numbers."""
        unit = self._stated_unit
        if unit is None or not all(path is None or holds_whole_numbers(path) for path in files):
            return encoding
        return replace(encoding, unit=unit.length, unit_from=unit.source)

    def _unit_remark(self, encoding: DepthEncoding, path: Path) -> Tuple[str, ...]:
        """What is said of maps of fractions, which other programs write in metres."""
        if encoding.unit_from != FRACTIONS or self.config.depth_unit is not None:
            return ()
        return (
            f"{path}: depth maps of fractions are taken to count millimetres, as nerfstudio takes them; of metres give "
            "--depth-unit 1, or rgbd-data, which takes fractions as metres",
        )

    def _check_places(self, poses: npt.NDArray, path: Path) -> None:
        """Checks that nerfstudio can scale a scene by how far its cameras are apart.

        Raises:
            ValueError: all are in one place.
        """
        places = poses[:, :3, 3]
        moved = self.config.center_method != "none"
        apart = np.ptp(places, axis=0).max() if moved else np.abs(places).max()
        if len(places) > 1 and self.config.auto_scale_poses and apart <= 1e-6 * max(1.0, float(np.abs(places).max())):
            raise ValueError(
                f"{path}: expected cameras at several places, found all at one, from where no depth can be told; give "
                "--auto-scale-poses False, --near and --far to read them all the same"
            )

    def _check_turned(self, poses: npt.NDArray, names: Sequence[str], path: Path) -> None:
        """Checks that nerfstudio, which computes in float32, can centre and turn a scene.

        Raises:
            ValueError: cameras far from the origin of their files, or without a common direction upwards.
        """
        check_float32_places(poses, names, str(path))
        if self.config.orientation_method in ("up", "vertical") and len(poses) > 1:
            check_mean_axes(poses, (1,), str(path), "give --orientation-method none")

    def _read_frames(self, completed: CompletedTransforms, poses: npt.NDArray, path: Path) -> PooledFrames:
        """What nerfstudio's parser makes of a file."""
        self._check_turned(poses, [str(frame["file_path"]) for frame in completed.meta["frames"]], path)
        self._check_places(poses, path)
        # Of one camera no world can be made but the file's: nerfstudio would divide by its distance from itself.
        alone = len(completed.meta["frames"]) == 1
        config = NerfstudioDataParserConfig(
            downscale_factor=1,
            orientation_method="none" if alone else self.config.orientation_method,
            center_method="none" if alone else self.config.center_method,
            auto_scale_poses=self.config.auto_scale_poses and not alone,
            train_split_fraction=1.0,
        )
        frames = pooled_frames(config, completed.meta, path, self._is_of_folder(path))
        return frames if completed.depths is None else frames.with_depths(completed.depths)

    def _is_of_folder(self, path: Path) -> bool:
        """Whether nerfstudio is given the folder of a file, in which it then looks for COLMAP's."""
        return self.config.data.is_dir() and path.parent == self.config.data and path.name == "transforms.json"

    def _estimate(
        self, poses: npt.NDArray, intrinsics: npt.NDArray, points: Optional[npt.NDArray], path: Path
    ) -> Tuple[Tuple[float, float], bool]:
        """Near and far that bound the scene, unless the user gives both, and whether they are a mere guess."""
        if self.config.near is not None and self.config.far is not None:
            return (self.config.near, self.config.far), False
        if points is not None:
            bounds = bounds_from_points(poses, intrinsics, points)
            if bounds is not None:
                self._bounding_points = points
                return bounds, False
            self._sees_no_point = True
        try:
            focus = focus_point(poses)
        except ValueError as error:
            raise ValueError(f"{path}: cannot estimate near and far ({error}); give --near and --far") from error
        depth = planar_depth(poses, focus[None])[:, 0]
        if self.axes_hint is not None and look_away(poses):
            raise ValueError(
                f"{path}: cannot estimate near and far, {self.axes_hint}; of cameras that look outwards give --near "
                "and --far"
            )
        if depth.min() <= 0:
            raise ValueError(
                f"{path}: cannot estimate near and far, the cameras do not look at a common point and "
                f"{self.no_points}; give --near and --far"
            )
        return (0.25 * float(depth.min()), 2.5 * float(depth.max())), True


def _check_splits(meta: Dict[str, Any], path: Path) -> None:
    """Checks that the photos of each list of a split are those of frames.

    Raises:
        ValueError: a photo that no frame has, or lists of nothing.
    """
    lists = {f"{split}_filenames": meta[f"{split}_filenames"] for split in SPLITS if f"{split}_filenames" in meta}
    known = {path.parent / str(frame["file_path"]) for frame in meta["frames"]}
    for key, names in lists.items():
        strangers = [name for name in names if path.parent / name not in known]
        if strangers:
            raise ValueError(f"{path}: expected names of frames in {key!r}, found {shown(strangers)}")
    if lists and not any(lists.values()):
        raise ValueError(f"{path}: expected names of frames in {' or '.join(map(repr, lists))}, found none")


def _protocol(meta: Dict[str, Any], images: Tuple[Path, ...], path: Path) -> Protocol:
    """The few-shot rule, or what the file itself holds out."""
    held_out = meta.get(HELD_OUT)
    if held_out is None:
        return every_eighth_protocol(len(images), "nerfstudio")
    known = {str(image): index for index, image in enumerate(images)}
    strangers = [name for name in held_out if str(path.parent / name) not in known]
    if strangers:
        raise ValueError(f"{path}: expected names of frames in {HELD_OUT!r}, found {shown(strangers)}")
    return photos_protocol(len(images), [known[str(path.parent / name)] for name in held_out])

"""Synthetic scenes of NeRF: `transforms_{train,test,val}.json` and RGBA renderings. Views as in DietNeRF."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import AXES_HINT, check_rotations, look_away
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.layout_bounds import (
    FAR,
    NEAR,
    LayoutBounds,
    layout_bounds,
    stated_layout_bounds,
)
from fewshot_ns.data.dataparsers.single.left_out import check_enough_left, frames_without_photo
from fewshot_ns.data.dataparsers.single.named_masks import masks_of_training, named_masks
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.skipping import SkippingDataParser, SkippingDataParserConfig
from fewshot_ns.data.dataparsers.single.unread_keys import unread_keys
from fewshot_ns.data.depth.stated_unit import StatedUnit, holds_whole_numbers, named_depth_map, stated_depth_unit
from fewshot_ns.data.files.images import bits_of_png, image_size
from fewshot_ns.data.files.normals import find_normals
from fewshot_ns.data.files.scene_folder import Files, check_same_aspect
from fewshot_ns.data.files.transforms_camera import StatedCamera, check_lens, check_listed_once
from fewshot_ns.data.files.transforms_json import frame_poses, read_transforms, stated_bounds, with_local_files
from fewshot_ns.data.records.metadata import DepthEncoding, NormalAxes
from fewshot_ns.data.views.selection import (
    MIN_TRAIN_VIEWS,
    BlenderProtocol,
    Protocol,
    ViewSelection,
    blender_protocol,
    select_views,
)
from fewshot_ns.utils.json_files import shown_keys

RENDERED: Dict[str, DepthEncoding] = {
    ".exr": DepthEncoding("distance", "z_depth", unit=1.0, max_depth=100.0),
    ".png": DepthEncoding("distance", "z_depth", unit=1e-3, max_depth=100.0),
}
"""Depth rendered with the images: planar, in units of the scene or, in 16-bit PNG, thousandths. The value of the
background lies far beyond 100."""
_PROPORTIONS = (
    "photos of several proportions share 'camera_angle_x', which is taken of the width of each; where the angle is "
    "that of the longer side, or some photos are cropped, state fl_x, w and h of each frame"
)
DEPTH_NAMES = ("{stem}_depth_0001", "{stem}_depth0001", "{stem}_depth")
"""Names of rendered depth beside a frame, which Blender's file output makes of the frame's own."""


def rendered_depths(
    images: Tuple[Path, ...], named: Files = (), unit: Optional[StatedUnit] = None
) -> Tuple[Optional[Files], DepthEncoding]:
    """Depth rendered with the frames, and what its numbers mean; None where no frame has any.

    Args:
        images: The frames.
        named: Depth maps that the transforms file names, one per frame; else they lie beside the frames.
        unit: What the file says of the unit of maps of whole numbers.
    """
    if any(path is not None and path.is_file() for path in named):
        kinds = {path.suffix.lower() for path in named if path is not None}
        encoding = RENDERED.get(kinds.pop(), RENDERED[".exr"]) if len(kinds) == 1 else DepthEncoding("distance")
        if all(path is None or holds_whole_numbers(path) for path in named):
            encoding = RENDERED[".png"]
        return named, _in_stated_unit(encoding, named, unit)
    for suffix, encoding in RENDERED.items():
        found = tuple(_rendered_depth(image, suffix) for image in images)
        if any(_is_depth(path) for path in found):
            return found, _in_stated_unit(encoding, found, unit)
    return None, DepthEncoding()


def _in_stated_unit(encoding: DepthEncoding, files: Files, unit: Optional[StatedUnit]) -> DepthEncoding:
    if unit is None or not all(path is None or holds_whole_numbers(path) for path in files):
        return encoding
    return replace(encoding, unit=unit.length, unit_from=unit.source)


def _rendered_depth(image: Path, suffix: str) -> Path:
    names = [image.with_name(name.format(stem=image.stem) + suffix) for name in DEPTH_NAMES]
    return next((path for path in names if _is_depth(path)), names[0])


def _is_depth(path: Path) -> bool:
    # The depth maps of NeRF's own test set have 8 bits and no unit.
    return path.is_file() and (path.suffix != ".png" or bits_of_png(path) == 16)


@dataclass
class FewShotBlenderDataParserConfig(SkippingDataParserConfig):
    """Synthetic scenes in the Blender layout."""

    _target: Type = field(default_factory=lambda: FewShotBlenderDataParser)
    """Parser class to instantiate."""
    num_views: Optional[int] = None
    """Number of training views: up to eight are DietNeRF's list, more are taken at equal steps; 0 takes all. None: 8,
    or all of fewer."""
    background: Literal["black", "white"] = "white"
    """What lies behind the scene, and under transparent pixels."""
    view_protocol: BlenderProtocol = "dietnerf"
    """dietnerf: its published eight views; first: the first frames of transforms_train.json (RegNeRF, depth-mipnerf);
    seeded: drawn at random, as DietNeRF draws; dietnerf-unseen, occluded-a, occluded-b: fourteen views that leave one
    side of lego unseen (DietNeRF's, and two lists of its JAX version), whatever --num-views is."""
    view_seed: int = 0
    """Seed of --view-protocol seeded."""
    testskip: int = 8
    """Every how many frames of transforms_test.json (and of transforms_val.json) one is evaluated."""
    normal_axes: NormalAxes = "world"
    """Axes of rendered normals (NAME_normal_0001.exr and the like): the world's, as Blender writes them, or the
    camera's as in OpenCV (x right, y down, z forward) or OpenGL (x right, y up, z backward)."""
    allow_outside: bool = False
    """Whether photos and depth maps that the scene's files name may lie outside of its folder."""

    def __setstate__(self, saved: Mapping[str, Any]) -> None:
        """Keeps the photos of a run that an earlier version trained."""
        vars(self).update({"allow_outside": True, **saved})


def frame_protocol(config: FewShotBlenderDataParserConfig, num_train: int, num_test: int) -> Protocol:
    """The rule of `view_protocol` for the list of all training frames followed by all test frames.

    Raises:
        ValueError: a `testskip` below 1, or a rule whose views the scene does not have.
    """
    if config.testskip < 1:
        raise ValueError(f"--testskip must be at least 1, got {config.testskip}")
    return blender_protocol(num_train, num_test, config.testskip, config.view_protocol, config.view_seed)


def select_frames(
    config: FewShotBlenderDataParserConfig,
    protocol: Protocol,
    least: int = MIN_TRAIN_VIEWS,
    images: Optional[Sequence[Path]] = None,
) -> ViewSelection:
    """Training and test frames as indices in the list of all training frames followed by all test frames.

    Args:
        config: its `train_indices` and `test_indices` count frames of their own split.
        protocol: as from `frame_protocol`; its pool holds all training frames.
        least: number of training frames below which there is an error.
        images: files of all frames, where training frames of the rule are to be chosen among those that have one.

    Raises:
        ValueError: an index outside of its split, or what `select_views` refuses.
    """
    num_train = len(protocol.pool)
    train = _in_list(config, "--train-indices", config.train_indices, num_train, 0)
    test = _in_list(config, "--test-indices", config.test_indices, protocol.num_images - num_train, num_train)
    if images is not None:
        there = tuple(frame for frame in protocol.pool if images[frame].is_file())
        protocol = replace(protocol, pool=there, default_views=min(protocol.default_views, len(there)))
        if train is None:
            check_enough_left(protocol, least, config.data)
    return select_views(protocol, config.num_views, train, test, str(config.data), least)


def _in_list(
    config: FewShotBlenderDataParserConfig, flag: str, indices: Optional[Tuple[int, ...]], count: int, offset: int
) -> Optional[Tuple[int, ...]]:
    """Indices in the list of all frames, from those in a split of `count` frames that begins at `offset`."""
    outside = [index for index in indices or () if not 0 <= index < count]
    if outside:
        raise ValueError(f"{config.data}: {flag} must lie in 0..{count - 1} ({count} frames), got {outside}")
    return None if indices is None else tuple(index + offset for index in indices)


class FewShotBlenderDataParser(SkippingDataParser):
    """Parser of the Blender layout.

    `--train-indices` count in transforms_train.json and `--test-indices` in transforms_test.json. The scene's list of
    views holds all training frames, then all test frames, then all validation frames; the indices that end up in the
    metadata and in the evaluation tables count in this list.
    """

    config: FewShotBlenderDataParserConfig

    def _read_scene(self) -> SceneFiles:
        config = self.config
        splits = [self._read_split(split) for split in ("train", "test", "val")]
        images = tuple(file for split in splits for file in split.files)
        poses = np.concatenate([split.poses for split in splits])
        names = [name for split in splits for name in split.names]
        check_rotations(poses, [image.name for image in images], str(config.data))
        self._cameras = [camera for split in splits for camera in split.cameras]
        check_listed_once(names, images, poses, config.data, self._cameras)
        num_train, num_test = len(splits[0].files), len(splits[1].files)
        protocol = frame_protocol(config, num_train, num_test)
        validation = tuple(range(num_train + num_test, len(images), config.testskip))
        if config.test_indices is not None or not all(images[index].is_file() for index in validation):
            validation = ()

        bounds = self._bounds(splits[0])
        near, far = self._near_far(bounds.near, bounds.far)
        depths = self._find_depths([config.data / "depth_maps"], images[:num_train])
        encoding = DepthEncoding()
        if depths is None:
            depths, encoding = rendered_depths(images[:num_train], splits[0].depths, splits[0].unit)
        distortion = np.array([camera.distortion for camera in self._cameras])
        return SceneFiles(
            images=images,
            camera_to_worlds=poses,
            # The layout states the horizontal angle alone, so that the sizes of photos have to be known.
            intrinsics=np.full((len(images), 4), 0.5),
            protocol=protocol,
            left_out=self._left_out(images[:num_train], images[num_train : num_train + num_test]),
            list_lengths=tuple(len(split.files) for split in splits),
            geometry=SceneGeometry("metric", near, far, "cone", config.background),
            bounds_guessed=bounds.guessed,
            states_sizes=all(camera.states_size for camera in self._cameras),
            depths=None if depths is None else depths + (None,) * (len(images) - num_train),
            depth_encoding=encoding,
            normals=find_normals(images[:num_train]) + (None,) * (len(images) - num_train),
            normal_axes=config.normal_axes,
            validation=validation or None,
            training_masks=masks_of_training(splits[0].masks, len(images)),
            distortion=distortion if distortion.any() else None,
            remarks=(
                *(f"{config.data}: {remark}" for remark in bounds.remarks),
                *_turned_away(splits, config.data),
                *unread_keys(splits[0].meta, config.data / "transforms_train.json", config.data),
                *self._lacking("test", splits[1].files, "they are rendered, not measured"),
                *self._lacking("val", splits[2].files, "the test photos are looked at while training"),
            ),
        )

    def _left_out(self, train: Sequence[Path], test: Sequence[Path]) -> Dict[str, int]:
        """Counts of training frames without a photo, where the user asks; test frames without one are rendered."""
        on_missing = self.config.on_missing
        if on_missing == "stop":
            frames_without_photo([*train, *test], self.config.data, on_missing)
        return frames_without_photo(train, self.config.data, on_missing) if on_missing == "skip" else {}

    def _select(self, scene: SceneFiles) -> ViewSelection:
        selection = select_frames(self.config, scene.protocol, self.least_views)
        if self.config.on_missing == "skip" and not all(scene.images[view].is_file() for view in selection.train):
            selection = select_frames(self.config, scene.protocol, self.least_views, scene.images)
        # Cameras to render have a pose in transforms_test.json alone.
        rendered = tuple(index for index in selection.test if not scene.images[index].is_file())
        test = tuple(index for index in selection.test if index not in rendered)
        return replace(selection, test=test, rendered=rendered)

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        usual = image_size(scene.images[selection.train[0]])
        wanted = {*selection.views, *(scene.validation or ())}
        intrinsics, proportions = [], set()
        for index, camera in enumerate(self._cameras):
            photo = scene.images[index]
            height, width = image_size(photo) if index in wanted and photo.is_file() else usual
            if index in wanted and photo.is_file():
                stated = camera.size_at((width, height))
                check_same_aspect(photo, (stated[1], stated[0]), "its frame's w and h")
                if camera.is_one_angle:
                    proportions.add(round(width / height, 1))
            intrinsics.append(camera.fractions((width, height)))
        remarks = (f"{self.config.data}: {_PROPORTIONS}",) if len(proportions) > 1 else ()
        return replace(scene, intrinsics=np.array(intrinsics), remarks=(*scene.remarks, *remarks))

    def _lacking(self, split: str, files: Sequence[Path], instead: str) -> Tuple[str, ...]:
        """What is said of evaluated frames some of which, not all, have no photo."""
        evaluated = files[:: self.config.testskip]
        lacking = [file for file in evaluated if not file.is_file()]
        if self.config.test_indices is not None or not 0 < len(lacking) < len(evaluated):
            return ()
        path, first = self.config.data / f"transforms_{split}.json", lacking[0].relative_to(self.config.data)
        return (f"{path}: {len(lacking)} of its {len(evaluated)} frames have no photo, such as {first}; {instead}",)

    def _bounds(self, split: BlenderSplit) -> LayoutBounds:
        """Near and far of the layout, held against the training cameras unless the user gives both."""
        stated = stated_bounds(split.meta, self.config.data / "transforms_train.json")
        if self.config.near is not None and self.config.far is not None:
            return LayoutBounds(*(stated or (NEAR, FAR)))
        if stated is not None:
            return stated_layout_bounds(*stated, split.poses)
        return layout_bounds(split.poses)

    def _read_split(self, split: str) -> BlenderSplit:
        """The frames of one transforms file.

        A capture without test (or validation) frames has no such file, or an empty one.
        """
        path = self.config.data / f"transforms_{split}.json"
        held_out = split != "train"
        if held_out and not path.is_file():
            return BlenderSplit()
        meta = read_transforms(path, may_be_empty=held_out)
        meta = with_local_files(meta, path, self.config.data, self.config.allow_outside)
        frames = meta["frames"]
        if not frames:
            return BlenderSplit()
        poses = frame_poses(frames, path)
        check_lens(meta, path)
        cameras = [StatedCamera.of_frame(meta, number, path) for number in range(len(frames))]
        if not all(camera.has_focal for camera in cameras):
            raise ValueError(f"{path}: expected 'camera_angle_x' or 'fl_x', found {shown_keys(meta)}")
        files = [self.config.data / frame["file_path"] for frame in frames]
        maps = [named_depth_map(frame) for frame in frames]
        return BlenderSplit(
            files,
            poses[:, :3],
            cameras,
            [f"{path.name}, frame {number} ({frame['file_path']})" for number, frame in enumerate(frames)],
            tuple(None if name is None else self.config.data / name for name in maps),
            stated_depth_unit(meta, path),
            meta,
            () if held_out else named_masks(meta, path, self.config.data),
        )


def _turned_away(splits: Sequence[BlenderSplit], data: Path) -> Tuple[str, ...]:
    """What is said of held-out frames with other axes than the training frames; of these `layout_bounds` says it."""
    if look_away(splits[0].poses):
        return ()
    named = zip(("test", "val"), splits[1:], strict=True)
    return tuple(
        f"{data / f'transforms_{name}.json'}: {AXES_HINT}"
        for name, split in named
        if len(split.files) > 1 and look_away(split.poses)
    )


@dataclass(frozen=True)
class BlenderSplit:
    """One transforms file of the layout."""

    files: List[Path] = field(default_factory=list)
    """(N) photos."""
    poses: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3, 4)))
    """(N, 3, 4) OpenGL poses."""
    cameras: List[StatedCamera] = field(default_factory=list)
    """(N) what the file says of each frame's camera."""
    names: List[str] = field(default_factory=list)
    """(N) how each frame is called in messages."""
    depths: Files = ()
    """(N) depth maps that the frames name."""
    unit: Optional[StatedUnit] = None
    """What the file says of their unit."""
    meta: Dict[str, Any] = field(default_factory=dict)
    """Content of the file."""
    masks: Files = ()
    """(N) masks that the frames of the training split name."""

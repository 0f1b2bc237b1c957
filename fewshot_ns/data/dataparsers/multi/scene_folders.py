"""A folder of scenes in the format of any single-scene dataparser of this package."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, Sequence, Tuple, Type

import numpy as np
import torch
import tyro
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.cameras.depth_ranges import planar_of_distances, world_ranges
from fewshot_ns.data.dataparsers.multi.base import SPLITS, MultiSceneDataParser, MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.dvr import read_list
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews
from fewshot_ns.data.dataparsers.recognition import one_instead_of_many
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser, FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.idr import IDRDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.files.scene_folder import MOVED_SCENE, check_same_aspect
from fewshot_ns.data.records.scene import EvaluationMasks, Scene, SceneEntry, SceneError, SceneWorld
from fewshot_ns.utils.number_flags import check_at_least

if TYPE_CHECKING:
    SingleSceneParser = FewShotDataParserConfig
else:
    SingleSceneParser = tyro.conf.OmitSubcommandPrefixes[
        tyro.extras.subcommand_type_from_defaults(
            {
                "llff-data": LLFFDataParserConfig(ray_space="metric"),
                "dtu-data": DTUDataParserConfig(),
                "fewshot-blender-data": FewShotBlenderDataParserConfig(),
                "fewshot-nerfstudio-data": FewShotNerfstudioDataParserConfig(),
                "rgbd-data": RGBDDataParserConfig(),
                "fewshot-colmap-data": FewShotColmapDataParserConfig(),
                "idr-data": IDRDataParserConfig(),
            },
            prefix_names=False,
        )
    ]
"""The single-scene dataparsers: a subcommand after the flags of the folder."""
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass
class SceneFolderDataParserConfig(MultiSceneDataParserConfig):
    """Sub-folders with one scene each, all in one format; the background is that format's flag, not this one's."""

    _target: Type = field(default_factory=lambda: SceneFolderDataParser)
    """Parser class to instantiate."""
    parser: SingleSceneParser = field(default_factory=lambda: LLFFDataParserConfig(ray_space="metric"))
    """Format of the scenes, with its flags. Its protocol says which views train and which test."""
    whole_pool: bool = True
    """Whether all views that the protocol may train on do, whatever the parser's --num-views is."""


class SceneFolderDataParser(MultiSceneDataParser):
    """Parser of a folder of scenes.

    The scenes of a split are those of the folder `train`, `val` or `test`, where there is one; else those that the
    file `train.lst`, ... names, where there is one; else all sub-folders, in every split.
    """

    config: SceneFolderDataParserConfig
    may_have_evaluation_masks = True
    splits_hold_scenes = False

    def _list_scenes(self, split: str) -> Iterator[SceneEntry]:
        data = Path(os.path.abspath(self.config.data))
        if not data.is_dir():
            raise FileNotFoundError(f"{data}: expected a folder of scenes (--data), found nothing; {MOVED_SCENE}")
        listed = data / f"{split}.lst"
        folder = data / split if (data / split).is_dir() else data
        if folder == data and listed.is_file():
            names = read_list(listed)
        elif folder == data and any((data / other).is_dir() for other in SPLITS):
            raise FileNotFoundError(f"{data / split}: expected the scenes of this split, found no such folder")
        else:
            with os.scandir(folder) as found:
                names = sorted(item.name for item in found if item.is_dir() and not item.name.startswith("."))
        for name in names:
            yield SceneEntry(name, "", folder / name, split)

    def _read_views(self, entry: SceneEntry) -> SceneViews:
        raise TypeError("scenes of a folder are read by their own parser; see open_scene")

    def _open(self, entry: SceneEntry) -> Scene:
        try:
            scene = scene_of_parser(self._parser_of(entry.folder), entry)
        except SceneError as error:
            # Its folders of photos and masks have been taken for scenes.
            raise SceneError(f"{error}{one_instead_of_many(self.config.data)}") from error
        near, far = self._near_far(scene.near, scene.far, entry.folder)
        size = self.config.image_size
        cameras = scene.cameras if size is None else resized_cameras(scene.cameras, size, scene.image_filenames[0])
        given = self.config.near is not None or self.config.far is not None
        planar = planar_of_distances(near, far, cameras) if given else scene.planar_range
        return replace(scene, cameras=cameras, near=near, far=far, planar_range=planar)

    def _parser_of(self, folder: Path) -> FewShotDataParser:
        config, own = self.config, self.config.parser
        # Two that are wrong may multiply to one that is not.
        check_at_least("--downscale-factor", 1, own.downscale_factor, config.downscale_factor)
        changes = {"data": folder, "downscale_factor": own.downscale_factor * config.downscale_factor}
        if config.whole_pool:
            changes["num_views"] = 0
        parser = replace(own, **changes).setup()
        parser.look_for_depths = False
        return parser


def scene_of_parser(parser: FewShotDataParser, entry: SceneEntry, told: bool = False) -> Scene:
    """The scene of a single-scene dataparser: the training and test views of its protocol, of which the former train.

    Args:
        parser: One of this package's.
        entry: Line of the table that the scene is opened for.
        told: Whether the parser says by itself what there is to say of its files, and its depth maps are for priors.

    Raises:
        SceneError: a file is missing or damaged, the protocol does not fit, or the scene is in NDC.
    """
    try:
        files, selection, cameras = parser.read_views()
    except (OSError, ValueError) as error:
        raise SceneError(str(error)) from error
    if files.geometry.ray_space != "metric":
        raise SceneError(
            f"{entry.folder}: expected a scene in world space, found NDC rays; give the parser --ray-space metric"
        )
    views, train = selection.views, set(selection.train)
    remarks = unread_of_scene(replace(files, depths=None) if told else files, views)
    if not told:
        folder = str(entry.folder)
        remarks.update((_NUMBER.sub("0", remark.replace(folder, "")), remark) for remark in files.remarks)
        remarks.update(_unread_flags(parser.config))
    (near, far), planar = world_ranges(cameras, files.geometry)
    return Scene(
        entry=entry,
        cameras=cameras,
        image_filenames=tuple(files.images[view] for view in views),
        near=near,
        far=far,
        planar_range=planar,
        background=files.geometry.background,
        world=SceneWorld(tuple(map(tuple, np.asarray(files.transform)[:3].tolist())), float(files.scale)),
        evaluation_masks=None
        if files.object_masks is None
        else EvaluationMasks(tuple(files.object_masks[view] for view in views), files.object_mask_level),
        pool=tuple(position for position, view in enumerate(views) if view in train),
        view_indices=views,
        remarks=remarks,
    )


def unread_of_scene(files: SceneFiles, views: Sequence[int]) -> Dict[str, str]:
    """What a scene has beside its photos that batches of many scenes do not hold, in those of its views that are used.

    Args:
        files: The scene.
        views: Indices of the views.

    Returns:
        Remarks by their kind.
    """
    found: Dict[str, str] = {}
    measured = set(files.object_masks or ())
    for kind, why, named in (
        ("depth maps", "methods of many scenes take none", files.depths),
        ("masks of pixels that may train", "methods of many scenes take whole photos", files.training_masks),
        ("masks off which photos are transparent", "methods of many scenes take photos as they are", files.alphas),
    ):
        there = [named[view] for view in views] if named is not None else []
        first = next((file for file in there if file is not None and file.is_file()), None)
        if first is not None:
            read = "serve masked metrics alone" if first in measured else "are not read"
            found[kind] = f"{first}: {kind} {read}; {why}"
    return found


def _unread_flags(config: FewShotDataParserConfig) -> Dict[str, str]:
    """Remarks about flags of the scenes' parser that name files which are of no use."""
    given = {"--depth-dir": config.depth_dir, "--training-mask-dir": config.training_mask_dir}
    why = "is without effect on a folder of scenes, whose photos train whole and without depth"
    return {flag: f"{flag} {folder}: {why}" for flag, folder in given.items() if folder is not None}


def resized_cameras(cameras: Cameras, size: Tuple[int, int], image: Path) -> Cameras:
    """The cameras for images of (height, width).

    Raises:
        ValueError: other proportions than those of the images, of which `image` is the one named.
    """
    height, width = size
    check_same_aspect(image, size, "--image-size")
    across, down = width / cameras.width, height / cameras.height
    return replace(
        cameras,
        fx=cameras.fx * across,
        cx=cameras.cx * across,
        fy=cameras.fy * down,
        cy=cameras.cy * down,
        width=torch.full_like(cameras.width, width),
        height=torch.full_like(cameras.height, height),
    )

"""What all few-shot dataparsers share: the flags, and the way from a scene's files to `DataparserOutputs`.

A format says what a scene consists of (`SceneFiles`) in one method; choosing views and sizes, checking files and
packing nerfstudio's cameras happens here, once.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, Literal, Optional, Sequence, Tuple, Type

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.utils.colors import get_color
from tyro.conf import Suppress

from fewshot_ns.cameras.lenses import straightened_cameras
from fewshot_ns.cameras.poses import in_one_place
from fewshot_ns.data.dataparsers.recognition import many_instead_of_one
from fewshot_ns.data.dataparsers.single.camera_checks import check_stated_sizes, checked_cameras
from fewshot_ns.data.dataparsers.single.depth_maps import (
    depth_maps_of_views,
    find_scene_depths,
    missing_depth_map,
)
from fewshot_ns.data.dataparsers.single.leakage import without_leakage
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.scene_words import straightened_words, tell_of_scene
from fewshot_ns.data.dataparsers.single.seed_points import SeedPoints
from fewshot_ns.data.datasets.camera_sized import camera_sized, has_metric_depth, sizes_of
from fewshot_ns.data.depth.maps import DepthNames, usual_names
from fewshot_ns.data.files.depth_formats import resolve_polarity
from fewshot_ns.data.files.images import downscaled_size, has_alpha, image_size
from fewshot_ns.data.files.masks import find_masks
from fewshot_ns.data.files.one_photo_once import check_one_name_each
from fewshot_ns.data.files.scene_folder import MOVED_SCENE, Files, check_same_aspect, chosen_files, existing_files
from fewshot_ns.data.records.metadata import (
    METADATA_KEY,
    SEED_COLOURS_KEY,
    SEED_POINTS_KEY,
    BoundsOrigin,
    DepthEncoding,
    FewShotMetadata,
    get_fewshot_metadata,
)
from fewshot_ns.data.views.selection import MIN_TRAIN_VIEWS, ViewSelection, select_views
from fewshot_ns.utils.number_flags import check_finite, check_length, check_positive


@dataclass
class FewShotDataParserConfig(DataParserConfig):
    """Flags of every few-shot dataparser."""

    _target: Type = field(default_factory=lambda: FewShotDataParser)
    """Parser class to instantiate."""
    data: Path = Path()
    """Folder of the scene."""
    downscale_factor: int = 1
    """By how much to divide both sides of the images as they are on disk (rounded down)."""
    num_views: Optional[int] = None
    """Number of training views, chosen by the published protocol of the dataset; 0 takes its whole training pool, the
    number of all views every one, so that none is held out. None: 3, or all that a prepared scene does not hold out."""
    train_indices: Optional[Tuple[int, ...]] = None
    """Training views by their index in the scene, instead of the protocol's."""
    test_indices: Optional[Tuple[int, ...]] = None
    """Test views by their index in the scene, instead of the protocol's; none: nothing is held out."""
    depth_dir: Optional[Path] = None
    """Folder of depth maps named like the images (or with depth_ before the name); None looks in the usual folders."""
    depth_polarity: Optional[Literal["inverse_depth", "distance"]] = None
    """inverse_depth: larger is nearer; distance: larger is farther (sensor depth, in millimetres or any unit). 16-bit
    PNG defaults to inverse_depth; .npy, .npz, .pfm and .exr have no default unless the layout says it."""
    depth_meaning: Optional[Literal["z_depth", "ray_distance"]] = None
    """z_depth: along the viewing axis; ray_distance: from the camera's centre. None takes what the depth folder's
    depth.json or the layout says, z_depth where neither does."""
    depth_unit: Optional[float] = None
    """Length of a stored unit in units of the scene's own files, e.g. 0.001 for millimetres in a scene in metres; None
    takes what the depth folder or the layout says. Only metric depth losses need it."""
    max_depth: Optional[float] = None
    """Depth above this is invalid; in units of the scene's own files where the unit of the maps is known, else in
    stored units."""
    training_mask_dir: Optional[Path] = None
    """Folder of masks named like the photos, in the scene or elsewhere: only where they are white a photo trains. None:
    those that the scene's files name, if any."""
    resize: Literal["bilinear", "area"] = "area"
    """How images are brought to the downscaled size: box average, or bilinear without smoothing."""
    near: Optional[float] = None
    """First ray parameter sampled; None takes the protocol's."""
    far: Optional[float] = None
    """Last ray parameter sampled; None takes the protocol's."""
    bounds_from_photos: Suppress[bool] = False
    """Whether near and far are those that training found in the photos; set and saved by the trainer."""
    background: Literal["black", "white"] = "black"
    """What lies behind the scene, and under transparent pixels."""
    straighten: Suppress[bool] = False
    """Whether photos of lenses that bend lines are straightened as they are read; set by the pipeline for backbones
    that render images, which know pinhole cameras alone."""
    recognised_by: Suppress[Optional[str]] = None
    """Why fewshot-data took this dataparser; None where it was named."""
    camera_sized_files: Suppress[bool] = False
    """Whether photos, masks and depth are handed over as files of the cameras' size, which the datasets of nerfstudio's
    own methods need; set where dataparsers are registered with it, taken back by methods that read them as they are."""


class FewShotDataParser(DataParser):
    """Base of the few-shot dataparsers.

    Args:
        config: The parser's flags.
    """

    config: FewShotDataParserConfig
    downscale_factor: Optional[int] = None
    """Set by nerfstudio in inference mode to keep parsers from opening images. Ours read only headers and keep the size
    that the run was trained with, so it has no effect."""
    least_views: int = MIN_TRAIN_VIEWS
    """Training views below which a scene is refused; 1 where a method looks at source views."""
    look_for_depths: bool = True
    """Set to False by tools that make depth maps, for which a scene with some of them is not incomplete."""

    @property
    def scene_name(self) -> str:
        """Name of the scene's folder, also where --data is '.' or a file in it."""
        folder = Path(os.path.abspath(self.config.data))
        return folder.parent.name if folder.is_file() else folder.name

    @abstractmethod
    def _read_scene(self) -> SceneFiles:
        """Reads the layout: poses, intrinsics, file lists and the rule that chooses views. Decodes no image."""

    def _select(self, scene: SceneFiles) -> ViewSelection:
        """Training and test views: those of the flags, else those of the scene's protocol.

        Raises:
            ValueError: the flags or the protocol do not fit the scene.
        """
        config = self.config
        listed = config.train_indices, config.test_indices
        return select_views(scene.protocol, config.num_views, *listed, str(config.data), self.least_views)

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        """The scene with what a format can only say once views are chosen; as it is unless a format overrides this."""
        return scene

    def _check_flags(self) -> None:
        """Checks the numbers among the flags, before a file is read.

        Raises:
            ValueError: one that nothing can be computed with.
        """
        config = self.config
        check_finite("--near", config.near)
        check_finite("--far", config.far)
        check_length("--depth-unit", config.depth_unit)
        check_positive("--max-depth", config.max_depth, finite=False)

    def _read_checked(self, also: Sequence[int] = ()) -> Tuple[SceneFiles, ViewSelection]:
        """The scene, whose cameras have been checked, and its chosen views.

        Args:
            also: Further views that are looked at.

        Raises:
            FileNotFoundError: a file of the scene is missing.
            ValueError: a flag that is no such number, a camera that casts no finite rays, an image of other
                proportions than its calibration, or a photo that both trains and is held out.
        """
        self._check_flags()
        try:
            scene = self._read_scene()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}{many_instead_of_one(self.config.data)}") from error
        selection = self._select(scene)
        check_stated_sizes(scene, selection.views, self.config.data)
        if scene.calibrated_sizes is not None:
            for index in (*selection.train, *selection.test):
                if scene.images[index].is_file():
                    height, width = scene.calibrated_sizes[index]
                    check_same_aspect(scene.images[index], (height, width), scene.calibration)
        check_one_name_each(scene.images, scene.list_lengths, self.config.data)
        scene = without_leakage(self._complete(scene, selection), selection, self.config.data)
        if self.config.training_mask_dir is not None:
            masks = self._masks_in(self.config.training_mask_dir, scene, selection.train)
            scene = replace(scene, training_masks=masks)
        used = {*selection.views, *selection.rendered, *(scene.validation or ()), *also}
        scene = checked_cameras(scene, used, self.config.data)
        if in_one_place(scene.camera_to_worlds):
            remark = (
                f"{self.config.data}: all {len(scene.images)} cameras are in one place, from where no depth can be told"
            )
            scene = replace(scene, remarks=(*scene.remarks, remark))
        return scene, selection

    def _masks_in(self, folder: Path, scene: SceneFiles, train: Sequence[int]) -> Files:
        """Masks of the training views in a folder that the user named.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: a mask whose name fits several of their photos.
        """
        data = self.config.data
        inside = (data.parent if data.is_file() else data) / folder
        found = next((path for path in (inside, folder) if path.is_dir()), None)
        if found is None:
            raise FileNotFoundError(f"{inside}: expected a folder of masks (--training-mask-dir), found none")
        # A path to look for is what the error about a missing one names.
        masks = find_masks(found, scene.photos, train)
        expected = [found / f"{image.stem}.png" for image in scene.images]
        return tuple(path if mask is None else mask for path, mask in zip(expected, masks, strict=True))

    def get_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        """What nerfstudio asks a parser for: photos, cameras and our record of a split.

        Args:
            split: 'train', 'val' or 'test'.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the flags or the protocol do not fit the scene.
        """
        outputs = super().get_dataparser_outputs(split, **kwargs)
        if not self.config.camera_sized_files:
            return outputs
        scene, selection, cameras = self.read_views()
        record = get_fewshot_metadata(outputs.metadata)
        if record.rendered_indices and record.test_indices:
            # nerfstudio's datasets know no camera without a photo.
            outputs = self.outputs_of_views(record.test_indices, split)
        train = outputs if split == "train" else self.outputs_of_views(selection.train, "train")
        files = (*(scene.images[view] for view in selection.views), *outputs.image_filenames)
        sizes = sizes_of(files, cameras, outputs.cameras)
        sizes = {path: size for path, size in sizes.items() if path.is_file()}
        return camera_sized(outputs, sizes, has_metric_depth(train))

    def outputs_of_views(self, views: Sequence[int], split: str) -> DataparserOutputs:
        """What `get_dataparser_outputs` says of a split, but of other views than the protocol's.

        Args:
            views: indices in the scene's list of images.
            split: 'train', 'val' or 'test', for the record.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the protocol does not fit the scene.
        """
        return self._generate_dataparser_outputs(split, tuple(views))

    def _generate_dataparser_outputs(
        self, split: str = "train", views: Optional[Tuple[int, ...]] = None, **kwargs
    ) -> DataparserOutputs:
        if not self.config.data.exists():
            raise FileNotFoundError(
                f"{self.config.data}: expected the folder of a scene (--data), found nothing; {MOVED_SCENE}"
            )
        scene, selection = self._read_checked(views or ())
        chosen = self._views_of(scene, selection, split) if views is None else views
        sizes = self._image_sizes(scene, sorted({*chosen, *selection.views} - set(selection.rendered)))
        rendered = tuple(index for index in chosen if index in selection.rendered)
        # Of a camera without a photo the size is not known but by those that have one.
        sizes.update(dict.fromkeys(rendered, sizes[selection.train[0]]))
        with_photo = next((index for index in chosen if index not in rendered), selection.train[0])
        points: Optional[SeedPoints] = None
        if split == "train" and views is None:
            points = scene.read_seed_points(selection.train)
        # Priors are for training views; others need not have one.
        own_split = split if views is None else "test"
        depths, encoding = self._depths_of(scene, chosen, own_split)
        lenses = scene.cameras(chosen, sizes)
        names = [str(scene.images[index]) for index in chosen]
        cameras = straightened_cameras(lenses, names) if self.config.straighten else lenses
        if split == "train" and views is None:
            straightened = "" if cameras is lenses else straightened_words(lenses, cameras)
            self._echo(scene, selection, sizes[selection.train[0]], points, straightened)
        wanted = self.look_for_depths and own_split == "train" and depths is None
        alphas = chosen_files(scene.alphas, chosen, "mask", "--masks", required=True)
        metadata = FewShotMetadata(
            geometry=scene.geometry,
            bounds_from=self._bounds_origin(scene),
            ray_space_from=scene.ray_space_from,
            protocol=selection.protocol,
            split=split,
            image_indices=chosen,
            train_indices=selection.train,
            test_indices=selection.test,
            rendered_indices=rendered,
            pool_indices=selection.pool,
            scene_camera_to_worlds=torch.from_numpy(scene.camera_to_worlds).float(),
            photos=tuple(scene.photos[index] for index in chosen),
            left_out=scene.left_out,
            equal_photos=scene.equal_photos,
            resize=self.config.resize,
            has_alpha=alphas is not None or has_alpha(scene.images[with_photo]),
            alpha_filenames=alphas,
            depth_prior_filenames=depths,
            depth_encoding=encoding,
            depth_prior_problem=missing_depth_map(scene, chosen) if wanted else None,
            normal_filenames=existing_files(scene.normals, chosen),
            normal_axes=scene.normal_axes,
            length_unit=float(scene.scale) if scene.in_metres else 1.0,
            pair_box=scene.pair_box,
            loss_weights=_picked(scene.loss_weights, chosen),
            scale_labels=_picked(scene.scale_labels, chosen),
            object_mask_filenames=chosen_files(
                scene.object_masks,
                chosen,
                "object mask",
                "--mask-dir",
                required=split != "train" and bool(selection.test),
            ),
            lenses=None if cameras is lenses else lenses,
            object_mask_level=scene.object_mask_level,
            scene_bounds=None if scene.bounds is None else torch.from_numpy(scene.bounds).float(),
            seed_points_source=None if points is None else points.source,
            seed_points_train_views=None
            if points is None or points.train_views is None
            else torch.from_numpy(points.train_views),
        )
        seeds: Dict[str, torch.Tensor] = {}
        if points is not None:
            seeds[SEED_POINTS_KEY] = torch.from_numpy(points.positions)
            seeds[SEED_COLOURS_KEY] = torch.from_numpy(points.colours)
        # Only photos that train are masked.
        flag = "mask_path" if self.config.training_mask_dir is None else "--training-mask-dir"
        training_masks = chosen_files(scene.training_masks, chosen, "mask", flag, required=own_split == "train")
        return DataparserOutputs(
            image_filenames=[scene.images[index] for index in chosen],
            cameras=cameras,
            alpha_color=get_color(scene.geometry.background),
            scene_box=SceneBox(aabb=scene.box * torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
            mask_filenames=None if training_masks is None else list(training_masks),
            metadata={METADATA_KEY: metadata, **seeds},
            dataparser_transform=torch.from_numpy(np.asarray(scene.transform)).float(),
            dataparser_scale=float(scene.scale),
        )

    def read_views(self) -> Tuple[SceneFiles, ViewSelection, Cameras]:
        """The scene without its split: what a dataset of many scenes is made of.

        Returns:
            The scene, its training and test views, and the cameras of both in the order of `ViewSelection.views`.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the protocol does not fit the scene.
        """
        if not self.config.data.exists():
            raise FileNotFoundError(f"{self.config.data}: expected the folder of a scene, found nothing; {MOVED_SCENE}")
        scene, selection = self._read_checked()
        views = selection.views
        return scene, selection, scene.cameras(views, self._image_sizes(scene, views))

    def _views_of(self, scene: SceneFiles, selection: ViewSelection, split: str) -> Tuple[int, ...]:
        if split == "train":
            return selection.train
        if split == "val" and scene.validation is not None:
            return scene.validation
        if split in ("val", "test"):
            # With nothing held out nerfstudio's viewer and renderers still want the cameras of some split.
            return (*selection.test, *selection.rendered) or selection.train
        raise ValueError(f"unknown split {split!r}; expected 'train', 'val' or 'test'")

    def _image_sizes(self, scene: SceneFiles, views: Sequence[int]) -> Dict[int, Tuple[int, int]]:
        """Sizes (height, width) of the cameras of views; also checks that their files are there."""
        sizes = {}
        for index in views:
            path = scene.images[index]
            if not path.is_file():
                raise FileNotFoundError(f"{path}: expected the photo of view {index}, found no such file")
            sizes[index] = downscaled_size(image_size(path), self.config.downscale_factor, path)
        return sizes

    def _depths_of(
        self, scene: SceneFiles, chosen: Sequence[int], split: str
    ) -> Tuple[Optional[Tuple[Path, ...]], DepthEncoding]:
        if not self.look_for_depths:
            return None, DepthEncoding()
        config = self.config
        stated = {
            "polarity": config.depth_polarity,
            "meaning": config.depth_meaning,
            "unit": config.depth_unit,
            "max_depth": config.max_depth,
        }
        # Of maps that were found on the way some may be missing, which stops only what reads them.
        required = split == "train" and config.depth_dir is not None
        files, encoding = depth_maps_of_views(scene, chosen, stated, required)
        if files is not None and config.depth_dir is not None:
            # Maps that the user asked for are checked here; those found on the way only when a method reads them.
            for path in files:
                resolve_polarity(path, encoding.polarity)
        return files, encoding

    def _echo(
        self,
        scene: SceneFiles,
        selection: ViewSelection,
        size: Tuple[int, int],
        points: Optional[SeedPoints],
        straightened: str,
    ) -> None:
        """Says what was decided; formats that left something out add to it."""
        origin = self._bounds_origin(scene)
        tell_of_scene(self.scene_name, self.config.data, scene, selection, size, points, straightened, origin)

    def _bounds_origin(self, scene: SceneFiles) -> BoundsOrigin:
        """Where near and far come from."""
        if self.config.near is not None or self.config.far is not None:
            return "photos" if self.config.bounds_from_photos else "flags"
        return "cameras" if scene.bounds_guessed else "scene"

    def _near_far(self, near: float, far: float) -> Tuple[float, float]:
        """The layout's near and far, unless the user gave others.

        Raises:
            ValueError: not 0 <= near < far.
        """
        near = near if self.config.near is None else self.config.near
        far = far if self.config.far is None else self.config.far
        # How far they may reach is checked with the cameras: a layout may say it later, by its depth maps.
        if not 0 <= near < far:
            raise ValueError(
                f"{self.config.data}: expected 0 <= near < far, got near {near} and far {far} (--near, --far)"
            )
        return near, far

    def _find_depths(
        self,
        folders: Sequence[Path],
        images: Tuple[Path, ...],
        names: DepthNames = usual_names,
        eight_bit: bool = False,
    ) -> Optional[Files]:
        """Depth maps of all views: from --depth-dir or the folder below it, else from the first usual folder with any;
        by the path of each image below the folder of all, or by its bare name where it is the only one of it.

        Args:
            folders: Usual folders, in order.
            images: All images of the scene.
            names: Names that the layout gives the maps, from the stem of an image.
            eight_bit: Whether the layout may hold depth in 8 bits.

        Raises:
            FileNotFoundError: --depth-dir was given and holds no prior of this scene.
            ValueError: --depth-dir holds a prior that may be of several images.
        """
        return find_scene_depths(self.config.depth_dir, self.scene_name, folders, images, names, eight_bit)


def _picked(values: Optional[npt.NDArray], chosen: Sequence[int]) -> Optional[Tuple]:
    return None if values is None else tuple(values[list(chosen)].tolist())

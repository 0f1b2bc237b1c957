"""What all dataparsers of many scenes share: the table, the way from a scene's files to its cameras, the active scene.

A format only says what is listed (`_list_scenes`) and what a scene consists of (`_read_views`). nerfstudio,
which knows one scene per run, is served the active one.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Literal, Optional, Tuple, Type

from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from tyro.conf import Suppress

from fewshot_ns.cameras.checks import check_cameras, check_places, check_range, check_steps
from fewshot_ns.cameras.depth_ranges import distances_of_planar, planar_of_distances
from fewshot_ns.data.dataparsers.multi.scene_remarks import SceneRemarks
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews, check_views, pack_cameras, scene_outputs
from fewshot_ns.data.dataparsers.recognition import one_instead_of_many
from fewshot_ns.data.datasets.camera_sized import camera_sized, sizes_of
from fewshot_ns.data.records.scene import Scene, SceneEntry, SceneError
from fewshot_ns.utils.number_flags import check_at_least, check_finite

SPLITS = ("train", "val", "test")


@dataclass
class MultiSceneDataParserConfig(DataParserConfig):
    """Flags of every dataparser of many scenes."""

    _target: Type = field(default_factory=lambda: MultiSceneDataParser)
    """Parser class to instantiate."""
    data: Path = Path()
    """Folder of the dataset."""
    scene: Optional[str] = None
    """Scene that the viewer, ns-render and single-scene training see, by its name in the table, which may be of another
    split; None: the first of the split."""
    categories: Optional[Tuple[str, ...]] = None
    """Only scenes of these categories; None: all."""
    image_size: Optional[Tuple[int, int]] = None
    """Height and width that images are brought to; None: as they are on disk."""
    downscale_factor: int = 1
    """By how much to divide both sides of that size (rounded down)."""
    near: Optional[float] = None
    """First distance along a ray that is sampled (mvsnet-dtu-data: planar depth), world units; None takes the
    format's."""
    far: Optional[float] = None
    """Last distance along a ray that is sampled (mvsnet-dtu-data: planar depth), world units; None takes the
    format's."""
    background: Literal["black", "white"] = "white"
    """What lies behind the scenes, and under transparent pixels."""
    integer_pixels: bool = True
    """Whether image coordinates in the camera files count from the centre of the first pixel, as pixelNeRF reads them;
    False: from its corner. The two are half a pixel apart."""
    train_indices: Optional[Tuple[int, ...]] = None
    """Views of the active scene that train, where a method is trained on it alone; None: all."""
    test_indices: Optional[Tuple[int, ...]] = None
    """Views of the active scene that test; None: all others, or all where all train."""
    recognised_by: Suppress[Optional[str]] = None
    """Why fewshot-data took this dataparser; None where it was named."""
    camera_sized_files: Suppress[bool] = False
    """Whether photos, masks and depth are handed over as files of the cameras' size, which the datasets of nerfstudio's
    own methods need; set where dataparsers are registered with it, taken back by methods that read them as they are."""


class MultiSceneDataParser(DataParser):
    """Base of the dataparsers of many scenes.

    `scene_table` lists without opening anything, `open_scene` reads the cameras of one scene, and
    `get_dataparser_outputs` gives nerfstudio the active scene.

    Args:
        config: The parser's flags.
    """

    config: MultiSceneDataParserConfig
    downscale_factor: Optional[int] = None
    """Set by nerfstudio in inference mode to keep parsers from opening images; has no effect here."""
    may_have_evaluation_masks: bool = False
    """Whether scenes of the format may have `EvaluationMasks`; rows of metrics from before there were such are measured
    anew."""
    splits_hold_scenes: bool = True
    """Whether a scene is of one split; False: every split has all scenes, and views of its own."""
    min_views: int = 2
    """A scene with fewer views has nothing to render from its source view."""

    def __init__(self, config: MultiSceneDataParserConfig) -> None:
        super().__init__(config)
        self._tables: Dict[str, Tuple[SceneEntry, ...]] = {}
        self._remarks = SceneRemarks()

    @property
    def scene_name(self) -> str:
        """Name of the active scene."""
        return self.active_entry("train").scene_id

    @abstractmethod
    def _list_scenes(self, split: str) -> Iterable[SceneEntry]:
        """Scenes of a split, by list files and names of folders alone."""

    @abstractmethod
    def _read_views(self, entry: SceneEntry) -> SceneViews:
        """Reads a scene's cameras and names its files. Errors are FileNotFoundError or ValueError."""

    def scene_table(self, split: str) -> Tuple[SceneEntry, ...]:
        """All scenes of a split ('train', 'val' or 'test'), of the chosen categories; read once and kept.

        Raises:
            FileNotFoundError: no such dataset, or its list of scenes is missing.
            ValueError: an unknown split or category, or no scene.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected {', '.join(SPLITS)}")
        if split not in self._tables:
            try:
                entries = tuple(self._list_scenes(split))
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{error}{one_instead_of_many(self.config.data)}") from error
            self._tables[split] = self._chosen_categories(entries, split)
        return self._tables[split]

    def _chosen_categories(self, entries: Tuple[SceneEntry, ...], split: str) -> Tuple[SceneEntry, ...]:
        wanted, found = self.config.categories, sorted({entry.category for entry in entries} - {""})
        if wanted is not None:
            unknown = sorted(set(wanted) - set(found))
            if unknown:
                raise ValueError(f"{self.config.data}: expected categories among {found}, got {unknown} (--categories)")
            entries = tuple(entry for entry in entries if entry.category in wanted)
        if not entries:
            one = one_instead_of_many(self.config.data)
            raise ValueError(f"{self.config.data}: expected scenes of the split {split!r}, found none{one}")
        return entries

    def find_scene(self, scene_id: str, split: str) -> SceneEntry:
        """The entry of a scene by its name: of this split, or else of another one that has it.

        Raises:
            ValueError: no split has it; the message names similar ones.
        """
        known: List[str] = []
        for name in (split, *(other for other in SPLITS if other != split)):
            try:
                table = self.scene_table(name)
            except (FileNotFoundError, ValueError):
                if name == split:
                    raise
                continue
            for entry in table:
                if entry.scene_id == scene_id:
                    return entry
            known.extend(entry.scene_id for entry in table)
        close = difflib.get_close_matches(scene_id, known, n=3, cutoff=0.3) or known[:3]
        raise ValueError(
            f"{self.config.data}: expected the name of a scene, such as {', '.join(close)}; got {scene_id!r}"
        )

    def active_entry(self, split: str) -> SceneEntry:
        """The scene of `--scene`, or the first of the split.

        Raises:
            FileNotFoundError: see `scene_table`.
            ValueError: no such scene.
        """
        if self.config.scene is None:
            return self.scene_table(split)[0]
        return self.find_scene(self.config.scene, split)

    def open_scene(self, entry: SceneEntry) -> Scene:
        """Reads the cameras of a scene and the header of its first image.

        Raises:
            SceneError: a file is missing or damaged, a camera casts no finite rays, or there are too few views.
            ValueError: a flag is no number that anything can be computed with.
        """
        self._check_flags()
        try:
            scene = self._open(entry)
        except SceneError:
            raise
        except (OSError, ValueError) as error:
            raise SceneError(str(error)) from error
        if len(scene.image_filenames) < self.min_views:
            raise SceneError(
                f"{entry.folder}: expected at least {self.min_views} views, found {len(scene.image_filenames)}"
            )
        self._remarks.tell(scene)
        return scene

    def _open(self, entry: SceneEntry) -> Scene:
        views, config = self._read_views(entry), self.config
        check_views(views, entry.folder)
        names = [image.name for image in views.images]
        check_places(views.camera_to_worlds, names, str(entry.folder))
        bounds = self._near_far(views.near, views.far, entry.folder)
        cameras = pack_cameras(views, config.image_size, config.downscale_factor, config.integer_pixels)
        check_cameras(cameras, names, str(entry.folder))
        near, far = distances_of_planar(*bounds, cameras) if views.planar else bounds
        check_range(near, far, str(entry.folder))
        check_steps(views.camera_to_worlds, names, str(entry.folder), far - near)
        return Scene(
            entry=entry,
            cameras=cameras,
            image_filenames=views.images,
            near=near,
            far=far,
            planar_range=bounds if views.planar else planar_of_distances(near, far, cameras),
            background=config.background,
            mask_filenames=views.masks,
            mask_from_background=views.mask_from_background,
            world=views.world,
            evaluation_masks=views.evaluation_masks,
            depth_filenames=views.depths,
            pool=views.pool,
            targets=views.targets,
            neighbours=views.neighbours,
            view_indices=views.view_indices,
            remarks=views.remarks,
        )

    def _check_flags(self) -> None:
        """Checks the numbers among the flags, before a scene is read.

        Raises:
            ValueError: one that nothing can be computed with.
        """
        config = self.config
        check_at_least("--image-size", 2, *(config.image_size or ()))
        check_finite("--near", config.near)
        check_finite("--far", config.far)

    def _near_far(self, near: float, far: float, folder: Path) -> Tuple[float, float]:
        """The format's near and far of the scene in a folder with the user's in their place."""
        near = near if self.config.near is None else self.config.near
        far = far if self.config.far is None else self.config.far
        check_range(near, far, str(folder))
        return near, far

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        scene = self.open_scene(self.active_entry(split))
        outputs = self.outputs_of(scene, split)
        if not self.config.camera_sized_files:
            return outputs
        return camera_sized(outputs, sizes_of(scene.image_filenames, scene.cameras), depth_trains=False)

    def outputs_of(self, scene: Scene, split: str) -> DataparserOutputs:
        """An opened scene as nerfstudio sees it: the views of `split` that train or test.

        Raises:
            ValueError: --train-indices or --test-indices out of range.
        """
        train, test = self._views_of(scene)
        chosen = train if split == "train" else test
        return scene_outputs(scene, chosen, split, train, test)

    def _views_of(self, scene: Scene) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
        """View indices of the training and the test views of a scene."""
        count, config = len(scene.image_filenames), self.config
        for name, given in (("--train-indices", config.train_indices), ("--test-indices", config.test_indices)):
            outside = [index for index in given or () if not 0 <= index < count]
            if outside or given == ():
                raise ValueError(
                    f"{scene.entry.scene_id}: {name} must lie in 0..{count - 1} ({count} views), got {given}"
                )
        everything = tuple(range(count))
        train = config.train_indices or scene.pool or everything
        rest = tuple(index for index in everything if index not in set(train))
        return train, config.test_indices or scene.targets or rest or everything

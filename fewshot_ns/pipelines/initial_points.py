"""Points that a model of Gaussians starts from: where they come from, by choice, and how the model gets them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, Optional

import torch
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.metric import MetricDepth
from fewshot_ns.data.files.colmap import find_points_file, read_colmap
from fewshot_ns.data.records.metadata import SEED_COLOURS_KEY, SEED_POINTS_KEY
from fewshot_ns.data.seeds.cloud import ALL_VIEWS, SeedCloud
from fewshot_ns.data.seeds.colmap import colmap_cloud
from fewshot_ns.data.seeds.depth import Unconfirmed, depth_cloud
from fewshot_ns.data.seeds.frusta import frusta_cloud
from fewshot_ns.data.seeds.views import training_depths, training_views
from fewshot_ns.data.stereo.estimate import StereoConfig, StereoError
from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
from fewshot_ns.models.fewshot_model import FewShotModel
from fewshot_ns.pretrained.multiview_depth import MultiViewDepthConfig
from fewshot_ns.pretrained.weights import ways_out
from fewshot_ns.priors.depth.photo_depths import PhotoDepths, photo_depths
from fewshot_ns.priors.depth.sources import fields_as_flags, unfit_files
from fewshot_ns.utils.configs import SavedConfig

InitialSource = Literal["auto", "files", "stereo", "mvs", "colmap", "random"]
FEW_POINTS, FEW_PIXELS = 100, 0.01
"""Points, and share of pixels with a depth, below which photos say too little of a scene to start from."""
_EMPTY_FILES = "the scene's depth maps have no depth where the photos train"


@dataclass
class InitialPointsConfig(SavedConfig):
    """Points that Gaussians start from; made from the training views alone."""

    source: InitialSource = "auto"
    """files: the scene's own depth maps, of known scale; stereo, mvs: depth that the training photos give of each
    other, mvs by a network; colmap: tracks of the training views, triangulated anew; random: anywhere the cameras look;
    auto: files where the scene has such, else stereo, else random, which the log says."""
    stride: int = 1
    """Every how many rows and columns of the training photos a pixel with a depth is a point."""
    unconfirmed: Unconfirmed = "leave"
    """What becomes of pixels whose depth nothing confirms: leave: no point; fill: the median of the depths around."""
    thin: bool = True
    """Whether a surface that several photos show becomes points once, from the first of them, not once per photo."""
    num_random: int = 10_000
    """Points of source random."""
    max_points: Optional[int] = None
    """Most points; of more, so many are drawn. None: all."""
    allow_all_views: bool = False
    """Whether source colmap may take points that all photos have made, also those held out for testing, where the files
    do not say what the training views have seen. The run and its results then say so."""
    colmap_dir: Optional[Path] = None
    """Folder of points3D.bin or .txt, of source colmap; None: the usual folders of the scene."""
    stereo: StereoConfig = field(default_factory=lambda: StereoConfig(doubling_cost=0.45))
    """How photos are matched: source stereo. Unlike the depth prior's, its standard deviations count what matched badly
    as such, so that such points give way to better ones."""
    mvs: MultiViewDepthConfig = field(default_factory=MultiViewDepthConfig)
    """The network of source mvs."""
    flat_regions: FlatRegionConfig = field(default_factory=FlatRegionConfig)
    """Planes for what has one colour, where stereo and mvs confirm nothing."""
    cache_dir: Optional[Path] = None
    """Folder of depth maps from photos, which the depth prior shares. None: FEWSHOT_CACHE, else the user's cache."""


class ModelWithPoints:
    """In the place of a model's config, as nerfstudio's pipeline builds it: the model gets `initial_points` too.

    Args:
        config: of the model.
        points: called once the data is there.
    """

    def __init__(self, config: ModelConfig, points: Callable[[], Optional[SeedCloud]]) -> None:
        self.config, self.points = config, points

    def setup(self, **kwargs: Any) -> Model:
        """Builds the model."""
        return self.config.setup(**kwargs, initial_points=self.points())


def wants_initial_points(config: ModelConfig) -> bool:
    """Whether the class of a model's config starts from points."""
    built = config._target
    return isinstance(built, type) and issubclass(built, FewShotModel) and built.wants_initial_points


def make_initial_points(
    config: InitialPointsConfig, dataset: FewShotDataset, scene: Path, flag: str, seed: int
) -> SeedCloud:
    """Points to start from, and a line in the log that says from where.

    Args:
        config: what was asked for.
        dataset: training views.
        scene: folder or file of the scene.
        flag: how the flags of `config` begin.
        seed: of random draws.

    Raises:
        FileNotFoundError: a file is missing.
        WeightsNotFoundError: the network of source mvs is not found.
        ValueError: the source gives no points; the message names the ways out.
    """
    for name, value in (
        ("max-points", config.max_points),
        ("stride", config.stride),
        ("num-random", config.num_random),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{flag}.{name}: expected at least 1, got {value}")
    cloud = _Maker(config, dataset, scene, flag, seed).cloud()
    if config.max_points is not None:
        cloud = cloud.at_most(config.max_points, seed)
    CONSOLE.print(f"initial points: {cloud.source}, {cloud.confirmed_share:.0%} measured", soft_wrap=True)
    return cloud


class _Maker:
    """One attempt; see `make_initial_points`."""

    def __init__(self, config: InitialPointsConfig, dataset: FewShotDataset, scene: Path, flag: str, seed: int) -> None:
        self.config, self.dataset, self.scene, self.flag, self.seed = config, dataset, scene, flag, seed

    def cloud(self) -> SeedCloud:
        """By the configured source."""
        source = self.config.source
        if source == "auto":
            return self._auto()
        if source == "files":
            unfit = unfit_files(self.dataset.fewshot, metric=True)
            if unfit:
                raise ValueError(f"{self.flag}.source files: {unfit}. Ways out: {self._ways('files')}")
            cloud = self._of_files()
            if len(cloud) == 0:
                raise ValueError(f"{self.flag}.source files: {_EMPTY_FILES}. Ways out: {self._ways('files')}")
            return cloud
        if source == "colmap":
            return self._of_colmap()
        if source == "random":
            return self._random()
        try:
            cloud, depths = self._of_photos(source)
        except StereoError as error:
            raise ValueError(
                f"{self.flag}.source {source}: {error}. Ways out: {self._ways('stereo', 'mvs')}"
            ) from error
        if len(cloud) == 0:
            raise ValueError(
                f"{self.flag}.source {source}: found no depth in the photos of {self.scene}, the poses may be wrong or "
                f"the views do not overlap. Ways out: {self._ways('stereo', 'mvs')}"
            )
        problem = _too_few(cloud, depths)
        if problem:
            CONSOLE.print(f"[bold yellow]{self.flag}.source {source}: {problem}[/bold yellow]", soft_wrap=True)
        return cloud

    def _auto(self) -> SeedCloud:
        unfit = unfit_files(self.dataset.fewshot, metric=True)
        if not unfit:
            cloud = self._of_files()
            if len(cloud) > 0:
                return cloud
            unfit = _EMPTY_FILES
        try:
            cloud, depths = self._of_photos("stereo")
            problem = _too_few(cloud, depths)
        except StereoError as error:
            cloud, problem = None, str(error)
        if cloud is not None and not problem:
            CONSOLE.print(f"{self.flag}: {unfit}, so the photos' own depth is taken", soft_wrap=True)
            return cloud
        CONSOLE.print(
            f"[bold yellow]{self.flag}: {unfit}, and the photos say too little of it: {problem}. Points are drawn at "
            "random where the cameras look.[/bold yellow]",
            soft_wrap=True,
        )
        return self._random()

    def _of_files(self) -> SeedCloud:
        return self._of_maps("files", [self.dataset.metric_depth(view) for view in range(len(self.dataset))])

    def _of_photos(self, source: Literal["stereo", "mvs"]) -> tuple[SeedCloud, PhotoDepths]:
        config = self.config
        matching = config.mvs if source == "mvs" else config.stereo
        weights = f"{self.flag}.mvs.weights"
        with fields_as_flags(self.flag), ways_out(self._ways("mvs")):
            depths = photo_depths(self.dataset, matching, weights, config.cache_dir, config.flat_regions)
        # Read from the files, so that the depth prior keeps the maps that it has.
        dataset = self.dataset
        maps = [dataset.metric_depth_of(view, path, depths.encoding) for view, path in enumerate(depths.files)]
        return self._of_maps(source, maps), depths

    def _of_maps(self, kind: str, maps: List[MetricDepth]) -> SeedCloud:
        views = training_views(self.dataset)
        depths = training_depths(self.dataset, views, maps)
        config = self.config
        return depth_cloud(kind, views, depths, config.stride, config.unconfirmed, config.thin)

    def _random(self) -> SeedCloud:
        return frusta_cloud(training_views(self.dataset), self.config.num_random, self.seed)

    def _of_colmap(self) -> SeedCloud:
        folder = self.scene.parent if self.scene.is_file() else self.scene
        path = find_points_file(folder, self.config.colmap_dir)
        if path is not None:
            cloud = colmap_cloud(read_colmap(path), self.dataset.as_photographed())
            if cloud is not None and len(cloud) > 0:
                return cloud
            if cloud is not None:
                raise ValueError(
                    f"{path}: expected points that at least two training views have seen under different angles, found "
                    f"none that agree with the scene's cameras. Ways out: {self._ways('colmap')}"
                )
        metadata, named = self.dataset.metadata, self.config.colmap_dir
        if named is not None and path is None:
            raise ValueError(
                f"{named}: expected COLMAP's points3D.bin or points3D.txt ({self.flag}.colmap-dir), found neither"
            )
        if SEED_POINTS_KEY not in metadata:
            what = f"{folder if path is None else path}: expected COLMAP's points3D with images and cameras beside it"
            raise ValueError(f"{what} ({self.flag}.colmap-dir), found none. Ways out: {self._ways('colmap')}")
        if not self.config.allow_all_views:
            raise ValueError(
                f"{self.dataset.fewshot.seed_points_source}: expected a record of what the training views have seen of "
                f"the points (images.bin beside them), found none; they were {ALL_VIEWS}. Ways out: "
                f"{self.flag}.allow-all-views True, which results then say, or {self._ways('colmap')}"
            )
        return self._of_all_views(metadata[SEED_POINTS_KEY], metadata[SEED_COLOURS_KEY])

    def _of_all_views(self, positions: torch.Tensor, colours: torch.Tensor) -> SeedCloud:
        """The scene's cloud as it is; sizes are those of pixels of the training view that sees a point best."""
        positions, radii = positions.float().cpu(), torch.full((len(positions),), torch.inf)
        nearest = torch.full((len(positions),), -1)
        for index, view in enumerate(training_views(self.dataset)):
            place, z_depth = view.project(positions)
            size = torch.where(view.contains(place), z_depth / view.intrinsics[:2].mean(), torch.inf)
            nearest[size < radii], radii = index, radii.minimum(size)
        # What no training view shows has no pixel of its own.
        known = radii.isfinite()
        radii[~known] = radii[known].median() if known.any() else 1.0
        confirmed = torch.ones(len(positions), dtype=torch.bool)
        return SeedCloud(positions, colours.float().cpu() / 255.0, radii, nearest, confirmed, "colmap", ())

    def _ways(self, *leave_out: str) -> str:
        ways = {
            "stereo": "the photos' own depth",
            "mvs": "the same by a network",
            "random": "points anywhere the cameras look",
        }
        return ", ".join(f"{self.flag}.source {name} ({way})" for name, way in ways.items() if name not in leave_out)


def _too_few(cloud: SeedCloud, depths: PhotoDepths) -> str:
    """Why a cloud from photos is not enough to start from, in words; empty where it is."""
    share = sum(depths.valid) / len(depths.valid)
    if len(cloud) >= FEW_POINTS and share >= FEW_PIXELS:
        return ""
    return f"{len(cloud)} points, {share:.1%} of the pixels have a depth ({depths.shares()})"


def timed(make: Callable[[], SeedCloud]) -> tuple[SeedCloud, Dict[str, Any]]:
    """Points and their record, with the CPU seconds that they took."""
    begin = time.process_time()
    cloud = make()
    return cloud, {**cloud.record(), "cpu_seconds": round(time.process_time() - begin, 2)}

"""The datamanager of generalizable methods: batches of many scenes, and one active scene for nerfstudio."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Tuple, Type, Union

import torch
import torch.distributed as dist
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape
from tyro.conf import Suppress

from fewshot_ns.data.datamanagers.own_parsers import OwnParsers
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParser
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.true_depth import KNOWN_DEPTH_KEY, known_depth
from fewshot_ns.data.multiscene.active import ActiveScene, SceneViewSelector, active_outputs, first_usable_scene
from fewshot_ns.data.multiscene.batches import BatchOptions, RayCount, SceneBatches
from fewshot_ns.data.multiscene.library import BadScenePolicy, BadScenes, SceneLibrary
from fewshot_ns.data.multiscene.order import SceneOrder, step_generator
from fewshot_ns.data.multiscene.overlap import overlap_words, scenes_in_both
from fewshot_ns.data.multiscene.source_provider import SOURCE_PROVIDER_KEY, TARGET_VIEW_KEY, SourceProvider
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.data.views.sources import SourceViews, SourceViewsConfig, TargetViewsConfig
from fewshot_ns.utils.ranks import shared_seed


@dataclass
class MultiSceneDataManagerConfig(OwnParsers, VanillaDataManagerConfig):
    """Scenes of a step, their source views and rays; and what of the data is evaluated and shown."""

    _target: Type = field(default_factory=lambda: MultiSceneDataManager)
    """Class that the config builds."""
    scenes: Optional[Tuple[str, ...]] = None
    """Only these scenes, by name, train, are evaluated and shown; None: all of the split. One alone: fine-tuning."""
    scenes_per_batch: int = 4
    """Scenes of a training step (of each process)."""
    num_sources: Tuple[int, ...] = (1,)
    """Source views that training draws for each scene; of several numbers, each step draws one."""
    train_source_mode: Literal["random", "nearby", "pairs"] = "random"
    """Where training draws them from. random: all views that may train, the target itself included; nearby: the views
    nearest to the target; pairs: the first of the dataset's own list for the target (MVSNet-DTU). The last two need
    target_views 1."""
    train_source_among: int = 5
    """Of nearby and pairs: how many views are drawn from."""
    rays_per_scene: int = 128
    """Rays of each scene of a training step, from any of its views, the source views included."""
    target_views: Optional[int] = None
    """Views that a scene's rays of a step come from; None: all that may train. With fewer, fewer images are decoded."""
    train_on_sources_only: bool = False
    """Whether training sees only the views of --pipeline.datamanager.sources, or those of its pool: fine-tuning on few
    views of a scene."""
    no_box_step: int = 100000
    """Step until which rays come from the boxes around objects, in formats that have some; 0: from whole images at
    once."""
    colour_jitter: float = 0.0
    """Random change of hue, saturation, brightness and contrast, one draw for all images of a scene; 0: none.
    pixelNeRF's on DTU is 0.1."""
    sources: SourceViewsConfig = field(default_factory=SourceViewsConfig)
    """Source views at evaluation, in the viewer and for renders."""
    targets: TargetViewsConfig = field(default_factory=TargetViewsConfig)
    """Views that are evaluated."""
    on_bad_scene: BadScenePolicy = "stop"
    """What a scene that cannot be used (a broken camera, an unreadable image, too few views) does to the run: it ends
    with an error, or the scene is named, counted, listed in bad_scenes.json and left out."""
    image_cache_mb: int = 2048
    """Decoded images that are kept in memory, MB."""
    max_open_scenes: int = 1024
    """Scenes whose cameras are kept in memory."""
    data_seed: Optional[int] = None
    """Seed of scenes, source views and pixels; None: that of the machine."""
    train_num_rays_per_batch: Suppress[int] = 0
    """Unused: `rays_per_scene` takes its place."""


class MultiSceneDataManager(VanillaDataManager[FewShotDataset]):
    """Rays of several scenes with the source views of each.

    For nerfstudio, which knows one scene per run, `train_dataset` holds the source views of the active scene and
    `eval_dataset` the views that are evaluated. Only training opens other scenes. The model finds the source views of
    single cameras by `provider`, which it gets with the metadata of `train_dataset`.
    """

    config: MultiSceneDataManagerConfig
    batches: Optional[SceneBatches] = None
    eval_batches: Optional[SceneBatches] = None

    def __init__(
        self,
        config: MultiSceneDataManagerConfig,
        device: Union[torch.device, str] = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        # nerfstudio's constructor would open the first training scene, whatever is active.
        self.config, self.device, self.test_mode = config, device, test_mode
        self.local_rank, self.world_size, self.rank = local_rank, world_size, local_rank
        if dist.is_available() and dist.is_initialized():
            # Local ranks repeat on every machine.
            self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.sampler = None
        self.test_split = "test" if test_mode in ("test", "inference") else "val"
        if config.data is None:
            config.data = config.dataparser.data
        config.dataparser.data = Path(config.data)
        self.dataparser_config = config.dataparser
        self.dataparser = config.dataparser.setup()
        self.includes_time = False
        self.library = SceneLibrary(
            self.dataparser, config.scenes, config.image_cache_mb * 1024**2, config.max_open_scenes
        )
        selector = SceneViewSelector(self.library, config.sources, config.targets)
        if config.train_on_sources_only and selector.source_views.depends_on_target and not config.sources.pool:
            raise ValueError(
                "--pipeline.datamanager.train-on-sources-only: expected the same source views for all targets, or "
                "views that they are chosen from (--pipeline.datamanager.sources.pool), found "
                f"--pipeline.datamanager.sources.mode {config.sources.mode} without"
            )
        self.bad_scenes = BadScenes(config.on_bad_scene)
        self.seed = shared_seed() if config.data_seed is None else config.data_seed
        self.exclude_batch_keys_from_device = list(FewShotDataset.exclude_batch_keys_from_device)
        active = first_usable_scene(selector, self.test_split, self.bad_scenes)
        self.provider = SourceProvider(selector, active)
        self._build_datasets()
        super(VanillaDataManager, self).__init__()

    def eval_table(self, test_while_training: bool = False) -> Tuple[SceneEntry, ...]:
        """Scenes that are evaluated: of the test split, while training of the validation split or, where the dataset
        has none, of the training split.

        Args:
            test_while_training: whether it is the test split while training, too, where the dataset has one.
        """
        if self.test_split == "test":
            return self.library.table("test")
        if test_while_training:
            return self.library.first_table("test", "val", "train")
        return self.library.first_table("val", "train")

    def trained_and_tested(self) -> Tuple[str, ...]:
        """Names of the scenes that both train and test; none where scenes were named, or are split by their views."""
        parser = self.library.parser
        if not isinstance(parser, MultiSceneDataParser) or self.library.chosen is not None:
            return ()
        if not parser.splits_hold_scenes:
            return ()
        try:
            return scenes_in_both(self.library.table("train"), self.library.table("test"))
        except (FileNotFoundError, ValueError):
            return ()

    def choose_sources(self, sources: SourceViewsConfig) -> None:
        """From now on these are the source views.

        Raises:
            FileNotFoundError: a list of source views is missing.
            ValueError: what their mode needs is missing.
        """
        self.config.sources = sources
        self.provider.selector = SceneViewSelector(self.library, sources, self.config.targets)

    @property
    def selector(self) -> SceneViewSelector:
        """Selects source views and evaluated views."""
        return self.provider.selector

    @property
    def active(self) -> ActiveScene:
        """The scene whose cameras are rendered."""
        return self.provider.active

    @property
    def holds_out(self) -> bool:
        """Whether there is a view to evaluate; a single scene may be one of source views alone."""
        return not self.library.single or bool(self.selector.targets_of(self.active))

    def _build_datasets(self) -> None:
        """Training and evaluated views of the active scene."""
        whole = self.test_mode == "val" and not self.config.train_on_sources_only
        outputs = active_outputs(self.active, self.selector, self.test_split, whole)
        self.train_dataparser_outputs, self.eval_dataparser_outputs = outputs
        self.train_dataset, self.eval_dataset = self.create_train_dataset(), self.create_eval_dataset()

    def activate(self, active: ActiveScene) -> None:
        """Makes a scene the active one, and builds its datasets.

        Raises:
            SceneError: the scene has no views to evaluate.
        """
        self.provider.active = active
        self._build_datasets()
        if self.test_mode != "inference":
            self.setup_eval()

    def evaluate_training_views(self) -> None:
        """From now on the views that are looked at are those that are evaluated.

        Raises:
            ValueError: it is a run on many scenes.
        """
        if not self.library.single:
            raise ValueError("--split train: expected a run on one scene; name views of several by --views")
        self.eval_dataparser_outputs = self.train_dataparser_outputs
        self.eval_dataset = self.create_eval_dataset()

    def create_train_dataset(self) -> FewShotDataset:
        """The training views of the active scene; their metadata hands the provider to the model."""
        dataset = super().create_train_dataset()
        dataset.metadata[SOURCE_PROVIDER_KEY] = self.provider
        return dataset

    def create_eval_dataset(self) -> FewShotDataset:
        """The evaluated views of the active scene."""
        return self.dataset_type(
            dataparser_outputs=self.eval_dataparser_outputs, scale_factor=self.config.camera_res_scale_factor
        )

    def setup_train(self) -> None:
        """Lists the training scenes. Outside of training batches come from the active scene alone."""
        training = self.test_mode == "val"
        if training and self.config.train_on_sources_only:
            self._check_only_sources()
        entries = self.library.table("train") if training else (self.active.scene.entry,)
        self.batches = self._batches(entries, training)
        self.train_pixel_sampler = RayCount(self.batches)  # type: ignore[assignment]
        if training:
            CONSOLE.print(f"{len(entries)} scenes train, {self.batches.order.per_step} in each step")
            both = self.trained_and_tested()
            if both:
                words = overlap_words(self.library.parser.config.data, both, len(self.library.table("test")))
                CONSOLE.print(f"[bold yellow]{escape(words)}[/bold yellow]", soft_wrap=True)

    def _check_only_sources(self) -> None:
        """Raises a ValueError where the source views are fewer than a step draws."""
        config = self.config
        count = len(self.selector.source_views.views_of(self.active.scene))
        # A target is never among its own source views.
        needed = max(config.num_sources) + (config.train_source_mode != "random")
        if count < needed:
            raise ValueError(
                f"--pipeline.datamanager.train-on-sources-only: expected at least {needed} views to train on, as "
                f"--pipeline.datamanager.num-sources {' '.join(map(str, config.num_sources))} asks for, found {count} "
                "by --pipeline.datamanager.sources"
            )

    def _batches(self, entries: Tuple[SceneEntry, ...], training: bool) -> SceneBatches:
        config = self.config
        order = SceneOrder(len(entries), config.scenes_per_batch, self.seed, self.rank, self.world_size)
        by_target = None
        if config.train_source_mode != "random" and self.test_mode == "val":
            choice = SourceViewsConfig(config.train_source_mode, among=config.train_source_among, seed=self.seed)
            choice.distance = config.sources.distance
            # Where only views of it train, targets come from it, and so have their source views.
            choice.pool = config.sources.pool if config.train_on_sources_only else ()
            by_target = {count: SourceViews(replace(choice, count=count)) for count in config.num_sources}
        options = BatchOptions(
            # Exports use the run's own source views, whatever a batch would draw.
            num_sources=config.num_sources if self.test_mode == "val" else (1,),
            by_target=by_target,
            rays_per_scene=config.rays_per_scene,
            no_box_step=config.no_box_step if training else 0,
            target_views=config.target_views if self.test_mode == "val" else 1,
            colour_jitter=config.colour_jitter if training else 0.0,
            only=self.selector.source_views if config.train_on_sources_only else None,
        )
        return SceneBatches(self.library, entries, order, options, self.bad_scenes)

    def setup_eval(self) -> None:
        """Loaders of the active scene's evaluated views."""
        options: Dict[str, Any] = {"input_dataset": self.eval_dataset, "device": self.device, "num_workers": 0}
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(**options)
        self.eval_dataloader = RandIndicesEvalDataloader(**options)

    def next_train(self, step: int) -> Tuple[RayBundle, Dict]:
        """Rays of several scenes, and of each its source views.

        Raises:
            SceneError: a scene cannot be used, and such scenes end the run.
        """
        self.train_count += 1
        assert self.batches is not None
        if self.test_mode == "val":
            return self._on_device(*self.batches.draw(step))
        # ns-export calls with step 0 each time, uses the rays alone, and needs others in each call.
        rays, batch = self.batches.draw(self.train_count)
        rays.metadata[TARGET_VIEW_KEY] = batch["indices"][:, :1]
        return self._on_device(rays, batch)

    def next_eval(self, step: int) -> Tuple[RayBundle, Dict]:
        """The same of the evaluated scenes."""
        self.eval_count += 1
        if self.eval_batches is None:
            self.eval_batches = self._batches(self.eval_table(), training=False)
        return self._on_device(*self.eval_batches.draw(step))

    def _on_device(self, rays: RayBundle, batch: Dict) -> Tuple[RayBundle, Dict]:
        moved = {name: batch[name].to(self.device) for name in ("image", "conditioning")}
        return rays.to(self.device), {**batch, **moved}

    def draw_eval_view(self, step: int) -> Tuple[ActiveScene, int]:
        """A scene that is evaluated, and one of its evaluated views, another one with each step.

        Raises:
            SceneError: the scene cannot be used.
        """
        active = self.selector.open(self._entry_of(step))
        targets = self.selector.targets_of(active)
        generator = step_generator(self.seed, step + 1, self.rank)
        return active, targets[int(torch.randint(len(targets), (1,), generator=generator))]

    def note_bad_view(self, step: int, error: SceneError) -> None:
        """Takes note of the scene that `draw_eval_view` gave for a step.

        Raises:
            SceneError: where such scenes end the run.
        """
        self.bad_scenes.note(self._entry_of(step), error)

    def _entry_of(self, step: int) -> SceneEntry:
        table = self.eval_table()
        return table[int(torch.randint(len(table), (1,), generator=step_generator(self.seed, step, self.rank)))]

    def next_eval_image(self, step: int) -> Tuple[Cameras, Dict]:
        """A view of a scene that is evaluated: its camera, and `image` (H, W, 3), `active` and `view`, and
        `known_depth` (H, W, 1) or None."""
        active, view = self.draw_eval_view(step)
        image = self.library.images.image(active.scene, view).to(self.device)
        batch = {"image": image, "active": active, "view": view, KNOWN_DEPTH_KEY: known_depth(active.scene, view)}
        return active.scene.cameras[view : view + 1].to(self.device), batch

    def get_train_rays_per_batch(self) -> int:
        """Rays of a step of this process."""
        if self.batches is None:
            return self.config.scenes_per_batch * self.config.rays_per_scene
        return RayCount(self.batches).num_rays_per_batch

    def get_eval_rays_per_batch(self) -> int:
        """Rays of an evaluated batch."""
        return self.config.scenes_per_batch * self.config.rays_per_scene

    def scene_names(self) -> List[str]:
        """Names of the evaluated scenes, the active one first."""
        names = [entry.scene_id for entry in self.eval_table()]
        active = self.active.scene.entry.scene_id
        return [active, *(name for name in names if name != active)]

"""`ns-fewshot retarget`: a trained run pointed at another scene, or at where its own lies now, without training."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

import tyro

if TYPE_CHECKING:
    from fewshot_ns.data.multiscene.active import ActiveScene


@dataclass
class RetargetCommand:
    """Write a run folder for a scene that the run has never seen, or whose files have moved: a config.yml and a link to
    the checkpoint. Methods of single scenes only take their own scene, at --data.

    ns-eval, ns-render and ns-viewer take it like any run. The dataparser's name and flags may come last:
    ns-fewshot retarget --load-config C --data DIR --source-views 0 8 --output OUT llff-data --downscale-factor 4.
    """

    load_config: Path
    """config.yml of the trained run, or a folder with one run in it."""
    output: Path
    """Folder to write; it must not exist."""
    dataparser: tyro.conf.Positional[str] = "auto"
    """Name of the dataparser, before its own flags; auto goes by the scene's files."""
    data: Optional[Path] = None
    """Scene, or data set of scenes; None: the run's own data set, for another scene of it."""
    parser: Optional[str] = None
    """Name of the dataparser, where it has no flags of its own."""
    scene: Optional[str] = None
    """Name of the scene in a data set of many; None: its first test scene."""
    source_views: Tuple[int, ...] = ()
    """Views that are looked at, numbered as in the scene's files; none: as the run was configured."""
    nearest: Optional[int] = None
    """Look at so many views nearest to each camera that is rendered, in place of --source-views."""
    step: Optional[int] = None
    """Training step of the checkpoint; None: the newest."""
    copy: bool = False
    """Copy the checkpoint, where links are not possible or the folder is to be moved to another machine."""
    dataparser_arguments: tyro.conf.Suppress[Tuple[str, ...]] = ()
    """The dataparser's flags, set by `ns-fewshot`."""

    def main(self) -> None:
        """Writes the folder.

        Raises:
            FileNotFoundError: no run, no checkpoint, or no scene.
            FileExistsError: the folder is there.
            ValueError: a run that knows one scene only, or views and scenes that are not there.
        """
        import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
        from rich.console import Console

        from fewshot_ns.engine.resume import load_last_good
        from fewshot_ns.scripts.runs import load_run_config

        if self.output.exists():
            raise FileExistsError(f"{self.output}: expected a folder that is not there yet, found one (--output)")
        config = load_run_config(self.load_config)
        checkpoint = load_last_good(config.get_checkpoint_dir(), self.step)[0]
        if self.data is not None and self._is_moved_scene(config):
            self._follow_scene(config, self.data, checkpoint)
            return
        retargeted = self.retargeted(config)
        active = self.check(retargeted)
        self._write(retargeted, checkpoint)
        numbers = active.scene.view_indices or range(len(active.scene.image_filenames))
        sources = "the nearest views" if active.sources is None else [numbers[view] for view in active.sources]
        Console().print(
            f"{self.output}: {config.method_name} of step {checkpoint.stem[5:].lstrip('0') or 0}, scene "
            f"{active.scene.entry.scene_id}, looking at {sources}. Evaluate it with\n"
            f"  ns-eval --load-config {self.output / 'config.yml'}",
            highlight=False,
            soft_wrap=True,
        )

    def _is_moved_scene(self, config: Any) -> bool:
        """Whether a run on one scene is to be pointed at that scene elsewhere."""
        from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
        from fewshot_ns.scripts.scenes import AUTO

        others = self.parser, self.scene, self.nearest
        return (
            isinstance(config.pipeline.datamanager, FewShotDataManagerConfig)
            and not any(other is not None for other in others)
            and not self.source_views
            and self.dataparser == AUTO
        )

    def _follow_scene(self, config: Any, data: Path, checkpoint: Path) -> None:
        from rich.console import Console

        from fewshot_ns.scripts.moved_scenes import KEPT, follow_scene

        run = config.get_checkpoint_dir().parent
        moved = follow_scene(config, run, data, self.output.resolve())
        self._write(moved, checkpoint, [run / name for name in KEPT])
        Console().print(
            f"{self.output}: {config.method_name}, whose scene lies in {data}. Evaluate it with\n"
            f"  ns-eval --load-config {self.output / 'config.yml'}",
            highlight=False,
            soft_wrap=True,
        )

    def retargeted(self, trained: Any) -> Any:
        """The config of a run, pointed at the scene that the flags name.

        Args:
            trained: config of a trained run; it is left as it is.

        Raises:
            FileNotFoundError: no scene.
            ValueError: a run that knows one scene only, or flags that do not go together.
        """
        from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
        from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipelineConfig

        if not isinstance(trained.pipeline, GeneralizablePipelineConfig):
            raise ValueError(
                f"{self.load_config}: expected a run of a generalizable method, found {trained.method_name}, which "
                "knows the scene alone that it was trained on; where that lies elsewhere now, give --data alone"
            )
        config = deepcopy(trained)
        manager: Any = config.pipeline.datamanager
        format_before = type(manager.dataparser)
        manager.dataparser = self._dataparser(manager)
        manager.data = manager.dataparser.data
        manager.train_on_sources_only = False
        manager.targets.views = ()
        if self.data is not None:
            # Views of one data set's protocol are none of another's.
            manager.sources.pool = ()
        if not isinstance(manager.dataparser, format_before):
            # Nor are the views of bad exposure of one format bad in another.
            manager.targets.exclude, manager.targets.exclude_dtu_bad = (), False
        if isinstance(manager.dataparser, FewShotDataParserConfig):
            if self.scene is not None:
                raise ValueError(f"--scene {self.scene}: {manager.data} is one scene; leave --scene out")
            manager.scenes = None
            self._make_views_train(manager.dataparser)
        elif self.scene is not None:
            manager.scenes = (self.scene,)
        self._choose_sources(manager.sources)
        if manager.sources.viewlist is not None:
            manager.sources.viewlist = manager.sources.viewlist.resolve()
        folder = self.output.resolve()
        config.relative_model_dir = folder / trained.relative_model_dir.name
        config.pipeline.run_dir = folder
        config.pipeline.initial_weights = config.load_dir = config.load_checkpoint = config.load_step = None
        return config

    def _dataparser(self, manager: Any) -> Any:
        from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig
        from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParserConfig
        from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
        from fewshot_ns.scripts.scenes import AUTO, is_of_format, scene_config

        name = self.parser or self.dataparser
        if self.parser is not None and self.dataparser != AUTO:
            raise ValueError(f"--parser {self.parser} and {self.dataparser}: give the dataparser's name once")
        if self.data is None:
            if name != AUTO:
                raise ValueError(f"dataparser {name}: expected --data with it, got none")
            if self.scene is None:
                raise ValueError("expected --data or --scene, got neither: nothing to point the run at")
            # nerfstudio hands --data ahead of the parser to the datamanager alone.
            manager.dataparser.data = Path(manager.dataparser.data if manager.data is None else manager.data).resolve()
            return manager.dataparser
        own = manager.dataparser
        if name == AUTO and isinstance(own, FewShotAutoDataParserConfig):
            # A method's, with its settings, where weights come without a run.
            parser: Any = replace(own, data=self.data).settled()
        elif name == AUTO and isinstance(own, MultiSceneDataParserConfig) and is_of_format(self.data, own):
            # With the run's flags; its format may also be laid out in ways that no sign tells.
            own.data = self.data.resolve()
            return own
        else:
            parser = scene_config(self.data, name, self.dataparser_arguments, many_scenes=True)
        if isinstance(parser, LLFFDataParserConfig):
            # Generalizable models know no NDC.
            parser.ray_space = "metric"
        parser.data = self.data.resolve()
        return parser

    def _make_views_train(self, parser: Any) -> None:
        """Lets the protocol of a single scene give the views that are looked at, where its flags do not say which."""
        if len(self.source_views) > 1 and not self._gives("--train-indices"):
            parser.train_indices = self.source_views
        elif not self._gives("--train-indices", "--num-views"):
            # Any view of the whole pool may be the one that is looked at.
            parser.num_views = 0

    def _choose_sources(self, sources: Any) -> None:
        if self.source_views and self.nearest is not None:
            raise ValueError("--source-views and --nearest: give one of them")
        if self.source_views:
            sources.mode, sources.views, sources.pool = "views", self.source_views, ()
        elif self.nearest is not None:
            sources.mode, sources.count, sources.pool = "nearest", self.nearest, ()

    def check(self, config: Any) -> ActiveScene:
        """Opens the scene of a retargeted config and reads its source views, before anything is written.

        Raises:
            FileNotFoundError: no scene.
            ValueError: no such scene or views, or another number of them than the networks are made for.
            SceneError: the scene cannot be used.
        """
        manager = config.pipeline.datamanager.setup(device="cpu", test_mode="inference")
        if self.source_views and not manager.selector.targets_of(manager.active):
            manager = self._with_other_views(config.pipeline.datamanager, manager)
        active = manager.active
        view = (manager.selector.targets_of(active) or (0,))[0]
        sources = manager.selector.sources_for(active, active.scene.cameras.camera_to_worlds[view])
        wanted = getattr(config.pipeline.model, "num_views", None)
        if wanted not in (None, len(sources)):
            raise ValueError(
                f"{self.load_config}: expected {wanted} source views, which its networks are made for, got "
                f"{len(sources)}; give as many by --source-views or --nearest"
            )
        manager.selector.load_sources(active, sources)
        entry = active.scene.entry
        if not manager.library.single:
            config.pipeline.datamanager.scenes = (entry.scene_id,)
        config.experiment_name = entry.scene_id.replace("/", "-")
        return active

    def _with_other_views(self, config: Any, manager: Any) -> Any:
        """The datamanager of a scene whose protocol leaves no view to evaluate, with the photos that are not looked at
        as evaluated ones, if there are any."""
        files = manager.dataparser.read_views()[0]
        others = tuple(view for view in range(files.protocol.num_images) if view not in self.source_views)
        if not others or self._gives("--train-indices", "--test-indices", "--num-views"):
            return manager
        config.dataparser.train_indices, config.dataparser.num_views = None, files.protocol.num_images
        config.targets.views = others
        return config.setup(device="cpu", test_mode="inference")

    def _gives(self, *flags: str) -> bool:
        """Whether one of these flags of the dataparser is given."""
        given = {argument.split("=")[0].replace("_", "-") for argument in self.dataparser_arguments}
        return bool(given & set(flags))

    def _write(self, config: Any, checkpoint: Path, beside: Sequence[Path] = ()) -> None:
        import yaml

        from fewshot_ns.utils.files import replacing_folder

        with replacing_folder(self.output.resolve(), overwrite=False) as folder:
            models = folder / config.relative_model_dir.name
            models.mkdir()
            for file in beside:
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
            source, link = checkpoint.resolve(), models / checkpoint.name
            if self.copy:
                shutil.copyfile(source, link)
            else:
                link.symlink_to(source)
            (folder / "config.yml").write_text(yaml.dump(config), "utf8")

"""The files that evaluations of many scenes will read, before training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Set, Tuple

from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.depth.true_depth import known_depth
from fewshot_ns.data.multiscene.active import ActiveScene
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig

Size = Tuple[int, int]
"""Height and width."""


@dataclass
class SceneFileCheck:
    """Reads the files of evaluations before training, each once, and keeps none."""

    manager: MultiSceneDataManager
    """Data of the run."""
    options: SceneEvaluationConfig
    """Which scenes and how many views are evaluated all together; single views and batches come from any."""
    _images: SceneImages = field(default_factory=lambda: SceneImages(max_bytes=1), init=False, repr=False)
    _read: Set[Path] = field(default_factory=set, init=False, repr=False)
    _sizes: Dict[Size, None] = field(default_factory=dict, init=False, repr=False)

    def run(self) -> List[Size]:
        """Reads what evaluations while training and that of the test scenes will read. A scene that is found bad where
        such scenes are skipped is named, and trains all the same: its evaluation will leave it out.

        Returns:
            Sizes of the views that will be measured, each once.

        Raises:
            SceneError: a file is missing or damaged or does not fit its camera, and such scenes end the run; or no
                scene of an evaluation can be used.
        """
        manager, options = self.manager, self.options
        whole = manager.eval_table()
        in_whole = frozenset(whole)
        parts = [options.scenes(manager.eval_table(options.test_while_training))]
        try:
            parts.append(options.scenes(manager.library.table("test")))
        except (FileNotFoundError, ValueError):
            # Not every set has test scenes, which only an evaluation of them is an error for.
            pass
        bad: Dict[SceneEntry, SceneError] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=CONSOLE, transient=True) as progress:
            entries = dict.fromkeys((*whole, *(entry for part in parts for entry in part)))
            task = progress.add_task("[green]Reading the scenes that will be evaluated...", total=len(entries))
            for entry in entries:
                try:
                    if entry in manager.bad_scenes:
                        raise SceneError(manager.bad_scenes.reasons[entry.scene_id])
                    self._check(entry, every_view=entry in in_whole)
                except SceneError as error:
                    bad[entry] = error
                    if entry not in manager.bad_scenes:
                        self._tell(entry, error)
                progress.advance(task)
        for part in (whole, *parts):
            if all(entry in bad for entry in part):
                raise SceneError(f"expected a usable scene to evaluate, found none of {len(part)}; {bad[part[0]]}")
        return list(self._sizes)

    def _tell(self, entry: SceneEntry, error: SceneError) -> None:
        if self.manager.bad_scenes.policy == "stop":
            self.manager.bad_scenes.note(entry, error)
        words = f"scene {entry.scene_id}: {error}; evaluations will leave it out"
        CONSOLE.print(f"[bold yellow]{escape(words)}[/bold yellow]", soft_wrap=True)

    def _check(self, entry: SceneEntry, every_view: bool) -> None:
        manager = self.manager
        active = manager.selector.open(entry)
        if manager.library.single:
            self._check_single()
        targets = manager.selector.targets_of(active)
        scene = active.scene
        views = range(len(scene.image_filenames)) if every_view else self.options.views(active, targets)
        for view in views:
            self._check_photo(active, view)
            if view in targets:
                for source in manager.selector.sources_for(active, scene.cameras.camera_to_worlds[view]):
                    self._check_photo(active, source)
                if self.options.masks:
                    self._images.mask(scene, view)
                known_depth(scene, view)
                self._sizes[int(scene.cameras.height[view]), int(scene.cameras.width[view])] = None

    def _check_single(self) -> None:
        """Reads the views that the dataparser of a single scene validates and tests on, with what belongs to them."""
        if not self.manager.holds_out:
            return
        try:
            for split in ("val", "test"):
                dataset = FewShotDataset(self.manager.dataparser.get_dataparser_outputs(split=split))
                validate_dataset(dataset, measured=True)
                self._sizes.update(dict.fromkeys(dataset.size_of(index) for index in range(len(dataset))))
        except (OSError, ValueError) as error:
            raise SceneError(str(error)) from error

    def _check_photo(self, active: ActiveScene, view: int) -> None:
        path = active.scene.image_filenames[view]
        if path not in self._read:
            self._images.image(active.scene, view)
            self._read.add(path)

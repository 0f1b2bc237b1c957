"""The files that evaluations of many scenes will read, before training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Set, Tuple

from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
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
    """Which scenes and how many views."""
    _images: SceneImages = field(default_factory=lambda: SceneImages(max_bytes=1), init=False, repr=False)
    _read: Set[Path] = field(default_factory=set, init=False, repr=False)

    def run(self) -> List[Size]:
        """Reads what evaluations while training and that of the test scenes will read.

        Returns:
            Sizes of the views that will be measured, each once.

        Raises:
            SceneError: a file is missing or damaged or does not fit its camera, and such scenes end the run.
        """
        manager, options = self.manager, self.options
        tables = [manager.eval_table(options.test_while_training)]
        try:
            tables.append(manager.library.table("test"))
        except (FileNotFoundError, ValueError):
            # Not every set has test scenes, which only an evaluation of them is an error for.
            pass
        entries = dict.fromkeys(entry for table in tables for entry in options.scenes(table))
        sizes: Dict[Size, None] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=CONSOLE, transient=True) as progress:
            task = progress.add_task("[green]Reading the scenes that will be evaluated...", total=len(entries))
            for entry in entries:
                if entry not in manager.bad_scenes:
                    try:
                        sizes.update(dict.fromkeys(self._check(entry)))
                    except SceneError as error:
                        manager.bad_scenes.note(entry, error)
                progress.advance(task)
        return list(sizes)

    def _check(self, entry: SceneEntry) -> List[Size]:
        active = self.manager.selector.open(entry)
        scene, sizes = active.scene, []
        for view in self.options.views(active, self.manager.selector.targets_of(active)):
            sources = self.manager.selector.sources_for(active, scene.cameras.camera_to_worlds[view])
            for each in (view, *sources):
                self._check_photo(active, each)
            if self.options.masks:
                self._images.mask(scene, view)
            known_depth(scene, view)
            sizes.append((int(scene.cameras.height[view]), int(scene.cameras.width[view])))
        return sizes

    def _check_photo(self, active: ActiveScene, view: int) -> None:
        path = active.scene.image_filenames[view]
        if path not in self._read:
            self._images.image(active.scene, view)
            self._read.add(path)

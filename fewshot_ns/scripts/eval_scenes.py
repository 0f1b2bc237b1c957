"""The part of `ns-fewshot eval` for generalizable methods: source views, and evaluation over many scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Literal, Optional, Tuple

if TYPE_CHECKING:
    from fewshot_ns.data.views.sources import SourceViewsConfig
    from fewshot_ns.evaluation.baselines.trivial import Baselines
    from fewshot_ns.evaluation.metrics.suite import MetricSuite
    from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow, MetricSummary
    from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig
    from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipeline

OUTPUT_SUFFIXES = (".json", ".jsonl", ".txt")
"""What an evaluation over scenes writes."""


@dataclass
class SceneOptions:
    """Options of generalizable methods."""

    source_views: Tuple[int, ...] = ()
    """Source views by their index in the scene; none: as the run was configured."""
    viewlist: Optional[Path] = None
    """File that lists the source views of each object."""
    random_sources: Optional[int] = None
    """Number of source views, drawn at random for each scene."""
    nearest_sources: Optional[int] = None
    """Number of source views, those nearest to each rendered camera."""
    scenes: Tuple[str, ...] = ()
    """Only these scenes, by name; none: all of the test split."""
    max_scenes: Optional[int] = None
    """Largest number of scenes, taken at equal steps."""
    approximate: bool = False
    """Evaluate one random view of each scene."""
    on_bad_scene: Optional[Literal["stop", "skip"]] = None
    """stop: an unusable scene ends the evaluation; skip: it is left out; None: as the run was configured."""

    def any(self) -> bool:
        """Whether a flag is given."""
        return self != SceneOptions()

    def change(self, config: Any) -> None:
        """Puts the options that decide how scenes are opened into the config of a run."""
        if self.on_bad_scene is not None and hasattr(config.pipeline.datamanager, "on_bad_scene"):
            config.pipeline.datamanager.on_bad_scene = self.on_bad_scene

    def sources(self, configured: SourceViewsConfig) -> SourceViewsConfig:
        """The source views that the options name.

        Raises:
            ValueError: more than one way to choose them.
        """
        choices: Dict[str, Dict[str, Any]] = {
            "--source-views": {"mode": "views", "views": self.source_views} if self.source_views else {},
            "--viewlist": {"mode": "viewlist", "viewlist": self.viewlist} if self.viewlist else {},
            "--random-sources": {"mode": "random", "count": self.random_sources} if self.random_sources else {},
            "--nearest-sources": {"mode": "nearest", "count": self.nearest_sources} if self.nearest_sources else {},
        }
        flags = [flag for flag, changes in choices.items() if changes]
        if len(flags) > 1:
            raise ValueError(f"{' and '.join(flags)}: give one of them")
        return replace(configured, **choices[flags[0]]) if flags else configured


def choose_scenes(pipeline: Any, options: SceneOptions, output: Path) -> bool:
    """Sets scenes and source views of a loaded run as the options say.

    Args:
        pipeline: the loaded run.
        options: flags.
        output: JSON file of the averages; rows and table have its name with other suffixes.

    Returns:
        Whether there are several scenes to evaluate.

    Raises:
        ValueError: flags that this run has no use for, an unknown scene, or an output that would replace the viewlist.
    """
    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager

    manager = pipeline.datamanager
    if not isinstance(manager, MultiSceneDataManager):
        if options.any():
            raise ValueError("flags of source views and scenes are for runs of generalizable methods; leave them out")
        return False
    manager.choose_sources(options.sources(manager.config.sources))
    viewlist = manager.config.sources.viewlist
    if viewlist is not None and viewlist.resolve() in [output.with_suffix(end).resolve() for end in OUTPUT_SUFFIXES]:
        raise ValueError(f"--output-path {output}: expected a name that spares {viewlist}, the list of source views")
    if options.scenes:
        manager.library.chosen = options.scenes
    table = manager.eval_table()
    if len(table) == 1:
        pipeline.activate(manager.selector.open(table[0]))
    return len(table) > 1


def run_baselines(pipeline: Any) -> Optional[Baselines]:
    """Baselines to compare a loaded run with: from its training views or, of generalizable methods, from the source
    views; None where there are none."""
    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
    from fewshot_ns.evaluation.baselines.sources import SourceBaselines
    from fewshot_ns.evaluation.baselines.trivial import trivial_baselines

    manager = pipeline.datamanager
    if isinstance(manager, MultiSceneDataManager):
        return SourceBaselines(manager.selector, manager.active)
    return trivial_baselines(manager.train_dataset)


def evaluate_scenes(
    pipeline: GeneralizablePipeline,
    suite: MetricSuite,
    options: SceneEvaluationConfig,
    ledger: Ledger,
    render_dir: Optional[Path],
    step: int,
) -> Dict[str, MetricSummary]:
    """Measures the views of many scenes and prints the table of categories.

    Args:
        pipeline: of a generalizable method, see `choose_scenes`.
        suite: the metrics.
        options: which scenes, and how many views.
        ledger: rows, averages and table.
        render_dir: folder of pictures; None: none are kept.
        step: training step of the weights.

    Raises:
        SceneError: an unusable scene, where such end the evaluation.
    """
    import rich

    from fewshot_ns.evaluation.records.ledger import summarize_scenes
    from fewshot_ns.evaluation.runners.scenes import SceneEvaluator
    from fewshot_ns.presentation.view_pictures import scene_pictures

    def on_row(row: LedgerRow) -> None:
        rich.print(f"{row.scene} {row.view_index}: {metrics_line(row)}")

    pictures = scene_pictures(render_dir)
    rows = SceneEvaluator(pipeline, suite, options, step, pictures, on_row, with_baselines=True).rows(ledger)
    rich.print(ledger.path.with_suffix(".txt").read_text("utf8"), end="")
    return summarize_scenes(rows)


def metrics_line(row: LedgerRow) -> str:
    """The metrics of a row in one line, without the baselines'."""
    from fewshot_ns.evaluation.baselines.trivial import BASELINE_PREFIX

    active = {name: value for name, value in row.metrics.items() if not name.startswith(BASELINE_PREFIX)}
    return ", ".join(f"{name} {'n/a' if value is None else format(value, '.4g')}" for name, value in active.items())

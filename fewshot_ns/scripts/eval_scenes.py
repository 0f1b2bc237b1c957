"""What `ns-fewshot eval` asks of runs of generalizable methods: source views, and evaluation over many scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Literal, Optional, Tuple

if TYPE_CHECKING:
    from fewshot_ns.data.views.sources import SourceViewsConfig
    from fewshot_ns.evaluation.baselines.trivial import Baselines
    from fewshot_ns.evaluation.metrics.suite import MetricSuite
    from fewshot_ns.evaluation.records.ledger import MetricSummary


OUTPUT_SUFFIXES = (".json", ".jsonl", ".txt")
"""What an evaluation over scenes writes."""


@dataclass
class SceneOptions:
    """Of generalizable methods alone."""

    source_views: Tuple[int, ...] = ()
    """Source views, numbered as in the scenes' files; none: as the run was configured."""
    viewlist: Optional[Path] = None
    """File that lists the source views of each object."""
    random_sources: Optional[int] = None
    """Number of source views drawn for each scene."""
    nearest_sources: Optional[int] = None
    """Number of source views nearest to each camera that is rendered."""
    scenes: Tuple[str, ...] = ()
    """Only these scenes, by name; none: all of the test split."""
    max_scenes: Optional[int] = None
    """At most so many scenes, at equal steps."""
    approximate: bool = False
    """One random view of each scene."""
    on_bad_scene: Optional[Literal["stop", "skip"]] = None
    """What an unusable scene does: ends the evaluation, or is left out; None: as the run was configured."""

    def any(self) -> bool:
        """Whether a flag is given."""
        return self != SceneOptions()

    def change(self, config: Any) -> None:
        """Puts what decides how scenes are opened into the config of a run."""
        if self.on_bad_scene is not None and hasattr(config.pipeline.datamanager, "on_bad_scene"):
            config.pipeline.datamanager.on_bad_scene = self.on_bad_scene

    def sources(self, configured: SourceViewsConfig) -> SourceViewsConfig:
        """The source views that are asked for.

        Raises:
            ValueError: more than one way to choose them.
        """
        asked: Dict[str, Dict[str, Any]] = {
            "--source-views": {"mode": "views", "views": self.source_views} if self.source_views else {},
            "--viewlist": {"mode": "viewlist", "viewlist": self.viewlist} if self.viewlist else {},
            "--random-sources": {"mode": "random", "count": self.random_sources} if self.random_sources else {},
            "--nearest-sources": {"mode": "nearest", "count": self.nearest_sources} if self.nearest_sources else {},
        }
        given = [flag for flag, changes in asked.items() if changes]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them")
        return replace(configured, **asked[given[0]]) if given else configured


def choose_scenes(pipeline: Any, options: SceneOptions, output: Path) -> bool:
    """Puts scenes and source views of a loaded run as they are asked for.

    Args:
        pipeline: the loaded run.
        options: flags.
        output: JSON file of the averages, beside which rows and table go.

    Returns:
        Whether there are several scenes to evaluate.

    Raises:
        ValueError: flags that this run has no use for, an unknown scene, or an output in place of the viewlist.
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
        pipeline.activate(manager.open(table[0]))
    return len(table) > 1


def baselines_of_run(pipeline: Any) -> Optional[Baselines]:
    """Trivial predictions to compare a loaded run with: from the training views, or the source views; None
    where there are none."""
    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
    from fewshot_ns.evaluation.baselines.sources import SourceBaselines
    from fewshot_ns.evaluation.baselines.trivial import baselines_of

    manager = pipeline.datamanager
    if isinstance(manager, MultiSceneDataManager):
        return SourceBaselines(manager.selector, manager.active)
    return baselines_of(manager.train_dataset)


def evaluate_scenes(
    pipeline: Any, suite: MetricSuite, command: Any, output: Path, step: int
) -> Dict[str, MetricSummary]:
    """Measures the views of many scenes; rows are kept beside `output`.

    Args:
        pipeline: of a generalizable method, see `choose_scenes`.
        suite: the metrics.
        command: `ns-fewshot eval` with its flags.
        output: JSON file of the averages.
        step: training step of the weights.

    Raises:
        ValueError: flags that are for one scene alone.
        SceneError: an unusable scene, where such end the evaluation.
    """
    import rich

    from fewshot_ns.evaluation.records.scene_ledger import SceneLedger, SceneRow, summarize_scenes
    from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig, SceneEvaluator

    for name in ("max_side", "mask_dir", "render_views"):
        if getattr(command, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for one scene; name it by --scenes, or leave it out")
    if command.views is not None:
        pipeline.datamanager.config.targets.views = tuple(command.views)
    options: SceneOptions = command.generalizable
    chosen = SceneEvaluationConfig(
        max_scenes=options.max_scenes,
        max_views=command.max_views,
        approximate=options.approximate,
        masks=command.masks == "auto",
    )

    def on_row(row: SceneRow) -> None:
        shown = {name: value for name, value in row.row.metrics.items() if not name.startswith("baseline_")}
        values = ", ".join(
            f"{name} {'n/a' if value is None else format(value, '.4g')}" for name, value in shown.items()
        )
        rich.print(f"{row.scene} {row.row.view_index}: {values}")

    ledger = SceneLedger(output)
    if command.restart:
        ledger.rows_path.unlink(missing_ok=True)
    evaluator = SceneEvaluator(pipeline, suite, chosen, step, on_row, with_baselines=True)
    rows = evaluator.rows(ledger, command.render_dir)
    table = output.with_suffix(".txt").read_text("utf8")
    rich.print(table, end="")
    return summarize_scenes(rows)

"""What `ns-fewshot eval` shows while it measures: a bar, and a line of each view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from fewshot_ns.scripts.eval_scenes import metrics_line

if TYPE_CHECKING:
    from fewshot_ns.evaluation.records.ledger import LedgerRow
    from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator


def evaluate_with_progress(
    evaluator: ViewEvaluator, scene: EvaluatedScene, key: str, about: Dict[str, Any], count: int
) -> None:
    """Measures and records the views of a scene, with a line of each one that has no row yet.

    Args:
        evaluator: with a ledger.
        scene: what is rendered, and the views.
        key: of the ledger, see `ViewEvaluator.evaluate_and_record`.
        about: what the ledger's file says of the whole.
        count: views of the scene.
    """
    import rich
    from rich.progress import Progress

    with Progress(console=rich.get_console(), transient=True) as progress:
        task = progress.add_task("evaluating", total=count)

        def on_row(row: LedgerRow) -> None:
            progress.advance(task)
            rich.print(f"{row.file_name}: {metrics_line(row)}")

        evaluator.on_row = on_row
        evaluator.evaluate_and_record(scene, key, about)

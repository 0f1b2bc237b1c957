"""The part of `ns-fewshot eval` for images on disk: a folder of renders against a folder of true images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

if TYPE_CHECKING:
    from fewshot_ns.evaluation.metrics.config import EvaluationConfig
    from fewshot_ns.evaluation.records.ledger import MetricSummary
    from fewshot_ns.evaluation.runners.image_pairs import Background, OnMissing


def evaluate_images(
    images: Path,
    truth: Path,
    output: Path,
    options: EvaluationConfig,
    masks: Optional[Path] = None,
    views: Optional[Sequence[int]] = None,
    max_views: Optional[int] = None,
    background: Optional[Background] = None,
    on_missing: OnMissing = "stop",
    restart: bool = False,
) -> Dict[str, MetricSummary]:
    """Measures images on disk as the views of a run are measured, with rows and averages of the same form.

    Args:
        images: folder of the images to measure.
        truth: folder of the true ones.
        output: JSON file of the averages; the rows lie beside it.
        options: which metrics.
        masks: folder of object masks; None: none.
        views: pairs by their number, in the natural order of the true images; None: all.
        max_views: at most so many of them, at equal steps.
        background: what lies under transparent pixels; None: such images are an error.
        on_missing: whether images without a partner are an error, or left out and counted.
        restart: whether rows of an earlier call are dropped.

    Raises:
        FileNotFoundError: no folder, no image, no partner, or no mask.
        ValueError: an ambiguous partner, sizes that differ, an unknown view, or a region that needs depth.
    """
    import rich
    import torch

    from fewshot_ns.evaluation.metrics.suite import MetricSuite
    from fewshot_ns.evaluation.records.ledger import Ledger
    from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator, read_summary
    from fewshot_ns.evaluation.runners.image_pairs import find_masks, pair_images, pair_views
    from fewshot_ns.evaluation.runners.stored_settings import SET_METRICS_KEY
    from fewshot_ns.evaluation.runners.views import choose_views
    from fewshot_ns.scripts.eval_progress import evaluate_with_progress
    from fewshot_ns.utils.hashing import digest, file_key

    if options.region == "true-depth":
        raise ValueError("--region true-depth: images on disk have no depth; expected centre, or whole")
    pairs, left_out = pair_images(images, truth, on_missing)
    if left_out:
        rich.print(f"[yellow]{left_out} images have no partner and are left out; {len(pairs)} pairs[/yellow]")
    chosen = choose_views(range(len(pairs)), views, max_views)
    mask_files = None if masks is None else find_masks(masks, pairs)
    suite = MetricSuite(options, "cuda" if torch.cuda.is_available() else "cpu")
    evaluation: Dict[str, Any] = {"metrics": list(options.metrics), "masks": "none" if masks is None else str(masks)}
    if background is not None:
        evaluation["background"] = background
    if options.region != "whole":
        evaluation["region"] = options.region
    if suite.set_metrics.names:
        evaluation[SET_METRICS_KEY] = suite.set_metrics.settings()
    about = {"images": str(images), "truth": str(truth), "left_out": left_out, "evaluation": evaluation}
    # The names, too: a row says which pair it is by its number.
    files = [part for pair in pairs for part in (pair.name, file_key(pair.render), file_key(pair.truth))]
    key = digest(json.dumps(evaluation, sort_keys=True), *files, *(file_key(file) for file in mask_files or ()))
    ledger = Ledger(output)
    if restart:
        ledger.clear()
    evaluator = ViewEvaluator(suite, suite.device, ledger=ledger)
    scene = EvaluatedScene(None, pair_views(pairs, chosen, mask_files, background))
    evaluate_with_progress(evaluator, scene, key, {**about, "views": chosen}, len(chosen))
    return read_summary(output, chosen, suite.set_metrics)

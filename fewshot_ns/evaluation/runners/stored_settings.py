"""What the JSON file of an evaluation says of its metrics of all views together, FID and KID."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, TypeAdapter

from fewshot_ns.evaluation.metrics.config import SET_METRICS, EvaluationConfig
from fewshot_ns.utils.record_files import RecordError, check_record, read_record_file

SET_METRICS_KEY = "of_all_views"
"""Key in the file's `evaluation`: settings of the metrics of all views together."""


class _Settings(BaseModel):
    """`SetMetrics.settings` in a file."""

    model_config = ConfigDict(extra="forbid", strict=True)
    metrics: List[str]
    fid_encoder: str = "inception"
    kid_subset_size: Optional[int] = None
    kid_subsets: int = 100


class _Evaluation(BaseModel):
    """The file, of which nothing else is looked at."""

    evaluation: Dict[str, Any] = {}


_FILE, _SETTINGS = TypeAdapter(_Evaluation), TypeAdapter(_Settings)


def stored_settings(path: Path) -> EvaluationConfig:
    """The settings of these metrics; without metrics where there is no file, or none were asked for.

    Args:
        path: JSON file of the averages.

    Raises:
        ValueError: it is no such file.
    """
    if not path.is_file():
        return EvaluationConfig(metrics=())
    stored = read_record_file(path, _FILE, "the averages of an evaluation").evaluation
    if SET_METRICS_KEY not in stored:
        return EvaluationConfig(metrics=())
    try:
        settings = check_record(stored[SET_METRICS_KEY], _SETTINGS)
    except RecordError as error:
        raise ValueError(f"{path}: expected what the metrics of all views were made with; {error}") from error
    unknown = [name for name in settings.metrics if name not in SET_METRICS]
    if unknown:
        raise ValueError(f"{path}: expected metrics of all views ({', '.join(SET_METRICS)}), found {unknown[:3]}")
    return EvaluationConfig(
        metrics=tuple(settings.metrics),
        fid_encoder=settings.fid_encoder,
        kid_subset_size=settings.kid_subset_size,
        kid_subsets=settings.kid_subsets,
    )

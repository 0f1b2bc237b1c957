"""What a run's `resolved.json` says of the points that its model started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

INITIAL_POINTS_KEY = "initial_points"
"""Key of the record there, and of its words in results."""


def read_initial_points(run_dir: Path) -> Optional[Dict[str, Any]]:
    """The record of a run: `source` (words), `points`, `views`, `confirmed` (share), `cpu_seconds`; None where it has
    none.

    Args:
        run_dir: folder of the run.
    """
    try:
        content = json.loads((run_dir / "resolved.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    record = content.get(INITIAL_POINTS_KEY) if isinstance(content, dict) else None
    return record if isinstance(record, dict) and "source" in record else None


def initial_points_words(run_dir: Path) -> Dict[str, str]:
    """The words for a result, under `INITIAL_POINTS_KEY`; nothing where the run started from no points."""
    record = read_initial_points(run_dir)
    return {} if record is None else {INITIAL_POINTS_KEY: str(record["source"])}

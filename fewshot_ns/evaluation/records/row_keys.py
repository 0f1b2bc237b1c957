"""Names of what a line of a ledger holds besides its metrics."""

from __future__ import annotations

SCENE_KEYS = ("scene", "category", "sources")
"""Keys of a row that only evaluations over many scenes write."""
ROW_KEYS = ("file_name", "view_index", "split_index", "step", "num_rays_per_sec")
"""Keys of every row that are not metrics."""
FILES_KEY = "measured_on"
"""Key of the hash of the files that a row was measured on, in rows that have one."""

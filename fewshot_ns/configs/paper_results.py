"""What papers report: a record per number, beside the method that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class PaperResult:
    """One published number."""

    dataset: str
    """Data set, with the scene where the number is of one scene: 'llff', 'llff/fern', 'dtu'."""
    num_views: int
    """Training views."""
    metric: str
    """'psnr' (dB), 'ssim', 'lpips' (VGG) or 'average' (geometric mean of the three errors)."""
    value: float
    """The number as printed."""
    table: str
    """Where it is printed."""
    conditions: str
    """Resolution, test views, masks: what has to be the same for a comparison."""
    citation: str
    """Whose method it is."""


LLFF_CONDITIONS = "8 scenes, 504x378, every 8th photo tests, mean of scenes; SSIM 7x7 uniform, data range 1; LPIPS VGG"
DTU_CONDITIONS = "15 scans, 400x300, 25 test views, object masks (PSNR inside, SSIM and LPIPS over white), LPIPS VGG"
SECONDARY = "CoR-GS (Zhang et al., ECCV 2024), Tab. {}, which gathers earlier papers' figures"
METRICS = ("psnr", "ssim", "lpips", "average")


def row(
    dataset: str,
    num_views: int,
    values: Tuple[Optional[float], ...],
    citation: str,
    table: Optional[str] = None,
    conditions: Optional[str] = None,
) -> Tuple[PaperResult, ...]:
    """The numbers of one row of a table, in the order of `METRICS`.

    Args:
        dataset: see `PaperResult`.
        num_views: training views.
        values: None where the table has none; may end early.
        citation: see `PaperResult`.
        table: None: the table of CoR-GS for the data set.
        conditions: None: those of the data set's usual protocol.
    """
    dtu = dataset.startswith("dtu")
    where = SECONDARY.format(3 if dtu else 1) if table is None else table
    under = (DTU_CONDITIONS if dtu else LLFF_CONDITIONS) if conditions is None else conditions
    return tuple(
        PaperResult(dataset, num_views, metric, value, where, under, citation)
        for metric, value in zip(METRICS, values, strict=False)
        if value is not None
    )

"""Near and far of a scene that nothing states them of, from the depth that its training photos confirm."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.stereo.estimate import StereoError
from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
from fewshot_ns.data.stereo.seed_points import reliable_range
from fewshot_ns.priors.depth.photo_depths import PhotoConfig, photo_depths
from fewshot_ns.priors.depth.sources import FEW

_NEARER, _FARTHER = 0.5, 4.0
"""Factors on a guess of near and far within which depth is looked for: what lies behind the point that cameras look at
may be many times farther away."""
_DIGITS = 4
"""Significant digits of what is found; the margins are far wider."""


def guessed(dataset: FewShotDataset) -> bool:
    """Whether near and far of a scene are planar depths that rest on nothing but where its cameras look."""
    record = dataset.fewshot
    return record.bounds_from == "cameras" and record.geometry.ray_space == "metric"


def bounds_in_photos(
    dataset: FewShotDataset,
    matching: PhotoConfig,
    flag: str,
    cache_dir: Optional[Path] = None,
    flat_regions: Optional[FlatRegionConfig] = None,
) -> Optional[Tuple[float, float]]:
    """Near and far that hold what the photos of a scene confirm, looked for within a wider range than was guessed.

    Args:
        dataset: training views of a scene of which `guessed` is true; it stays as it is.
        matching, flag, cache_dir, flat_regions: as of `photo_depths`.

    Returns:
        Planar depths, world units; None, with a warning, where too little is confirmed to say.

    Raises:
        WeightsNotFoundError: the weights of the network were not found.
        FileNotFoundError: a photo is missing.
        FieldError: a field out of its range.
        ValueError: a damaged photo.
    """
    geometry = dataset.fewshot.geometry
    wide = dataset.with_bounds(_NEARER * geometry.near, _FARTHER * geometry.far, "cameras")
    try:
        depths = photo_depths(wide, matching, flag, cache_dir, flat_regions)
    except StereoError as error:
        _warn(dataset, str(error))
        return None
    found = reliable_range([depths.view_depth(view) for view in range(len(depths.files))])
    if found is None or max(depths.valid) < FEW:
        _warn(dataset, f"they confirm too little ({depths.shares()})")
        return None
    near, far = (float(f"{bound:.{_DIGITS}g}") for bound in found)
    CONSOLE.print(
        f"near {near:g} and far {far:g} hold what the photos confirm ({depths.source}); nothing states the two, and "
        f"the cameras alone say {geometry.near:.4g} and {geometry.far:.4g}",
        highlight=False,
        soft_wrap=True,
    )
    return near, far


def _warn(dataset: FewShotDataset, reason: str) -> None:
    geometry = dataset.fewshot.geometry
    CONSOLE.print(
        f"[bold yellow]near {geometry.near:.4g} and far {geometry.far:.4g} stay a guess from the cameras: the photos "
        f"do not say where the scene lies, {reason}; give the dataparser's --near and --far[/bold yellow]",
        highlight=False,
        soft_wrap=True,
    )

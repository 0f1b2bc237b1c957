"""What the user is told of a scene when it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.dataparsers.single.capture_checks import overlap_warning
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.seed_points import SeedPoints
from fewshot_ns.data.files.images import may_be_turned
from fewshot_ns.data.records.metadata import BoundsOrigin
from fewshot_ns.data.views.selection import ViewSelection

_OFF_CENTRE = 0.2
"""Largest distance of a principal point from the middle, as a share of the photo's side, that nothing is said of."""
_LAST_TOLD: List[str] = []
"""Folder of the scene that was told of last, and what was said: commands read a scene several times."""


def tell_of_scene(
    name: str,
    data: Path,
    scene: SceneFiles,
    selection: ViewSelection,
    size: Tuple[int, int],
    points: Optional[SeedPoints],
    straightened: str,
    origin: BoundsOrigin,
) -> None:
    """Says what was decided, unless the scene that was told of last in this process is this one, with the same.

    Args:
        name: Of the scene.
        data: Its folder or file.
        scene: The scene.
        selection: Its chosen views.
        size: (height, width) of the first view that trains.
        points: Its seed points.
        straightened: What is said of straightened photos; empty where none are.
        origin: Where near and far come from.
    """
    geometry = scene.geometry
    guess = {"cameras": " (a guess from the cameras)", "photos": " (from the photos)"}
    height, width = size
    turned = scene.ray_space_from is not None and geometry.ray_space == "metric"
    decided = f" ({scene.ray_space_from})" if turned else ""
    line = (
        f"[bold]{name}[/bold] ({selection.protocol}): train views {list(selection.train)}, "
        f"{_held_out_words(selection)}; {width}x{height} pixels, {geometry.ray_space} rays{decided}, "
        f"near {geometry.near:g}, far {geometry.far:g}{guess.get(origin, '')}, "
        f"{geometry.background} background" + ("" if points is None else f", {len(points.positions)} seed points")
    )
    off_centre = _off_centre(scene, selection.train)
    told = [os.path.abspath(data), line, straightened, str(off_centre), *scene.remarks]
    if CONSOLE.quiet or _LAST_TOLD == told:
        return
    _LAST_TOLD[:] = told
    CONSOLE.print(line)
    if straightened:
        CONSOLE.print(straightened, soft_wrap=True)
    turned = [
        scene.photos[view].name for view in selection.views if may_be_turned(scene.images[view], scene.states_sizes)
    ]
    if turned:
        CONSOLE.print(
            f"[yellow]{name}: {len(turned)} photos, such as {turned[0]}, have an EXIF orientation by "
            "which viewers turn them; they are read as they are stored, and their cameras taken to be of that. If "
            "the scene comes out upside down or mirrored, `ns-fewshot prepare` makes upright photos[/yellow]",
            soft_wrap=True,
        )
    said = [overlap_warning(scene, selection.train), off_centre]
    for remark in (*scene.remarks, *(f"{name}: {words}" for words in said if words is not None)):
        CONSOLE.print(f"[yellow]{remark}[/yellow]", highlight=False, soft_wrap=True)


def _off_centre(scene: SceneFiles, train: Sequence[int]) -> Optional[str]:
    """What is said of a principal point that lies far off the middle of its photo; None where none does."""
    off = np.abs(scene.intrinsics[list(train), 2:] - 0.5).max(axis=1)
    worst = int(off.argmax())
    if off[worst] <= _OFF_CENTRE:
        return None
    across, down = scene.intrinsics[train[worst], 2:]
    return (
        f"the principal point of {scene.photos[train[worst]].name} lies at {across:.2f} of its width and {down:.2f} "
        "of its height, as of a cropped photo; where the photo is whole, cx and cy are of another size"
    )


def _held_out_words(selection: ViewSelection) -> str:
    words = f"test views {list(selection.test)}" if selection.test else "nothing is held out"
    if not selection.rendered:
        return words
    return f"{words}, {len(selection.rendered)} test cameras without a photo (rendered, not measured)"


def straightened_words(lenses: Cameras, cameras: Cameras) -> str:
    sizes = [f"{int(each.width[0])}x{int(each.height[0])}" for each in (lenses, cameras)]
    return f"photos are straightened as they are read, for pinhole cameras: {sizes[0]} to {sizes[1]} pixels"

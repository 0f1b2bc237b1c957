"""Pictures and curves of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from PIL import Image

from fewshot_ns.bench.results.cells import BenchResults
from fewshot_ns.bench.results.summary import curve_of, groups_of
from fewshot_ns.data.files.images import read_image
from fewshot_ns.presentation.pictures import LabelledImage, colorize_error, contact_sheet, shared_depth_range
from fewshot_ns.presentation.video import colour_depth
from fewshot_ns.utils.arrays import read_arrays

CROP_SHARE = 0.25
"""Sides of a zoomed crop as a share of the image's."""
_STRONG_EDGE = 20.0
"""Change of brightness per pixel, of 255, from which an edge is no more detail than another."""
_CELL_WIDTH = 200


@dataclass(frozen=True)
class KeptView:
    """What one method shows in one test view."""

    truth: np.ndarray
    """(H, W, 3) uint8."""
    render: np.ndarray
    """(H, W, 3) uint8."""
    depth: np.ndarray
    """(H, W), distance in world units."""
    accumulation: np.ndarray
    """(H, W) in [0, 1]."""


def read_view(folder: Path, index: int) -> Optional[KeptView]:
    """A view that `ns-fewshot eval` has kept; None where it has not.

    Args:
        folder: of the pictures.
        index: of the view in the test split.
    """
    stem = folder / f"view-{index:04d}"
    files = [stem.with_name(f"{stem.name}-{what}.png") for what in ("truth", "render")]
    if not all(file.is_file() for file in (*files, stem.with_suffix(".npz"))):
        return None
    truth, render = (read_image(file)[..., :3] for file in files)
    arrays = read_arrays(stem.with_suffix(".npz"), "depth of a rendered view", ("depth", "accumulation"))
    return KeptView(truth, render, arrays["depth"], arrays["accumulation"])


def scene_sheet(results: BenchResults, protocol: str, scene: str, max_views: int) -> Optional[np.ndarray]:
    """The views of a scene: photo, then render, depth, error and a zoomed crop of each method (its first seed).

    Args:
        results: of a benchmark's folder.
        protocol: name of the protocol.
        scene: name of the scene.
        max_views: views at most.

    Returns:
        (H, W, 3) uint8; None where no pictures were kept.
    """
    folders = _folders(results, protocol, scene)
    stems = {file.stem[5:] for folder in folders.values() for file in folder.glob("view-*.npz")}
    indices = sorted(int(stem) for stem in stems if stem.isdecimal())
    rows: List[List[LabelledImage]] = []
    titles: List[str] = []
    for index in indices[:max_views]:
        found = {label: read_view(folder, index) for label, folder in folders.items()}
        views = {label: view for label, view in found.items() if view is not None}
        if views:
            block = view_rows(views)
            rows += block
            titles += [f"view {index}", *[""] * (len(block) - 1)]
    return contact_sheet(rows, f"{scene}, {protocol}", titles, cell_width=_CELL_WIDTH) if rows else None


def view_rows(views: Dict[str, KeptView]) -> List[List[LabelledImage]]:
    """One row of pictures per method; depth in the same colours for all.

    Args:
        views: what each method shows, by its name.
    """
    truth = next(iter(views.values())).truth
    # Where nothing is hit, a distance says nothing.
    hit = [np.where(view.accumulation > 0.5, view.depth, np.nan) for view in views.values()]
    depths = [depth for depth in hit if np.isfinite(depth).any()]
    near, far = shared_depth_range(depths) if depths else (0.0, 1.0)
    crop = crop_of(truth)
    rows = []
    for label, view in views.items():
        depth = colour_depth(view.depth, view.accumulation, max(near, 1e-6), max(far, 2e-6))
        rows.append(
            [
                LabelledImage(truth, "photo"),
                LabelledImage(view.render, label),
                LabelledImage(depth, "depth: blue is near"),
                LabelledImage(colorize_error(view.render, truth), "difference, black is none"),
                LabelledImage(zoom(truth, crop), "photo, zoomed"),
                LabelledImage(zoom(view.render, crop), f"{label}, zoomed"),
            ]
        )
    return rows


def crop_of(image: np.ndarray) -> Tuple[int, int, int, int]:
    """Top, left, height and width of the part of an image with the most detail.

    Detail is the mean change of the brightness from pixel to pixel, where strong edges count no more than fine ones:
    else the border between a wall and the sky would win over the windows.

    Args:
        image: (H, W, 3) uint8.
    """
    height, width = (max(4, round(side * CROP_SHARE)) for side in image.shape[:2])
    grey = image.astype(np.float64).mean(axis=-1)
    down, across = np.diff(grey, axis=0, prepend=grey[:1]), np.diff(grey, axis=1, prepend=grey[:, :1])
    change = np.minimum(np.abs(down) + np.abs(across), _STRONG_EDGE)
    best, corner = -1.0, (0, 0)
    for top in range(0, image.shape[0] - height + 1, max(1, height // 2)):
        for left in range(0, image.shape[1] - width + 1, max(1, width // 2)):
            detail = float(change[top : top + height, left : left + width].mean())
            if detail > best:
                best, corner = detail, (top, left)
    return (*corner, height, width)


def zoom(image: np.ndarray, crop: Tuple[int, int, int, int]) -> np.ndarray:
    """A part of an image (H, W, 3), enlarged to the image's size without smoothing."""
    top, left, height, width = crop
    part = Image.fromarray(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return np.asarray(part.resize((image.shape[1], image.shape[0]), Image.Resampling.NEAREST))


def _folders(results: BenchResults, protocol: str, scene: str) -> Dict[str, Path]:
    """Folders of the pictures by method: of the first seed that has any."""
    found: Dict[str, Path] = {}
    for cell in results.cells:
        folder = results.pictures.get((cell.protocol, cell.scene, cell.label, cell.seed))
        if cell.protocol == protocol and cell.scene == scene and folder is not None:
            found.setdefault(cell.label, folder)
    return found


def curve_plot(results: BenchResults, protocol: str, scene: str, with_library: bool) -> Optional[str]:
    """PSNR over the CPU time of the training, one line per method, as HTML.

    Args:
        results: with curves.
        protocol: name of the protocol.
        scene: name of the scene.
        with_library: whether the plotting library is put into the text; once per page is enough.

    Returns:
        None where no training was measured on its way.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    groups = [group for group in groups_of(results, protocol) if scene in group.scenes]
    for group in groups:
        points = curve_of(group, scene)
        if points:
            seconds, values, errors = (list(column) for column in zip(*points, strict=True))
            figure.add_scatter(x=seconds, y=values, error_y=dict(array=errors), mode="lines+markers", name=group.label)
    if not figure.data:
        return None
    figure.update_layout(
        title=f"{scene}, {protocol}: {groups[0].metric_name('psnr')} of all test views while training",
        xaxis_title="CPU seconds of training",
        yaxis_title="PSNR (dB)",
        height=420,
        margin=dict(l=60, r=20, t=50, b=50),
    )
    # A name of its own for each figure, or the library would draw one by chance.
    name = f"curve-{protocol}-{scene}"
    return figure.to_html(full_html=False, include_plotlyjs=with_library, div_id=name)

"""A page that shows a scene as training will see it: cameras in space, views, depth priors and how they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.encoding import NOTE_NAME
from fewshot_ns.data.depth.maps import DepthMap, read_depth_map, resample_depth
from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.records.metadata import FewShotMetadata
from fewshot_ns.presentation.html_page import Picture, Section
from fewshot_ns.presentation.pictures import colorize_depth, hatch, side_by_side
from fewshot_ns.presentation.tables import Column, Table, TableCell
from fewshot_ns.utils.cache import cache_folder
from fewshot_ns.utils.json_files import OBJECT, checked, list_of, read_json_object

COLOURS = {"train": "#1f77b4", "test": "#d62728", "val": "#9467bd", "path": "#2ca02c"}
"""Colour of the frusta of each split and of the video's path."""
_DEPTH_POINTS = 4000
_ROWS = list_of(OBJECT, "a list of objects")


def frustum_lines(poses: npt.NDArray, aspect: Tuple[float, float], size: float) -> npt.NDArray[np.float64]:
    """Outlines of cameras as one broken line.

    Args:
        poses: (N, 3, 4) OpenGL camera-to-world.
        aspect: Half width and half height of the image at distance 1.
        size: Distance of the drawn image from the camera.

    Returns:
        (N * 12, 3) points; a row of NaN ends each camera.
    """
    half_width, half_height = aspect
    corners = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]]) * np.array([half_width, half_height])
    corners = np.concatenate([corners, -np.ones((4, 1))], axis=1)
    # Around the image, then from corner to corner through the camera's centre.
    order = np.stack([*corners, corners[0], np.zeros(3), corners[1], corners[2], np.zeros(3), corners[3]])
    local = size * np.concatenate([order, corners[:1]])
    world = np.einsum("nij,pj->npi", poses[:, :, :3], local) + poses[:, None, :, 3]
    return np.concatenate([world, np.full((len(poses), 1, 3), np.nan)], axis=1).reshape(-1, 3)


def cameras_plot(
    splits: Dict[str, FewShotDataset],
    path: Optional[npt.NDArray],
    points: Optional[npt.NDArray],
    depth_points: Sequence[Tuple[str, npt.NDArray, npt.NDArray]] = (),
) -> str:
    """Interactive figure of all cameras, sparse points and metric depth, as HTML with the plotting library in it.

    Args:
        splits: Datasets by split; the training split gives scale and aspect.
        path: (F, 3, 4) poses of the video, or None.
        points: (P, 3) sparse points of the scene, or None.
        depth_points: Name, positions (M, 3) and colours (M, 3) uint8 of the depth points of each training view.
    """
    import plotly.graph_objects as go

    cameras = splits["train"].cameras
    positions = np.concatenate([_poses(dataset)[:, :, 3] for dataset in splits.values()])
    size = 0.12 * max(float(np.linalg.norm(positions - positions.mean(0), axis=1).max()), 1e-3)
    aspect = (
        0.5 * float(cameras.width[0] / cameras.fx[0]),
        0.5 * float(cameras.height[0] / cameras.fy[0]),
    )
    figure = go.Figure()
    for name, dataset in splits.items():
        poses, record = _poses(dataset), dataset.fewshot
        _add_lines(figure, frustum_lines(poses, aspect, size), name, COLOURS[name])
        names = [
            f"{name} view {index}: {photo.name}"
            for index, photo in zip(record.image_indices, dataset.photos, strict=True)
        ]
        _add_points(figure, poses[:, :, 3], name, COLOURS[name], 3, hover=names, group=name)
    if path is not None:
        _add_lines(figure, frustum_lines(path[:: max(1, len(path) // 60)], aspect, 0.5 * size), "video path", "#2ca02c")
        _add_lines(figure, path[:, :, 3], "video path", COLOURS["path"], legend=False)
    if points is not None:
        _add_points(figure, points, "sparse points", "#555555", 1.2)
    for name, cloud, colours in depth_points:
        _add_points(figure, cloud, name, [f"rgb({r},{g},{b})" for r, g, b in colours], 1.5, hidden=True)
    figure.update_layout(
        height=720,
        margin=dict(l=0, r=0, t=0, b=0),
        legend=dict(itemsizing="constant", x=0, y=1),
        scene=dict(aspectmode="data", xaxis_title="x", yaxis_title="y", zaxis_title="z"),
    )
    return figure.to_html(full_html=False, include_plotlyjs=True)


def _poses(dataset: FewShotDataset) -> npt.NDArray[np.float64]:
    return dataset.cameras.camera_to_worlds.double().cpu().numpy()


def _add_lines(figure: Any, line: npt.NDArray, name: str, colour: str, legend: bool = True) -> None:
    x, y, z = np.round(line, 5).T
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="lines", name=name, legendgroup=name, showlegend=legend, line=dict(color=colour, width=3),
        hoverinfo="skip",
    )  # fmt: skip


def _add_points(
    figure: Any,
    points: npt.NDArray,
    name: str,
    colour: Any,
    size: float,
    hover: Optional[List[str]] = None,
    group: Optional[str] = None,
    hidden: bool = False,
) -> None:
    x, y, z = np.round(points, 5).T
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="markers", name=name, marker=dict(color=colour, size=size), legendgroup=group or name,
        showlegend=group is None, text=hover, hoverinfo="text" if hover else "skip",
        visible="legendonly" if hidden else True,
    )  # fmt: skip


def metric_points(dataset: FewShotDataset, view: int) -> Optional[Tuple[npt.NDArray, npt.NDArray]]:
    """World points (M, 3) and colours (M, 3) uint8 of a view's depth; None where its scale is unknown."""
    if dataset.fewshot.depth_encoding.unit is None or dataset.fewshot.depth_prior_filenames is None:
        return None
    depth = dataset.metric_depth(view)
    rays = dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
    row, column = np.nonzero(depth.valid)
    step = max(1, len(row) // _DEPTH_POINTS)
    row, column = row[::step], column[::step]
    directions = rays.directions.numpy()[row, column]
    points = rays.origins.numpy()[row, column] + depth.ray_distance[row, column, None] * directions
    return points, dataset.get_numpy_image(view)[row, column, :3]


def views_section(splits: Dict[str, FewShotDataset], width: int) -> Section:
    """Every view of every split, with its depth prior where it has one."""
    pictures = []
    for name, dataset in splits.items():
        for view, (index, photo) in enumerate(zip(dataset.fewshot.image_indices, dataset.photos, strict=True)):
            images = [_thumbnail(dataset.get_numpy_image(view)[..., :3], width)]
            files = dataset.fewshot.depth_prior_filenames
            caption = f"{name} view {index}: {photo.name}"
            if files is not None:
                depth, description = _depth_picture(dataset, view, width)
                images += [depth] if depth is not None else []
                caption += f"; {description}"
            pictures.append(Picture(side_by_side(images), caption))
    return Section("Views", pictures=pictures)


def _depth_picture(dataset: FewShotDataset, view: int, width: int) -> Tuple[Optional[npt.NDArray], str]:
    """A view's prior in colour, red far and blue near, hatched where it has no value; or why it cannot be read."""
    record = dataset.fewshot
    assert record.depth_prior_filenames is not None
    path = record.depth_prior_filenames[view]
    try:
        prior = read_depth_map(path, record.depth_encoding.polarity, dataset.size_of(view), record.depth_encoding)
        sigma = _relative_sigma(dataset, view, prior)
    except (ValueError, FileNotFoundError) as error:
        return None, str(error)
    size = max(1, round(prior.valid.shape[0] * width / prior.valid.shape[1])), width
    # Values are brought to the size of the page before they get colours, so that the stripes stay stripes.
    farness, valid = resample_depth(-prior.nearness(), prior.valid, size, nearest=True)
    low, high = np.quantile(farness[valid], (0.01, 0.99)) if valid.any() else (0.0, 1.0)
    colours = colorize_depth(np.where(valid, farness, np.nan), float(low), float(max(high, low + 1e-9)))
    known = f"{prior.valid.mean():.0%} valid" + ("" if sigma is None else f", median sigma {sigma:.1%} of depth")
    return hatch(colours, ~valid), f"depth {_words_of(path)}, blue is near, hatched has no value; {known}"


def _words_of(depth: Path) -> str:
    """What the page calls a depth map: by its file, unless it was computed and lies among the caches by its content."""
    return "from the photos" if cache_folder("depth").parent in depth.parents else depth.name


def _has_scale(record: FewShotMetadata, prior: DepthMap) -> bool:
    return record.depth_encoding.unit is not None and prior.polarity == "distance"


def _relative_sigma(dataset: FewShotDataset, view: int, prior: DepthMap) -> Optional[float]:
    """Median standard deviation as a fraction of depth; None where the map has no scale or gives none."""
    if not _has_scale(dataset.fewshot, prior):
        return None
    depth = dataset.metric_depth(view)
    if depth.sigma is None or not depth.valid.any():
        return None
    return float(np.median(depth.sigma[depth.valid] / depth.z_depth[depth.valid]))


def _thumbnail(image: npt.NDArray, width: int) -> npt.NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def depth_section(dataset: FewShotDataset) -> Section:
    """Statistics of the depth priors of the training views, and their alignment where it is on record."""
    record = dataset.fewshot
    if record.depth_prior_filenames is None:
        problem = [f"{record.depth_prior_problem}."] if record.depth_prior_problem else []
        ways = (
            "The photos themselves say something of it: ns-fewshot inspect --depth-source stereo shows it here, "
            "ns-fewshot depth --source stereo writes maps into the scene, and training takes it by itself where the "
            "depth prior's source is auto or stereo."
        )
        return Section("Depth priors", ["The training views have none.", *problem, ways])
    encoding = record.depth_encoding
    unit = "scale unknown" if encoding.unit is None else f"1 stored unit is {encoding.unit:.6g} world units"
    paragraph = f"Larger values are {_meaning(record)}. {encoding.meaning.replace('_', ' ')}, {unit}."
    titles = ("view", "file", "size", "valid %", "5 %", "median", "95 %", "median depth", "median sigma", "problem")
    rows = [_depth_row(dataset, view) for view in range(len(record.depth_prior_filenames))]
    columns = [Column(title, digits=1 if title == "valid %" else 4) for title in titles]
    tables = [Table(columns, rows, "Values as stored; depth and sigma in world units where the scale is known.")]
    alignment = _alignment_table(record)
    return Section("Depth priors", [paragraph], tables + ([alignment] if alignment else []))


def _meaning(record: FewShotMetadata) -> str:
    names = {"inverse_depth": "nearer", "distance": "farther", None: "nearer or farther as each file's format says"}
    return names[record.depth_encoding.polarity]


def _depth_row(dataset: FewShotDataset, view: int) -> List[TableCell]:
    record = dataset.fewshot
    assert record.depth_prior_filenames is not None
    path, encoding = record.depth_prior_filenames[view], record.depth_encoding
    head: List[TableCell] = [record.image_indices[view], _words_of(path)]
    try:
        stored = read_depth_file(path, encoding.eight_bit)
        prior = read_depth_map(path, encoding.polarity, dataset.size_of(view), encoding)
        low = middle = high = metric = sigma = None
        if prior.valid.any():
            low, middle, high = (float(value) for value in np.quantile(prior.values[prior.valid], (0.05, 0.5, 0.95)))
        if prior.valid.any() and _has_scale(record, prior):
            depth = dataset.metric_depth(view)
            metric = float(np.median(depth.z_depth[depth.valid]))
            sigma = None if depth.sigma is None else float(np.median(depth.sigma[depth.valid]))
    except (ValueError, FileNotFoundError) as error:
        return [*head, None, None, None, None, None, None, None, str(error)]
    size = f"{stored.shape[1]}x{stored.shape[0]}"
    return [*head, size, 100.0 * float(prior.valid.mean()), low, middle, high, metric, sigma, ""]


def _alignment_table(record: FewShotMetadata) -> Optional[Table]:
    """The alignment that `ns-fewshot depth --align` has recorded; None where it did not make the maps."""
    assert record.depth_prior_filenames is not None
    path = record.depth_prior_filenames[0].parent / NOTE_NAME
    note = checked(read_json_object(path), {"views": _ROWS}, str(path)) if path.is_file() else {}
    rows = note.get("views")
    if not rows:
        return None
    keys = ("view", "points", "inliers", "residual", "correlation", "scale", "shift", "sensor", "problem")
    cells = [[row.get(key) for key in keys] for row in rows]
    caption = f"Alignment of {note.get('model')} to {note.get('align')}: one scale and shift per view."
    return Table([Column(key, digits=4) for key in keys], cells, caption)

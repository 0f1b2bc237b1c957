"""Files of MVSNet's layout of DTU: cameras, depth maps, pairs of views."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.records.scene import SceneError
from fewshot_ns.utils.reading import read_text
from fewshot_ns.utils.shown_values import shown


class MVSNetCamera(NamedTuple):
    """A camera file."""

    camera_to_world: npt.NDArray[np.float64]
    """(3, 4) OpenCV axes, millimetres."""
    intrinsics: npt.NDArray[np.float64]
    """(3, 3) pixels of the calibration size."""
    depth_min: float
    """Smallest depth, millimetres."""
    depth_interval: float
    """Distance of MVSNet's depth planes, millimetres."""


def _lines_of(path: Path, what: str) -> List[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected {what}, found no such file")
    return read_text(path, SceneError).splitlines()


def read_mvsnet_camera(path: Path) -> MVSNetCamera:
    """Reads a `*_cam.txt`: 'extrinsic', four lines, 'intrinsic', three lines, a line with depth and interval.

    Raises:
        FileNotFoundError: no such file.
        SceneError: it holds something else.
    """
    words = " ".join(_lines_of(path, "a camera of the scan")).split()
    expected = "expected 'extrinsic', 16 numbers, 'intrinsic', 9 numbers, smallest depth and interval"
    if len(words) < 29 or words[0] != "extrinsic" or words[17] != "intrinsic":
        raise SceneError(f"{path}: {expected}, found {len(words)} words")
    try:
        numbers = np.array([float(word) for word in words[1:17] + words[18:29]])
    except ValueError as error:
        raise SceneError(f"{path}: {expected}, found {error}") from error
    if not np.isfinite(numbers).all() or numbers[26] <= 0 or numbers[25] < 0:
        raise SceneError(f"{path}: expected finite numbers, a depth of 0 or more and a positive interval, found others")
    try:
        camera_to_world = np.linalg.inv(numbers[:16].reshape(4, 4))[:3]
    except np.linalg.LinAlgError as error:
        raise SceneError(f"{path}: expected an invertible extrinsic matrix, found {error}") from error
    return MVSNetCamera(camera_to_world, numbers[16:25].reshape(3, 3), float(numbers[25]), float(numbers[26]))


def read_mvsnet_depth(path: Path, size: Tuple[int, int], scale: float) -> npt.NDArray[np.float32]:
    """Reads a true depth map of a scan and brings it to the size of the images: every second pixel, and the middle.

    Args:
        path: A .pfm of 1200x1600 pixels, millimetres of planar depth.
        size: (height, width) of the rectified images, 512x640.
        scale: World units per millimetre.

    Returns:
        `size` float32 in world units, 0 where nothing was measured.

    Raises:
        FileNotFoundError: no such file.
        SceneError: it is damaged, or too small.
    """
    try:
        halved = read_depth_file(path)[::2, ::2]
    except ValueError as error:
        raise SceneError(str(error)) from error
    top, left = (halved.shape[0] - size[0]) // 2, (halved.shape[1] - size[1]) // 2
    if min(top, left) < 0:
        raise SceneError(
            f"{path}: expected at least {2 * size[1]}x{2 * size[0]} pixels, found a map of half that size or less"
        )
    middle = halved[top : top + size[0], left : left + size[1]] * np.float32(scale)
    return np.where(np.isfinite(middle) & (middle > 0), middle, np.float32(0.0))


def read_pairs(path: Path, num_views: int) -> Tuple[Tuple[int, ...], ...]:
    """Reads a pair file: the number of views, then for each its number and a line 'count view score view score ...'.

    Args:
        path: The file.
        num_views: Views of the scene; others are left out of the lists.

    Returns:
        For each view its sources, best first; empty for a view that the file does not list.

    Raises:
        SceneError: it holds something else.
    """
    lines = [line.split() for line in _lines_of(path, "a list of source views") if line.strip()]
    neighbours: List[Tuple[int, ...]] = [()] * num_views
    for number, (head, row) in enumerate(zip(lines[1::2], lines[2::2], strict=False)):
        try:
            view, count, sources = int(head[0]), int(row[0]), tuple(int(word) for word in row[1::2])
        except ValueError as error:
            raise SceneError(
                f"{path}: expected 'count view score ...' in entry {number}, found {shown(' '.join(row))}"
            ) from error
        if min(view, count, *sources) < 0:
            raise SceneError(f"{path}: expected views from 0 in entry {number}, found {min(view, count, *sources)}")
        if count > len(sources):
            raise SceneError(f"{path}: expected {count} views in entry {number}, found {len(sources)}")
        if view < num_views:
            neighbours[view] = tuple(source for source in sources[:count] if source < num_views)
    if not any(neighbours):
        raise SceneError(f"{path}: expected source views of {num_views} views, found none")
    return tuple(neighbours)

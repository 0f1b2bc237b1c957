"""Arrays of geometry networks under the names that authors export them by, and the size that intrinsics are for."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

EXTRINSICS = ("extrinsics", "extrinsic")
INTRINSICS = ("intrinsics", "intrinsic")
DEPTHS = ("depth", "depths", "depth_map", "depth_maps")
CONFIDENCES = ("conf", "confidence", "confidences", "depth_conf", "depth_confidence", "world_points_conf")
"""Names of each array, of which the first that is there counts."""
NEAR_MIDDLE = 0.25
"""By how much twice the principal point may miss the size of an image that it is in, as a share of that size."""
NEAR_MIDDLE_ALONE = 0.1
"""The same without depth maps, where nothing else says that the photo was not cropped."""
SAME_SHAPE = 0.02
"""By how much the sides of two sizes of one image may differ in their ratio."""

Array = npt.NDArray[np.float64]


def find_array(
    arrays: Dict[str, npt.NDArray], names: Sequence[str], dims: int, count: int, where: str
) -> Optional[Array]:
    """An array by any of its names, without a leading batch of one and a trailing channel of one.

    Args:
        arrays: All that the source has.
        names: Names of the array.
        dims: Dimensions that it should have; the first one counts photos.
        count: Photos.
        where: Name of the source, for messages.

    Returns:
        float64; None where no name is there. Its shape may still be another one.

    Raises:
        ValueError: no numbers.
    """
    name = next((name for name in names if name in arrays), None)
    if name is None:
        return None
    array = arrays[name]
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{where}: expected numbers in {name}, found {array.dtype}")
    if array.ndim > dims and array.shape[0] == 1 and array.shape[1] == count:
        array = array[0]
    if array.ndim == dims + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return np.asarray(array, dtype=np.float64)


def sizes_of_intrinsics(
    matrices: Array,
    names: Sequence[str],
    photos: Array,
    taken: Array,
    maps: Optional[Tuple[int, int]],
    where: str,
) -> Array:
    """The size that each photo's intrinsics are for, by the principal point, which lies near the middle of it.

    Args:
        matrices: (N, 3, 3).
        names: (N) of the photos.
        photos: (N, 2) height and width of the photos as they were written.
        taken: (N, 2) the same before they were made smaller.
        maps: Height and width of the depth maps; None without.
        where: Name of the source, for messages.

    Returns:
        (N, 2) height and width. Without maps networks still have a size of their own, in whose very middle the
        principal point lies: where twice that has the photo's shape, it is this size.

    Raises:
        ValueError: maps of another shape than the photos, or a principal point that is near no middle.
    """
    doubled = np.stack([2 * matrices[:, 1, 2], 2 * matrices[:, 0, 2]], axis=1)
    if maps is not None:
        given = np.tile(np.asarray(maps, dtype=np.float64), (len(photos), 1))
        _check_shape(given, photos, names, where)
        # The networks' own convention, unless another size fits much better.
        choices = [(given, 1.0), (photos, 2.0), (taken, 2.0)]
    else:
        same = _shape_difference(doubled, photos) <= SAME_SHAPE
        if same.all():
            return doubled
        choices = [(photos, 1.0), (taken, 1.0)]
    # One size for all photos: a file is not in two units.
    misses = [float(np.abs(doubled / sizes - 1).max()) for sizes, _ in choices]
    best = min(range(len(choices)), key=lambda index: misses[index] * choices[index][1])
    if not misses[best] <= (NEAR_MIDDLE_ALONE if maps is None else NEAR_MIDDLE):
        index = int(np.abs(doubled / photos - 1).max(axis=1).argmax())
        places = {_words(sizes[index]): None for sizes, _ in choices}
        raise ValueError(
            f"{where}: expected intrinsics of {names[index]} whose principal point is near the middle of "
            f"{' or of '.join(places)}, found it at ({matrices[index, 0, 2]:.1f}, {matrices[index, 1, 2]:.1f}); give "
            "intrinsics in pixels of the depth maps or of the whole photos"
            + ("" if maps is not None else " (was the photo cropped or padded?)")
        )
    return choices[best][0]


def _check_shape(sizes: Array, photos: Array, names: Sequence[str], where: str) -> None:
    off = _shape_difference(sizes, photos)
    if off.max() > SAME_SHAPE:
        worst = int(off.argmax())
        raise ValueError(
            f"{where}: expected depth maps of the whole photo {names[worst]} ({_words(photos[worst])}), found "
            f"{_words(sizes[worst])}; it was cropped or padded"
        )


def _shape_difference(sizes: Array, photos: Array) -> Array:
    """(N,) by how much the sides' ratios differ."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = photos / sizes
        off = np.abs(scale[:, 0] / scale[:, 1] - 1)
    return np.where(np.isfinite(off) & (scale > 0).all(axis=1), off, np.inf)


def _words(size: Array) -> str:
    return f"{size[1]:.0f}x{size[0]:.0f}"

"""Images, masks and object boxes of many scenes, read on demand and kept in an LRU cache of bounded size."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.files.images import check_proportions, read_image, resize_float
from fewshot_ns.data.files.masks import mask_values, read_mask
from fewshot_ns.data.records.scene import Scene, SceneError
from fewshot_ns.utils.cache import LRUCache

BACKGROUND_VALUE = {"black": 0, "white": 255}
"""Value of all channels of the background."""
_BYTES_PER_ENTRY = 512
"""Counted for each kept array beside its values: key, header, entry of the cache."""


def _bytes_of(array: npt.NDArray) -> int:
    return int(array.nbytes) + _BYTES_PER_ENTRY


class SceneImages:
    """Reads what scenes show.

    Every error in a file is a `SceneError` that names it; nothing of a damaged file is kept.

    Args:
        max_bytes: Decoded data to keep; the least recently used goes first.
    """

    def __init__(self, max_bytes: int = 2 * 1024**3) -> None:
        self.cache: LRUCache[npt.NDArray] = LRUCache(max_bytes, _bytes_of)

    def image(self, scene: Scene, view: int) -> Tensor:
        """An image at the size of its camera, on the scene's background.

        Returns:
            (H, W, 3) float32 in [0, 1].

        Raises:
            SceneError: the file is missing, damaged or of other proportions than its camera.
        """
        return _composited(self._pixels(scene, view), scene.background)

    def images(self, scene: Scene, views: Sequence[int]) -> Tensor:
        """(V, H, W, 3) images as of `image`.

        Raises:
            SceneError: see `image`.
        """
        return torch.stack([self.image(scene, view) for view in views])

    def colours(self, scene: Scene, indices: Tensor) -> Tensor:
        """Colours of single pixels, without converting whole images.

        Args:
            scene: An opened scene.
            indices: (R, 3) int64 of view, row and column.

        Returns:
            (R, 3) float32 in [0, 1].

        Raises:
            SceneError: see `image`.
        """
        colours = torch.empty(len(indices), 3)
        for view in indices[:, 0].unique().tolist():
            chosen = indices[:, 0] == view
            rows, columns = indices[chosen, 1].numpy(), indices[chosen, 2].numpy()
            colours[chosen] = _composited(self._pixels(scene, view)[rows, columns], scene.background)
        return colours

    def mask(self, scene: Scene, view: int) -> Optional[Tensor]:
        """Share of each pixel that shows the object.

        It comes from the mask file, else from that for metrics alone, else from the transparency of the image, else,
        where the format says so, from the background: the object is where no channel has the background's value, so
        saturated pixels of the object count as background, as in the original.

        Returns:
            (H, W) float32 in [0, 1], or None where the format tells no object from its background.

        Raises:
            SceneError: see `image`.
        """
        masks = scene.evaluation_masks
        if scene.mask_filenames is None and masks is not None:
            path = masks.files[view]
            return None if path is None else _evaluation_mask(path, masks.level, _camera_size(scene, view))
        share = self._mask_on_disk(scene, view)
        if share is None:
            return None
        return torch.from_numpy(_resized(share[..., None], _camera_size(scene, view)))[..., 0]

    def box(self, scene: Scene, view: int) -> Tensor:
        """Box around the object, found at the size on disk and then scaled to the camera, as in the original.

        Returns:
            (4,) float32: first column, first row, last column, last row, the last ones included. Where there is no
            mask, or nothing in it, the whole image.

        Raises:
            SceneError: see `image`.
        """
        path = scene.image_filenames[view]
        found = self.cache.get((path, "box", _camera_size(scene, view)), partial(self._read_box, scene, view))
        return torch.from_numpy(found)

    def boxes(self, scene: Scene, views: Sequence[int]) -> Tensor:
        """(V, 4) boxes as of `box`.

        Raises:
            SceneError: see `image`.
        """
        return torch.stack([self.box(scene, view) for view in views])

    def _pixels(self, scene: Scene, view: int) -> npt.NDArray:
        """(H, W, 3 or 4) uint8 as on disk, or (H, W, 3) float32 on the background where it is resized."""
        key = (scene.image_filenames[view], scene.background, _camera_size(scene, view))
        return self.cache.get(key, partial(_read_pixels, scene, view))

    def _read_box(self, scene: Scene, view: int) -> npt.NDArray[np.float32]:
        height, width = _camera_size(scene, view)
        if scene.mask_filenames is None and not scene.mask_from_background:
            image = self._on_disk(scene, view)
            # Pixels with any value at all, transparent ones included: what the original takes.
            occupied = image.any(axis=-1) if image.shape[-1] == 4 else None
        else:
            share = self._mask_on_disk(scene, view)
            occupied = None if share is None else share > 0
        box = None if occupied is None else box_of(occupied)
        if occupied is None or box is None:
            return np.array([0, 0, width - 1, height - 1], dtype=np.float32)
        scale = np.array([width / occupied.shape[1], height / occupied.shape[0]] * 2)
        return (box * scale).astype(np.float32)

    def _mask_on_disk(self, scene: Scene, view: int) -> Optional[npt.NDArray[np.float32]]:
        """(H, W) float32 in [0, 1] at the size on disk."""
        if scene.mask_filenames is not None:
            path = scene.mask_filenames[view]
            return _read(path, _camera_size(scene, view), mask_values).astype(np.float32) / np.float32(255)
        if not scene.mask_from_background:
            image = self._on_disk(scene, view)
            return image[..., 3].astype(np.float32) / np.float32(255) if image.shape[-1] == 4 else None
        image = self._on_disk(scene, view)[..., :3]
        return (image != BACKGROUND_VALUE[scene.background]).all(axis=-1).astype(np.float32)

    def _on_disk(self, scene: Scene, view: int) -> npt.NDArray[np.uint8]:
        """The image as stored: the kept one where it was not resized, else read again."""
        pixels = self._pixels(scene, view)
        return pixels if pixels.dtype == np.uint8 else _read(scene.image_filenames[view], _camera_size(scene, view))


def _camera_size(scene: Scene, view: int) -> Size:
    return int(scene.cameras.height[view].item()), int(scene.cameras.width[view].item())


def _read(
    path: Path, size: Size, reader: Optional[Callable[[Path], npt.NDArray[np.uint8]]] = None
) -> npt.NDArray[np.uint8]:
    """An image or mask as stored, whose proportions have to be those of a camera of `size`."""
    try:
        image = read_image(path) if reader is None else reader(path)
        check_proportions(path, image.shape, size, "its camera")
        return image
    except (OSError, ValueError) as error:
        raise SceneError(str(error)) from error


def _evaluation_mask(path: Path, level: int, size: Size) -> Tensor:
    """(H, W) float32 in [0, 1]: thresholded and then resized as of one scene (`FewShotDataset.get_metadata`)."""
    mask = _read(path, size, lambda file: read_mask(file, level).astype(np.uint8))
    return torch.from_numpy(resize_float(mask.astype(np.float32), size, "bilinear"))


def _read_pixels(scene: Scene, view: int) -> npt.NDArray:
    path, size = scene.image_filenames[view], _camera_size(scene, view)
    image = _read(path, size)
    if image.shape[:2] == size:
        return image
    return _resized(_composited(image, scene.background).numpy(), size)


def _composited(image: npt.NDArray, background: str) -> Tensor:
    """(..., 3 or 4) uint8, or (..., 3) float32 that already lies on the background -> (..., 3) float32 in [0, 1]."""
    if image.dtype != np.uint8:
        return torch.from_numpy(image)
    colours = torch.from_numpy(image).float() / 255.0
    if image.shape[-1] == 3:
        return colours
    alpha = colours[..., 3:]
    return colours[..., :3] * alpha + (1.0 - alpha) * (BACKGROUND_VALUE[background] / 255.0)


def _resized(image: npt.NDArray[np.float32], size: Size) -> npt.NDArray[np.float32]:
    """(H, W, C) float32 to (height, width) by the mean of the pixels that each new one covers (torch's 'area')."""
    if image.shape[:2] == size:
        return image
    channels_first = torch.from_numpy(image).permute(2, 0, 1)[None]
    return functional.interpolate(channels_first, size=size, mode="area")[0].permute(1, 2, 0).contiguous().numpy()


def box_of(mask: npt.NDArray[np.bool_]) -> Optional[npt.NDArray[np.float32]]:
    """Box around the true pixels of a mask (H, W).

    Returns:
        (4,) float32: first column, first row, last column, last row, the last ones included; None for an empty mask.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(columns) == 0:
        return None
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)


def pixels_in_boxes(boxes: Tensor, draws: Tensor, size: Optional[Size] = None) -> Tuple[Tensor, Tensor]:
    """Pixels in boxes: a position is drawn continuously, from the box's first to the far edge of its last, and floored.

    Args:
        boxes: (R, 4) first column, first row, last column, last row, the last ones included.
        draws: (R, 2) uniform numbers in [0, 1) for column and row.
        size: (height, width) of the image, which no pixel may leave: a scaled box can end in half a pixel beyond it.

    Returns:
        rows (R,) and columns (R,), int64.
    """
    first, last = boxes[:, :2], boxes[:, 2:]
    pixels = (draws * (last + 1 - first) + first).long()
    if size is not None:
        pixels = torch.minimum(pixels, torch.tensor([size[1] - 1, size[0] - 1], device=pixels.device))
    return pixels[:, 1], pixels[:, 0]

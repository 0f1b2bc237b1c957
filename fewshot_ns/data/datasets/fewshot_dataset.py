"""The dataset of the few-shot scenes: images at the size of their cameras, object masks, and checks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from fewshot_ns.cameras.lenses import photographed_at, resampled
from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.depth.maps import DepthMap, read_depth_map
from fewshot_ns.data.depth.metric import MetricDepth, read_metric_depth
from fewshot_ns.data.depth.true_depth import KNOWN_DEPTH_KEY, read_known_depth, read_true_depth
from fewshot_ns.data.files.depth_formats import resolve_polarity
from fewshot_ns.data.files.images import (
    check_proportions,
    image_size,
    read_image,
    resize_float,
)
from fewshot_ns.data.files.masks import HALF, check_mask_of, read_mask
from fewshot_ns.data.files.normals import read_normals
from fewshot_ns.data.files.photo_files import photo_names
from fewshot_ns.data.records.metadata import (
    METADATA_KEY,
    BoundsOrigin,
    DepthEncoding,
    FewShotMetadata,
    ResizeMode,
    get_fewshot_metadata,
)
from fewshot_ns.data.records.photo_name import PhotoName

OBJECT_MASK_KEY = "object_mask"
"""Batch key of the evaluation mask. nerfstudio's key 'mask' would take pixels away from training instead."""
_READERS = 8
"""Photos that are decoded at once when a split is checked; libraries do it without holding Python's lock."""


class FewShotDataset(InputDataset):
    """Images resized to the cameras, with object masks where the scene has them.

    Where the scene's record has `lenses`, photos and all that belongs to them are straightened here as they are read,
    and nowhere else: files are of the lenses, what this class gives is of the cameras.

    Args:
        dataparser_outputs: Output of one of our dataparsers.
        scale_factor: Scales the cameras; the images follow.
    """

    exclude_batch_keys_from_device: List[str] = ["image", "mask"]

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0):
        super().__init__(dataparser_outputs, scale_factor)
        self.fewshot: FewShotMetadata = get_fewshot_metadata(dataparser_outputs.metadata)
        self._lenses: Optional[Cameras] = deepcopy(self.fewshot.lenses)
        if self._lenses is not None:
            self._lenses.rescale_output_resolution(scaling_factor=scale_factor)

    @property
    def file_to_world(self) -> Tensor:
        """(3, 4) rigid transform from the world of the scene's files to that of the cameras, before scaling."""
        return self._dataparser_outputs.dataparser_transform

    @property
    def world_scale(self) -> float:
        """Units of the world per unit of the scene's files."""
        return self._dataparser_outputs.dataparser_scale

    @property
    def photos(self) -> Tuple[PhotoName, ...]:
        """What the photos of this split are called; unique in the scene where its dataparser says it."""
        return self.fewshot.photos or photo_names([Path(path) for path in self.image_filenames])

    def size_of(self, image_idx: int) -> Tuple[int, int]:
        """Returns (height, width) of the camera, which is the size of everything that belongs to this view."""
        return int(self.cameras.height[image_idx].item()), int(self.cameras.width[image_idx].item())

    def size_of_file(self, image_idx: int) -> Size:
        """(height, width) that the files of a view are brought to, before photos of a bent lens are straightened."""
        cameras = self.cameras if self._lenses is None else self._lenses
        return int(cameras.height[image_idx].item()), int(cameras.width[image_idx].item())

    def as_photographed(self) -> FewShotDataset:
        """The same views as their lenses have taken them; itself where nothing is straightened."""
        if self._lenses is None:
            return self
        metadata = {**self._dataparser_outputs.metadata, METADATA_KEY: replace(self.fewshot, lenses=None)}
        outputs = replace(self._dataparser_outputs, cameras=self.fewshot.lenses, metadata=metadata)
        return type(self)(outputs, self.scale_factor)

    def _straightened(
        self, values: npt.NDArray[np.float32], image_idx: int, size: Optional[Size] = None, nearest: bool = False
    ) -> npt.NDArray[np.float32]:
        """(H, W, ...) what a file of a view holds, at the pixels of its camera; as it is where nothing is bent."""
        if self._lenses is None:
            return values
        size = self.size_of(image_idx) if size is None else size
        return resampled(values, photographed_at(self.cameras, self._lenses, image_idx, size), nearest)

    def _file_size(self, image_idx: int, size: Size) -> Size:
        """Size of a photo whose straightened one has a given size."""
        if self._lenses is None:
            return size
        pairs = zip(size, self.size_of_file(image_idx), self.size_of(image_idx), strict=True)
        height, width = (max(1, round(wanted * of / to)) for wanted, of, to in pairs)
        return height, width

    def has_photo(self, image_idx: int) -> bool:
        """Whether there is a photo of a view; of a camera that is only rendered there is none."""
        return self.fewshot.image_indices[image_idx] not in self.fewshot.rendered_indices

    def _read_float(self, image_idx: int) -> npt.NDArray[np.float32]:
        return self._sized(image_idx, self.size_of(image_idx), self.fewshot.resize)

    def _sized(self, image_idx: int, size: Tuple[int, int], mode: ResizeMode) -> npt.NDArray[np.float32]:
        image, of_file = self._on_disk(image_idx), self._file_size(image_idx, size)
        as_it_is = self._lenses is None and image.shape[:2] == size
        if self.fewshot.alpha_filenames is None or as_it_is:
            return self._straightened(resize_float(image, of_file, mode), image_idx, size)
        # What a mask hides is a background of all colours, of which nothing may mix into the object's edge.
        image[..., :3] *= image[..., 3:]
        image = self._straightened(resize_float(image, of_file, mode), image_idx, size)
        image[..., :3] /= np.maximum(image[..., 3:], np.float32(1e-6))
        return np.minimum(image, np.float32(1.0))

    def _on_disk(self, image_idx: int) -> npt.NDArray[np.float32]:
        """(H, W, 3 or 4) photo in [0, 1] at the size of its file, with the alpha that its mask gives it.

        A camera without a photo has an image of the background.
        """
        if not self.has_photo(image_idx):
            white = self.fewshot.geometry.background == "white"
            return np.full((*self.size_of_file(image_idx), 3), float(white), dtype=np.float32)
        path, masks = self.image_filenames[image_idx], self.fewshot.alpha_filenames
        image = read_image(path).astype(np.float32) / np.float32(255.0)
        if masks is None:
            return image
        mask = read_mask(masks[image_idx])
        check_mask_of(masks[image_idx], mask.shape, path)
        alpha = resize_float(mask.astype(np.float32), (image.shape[0], image.shape[1]), "area")
        return np.concatenate([image[..., :3], alpha[..., None]], axis=-1)

    def photo_at(self, image_idx: int, size: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """A photo at another size than its camera's, averaged, for what looks at photos closer than training does.

        Args:
            image_idx: Position in this split.
            size: (height, width) wanted.

        Returns:
            (H, W, 3) float32 in [0, 1] on its background, and (H, W) bool where the scene is: not masked out, and
            opaque where the photo has transparency.
        """
        image = self._sized(image_idx, size, "area")
        shown = self._training_mask_at(image_idx, size)
        if image.shape[-1] == 4:
            shown = shown & (image[..., 3] > 0.5)
        return self._on_background(torch.from_numpy(image)), torch.from_numpy(shown)

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """Returns the resized image, (H, W, 3 or 4) uint8, before it is laid on the background."""
        return np.round(self._read_float(image_idx) * 255.0).astype(np.uint8)

    def get_image_float32(self, image_idx: int) -> Tensor:
        """Returns the resized image on its background, (H, W, 3) float32 in [0, 1].

        It is resized in floating point, as the originals do, not after rounding to 8 bits.
        """
        return self._on_background(torch.from_numpy(self._read_float(image_idx)))

    def alpha(self, image_idx: int) -> Optional[Tensor]:
        """(H, W) opacity of a photo in [0, 1], at the size of its camera; None where its file has none."""
        image = self._read_float(image_idx)
        return torch.from_numpy(image[..., 3].copy()) if image.shape[-1] == 4 else None

    def alphas(self) -> Optional[List[Tensor]]:
        """(H, W, 1) opacity of every photo; None where a file has none, or all are opaque everywhere."""
        alphas = [self.alpha(index) for index in range(len(self))]
        known = [alpha[..., None] for alpha in alphas if alpha is not None]
        if len(known) < len(alphas) or all(bool((alpha == 1.0).all()) for alpha in known):
            return None
        return known

    @property
    def has_alpha(self) -> bool:
        """Whether every photo has alpha, and a background shows through some of them."""
        return self._dataparser_outputs.alpha_color is not None and self.alphas() is not None

    def _on_background(self, image: Tensor) -> Tensor:
        background = self._dataparser_outputs.alpha_color
        if background is not None and image.shape[-1] == 4:
            alpha = image[..., 3:]
            image = image[..., :3] * alpha + background * (1.0 - alpha)
        return image

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> Dict:
        """Returns 'image_idx', 'image' (H, W, 3), 'mask' (H, W, 1) bool and 'object_mask' where the scene has them.

        Args:
            image_idx: Position in this split.
            image_type: 'float32' in [0, 1] or 'uint8'.
        """
        image = self.get_image_uint8(image_idx) if image_type == "uint8" else self.get_image_float32(image_idx)
        data = {"image_idx": image_idx, "image": image}
        if self._dataparser_outputs.mask_filenames is not None:
            data["mask"] = self.training_mask(image_idx)
        data.update(self.get_metadata(data))
        return data

    def training_mask(self, image_idx: int) -> Tensor:
        """(H, W, 1) bool, which pixels may train; all where the scene has no masks.

        Raises:
            FileNotFoundError: the mask is missing.
            ValueError: it is damaged, of other proportions than its photo, or of no two colours.
        """
        return torch.from_numpy(self._training_mask_at(image_idx, self.size_of(image_idx)))[..., None]

    def _training_mask_at(self, image_idx: int, size: Tuple[int, int]) -> npt.NDArray[np.bool_]:
        files = self._dataparser_outputs.mask_filenames
        if files is None:
            return np.ones(size, dtype=np.bool_)
        mask = read_mask(files[image_idx])
        check_mask_of(files[image_idx], mask.shape, self.image_filenames[image_idx])
        # A pixel may train only where all that it is made of may.
        share = resize_float(mask.astype(np.float32), self._file_size(image_idx, size), self.fewshot.resize)
        return self._straightened(share, image_idx, size) >= 1.0 - 1e-5

    def get_metadata(self, data: Dict) -> Dict:
        """Returns {'object_mask': (H, W, 1) float32 in [0, 1]} where the scene has evaluation masks, and
        {'known_depth': (H, W, 1) bool} where it knows the true depth.

        The mask is thresholded at full size and then resized bilinearly, so its border may be fractional.
        """
        found: Dict[str, Tensor] = {}
        index, masks, depths = data["image_idx"], self.fewshot.object_mask_filenames, self.fewshot.true_depth_filenames
        if masks is not None:
            mask = resize_float(self.object_mask_on_disk(index), self.size_of_file(index), "bilinear")
            found[OBJECT_MASK_KEY] = torch.from_numpy(self._straightened(mask, index))[..., None]
        # Training knows nothing of it.
        depth = None if depths is None or self.fewshot.split == "train" else depths[index]
        if depth is not None:
            known = read_known_depth(depth, self.image_filenames[index], self.size_of_file(index))
            if self._lenses is not None:
                known = torch.from_numpy(self._straightened(known.float().numpy(), index, nearest=True)) > 0
            found[KNOWN_DEPTH_KEY] = known
        return found

    def object_mask_on_disk(self, image_idx: int) -> npt.NDArray[np.float32]:
        """(H, W) evaluation mask of a view, which has one, of zeros and ones at the size of its file.

        Raises:
            FileNotFoundError: the mask is missing.
            ValueError: it is damaged, or of other proportions than its photo.
        """
        path = (self.fewshot.object_mask_filenames or ())[image_idx]
        mask = read_mask(path, self.fewshot.object_mask_level)
        check_mask_of(path, mask.shape, self.image_filenames[image_idx])
        return mask.astype(np.float32)

    def use_depth_maps(self, files: Sequence[Path], encoding: DepthEncoding) -> None:
        """Uses these maps, one per view, instead of those that the scene came with."""
        self.fewshot = replace(self.fewshot, depth_prior_filenames=tuple(files), depth_encoding=encoding)
        self.metadata[METADATA_KEY] = self.fewshot

    def with_bounds(self, near: float, far: float, origin: BoundsOrigin) -> FewShotDataset:
        """The same dataset with another near and far.

        Args:
            near: first ray parameter sampled.
            far: last ray parameter sampled.
            origin: where the two come from.
        """
        geometry = replace(self.fewshot.geometry, near=near, far=far)
        record = replace(self.fewshot, geometry=geometry, bounds_from=origin)
        metadata = {**self._dataparser_outputs.metadata, METADATA_KEY: record}
        return type(self)(replace(self._dataparser_outputs, metadata=metadata), self.scale_factor)

    def metric_depth(self, image_idx: int) -> MetricDepth:
        """Depth of a view in world units, at the size of its camera.

        Raises:
            ValueError: the scene has no depth maps, or theirs has no scale.
        """
        files = self.fewshot.depth_prior_filenames
        if files is None:
            raise ValueError(
                f"{self.image_filenames[image_idx]}: expected a depth map of this {self.fewshot.split} view, found none"
            )
        return self.metric_depth_of(image_idx, files[image_idx], self.fewshot.depth_encoding)

    def metric_depth_of(self, image_idx: int, path: Path, encoding: DepthEncoding) -> MetricDepth:
        """Depth of a view by any map of known scale of its photo, see `metric_depth`."""
        norms = self.ray_norms(image_idx)
        if self._lenses is None:
            return read_metric_depth(path, encoding, norms)
        found = read_metric_depth(path, encoding, _ray_norms(self._lenses, image_idx))
        z_depth, valid = self._straightened_depth(found.z_depth, found.valid, image_idx)
        sigma = None if found.sigma is None else self._straightened_depth(found.sigma, found.valid, image_idx)[0]
        return MetricDepth(z_depth, valid, norms, sigma)

    def true_depth(self, image_idx: int) -> Optional[npt.NDArray[np.float32]]:
        """(H, W) measured planar depth of a view in world units at the size of its camera, 0 where nothing was
        measured; None where the view has none. Nothing trains on it.

        Raises:
            FileNotFoundError: the map is missing.
            ValueError: it is damaged, or too small.
        """
        files = self.fewshot.true_depth_filenames
        path = None if files is None else files[image_idx]
        if path is None:
            return None
        size = self.size_of_file(image_idx)
        depth = read_true_depth(path, self.image_filenames[image_idx], size, self.world_scale)
        return depth if self._lenses is None else self._straightened(depth, image_idx, nearest=True)

    def depth_map(self, image_idx: int) -> DepthMap:
        """Depth map of a view, of any scale and polarity, at the size of its camera.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: the scene has none, or it is unusable.
        """
        files, encoding = self.fewshot.depth_prior_filenames, self.fewshot.depth_encoding
        size = self.size_of_file(image_idx)
        if files is None:
            raise ValueError(f"{self.image_filenames[image_idx]}: expected a depth map of this view, found none")
        found = read_depth_map(files[image_idx], encoding.polarity, size, encoding)
        # A straightened pixel sees along the ray of the one that it is made of, so depth along rays holds as well.
        return DepthMap(*self._straightened_depth(found.values, found.valid, image_idx), found.polarity)

    def _straightened_depth(
        self, values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], image_idx: int
    ) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Values (H, W) and where they mean something (H, W); the nearest pixel, so that surfaces do not mix."""
        if self._lenses is None:
            return values, valid
        shown = self._straightened(valid.astype(np.float32), image_idx, nearest=True) > 0
        return self._straightened(values, image_idx, nearest=True), shown

    def normals(self, image_idx: int) -> npt.NDArray[np.float32]:
        """(H, W, 3) measured unit normals of a view in the axes of their file, zero where there is none.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: it is unusable.
        """
        path = None if self.fewshot.normal_filenames is None else self.fewshot.normal_filenames[image_idx]
        if path is None:
            return np.zeros((*self.size_of(image_idx), 3), np.float32)
        return self._straightened(read_normals(path, self.size_of_file(image_idx))[0], image_idx, nearest=True)

    def has_metric_depth(self, image_idx: int) -> bool:
        """Whether a view has a depth map of known scale."""
        files, encoding = self.fewshot.depth_prior_filenames, self.fewshot.depth_encoding
        if files is None or encoding.unit is None:
            return False
        return resolve_polarity(files[image_idx], encoding.polarity) == "distance"

    def ray_norms(self, image_idx: int) -> npt.NDArray[np.float32]:
        """(H, W) distance along the ray of each pixel per unit of planar depth, at the size of the camera."""
        return _ray_norms(self.cameras, image_idx)


def _ray_norms(cameras: Cameras, index: int) -> npt.NDArray[np.float32]:
    rays = cameras.generate_rays(camera_indices=index, keep_shape=True)
    return rays.metadata["directions_norm"][..., 0].cpu().numpy()


def depth_maps_record(dataset: FewShotDataset) -> Dict[str, Dict[str, Any]]:
    """What was taken for the unit of the scene's depth maps, for the record of a run: `unit` in units of the scene's
    files, and what states it; empty where there are no maps of known scale."""
    encoding = dataset.fewshot.depth_encoding
    if dataset.fewshot.depth_prior_filenames is None or encoding.unit is None or encoding.unit_from is None:
        return {}
    unit = float(f"{encoding.unit / dataset.world_scale:.9g}")
    return {"depth_maps": {"unit": unit, "unit_from": encoding.unit_from, "meaning": encoding.meaning}}


def validate_dataset(dataset: FewShotDataset, measured: bool = False) -> None:
    """Decodes every photo and mask of a split once, several at a time, so that bad input ends in one clear message
    before training.

    Args:
        dataset: The split to check.
        measured: Whether its views will be evaluated, so that object masks must show the object, and maps that say
            where the true depth is known are read.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, does not fit its camera, or leaves nothing to measure.
    """
    positions = [position for position in range(len(dataset)) if dataset.has_photo(position)]
    with ThreadPoolExecutor(max_workers=min(_READERS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(partial(_validate_view, dataset, measured), positions):
            pass


def _validate_view(dataset: FewShotDataset, measured: bool, position: int) -> None:
    fewshot, path = dataset.fewshot, dataset.image_filenames[position]
    check_proportions(path, image_size(path), dataset.size_of_file(position), "its camera")
    read_image(path)
    dataset.training_mask(position)
    if fewshot.alpha_filenames is not None:
        dataset.alpha(position)
    if measured:
        _check_measured(dataset, position)
    elif fewshot.object_mask_filenames is not None:
        dataset.object_mask_on_disk(position)


def _check_measured(dataset: FewShotDataset, position: int) -> None:
    """Reads the masks that metrics are of, and checks that a pixel of the object is wholly inside."""
    found = dataset.get_metadata({"image_idx": position})
    mask, files = found.get(OBJECT_MASK_KEY), dataset.fewshot.object_mask_filenames
    if mask is not None and files is not None and not bool((mask == 1.0).any()):
        height, width = mask.shape[:2]
        level = dataset.fewshot.object_mask_level
        of_level = f" (of a mask with values above {HALF - 1}, those from {level} on are the object)"
        raise ValueError(
            f"{files[position]}: expected an object mask with an object of a pixel or more at {width}x{height} pixels, "
            f"at which {dataset.image_filenames[position].name} is measured, found none"
            f"{of_level if level > HALF else ''}"
        )

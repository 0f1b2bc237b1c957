"""Photos, masks and depth as files of the cameras' size: what the datasets of nerfstudio's own methods can read.

nerfstudio's `InputDataset` opens the files of a dataparser as they are, and takes them to be of the size of the
cameras; its `DepthDataset` takes planar depth in .npy files. Ours read the originals and need none of this.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image

from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.files.images import image_size, is_plain, read_image
from fewshot_ns.utils.cache import cache_folder
from fewshot_ns.utils.files import replacing
from fewshot_ns.utils.hashing import digest, file_key

CACHE_KIND = "camera_sized"
"""Name of the folder of these files among the package's caches."""
DEPTH_FILES_KEY = "depth_filenames"
"""nerfstudio's metadata key of depth maps, one per image."""
DEPTH_UNIT_KEY = "depth_unit_scale_factor"
"""nerfstudio's metadata key of the length of their unit in units of the scene's files."""


def camera_sized(outputs: DataparserOutputs, sizes: Mapping[Path, Size], depth_trains: bool) -> DataparserOutputs:
    """The outputs of one of our dataparsers, for a dataset of nerfstudio's own.

    Files that fit already stay as they are. Others are written to the cache once, by their content and size.

    Args:
        outputs: of one split.
        sizes: (height, width) of the cameras of all photos of the scene in use, by file: the copies of all splits lie
            in one folder.
        depth_trains: Whether the training views have depth maps of known scale; other views without a map then get an
            empty one, where nerfstudio would download a network for them.

    Returns:
        The outputs with files of the size of their cameras: 8-bit photos, masks of one channel and, where known,
        planar depth in units of the scene's files, 0 where nothing is known.

    Raises:
        FileNotFoundError: a photo, mask or depth map is missing.
        ValueError: one is damaged, or of other proportions than its camera.
    """
    dataset = FewShotDataset(outputs)
    validate_dataset(dataset)
    changes: Dict[str, Any] = {}
    if not all(image_size(path) == size and is_plain(path) for path, size in sizes.items()):
        changes["image_filenames"] = _photo_copies(dataset, sizes)
    if outputs.mask_filenames is not None:
        changes["mask_filenames"] = _mask_copies(dataset, outputs.mask_filenames)
    depths = _depth_copies(dataset, depth_trains)
    if depths:
        changes["metadata"] = {**outputs.metadata, DEPTH_FILES_KEY: depths, DEPTH_UNIT_KEY: 1.0}
    return replace(outputs, **changes)


def has_metric_depth(outputs: DataparserOutputs) -> bool:
    """Whether every view of a split has a depth map of known scale."""
    dataset = FewShotDataset(outputs)
    return all(dataset.has_metric_depth(position) for position in range(len(dataset)))


def sizes_of(files: Sequence[Path], *cameras: Cameras) -> Dict[Path, Size]:
    """(height, width) of the cameras of photos, which are those of the first group, of the second, ..."""
    sides = [side for group in cameras for side in zip(group.height.flatten(), group.width.flatten(), strict=True)]
    return {path: (int(height), int(width)) for path, (height, width) in zip(files, sides, strict=True)}


def _photo_copies(dataset: FewShotDataset, sizes: Mapping[Path, Size]) -> List[Path]:
    names = _names(list(sizes), ".png")
    key = digest("photos", *map(file_key, sizes), *sizes.values(), dataset.fewshot.resize)
    folder = cache_folder(CACHE_KIND) / key

    def write(position: int, path: Path) -> None:
        # The suffix of a temporary file says nothing.
        Image.fromarray(dataset.get_numpy_image(position)).save(path, format="PNG")

    targets = [folder / names[path] for path in dataset.image_filenames]
    written = _write_missing(targets, write, read_image)
    if written:
        height, width = dataset.size_of(0)
        CONSOLE.print(
            f"{written} photos at {width}x{height} pixels for nerfstudio's own datasets: {folder}",
            highlight=False,
            soft_wrap=True,
        )
    return targets


def _mask_copies(dataset: FewShotDataset, masks: Sequence[Path]) -> List[Path]:
    sizes = [dataset.size_of(position) for position in range(len(dataset))]
    folder = cache_folder(CACHE_KIND) / digest("masks", *map(file_key, masks), dataset.fewshot.resize, *sizes)

    def write(position: int, path: Path) -> None:
        mask = dataset.training_mask(position)[..., 0].numpy()
        Image.fromarray(mask.astype(np.uint8) * 255).save(path, format="PNG")

    targets = [folder / f"{position:05d}.png" for position in range(len(dataset))]
    _write_missing(targets, write, read_image)
    return targets


def _depth_copies(dataset: FewShotDataset, depth_trains: bool) -> List[Path]:
    """Files of planar depth; none where the depth of the training views has no scale or does not exist."""
    record, count = dataset.fewshot, len(dataset)
    sizes = [dataset.size_of(position) for position in range(count)]
    known = [dataset.has_metric_depth(position) for position in range(count)]
    if record.split == "train" and not all(known):
        if record.depth_prior_filenames is not None:
            CONSOLE.print(
                f"{record.depth_prior_filenames[0].parent}: depth maps without a scale, which nerfstudio's "
                "depth-nerfacto does not get; --depth-polarity distance and --depth-unit give them one",
                highlight=False,
                soft_wrap=True,
            )
        return []
    if not depth_trains:
        return []
    maps = record.depth_prior_filenames if all(known) else None
    parts = ["none"] if maps is None else [*map(file_key, maps), record.depth_encoding, dataset.cameras.fx.tolist()]
    folder = cache_folder(CACHE_KIND) / digest("depth", *parts, dataset.world_scale, *sizes)

    def write(position: int, path: Path) -> None:
        depth = np.zeros(sizes[position], dtype=np.float32)
        if maps is not None:
            depth = dataset.metric_depth(position).z_depth / np.float32(dataset.world_scale)
        with path.open("wb") as stream:
            np.save(stream, depth.astype(np.float32))

    targets = [folder / f"{position:05d}.npy" for position in range(count)]
    _write_missing(targets, write, read_depth_file)
    return targets


def _write_missing(targets: Sequence[Path], write: Callable[[int, Path], None], read: Callable[[Path], object]) -> int:
    """Writes the files that are not there, or that `read` finds damaged, each whole or not at all; returns their
    number."""
    missing = [position for position, target in enumerate(targets) if not _is_whole(target, read)]
    for position in missing:
        with replacing(targets[position]) as temporary:
            write(position, temporary)
    return len(missing)


def _is_whole(path: Path, read: Callable[[Path], object]) -> bool:
    try:
        read(path)
    except (OSError, ValueError):
        return False
    return True


def _names(photos: Sequence[Path], suffix: str) -> Dict[Path, Path]:
    """Names of copies below a folder: those of the photos below the folder that they share."""
    root = Path(os.path.commonpath([path.parent for path in photos]))
    names = {path: path.relative_to(root).with_suffix(suffix) for path in photos}
    if len(set(names.values())) < len(names):
        names = {path: path.relative_to(root).with_name(path.name + suffix) for path in photos}
    return names

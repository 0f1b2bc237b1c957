"""What the datasets in the format of Differentiable Volumetric Rendering (DVR) share: lists and `cameras.npz`.

Objects lie in `<category>/<object>` with `image`, `mask` and `cameras.npz`; each category folder has list files that
name the objects of a split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import LARGEST
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParser, MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_views import listed_files
from fewshot_ns.data.files.images import IMAGE_SUFFIXES
from fewshot_ns.data.files.scene_folder import MOVED_SCENE
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.utils.arrays import read_arrays
from fewshot_ns.utils.json_files import is_file_name
from fewshot_ns.utils.reading import read_text
from fewshot_ns.utils.shown_values import shown


@dataclass
class DVRDataParserConfig(MultiSceneDataParserConfig):
    """Flags of the datasets in DVR format."""

    _target: Type = field(default_factory=lambda: DVRDataParser)
    """Parser class to instantiate."""
    list_prefix: str = "softras_"
    """Beginning of the names of the lists in each category's folder: PREFIXtrain.lst, PREFIXval.lst, PREFIXtest.lst."""


class DVRDataParser(MultiSceneDataParser):
    """Base of the parsers of DVR's format."""

    config: DVRDataParserConfig
    list_of_split = {"train": ("train",), "val": ("val",), "test": ("test",)}
    """Which list a split is read from; the first that a category has."""

    def _list_scenes(self, split: str) -> Iterator[SceneEntry]:
        data = Path(os.path.abspath(self.config.data))
        if not data.is_dir():
            raise FileNotFoundError(f"{data}: expected the folder of a data set (--data), found nothing; {MOVED_SCENE}")
        names = [f"{self.config.list_prefix}{name}.lst" for name in self.list_of_split[split]]
        with os.scandir(data) as found:
            folders = [data, *sorted(data / item.name for item in found if item.is_dir())]
        lists = [next((folder / name for name in names if (folder / name).is_file()), None) for folder in folders]
        if not any(lists):
            raise FileNotFoundError(
                f"{data}: expected {names[0]} in it or in the folders of its categories, found none"
            )
        for folder, path in zip(folders, lists, strict=True):
            if path is not None:
                # A list in the data folder itself, with the objects beside it, has no categories.
                category = "" if folder == data else folder.name
                for name in read_list(path):
                    yield SceneEntry(f"{category}/{name}" if category else name, category, folder / name, split)

    def _images_of(self, entry: SceneEntry) -> Tuple[Path, ...]:
        images = listed_files(entry.folder / "image", IMAGE_SUFFIXES)
        if not images:
            raise FileNotFoundError(
                f"{entry.folder / 'image'}: expected images ({', '.join(IMAGE_SUFFIXES)}), found none"
            )
        return images


def read_list(path: Path) -> List[str]:
    """Names in a list file, one per line; empty lines count for nothing.

    Raises:
        ValueError: the file is no text, or names something outside of its folder.
    """
    names = [line.strip() for line in read_text(path).splitlines()]
    for number, name in enumerate(names, start=1):
        if name and (Path(name).is_absolute() or ".." in Path(name).parts or not is_file_name(name)):
            raise ValueError(
                f"{path} line {number}: expected the name of a folder beside the list, found {shown(name)}"
            )
    return [name for name in names if name]


class CameraFile:
    """Matrices of a `cameras.npz`.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: no such file.
        SceneError: it is no archive of arrays.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the cameras of the scene, found no such file")
        self.path = path
        self._arrays = read_arrays(path, "an archive of matrices", kind=SceneError)

    def has(self, name: str, index: int) -> bool:
        """Whether there is a matrix of this kind of a view."""
        return f"{name}_{index}" in self._arrays

    def matrix(self, name: str, index: int) -> npt.NDArray[np.float64]:
        """A matrix of a view, (4, 4); one of three rows gets 0 0 0 1 below.

        Raises:
            SceneError: it is missing, of another shape or not finite.
        """
        key = f"{name}_{index}"
        if key not in self._arrays:
            raise SceneError(
                f"{self.path}: expected {key} of view {index}, found {len(self._arrays)} arrays without it"
            )
        array = self._arrays[key]
        if array.shape not in ((4, 4), (3, 4)) or array.dtype.kind not in "fiu":
            raise SceneError(f"{self.path}: expected a 4x4 matrix {key}, found {array.dtype} of shape {array.shape}")
        # Said so that NaN fails.
        if not (np.abs(array) <= LARGEST).all():
            raise SceneError(f"{self.path}: expected finite numbers in {key}, found NaN, infinite or huge values")
        return np.concatenate([array[:3], [[0.0, 0.0, 0.0, 1.0]]]).astype(np.float64)

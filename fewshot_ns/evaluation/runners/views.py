"""Views to evaluate: of a dataset, or as one of nerfstudio's dataloaders gives them, and which of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from fewshot_ns.data.datasets.fewshot_dataset import OBJECT_MASK_KEY
from fewshot_ns.data.depth.true_depth import KNOWN_DEPTH_KEY
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata

Item = TypeVar("Item")


@dataclass(frozen=True)
class ViewData:
    """What a rendered view is compared with."""

    image: Tensor
    """(H, W, 3 or more) true image; floats in [0, 1], or uint8. Channels after the third do not count."""
    object_mask: Optional[Tensor] = None
    """(H, W, 1) in [0, 1], 1 on the object; None: the view has no mask."""
    known_depth: Optional[Tensor] = None
    """(H, W, 1) bool, which pixels have a true depth; None: the view has no depth map."""
    sources: Tuple[int, ...] = ()
    """View indices of the source views that it is rendered from."""

    @classmethod
    def from_batch(cls, batch: Mapping[str, Any], use_mask: bool = True) -> ViewData:
        """The data that a nerfstudio dataset or datamanager gives for a view."""
        mask = batch.get(OBJECT_MASK_KEY) if use_mask else None
        return cls(batch["image"], mask, batch.get(KNOWN_DEPTH_KEY))


@dataclass(frozen=True)
class EvaluatedView:
    """A view to evaluate; its images are read when it is measured."""

    file_name: str
    """Name of the true image's file; its path below the folder of all images where others have the same name."""
    view_index: int
    """Index of the view in the whole scene."""
    split_index: int
    """Index of the view among the test views; of one scene of many, in the scene."""
    camera: Optional[Cameras]
    """(1,) its camera; None where `prediction` stands for what is rendered."""
    load: Callable[[], ViewData]
    """Reads what it is compared with."""
    scale_label: Optional[int] = None
    """In scenes with images of several sizes, which size; every metric then has a second column `<name>_d<label>`."""
    scene: Optional[str] = None
    """Name of the scene in an evaluation over many scenes."""
    category: str = ""
    """The scene's category."""
    prediction: Optional[Callable[[], Dict[str, Tensor]]] = None
    """Reads `rgb` (H, W, 3) in [0, 1] of an image that was rendered before; None: the scene renders the camera."""
    files: Tuple[Path, ...] = ()
    """What is read to measure it: photo, masks and depth map, and the render that lies on disk."""


def scene_view_indices(dataset: InputDataset) -> Tuple[int, ...]:
    """Index in the whole scene of each view of a dataset; of other packages' dataparsers, index in the split."""
    record = dataset.metadata.get(METADATA_KEY)
    return tuple(range(len(dataset))) if record is None else tuple(record.image_indices)


def dataset_views(
    dataset: InputDataset,
    indices: Sequence[int],
    use_masks: bool = True,
    cached: Optional[Sequence[Dict[str, Any]]] = None,
) -> List[EvaluatedView]:
    """Views of a dataset.

    Args:
        dataset: the test views, at the size at which they are measured.
        indices: which of them, by split index.
        use_masks: whether object masks count.
        cached: data of all views where the datamanager keeps them changed (undistorted); None: as the dataset reads
            them.
    """

    def load(index: int) -> ViewData:
        return ViewData.from_batch(dataset.get_data(index) if cached is None else cached[index], use_masks)

    return [
        _dataset_view(dataset, index, dataset.cameras[index : index + 1], partial(load, index)) for index in indices
    ]


def loader_views(loader: Iterable[Tuple[Cameras, Dict[str, Any]]], dataset: InputDataset) -> Iterator[EvaluatedView]:
    """Views as one of nerfstudio's evaluation dataloaders gives them.

    Args:
        loader: camera (1,) and batch of each view.
        dataset: that the loader reads.
    """
    for camera, batch in loader:
        index = int(batch["image_idx"])
        data = ViewData.from_batch(batch)
        yield _dataset_view(dataset, index, camera, lambda data=data: data)


def scale_labels(dataset: InputDataset) -> Optional[Tuple[int, ...]]:
    """How often each image of a dataset was halved, in scenes with images of several sizes; None in others."""
    record = dataset.metadata.get(METADATA_KEY)
    return None if record is None else record.scale_labels


def _dataset_view(dataset: InputDataset, index: int, camera: Cameras, load: Callable[[], ViewData]) -> EvaluatedView:
    record, view_index = dataset.metadata.get(METADATA_KEY), scene_view_indices(dataset)[index]
    known = () if record is None else record.photos
    name = known[index].name if known else Path(dataset.image_filenames[index]).name
    labels = scale_labels(dataset)
    return EvaluatedView(
        file_name=name,
        view_index=view_index,
        split_index=index,
        camera=camera,
        load=load,
        scale_label=None if labels is None else labels[index],
        files=_files_of(dataset, index),
    )


def _files_of(dataset: InputDataset, index: int) -> Tuple[Path, ...]:
    """The files of a view, its photo first."""
    photo, record = Path(dataset.image_filenames[index]), getattr(dataset, "fewshot", None)
    if not isinstance(record, FewShotMetadata):
        return (photo,)
    others = (record.alpha_filenames, record.object_mask_filenames, record.true_depth_filenames)
    named = [files[index] for files in others if files is not None]
    return (photo, *(file for file in named if file is not None))


def choose_views(scene_indices: Sequence[int], views: Optional[Sequence[int]], max_views: Optional[int]) -> List[int]:
    """Split indices of the views to evaluate.

    Args:
        scene_indices: view index in the scene of each test view.
        views: view indices in the scene; None: all.
        max_views: at most so many, at equal steps from the first to the last; None: no limit.

    Raises:
        ValueError: a view is no test view.
    """
    split_indices = {view: index for index, view in enumerate(scene_indices)}
    wrong = [view for view in views or () if view not in split_indices]
    if wrong:
        raise ValueError(f"--views: expected test views of the run ({', '.join(map(str, split_indices))}), got {wrong}")
    chosen = list(range(len(scene_indices))) if views is None else [split_indices[view] for view in views]
    return list(at_equal_steps(chosen, max_views))


def at_equal_steps(items: Sequence[Item], most: Optional[int]) -> Sequence[Item]:
    """At most so many items, at equal steps from the first to the last; None: all."""
    if most is None or most >= len(items):
        return items
    return [items[int(index)] for index in np.round(np.linspace(0, len(items) - 1, most))]

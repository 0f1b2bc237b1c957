"""Reading everything that a split of a scene has on disk."""

from __future__ import annotations

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.depth.maps import read_depth_map


def read_all(dataset: FewShotDataset) -> None:
    """Checks photos and masks as a training does, and reads every depth map."""
    validate_dataset(dataset)
    files, encoding = dataset.fewshot.depth_prior_filenames, dataset.fewshot.depth_encoding
    assert files is not None
    for view, path in enumerate(files):
        read_depth_map(path, encoding.polarity, dataset.size_of(view), encoding)

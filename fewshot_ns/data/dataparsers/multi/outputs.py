"""Views of an opened scene as the `DataparserOutputs` of nerfstudio's datasets."""

from __future__ import annotations

from typing import Sequence

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.utils.colors import get_color

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.files.images import has_alpha
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import Scene

PROTOCOL = "multi-scene"
"""Name of the view protocol of such scenes."""


def scene_outputs(
    scene: Scene, views: Sequence[int], split: str, train: Sequence[int], test: Sequence[int]
) -> DataparserOutputs:
    """Some views of a scene.

    Args:
        scene: An opened scene.
        views: View indices.
        split: 'train', 'val' or 'test', for the record.
        train: View indices of all views that train or are source views.
        test: View indices of all views that are evaluated.

    Raises:
        FileNotFoundError: the first image is missing.
        ValueError: it is no image.
    """
    metadata = FewShotMetadata(
        geometry=SceneGeometry("metric", *scene.planar_range, "cone", scene.background),
        protocol=PROTOCOL,
        split=split,
        image_indices=tuple(views),
        train_indices=tuple(train),
        test_indices=tuple(test),
        scene_camera_to_worlds=scene.cameras.camera_to_worlds,
        pool_indices=tuple(train),
        has_alpha=has_alpha(scene.image_filenames[views[0]]),
        true_depth_filenames=None
        if split == "train" or scene.depth_filenames is None
        else tuple(scene.depth_filenames[view] for view in views),
    )
    return DataparserOutputs(
        image_filenames=[scene.image_filenames[index] for index in views],
        cameras=scene.cameras[torch.tensor(views)],
        alpha_color=get_color(scene.background),
        scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]) * scene.far),
        metadata={METADATA_KEY: metadata},
    )

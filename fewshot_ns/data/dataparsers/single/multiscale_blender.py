"""Multi-scale Blender scenes in mip-NeRF's layout: `metadata.json` and `images_{train,val,test}`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple, Type

import numpy as np

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig, frame_protocol, select_frames
from fewshot_ns.data.dataparsers.single.multiscale_conversion import MultiscaleSplit, read_multiscale
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.views.selection import ViewSelection


@dataclass
class MultiscaleBlenderDataParserConfig(FewShotBlenderDataParserConfig):
    """Multi-scale synthetic scenes. Views are frames; each brings its images of all sizes."""

    _target: Type = field(default_factory=lambda: MultiscaleBlenderDataParser)
    """Parser class to instantiate."""


class MultiscaleBlenderDataParser(FewShotDataParser):
    """Parser of mip-NeRF's multi-scale scenes.

    `--train-indices` and `--test-indices` count frames of their split. The scene's list of views holds all images of
    the training split, then of the test split, then of the validation split, in the order of the file.
    """

    config: MultiscaleBlenderDataParserConfig

    def _read_scene(self) -> SceneFiles:
        config = self.config
        if config.on_missing is not None:
            raise ValueError(
                f"{config.data}: --on-missing is not for multi-scale scenes, whose photos all have to exist"
            )
        splits = read_multiscale(config.data, config.allow_outside)
        parts = [splits[name] for name in ("train", "test", "val") if name in splits]
        frames = [frames_of(part) for part in parts]
        num_train, num_test = len(frames[0]), len(frames[1])
        protocol = frame_protocol(config, num_train, num_test)
        offsets = np.cumsum([0] + [len(part.files) for part in parts])
        self._images_of_frame = [
            tuple(int(offset) + image for image in frame)
            for part, offset in zip(frames, offsets, strict=False)
            for frame in part
        ]
        validation = range(num_train + num_test, len(self._images_of_frame), config.testskip)
        focal = np.concatenate([part.focal for part in parts])
        sizes = np.concatenate([part.sizes for part in parts])
        half = np.full(len(focal), 0.5)
        near, far = self._near_far(min(part.near for part in parts), max(part.far for part in parts))
        return SceneFiles(
            images=tuple(config.data / file for part in parts for file in part.files),
            camera_to_worlds=np.concatenate([part.poses for part in parts]),
            intrinsics=np.stack([focal / sizes[:, 1], focal / sizes[:, 0], half, half], axis=1),
            protocol=protocol,
            list_lengths=tuple(len(part.files) for part in parts),
            geometry=SceneGeometry("metric", near, far, "cone", config.background),
            validation=None if config.test_indices is not None else self._images_of(validation) or None,
            loss_weights=np.concatenate([part.loss_weight for part in parts]),
            scale_labels=np.concatenate([part.label for part in parts]),
            remarks=tuple(dict.fromkeys(remark for part in parts for remark in part.remarks)),
        )

    def _select(self, scene: SceneFiles) -> ViewSelection:
        chosen = select_frames(self.config, scene.protocol, self.least_views)
        return ViewSelection(
            f"multiscale-{chosen.protocol}", self._images_of(chosen.train), self._images_of(chosen.test)
        )

    def _images_of(self, frames: Sequence[int]) -> Tuple[int, ...]:
        """Indices of the images of all sizes of some frames."""
        return tuple(image for frame in frames for image in self._images_of_frame[frame])


def frames_of(split: MultiscaleSplit) -> List[Tuple[int, ...]]:
    """Images of each frame of a split: those with the same pose, in the order of the file."""
    frames: Dict[bytes, List[int]] = {}
    for index, pose in enumerate(split.poses):
        frames.setdefault(pose.tobytes(), []).append(index)
    return [tuple(images) for images in frames.values()]

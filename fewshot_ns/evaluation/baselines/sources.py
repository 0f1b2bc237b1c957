"""Predictions from the source views of a generalizable model, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.data.multiscene.active import ActiveScene, SceneViewSelector
from fewshot_ns.data.multiscene.batches import intrinsics_of
from fewshot_ns.evaluation.baselines.plane_sweep import plane_sweep
from fewshot_ns.evaluation.baselines.trivial import TrivialBaselines


@dataclass(frozen=True)
class SourceBaselines:
    """The mean colour of a camera's source views, the nearest of them, and, of two or more, a plane sweep."""

    selector: SceneViewSelector
    """Chooses the source views of a camera, and reads them."""
    active: ActiveScene
    """The scene."""

    def predict(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """Predicted images (H, W, 3) by baseline name.

        Args:
            camera: (1,) of the predicted view.
            size: its height and width, pixels.

        Raises:
            SceneError: a source view cannot be read.
        """
        scene, pose = self.active.scene, camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu()
        sources = list(self.selector.sources_for(self.active, pose))
        images = [self.selector.library.images.image(scene, source) for source in sources]
        poses = scene.cameras.camera_to_worlds[sources]
        predicted = TrivialBaselines(images, poses).predict(camera, size)
        near, far = scene.planar_range
        if len(sources) > 1 and near > 0:
            predicted["plane_sweep"] = plane_sweep(
                torch.stack(images),
                poses,
                intrinsics_of(scene.cameras)[sources],
                pose,
                intrinsics_of(camera).reshape(-1, 4)[0].cpu(),
                size,
                near,
                far,
            )
        return predicted

"""What the source views of a generalizable model show without a network."""

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
    """Says which source views a camera has, and reads them."""
    active: ActiveScene
    """The scene."""

    def of_camera(self, camera: Cameras, size: Tuple[int, int]) -> Dict[str, Tensor]:
        """Images (H, W, 3) of a view by the baseline's name.

        Args:
            camera: (1,) the view.
            size: its height and width, pixels.

        Raises:
            SceneError: a source view cannot be read.
        """
        scene, pose = self.active.scene, camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu()
        sources = list(self.selector.sources_for(self.active, pose))
        seen = [self.selector.library.images.image(scene, source) for source in sources]
        poses = scene.cameras.camera_to_worlds[sources]
        predicted = TrivialBaselines(seen, poses).predict(pose, *size)
        near, far = scene.planar_range
        if len(sources) > 1 and near > 0:
            lenses, lens = intrinsics_of(scene.cameras)[sources], intrinsics_of(camera).reshape(-1, 4)[0].cpu()
            predicted["plane_sweep"] = plane_sweep(torch.stack(seen), poses, lenses, pose, lens, size, near, far)
        return predicted

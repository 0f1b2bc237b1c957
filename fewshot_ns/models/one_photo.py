"""pixelNeRF shown one photo: a model from a checkpoint alone, without the scenes that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Union

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.data.scene_box import SceneBox

from fewshot_ns.cameras.poses import Poses
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.cameras.turntable import ObjectCamera
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.models.pixelnerf import PixelNeRFModel, PixelNeRFModelConfig

PROTOCOL = "one-photo"
"""Name of the view protocol of a photo."""


def model_of_photos(
    config: PixelNeRFModelConfig,
    weights: Path,
    camera: ObjectCamera,
    background: Literal["black", "white"],
    device: Union[torch.device, str],
) -> PixelNeRFModel:
    """A model in evaluation mode that waits for a photo.

    Args:
        config: of the model that was trained.
        weights: a training checkpoint, or a released file.
        camera: of the photo.
        background: what a ray sees behind the object.
        device: of the model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no checkpoint.
        CheckpointMismatchError: networks of another size.
    """
    geometry = SceneGeometry("metric", camera.near, camera.far, "cone", background)
    record = FewShotMetadata(geometry, PROTOCOL, "train", (0,), (0,), (), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]) * camera.far)
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})
    model.start_from(weights)
    return model.to(device).eval()


@torch.no_grad()
def show_photo(
    model: PixelNeRFModel,
    image: npt.NDArray[np.float32],
    camera: ObjectCamera,
    pose: Poses,
    background: Literal["black", "white"],
) -> None:
    """Conditions a model on one photo.

    Args:
        model: in evaluation mode.
        image: (H, W, 3) in [0, 1], of the camera's size.
        camera: of the photo.
        pose: (3, 4) of the photo's camera, OpenGL axes.
        background: what a ray sees behind the object.
    """
    model.condition(
        Conditioning(
            images=torch.from_numpy(image)[None, None],
            camera_to_worlds=torch.from_numpy(pose).float()[None, None],
            intrinsics=torch.tensor(camera.intrinsics())[None, None],
            near=torch.tensor([camera.near]),
            far=torch.tensor([camera.far]),
            background=background,
        )
    )

"""Frusta of the training cameras in nerfstudio's viewer, with pictures only where there are photos.

nerfstudio draws its own with pictures alone, so it stops where a photo is gone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Optional

import cv2
import numpy as np
import numpy.typing as npt
import viser.transforms
from nerfstudio.data.datasets.base_dataset import InputDataset

from fewshot_ns.viewer.cameras import SCENE_UNITS

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

_PICTURE_SIDE = 100
"""Pixels of the shorter side of the picture in a frustum, as in nerfstudio's."""


def draw_frusta(viewer: Viewer, dataset: InputDataset) -> int:
    """Draws a frustum for each camera of a dataset; a click on one puts the page's camera there.

    Args:
        viewer: nerfstudio's; its own buttons hide and show what is drawn here.
        dataset: cameras, and photos that may be missing or damaged.

    Returns:
        How many of them have a picture.
    """
    viewer.camera_handles, viewer.original_c2w = {}, {}
    pictures = 0
    for index in range(len(dataset)):
        picture = _picture(dataset, index)
        pictures += picture is not None
        camera = dataset.cameras[index]
        pose = camera.camera_to_worlds.double().cpu().numpy()
        rotation = viser.transforms.SO3.from_matrix(pose[:, :3]) @ viser.transforms.SO3.from_x_radians(math.pi)
        handle = viewer.viser_server.scene.add_camera_frustum(
            name=f"/cameras/camera_{index:05d}",
            fov=2.0 * math.atan(float(camera.cy / camera.fy)),
            aspect=float(camera.cx / camera.cy),
            scale=viewer.config.camera_frustum_scale,
            image=picture,
            wxyz=rotation.wxyz,
            position=pose[:, 3] * SCENE_UNITS,
        )
        handle.on_click(lambda event, number=index: _go_to(viewer, event, number))
        viewer.camera_handles[index], viewer.original_c2w[index] = handle, pose
    return pictures


def _picture(dataset: InputDataset, index: int) -> Optional[npt.NDArray[np.uint8]]:
    """(H, W, 3) small picture of a photo; None where it cannot be read."""
    try:
        image = dataset[index]["image"][..., :3].cpu().numpy()
    except (OSError, ValueError):
        return None
    factor = min(1.0, _PICTURE_SIDE / min(image.shape[:2]))
    size = (max(1, round(factor * image.shape[1])), max(1, round(factor * image.shape[0])))
    small = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.round(255.0 * np.clip(small, 0.0, 1.0)).astype(np.uint8)


def _go_to(viewer: Viewer, event: Any, index: int) -> None:
    with event.client.atomic():
        event.client.camera.position = event.target.position
        event.client.camera.wxyz = event.target.wxyz
    viewer.current_camera_idx = index

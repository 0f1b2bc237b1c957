"""Moves the camera of every page that shows a running viewer."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from nerfstudio.viewer.viewer_elements import ViewerControl

SCENE_UNITS = 10.0
"""Units of the viewer's page per unit of the scene: VISER_NERFSTUDIO_SCALE_RATIO, whose module loads gsplat."""


def place_camera(control: ViewerControl, pose: npt.NDArray[np.float64], distance: float) -> None:
    """Puts the camera of every connected page at a pose; where no viewer runs, nothing happens.

    nerfstudio's `ViewerControl.set_pose` is not implemented.

    Args:
        control: nerfstudio's element, which knows the viewer.
        pose: (3, 4) OpenGL camera-to-world matrix in the world of the cameras.
        distance: how far before the camera the point lies that the page's mouse turns around, world units.
    """
    server: Optional[Any] = getattr(control, "viser_server", None)
    if server is None:
        return
    for client in server.get_clients().values():
        place_page(client, pose, distance)


def place_page(client: Any, pose: npt.NDArray[np.float64], distance: float) -> None:
    """Puts the camera of one page at a pose, see `place_camera`.

    Args:
        client: viser's handle of the page.
        pose: (3, 4).
        distance: world units.
    """
    position, backward, up = pose[:, 3], pose[:, 2], pose[:, 1]
    with client.atomic():
        client.camera.up_direction = up
        client.camera.position = SCENE_UNITS * position
        client.camera.look_at = SCENE_UNITS * (position - distance * backward)

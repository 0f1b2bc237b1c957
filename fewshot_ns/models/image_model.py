"""Backbones that render whole images, such as splats: no rays, no samples along them."""

from dataclasses import dataclass
from typing import Dict, Optional

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.fewshot_model import FewShotModel, FewShotModelConfig


@dataclass
class ImageModelConfig(FewShotModelConfig):
    """Fields that every image backbone shares."""


class ImageModel(FewShotModel):
    """Base of the image backbones; a subclass gives `render_cameras` and its loss.

    `Rendering.distance` is planar depth, as the ray parameter of metric scenes is, so that margins and intervals of the
    losses on depth keep their meaning.
    """

    config: ImageModelConfig

    def populate_modules(self) -> None:
        """Checks the ray space.

        Raises:
            ValueError: the scene is in NDC, which only rays can be rendered in.
        """
        super().populate_modules()
        if self.geometry.ray_space == "ndc":
            raise ValueError(
                f"{type(self).__name__} renders images of cameras in the world, and this scene is in NDC; give the "
                "dataparser's --ray-space metric"
            )

    def render_pixels(self, cameras: Cameras, pixels: Tensor) -> Rendering:
        """(R,) pixels (R, 3), gathered from the images of the cameras that they name, each rendered once."""
        views, of_view = pixels[:, 0].unique(return_inverse=True)
        sizes = torch.cat([cameras.height, cameras.width], dim=-1)[views.to(cameras.device)].cpu()
        parts, order = [], []
        # Images of one size are rendered together.
        for size in sizes.unique(dim=0):
            alike = (sizes == size).all(-1).nonzero()[:, 0]
            images = self.render_cameras(cameras[views[alike].to(cameras.device)])
            position = torch.full((len(views),), -1)
            position[alike] = torch.arange(len(alike))
            mine = (position[of_view.cpu()] >= 0).nonzero()[:, 0]
            rows, columns = pixels[mine.to(pixels.device), 1:].unbind(-1)
            where = (position[of_view.cpu()[mine]], rows.cpu(), columns.cpu())
            parts.append(images.map(lambda value, where=where: value[tuple(index.to(value.device) for index in where)]))
            order.append(mine)
        back = torch.cat(order).argsort()
        return Rendering.cat(parts).map(lambda value: value[back.to(value.device)])

    def get_outputs(self, ray_bundle: RayBundle) -> Dict[str, Tensor]:  # type: ignore[override]
        """Not served: an image backbone needs the cameras that rays belong to.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{type(self).__name__} renders images, not rays: use a command that renders cameras")

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Optional[OrientedBox] = None) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a whole image."""
        rendering = self.render_cameras(camera.reshape((-1,)).to(self.device))[0]
        outputs = rendering.outputs()
        return {**outputs, "rgb": outputs["rgb"].clamp(0.0, 1.0)}

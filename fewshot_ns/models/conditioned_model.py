"""What generalizable models share: they render what source views show, and those have to be the camera's."""

from typing import Callable, Dict, List, Optional, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, Conditioning
from fewshot_ns.models.fewshot_model import FewShotModel
from fewshot_ns.priors.diffusion.prior import PromptViews


def rays_between(
    ray_bundle: RayBundle, known: Conditioning, length: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor, Tensor]:
    """Which scenes rays belong to, and where they begin and end.

    Args:
        ray_bundle: (R,) rays, with nears and fars as distances where a crop box has set them (viewer, ns-render,
            ns-export).
        known: the scenes that are shown; rays are of scene 0 where `SCENE_INDEX_KEY` does not name another.
        length: (R, 1) distance along a ray per unit of the scenes' near and far; None: 1.

    Returns:
        (R,) places of the scenes, (R, 1) near and (R, 1) far.
    """
    origins, index = ray_bundle.origins, ray_bundle.metadata.get(SCENE_INDEX_KEY)
    scenes = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
    scenes = scenes if index is None else index[:, 0].to(scenes)
    near, far = (bound.to(origins)[scenes, None] for bound in (known.near, known.far))
    if ray_bundle.nears is not None and ray_bundle.fars is not None:
        cropped = (bound if length is None else bound / length for bound in (ray_bundle.nears, ray_bundle.fars))
        first, last = (torch.clamp(bound, near, far) for bound in cropped)
        near, far = first, torch.maximum(last, first)
    return scenes, near, far


class ConditionedModel(FewShotModel):
    """Base of the generalizable models; a subclass gives `condition` and `get_outputs`."""

    before_camera: Optional[Callable[[Cameras], None]] = None
    """Called before a camera is rendered: the pipeline shows the model the source views of that camera, for the viewer
    and the host's commands ask the model alone."""

    def condition(self, conditioning: Conditioning) -> None:
        """Shows the model the source views of the scenes whose rays come next, until the next call."""
        raise TypeError(f"{type(self).__name__} has to define condition")

    @property
    def has_latent(self) -> bool:
        """Whether the model predicts a latent of the view that is rendered, see `guided_latents`."""
        return False

    def guided_latents(self) -> Tuple[Tensor, List[PromptViews]]:
        """(B, C, h, w) predicted latents of the views that are rendered, for the diffusion prior, and the source views
        of the B scenes."""
        raise TypeError(f"{type(self).__name__} has no latent")

    def load_encoder_weights(self) -> None:
        """Takes pretrained weights of an encoder, before training from nothing; does nothing where there are none."""

    def look_at(self, camera: Cameras) -> None:
        """Shows the model what it needs of a camera that is about to be rendered: its source views."""
        if self.before_camera is not None:
            self.before_camera(camera)

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Optional[OrientedBox] = None) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a whole image, from the source views of its camera."""
        self.look_at(camera)
        return super().get_outputs_for_camera(camera, obb_box)

    def render_levels(
        self, ray_bundle: RayBundle, stratified: Optional[bool] = None, coarse_only: bool = False
    ) -> Dict[str, Tensor]:
        """Colours of world rays (R,) of the scene shown; samples are always random in training, and a coarse level
        never comes alone."""
        outputs = self.get_outputs(ray_bundle)
        names = [name for name in ("rgb", "rgb_coarse") if name in outputs and not (coarse_only and name == "rgb")]
        return {name: outputs[name] for name in names}

"""What generalizable models share: they are conditioned on the source views of the camera that they render."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from fewshot_ns.data.multiscene.source_provider import (
    SOURCE_PROVIDER_KEY,
    TARGET_VIEW_KEY,
    SourceKey,
    SourceProvider,
)
from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, Conditioning
from fewshot_ns.model_components.curricula import NearFarAnnealingConfig
from fewshot_ns.models.ray_model import RayModel, RayModelConfig
from fewshot_ns.priors.base import CameraRequest
from fewshot_ns.priors.diffusion.prior import PromptViews


def rays_between(
    ray_bundle: RayBundle, conditioning: Conditioning, length: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor, Tensor]:
    """Which scenes rays belong to, and where they begin and end.

    Args:
        ray_bundle: (R,) rays, with nears and fars as distances where a crop box has set them (viewer, ns-render,
            ns-export).
        conditioning: the scenes that the model is conditioned on; rays are of scene 0 where `SCENE_INDEX_KEY` names no
            other.
        length: (R, 1) distance along a ray per unit of the scenes' near and far; None: 1.

    Returns:
        (R,) indices of the scenes, (R, 1) near and (R, 1) far.
    """
    origins, index = ray_bundle.origins, ray_bundle.metadata.get(SCENE_INDEX_KEY)
    scenes = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
    scenes = scenes if index is None else index[:, 0].to(scenes)
    near, far = (bound.to(origins)[scenes, None] for bound in (conditioning.near, conditioning.far))
    if ray_bundle.nears is not None and ray_bundle.fars is not None:
        cropped = (bound if length is None else bound / length for bound in (ray_bundle.nears, ray_bundle.fars))
        first, last = (torch.clamp(bound, near, far) for bound in cropped)
        near, far = first, torch.maximum(last, first)
    return scenes, near, far


@dataclass
class ConditionedModelConfig(RayModelConfig):
    """Fields that every generalizable model shares."""

    annealing: NearFarAnnealingConfig = field(default_factory=lambda: NearFarAnnealingConfig(steps=0))
    """Not served: near and far are those of the scene from the first step on."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=CameraOptimizerConfig)
    """Not served: poses are those of the data."""


class ConditionedModel(RayModel):
    """Base of the generalizable models; a subclass gives `encode_sources` and `render_bundle`.

    In training the pipeline calls `condition` with the source views of the batch. For single cameras (evaluation,
    viewer, nerfstudio's commands) the model asks the datamanager's `SourceProvider` by itself, which it is given in its
    metadata; a model that was built without one has to be conditioned before each camera.
    """

    config: ConditionedModelConfig
    sources_from: Optional[SourceProvider]
    """Says which source views a camera has."""
    conditioned_on: Optional[SourceKey]
    """Source views of the provider that the model is conditioned on; None: none, or others."""

    def populate_modules(self) -> None:
        """Takes the provider out of the metadata.

        Raises:
            ValueError: annealed near and far, which differ from scene to scene, or poses that are to be refined.
        """
        if self.refines_poses:
            raise ValueError(
                f"--pipeline.model.camera-optimizer.mode {self.config.camera_optimizer.mode}: "
                f"{type(self).__name__} trains on the photos of many scenes, whose poses are no part of it; give off"
            )
        super().populate_modules()
        if self.annealing.steps > 0:
            raise ValueError(
                f"--pipeline.model.annealing.steps: {type(self).__name__} renders many scenes, each from its own near "
                "to its own far; give 0"
            )
        self.sources_from = self.kwargs["metadata"].get(SOURCE_PROVIDER_KEY)
        self.conditioned_on = None

    def condition(self, conditioning: Conditioning) -> None:
        """Conditions the model on the source views of the scenes whose rays come next, until the next call.

        They are encoded once; in training with a graph, so that the losses of all rays of a step reach the encoder.

        Args:
            conditioning: B scenes of V views each.

        Raises:
            ValueError: a number of views that the networks are not made for.
        """
        self.conditioned_on = None
        self.encode_sources(conditioning)

    def encode_sources(self, conditioning: Conditioning) -> None:
        """Encodes source views and keeps the result for the rays that follow."""
        raise TypeError(f"{type(self).__name__} has to define encode_sources")

    def guided_latents(self) -> Tuple[Tensor, List[PromptViews]]:
        """(B, C, h, w) predicted latents of the views that are rendered, for the diffusion prior, and the source views
        of the B scenes."""
        raise TypeError(f"{type(self).__name__} has no latent")

    def load_encoder_weights(self) -> None:
        """Loads pretrained weights of an encoder, before training from scratch; does nothing where there are none."""

    @torch.no_grad()
    def condition_on(self, camera: Cameras, again: bool = False) -> None:
        """Conditions the model on the source views of a camera of the active scene.

        Args:
            camera: one camera.
            again: encodes them also where the model is conditioned on them already, as after its weights have changed.

        Raises:
            SceneError: a source view cannot be read, or the scene has too few.
        """
        if self.sources_from is None:
            return
        sources = self.sources_from.sources_for(camera)
        if sources.key == self.conditioned_on and not again:
            return
        self.conditioned_on = None
        conditioning = self.sources_from.load(sources)
        training = self.training
        # Encoders have batch statistics of their own in training.
        self.eval()
        try:
            self.condition(conditioning)
        finally:
            self.train(training)
        self.conditioned_on = sources.key

    def prepare_for(self, camera: Cameras) -> None:
        """Conditions the model on all that it needs to render a camera, whose rays come next."""
        self.condition_on(camera)

    def forward(  # type: ignore[override]
        self,
        ray_bundle: RayBundle,
        pixels: Optional[Tuple[Cameras, Tensor]] = None,
        views: Sequence[CameraRequest] = (),
    ) -> Any:
        """As every backbone's. Outside of training, rays that name their view (`TARGET_VIEW_KEY`) are rendered from its
        source views."""
        view = ray_bundle.metadata.get(TARGET_VIEW_KEY)
        if view is not None and self.sources_from is not None and not self.training:
            self.prepare_for(self.sources_from.camera(int(view[0, 0])))
        return super().forward(ray_bundle, pixels, views)

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Optional[OrientedBox] = None) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a whole image, from the source views of its camera."""
        self.prepare_for(camera)
        return super().get_outputs_for_camera(camera, obb_box)

"""The diffusion prior on methods without a latent network: renderings of unseen views, through the autoencoder."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch
from torch import Tensor

from fewshot_ns.cameras.ray_images import ray_images
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.pretrained.diffusion_models import Autoencoder
from fewshot_ns.priors.diffusion.prior import FLAG, DiffusionPrior, PromptViews
from fewshot_ns.priors.semantic import RenderLevels
from fewshot_ns.priors.unseen_views import UnseenViews


class RenderedDiffusion:
    """Experimental: what DreamFusion does to renderings, with the photos for a prompt.

    Args:
        prior: the diffusion prior, whose config decides.
    """

    def __init__(self, prior: DiffusionPrior) -> None:
        self.prior = prior
        self.views: Optional[UnseenViews] = None
        self.autoencoder: Optional[Autoencoder] = None
        self._tokens = torch.zeros(0)

    def prepare(self, dataset: FewShotDataset, device: torch.device) -> None:
        """Loads the frozen networks and makes the prompt, where the prior is on.

        Args:
            dataset: training split.
            device: of model and networks.

        Raises:
            WeightsNotFoundError: a model is nowhere to be had.
            ValueError: photos of several sizes for the prompt 'images'; see `DiffusionPrior` and `UnseenViews`.
        """
        prior = self.prior
        if not prior.config.enabled:
            return
        self.views = UnseenViews(prior.config.views, dataset, device, f"{FLAG}.views")
        prior.prepare(device)
        self.autoencoder = Autoencoder(prior.folder(decodes=True), device, prior.dtype(device))
        self._tokens = prior.prompt(_photos(dataset, device) if prior.config.prompt == "images" else None)

    def resolved(self) -> Dict[str, Any]:
        """What the scene decided and what was found, for the log; empty where the prior is off."""
        return {} if self.views is None else {**self.views.resolved(), **self.prior.resolved()}

    def loss_dict(self, render: RenderLevels, step: int) -> Dict[str, Tensor]:
        """Weighted term of the step, on the final level; empty where the prior is off.

        Args:
            render: gives the colours of the rays of an unseen view.
            step: current step.
        """
        if not self.prior.active(step) or self.views is None or self.autoencoder is None:
            return {}
        grid = self.views.draw_grid()
        colours = render(self.views.rays(self.views.draw_pose(), grid))["rgb"]
        latents = self.autoencoder(colours.reshape(1, *grid.shape[:2], 3), self.prior.ready.size)
        return {"diffusion": self.prior.term(latents, self._tokens)}


def _photos(dataset: FewShotDataset, device: torch.device) -> PromptViews:
    """The photos with their rays."""
    images = [dataset.get_image_float32(index)[..., :3] for index in range(len(dataset))]
    sizes = sorted({tuple(image.shape[:2]) for image in images})
    if len(sizes) > 1:
        raise ValueError(f"--pipeline.diffusion.prompt images: expected photos of one size, found {sizes}")
    cameras = dataset.cameras
    lenses = torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy], dim=-1)
    rays = ray_images(cameras.camera_to_worlds, lenses, (sizes[0][0], sizes[0][1]))
    return PromptViews(torch.stack(images).to(device), rays.to(device))

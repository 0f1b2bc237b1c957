"""A button of ns-viewer that draws a pose as the semantic prior does, and shows what the encoder makes of it."""

from __future__ import annotations

from typing import Callable, Dict, List

import numpy as np
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerControl
from torch import Tensor, nn

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.priors.semantic import SemanticPrior
from fewshot_ns.viewer.cameras import place_camera
from fewshot_ns.viewer.markdown import ViewerMarkdown, embedded


class UnseenViewControls(nn.Module):
    """Moves the camera to a drawn pose, and shows its rendering and the similarity to each training view.

    The encoder is loaded at the first press. Where it cannot be had, the rendering is shown with the reason.

    Args:
        prior: the semantic prior, switched on or not.
        dataset: training views.
        render: gives the colours `rgb` (R, 3) of rays (R,) as they are seen at evaluation.
        device: of model and encoder.
    """

    def __init__(
        self,
        prior: SemanticPrior,
        dataset: FewShotDataset,
        render: Callable[[RayBundle], Dict[str, Tensor]],
        device: torch.device,
    ) -> None:
        super().__init__()
        self._prior, self._dataset, self._render, self._device = prior, dataset, render, device
        self._count = 0
        self.control = ViewerControl()
        self.draw = ViewerButton("Draw an unseen view", cb_hook=lambda element: self.show())
        self.report = ViewerMarkdown()

    def show(self) -> None:
        """Draws the next pose."""
        try:
            self._show()
        except (OSError, ValueError, ImportError) as error:
            self.report.content = f"```\n{error}\n```"

    @torch.no_grad()
    def _show(self) -> None:
        prior = self._prior
        views = prior.load_views(self._dataset, self._device)
        self._count += 1
        # Draws of its own: those of a training that goes on beside must stay what they are.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._count)
            pose, grid = views.draw_pose(), views.draw_grid()
        place_camera(self.control, pose, float(np.linalg.norm(pose[:, 3])) or 1.0)
        picture = self._render(views.rays(pose, grid))["rgb"].reshape(*grid.shape[:2], 3)
        x, y, z = (f"{value:.2f}" for value in pose[:, 3])
        lines = [embedded(picture.cpu().numpy()), "", f"{views.kind}, from ({x}, {y}, {z})", ""]
        self.report.content = "\n".join([*lines, "looking at the encoder ..."])
        try:
            lines += self._similarities(picture)
        except (OSError, ValueError, ImportError) as error:
            lines += ["No similarity to the training views:", "```", str(error), "```"]
        self.report.content = "\n".join(lines)

    def _similarities(self, picture: Tensor) -> List[str]:
        """Table of the cosine between the embeddings of the picture (H, W, 3) and of each training view."""
        encoder, targets = self._prior.load_encoder(self._dataset, self._device)
        cosines = torch.nn.functional.cosine_similarity(encoder(picture[None]), targets, dim=-1).tolist()
        names = [file.name for file in self._dataset.image_filenames]
        rows = [f"| {name} | {cosine:.3f} |" for name, cosine in zip(names, cosines, strict=True)]
        return ["| training view | cosine |", "| --- | --- |", *rows]

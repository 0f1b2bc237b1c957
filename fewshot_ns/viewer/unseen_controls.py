"""A button of ns-viewer that draws an unseen view as a prior does, and shows its similarity to the training views."""

from __future__ import annotations

from typing import Any, Callable, List, Protocol, Sequence, Tuple

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerControl
from torch import Tensor, nn

from fewshot_ns.cameras.poses import Poses
from fewshot_ns.model_components.rendering import Rendering, RenderOptions
from fewshot_ns.viewer.cameras import place_camera
from fewshot_ns.viewer.markdown import ViewerMarkdown, embedded


class Views(Protocol):
    """Draws unseen views: a pose and a grid of pixels, and the camera of both."""

    @property
    def kind(self) -> str:
        """Kind of their poses, in a word."""
        ...

    def draw_pose(self) -> Poses:
        """(3, 4) pose."""
        ...

    def draw_grid(self) -> Any:
        """Grid of pixels."""
        ...

    def view(self, pose: Poses, grid: Any) -> Any:
        """`cameras` (1,) and `footprint_scale`."""
        ...


class UnseenViewControls(nn.Module):
    """Moves the camera to a drawn pose, and shows its rendering and the similarity to each training view.

    The encoder is loaded at the first press. Where it cannot be loaded, the rendering is shown with the reason.

    Args:
        load_views: gives the unseen views.
        load_encoder: gives the encoder of images (N, H, W, 3), and the embeddings (V, C) of the training views.
        names: of the training views.
        render: renders cameras (1,) as at evaluation.
    """

    def __init__(
        self,
        load_views: Callable[[], Views],
        load_encoder: Callable[[], Tuple[Callable[[Tensor], Tensor], Tensor]],
        names: Sequence[str],
        render: Callable[[Cameras, RenderOptions], Rendering],
    ) -> None:
        super().__init__()
        self._load_views, self._load_encoder = load_views, load_encoder
        self._names, self._render = names, render
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
        views = self._load_views()
        self._count += 1
        # Random numbers of its own, so that those of a training in the same process do not change.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._count)
            pose, grid = views.draw_pose(), views.draw_grid()
        place_camera(self.control, pose, float(np.linalg.norm(pose[:, 3])) or 1.0)
        view = views.view(pose, grid)
        image = self._render(view.cameras, RenderOptions(footprint_scale=view.footprint_scale)).rgb[0]
        image = image.clamp(0.0, 1.0)
        x, y, z = (f"{value:.2f}" for value in pose[:, 3])
        lines = [embedded(image.cpu().numpy()), "", f"{views.kind}, from ({x}, {y}, {z})", ""]
        self.report.content = "\n".join([*lines, "computing similarities ..."])
        try:
            lines += self._similarities(image)
        except (OSError, ValueError, ImportError) as error:
            lines += ["No similarity to the training views:", "```", str(error), "```"]
        self.report.content = "\n".join(lines)

    def _similarities(self, image: Tensor) -> List[str]:
        """Table of the cosine between the embeddings of the image (H, W, 3) and of each training view."""
        encoder, targets = self._load_encoder()
        cosines = torch.nn.functional.cosine_similarity(encoder(image[None]), targets, dim=-1).tolist()
        rows = [f"| {name} | {cosine:.3f} |" for name, cosine in zip(self._names, cosines, strict=True)]
        return ["| training view | cosine |", "| --- | --- |", *rows]

"""Pictures of evaluated views: those that evaluations keep (`ViewPictures` of the evaluator), and a panel of levels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.evaluation.runners.evaluator import Outputs
from fewshot_ns.evaluation.runners.views import EvaluatedView
from fewshot_ns.presentation.pictures import colorize_depth, save_png, to_uint8
from fewshot_ns.utils.cache import write_npz

LEVELS = ("_coarse", "")
"""Suffixes of the outputs of the levels, in the order of the rows."""


@dataclass(frozen=True)
class RunPictures:
    """Of one scene: true image, render, depth and accumulation of each view, see `save_view`."""

    folder: Path
    """Where they go."""
    split_indices: Collection[int]
    """Views of which pictures are kept."""

    def missing(self, view: EvaluatedView) -> bool:
        """Whether the view is one of them and has none yet."""
        return self.wanted(view) and not self._stem(view).with_suffix(".npz").is_file()

    def wanted(self, view: EvaluatedView) -> bool:
        """Whether the view is one of them."""
        return view.split_index in self.split_indices

    def save(self, view: EvaluatedView, truth: Tensor, outputs: Outputs) -> None:
        """Writes `view-0003-truth.png`, `view-0003-render.png` and `view-0003.npz`."""
        rgb = outputs["rgb"].float()
        depth, accumulation = (outputs.get(name, torch.zeros_like(rgb[..., :1])) for name in ("depth", "accumulation"))
        images = (truth, rgb.clamp(0.0, 1.0), depth, accumulation)
        save_view(self._stem(view), *(image.float().cpu().numpy() for image in images))

    def _stem(self, view: EvaluatedView) -> Path:
        return self.folder / f"view-{view.split_index:04d}"


@dataclass(frozen=True)
class ScenePictures:
    """Of many scenes: `<scene>/<view index>.png` and `<view index>-truth.png`."""

    folder: Path
    """Where they go."""

    def missing(self, view: EvaluatedView) -> bool:
        """Whether the view has none yet."""
        return not self._file(view).is_file()

    def wanted(self, view: EvaluatedView) -> bool:
        """Always: of every view."""
        return True

    def save(self, view: EvaluatedView, truth: Tensor, outputs: Outputs) -> None:
        """Writes render and truth."""
        file = self._file(view)
        save_png(outputs["rgb"].float().clamp(0.0, 1.0), file)
        save_png(truth, file.with_name(f"{file.stem}-truth.png"))

    def _file(self, view: EvaluatedView) -> Path:
        return self.folder / (view.scene or "") / f"{view.view_index:06d}.png"


@dataclass(frozen=True)
class NerfstudioPictures:
    """The pictures of a nerfstudio model, as `ns-eval --render-output-path` writes them."""

    images: Callable[[Dict[str, Tensor], Dict[str, Any]], Tuple[Dict[str, Any], Dict[str, Tensor]]]
    """`get_image_metrics_and_images` of the model."""
    folder: Path
    """Where they go."""
    prefix: str
    """What file names begin with."""

    def missing(self, view: EvaluatedView) -> bool:
        """Always: ns-eval renders all views."""
        return True

    def wanted(self, view: EvaluatedView) -> bool:
        """Always."""
        return True

    def save(self, view: EvaluatedView, truth: Tensor, outputs: Outputs) -> None:
        """Writes `<prefix>_0003_<name>.png` for every picture of the model."""
        from torchvision.utils import save_image

        self.folder.mkdir(parents=True, exist_ok=True)
        for name, image in self.images(outputs, {"image": truth})[1].items():
            save_image(image.permute(2, 0, 1).cpu(), self.folder / f"{self.prefix}_{view.split_index:04d}_{name}.png")


def scene_pictures(folder: Optional[Path]) -> Optional[ScenePictures]:
    """Pictures of many scenes in a folder; None: none are kept."""
    return None if folder is None else ScenePictures(folder)


def save_view(stem: Path, truth: np.ndarray, render: np.ndarray, depth: np.ndarray, accumulation: np.ndarray) -> None:
    """Writes a view: `<stem>-truth.png` and `<stem>-render.png`, and `<stem>.npz` with depth and accumulation.

    Args:
        stem: folder and name.
        truth: (H, W, 3) in [0, 1].
        render: (H, W, 3) in [0, 1].
        depth: (H, W, 1), distance in world units.
        accumulation: (H, W, 1) in [0, 1].
    """
    save_png(truth, stem.with_name(f"{stem.name}-truth.png"))
    save_png(render, stem.with_name(f"{stem.name}-render.png"))
    arrays = {"depth": depth[..., 0].astype(np.float32), "accumulation": accumulation[..., 0].astype(np.float32)}
    write_npz(stem.with_suffix(".npz"), arrays, compressed=True)


def source_panel(
    sources: Sequence[Tensor], truth: Tensor, outputs: Mapping[str, Tensor], near: float, far: float
) -> Tensor:
    """[sources | truth | depth | rgb | alpha], a row for each level, the coarse one first.

    Args:
        sources: source views (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].
        outputs: `rgb` (H, W, 3), `depth` and `accumulation` (H, W, 1), the same with `_coarse` where there is a coarse
            level.
        near: distance of the first colour of the depth.
        far: distance of its last colour.

    Returns:
        (rows * H, (sources + 4) * W, 3) in [0, 1], on the CPU.

    Raises:
        ValueError: images of different sizes.
    """
    sizes = {tuple(image.shape[:2]) for image in (*sources, truth, outputs["rgb"])}
    if len(sizes) > 1:
        raise ValueError(f"panel: expected images of one size, got (height, width) {sorted(sizes)}")
    rows = []
    for level in LEVELS:
        if f"rgb{level}" not in outputs:
            continue
        depth = colorize_depth(outputs[f"depth{level}"], near, far)
        cells = [*sources, truth, depth, outputs[f"rgb{level}"], outputs[f"accumulation{level}"]]
        rows.append(np.concatenate([to_uint8(cell) for cell in cells], axis=1))
    return torch.from_numpy(np.concatenate(rows)).float() / 255.0

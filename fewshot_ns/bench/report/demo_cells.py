"""What the demo's trainings came to: figures, renders of the test views, depth errors, a flight along a spiral."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
from pydantic import BaseModel, FiniteFloat, TypeAdapter

from fewshot_ns.bench.report.pictures import KeptView, read_view
from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.model_components.splatting.ply import SplatFile
from fewshot_ns.presentation.video import RenderedPath
from fewshot_ns.utils.arrays import read_array
from fewshot_ns.utils.cache import read_npz, write_npz
from fewshot_ns.utils.record_files import read_record_file

WITH_PRIOR, WITHOUT_PRIOR, SPLATS = "with-prior", "without-prior", "splats"
"""The cells' labels."""
TITLES = {WITH_PRIOR: "with the depth prior", WITHOUT_PRIOR: "without the depth prior"}
OWN_DEPTH = ("stereo", "mvs")
"""Sources of initial points that are depth from the photos."""


class _Transform(BaseModel):
    scale: FiniteFloat


_TRANSFORM = TypeAdapter(_Transform)


@dataclass(frozen=True)
class DemoPath:
    """A flight along a spiral, as one model shows it."""

    frames: RenderedPath
    """The renders."""
    train_files: Sequence[str]
    """Names of the images that the model was trained on."""


@dataclass(frozen=True)
class DemoCell:
    """What one training came to."""

    result: CellResult
    """Its figures; the images in the order of the test views."""
    run: Path
    """Folder of the nerfstudio run."""
    views: Sequence[KeptView]
    """What its model shows in the test views."""
    depth_errors: Sequence[float]
    """Mean relative error of the rendered distance, one per test view."""
    path: DemoPath
    """What its model shows along a spiral."""
    splats: Optional[SplatFile] = None
    """Its Gaussians as a file; None where the model has none."""

    @property
    def title(self) -> str:
        """Name for people."""
        if self.result.label == SPLATS and self.result.initial_points.startswith(OWN_DEPTH):
            return "splats, from the photos' own depth"
        return TITLES.get(self.result.label, self.result.label)


@dataclass(frozen=True)
class Demo:
    """All of the demo."""

    cells: Sequence[DemoCell]
    """The trainings, the one with the prior first."""
    scene: Path
    """Folder of the built-in scene."""

    def labelled(self, label: str) -> DemoCell:
        """The training with a label."""
        return next(cell for cell in self.cells if cell.result.label == label)


def save_path(path: DemoPath, file: Path, key: str) -> None:
    """Writes a path into one .npz, whole or not at all.

    Args:
        path: what to keep.
        file: .npz to write.
        key: of what decides the renders.
    """
    arrays = {name: np.stack(getattr(path.frames, name)) for name in ("rgb", "depth", "accumulation")}
    write_npz(file, {"key": key, "train_files": path.train_files, **arrays}, compressed=True)


def load_path(file: Path, key: str) -> Optional[DemoPath]:
    """Reads what `save_path` has written; None where it has not, or for another key."""
    arrays = read_npz(file, "key", "train_files", "rgb", "depth", "accumulation")
    if arrays is None or str(arrays["key"]) != key:
        return None
    frames = RenderedPath(*(list(arrays[name]) for name in ("rgb", "depth", "accumulation")))
    return DemoPath(frames, arrays["train_files"].tolist())


def read_demo(
    results: BenchResults,
    paths: Sequence[DemoPath],
    splats: Sequence[Optional[SplatFile]],
    scene: Path,
    focal_share: float,
) -> Demo:
    """Puts together what the finished cells have left.

    Args:
        results: of the recipe `demo`, from its folder.
        paths: one per cell.
        splats: the file of each cell; None where its model has no Gaussians.
        scene: folder of the built-in scene.
        focal_share: its focal length as a share of the image's width.
    """
    cells: List[DemoCell] = []
    for result, folder, path, file in zip(results.cells, results.folders, paths, splats, strict=True):
        pictures = results.pictures[(result.protocol, result.scene, result.label, result.seed)]
        images = sorted(result.images, key=lambda image: image["view_index"])
        kept = [read_view(pictures, number) for number in range(len(images))]
        views = [view for view in kept if view is not None]
        run = folder / result.method
        scale = read_record_file(run / "dataparser_transforms.json", _TRANSFORM, "the scene's scale").scale
        errors = [
            depth_error(view.depth, scene / "exact_depth" / f"{Path(image['file_name']).stem}.npy", focal_share, scale)
            for view, image in zip(views, images, strict=True)
        ]
        cells.append(DemoCell(replace(result, images=tuple(images)), run, views, errors, path, file))
    return Demo(cells, scene)


def depth_error(distance: np.ndarray, exact: Path, focal_share: float, scale: float) -> float:
    """Mean relative error of a rendered distance against the scene's exact depth.

    Args:
        distance: (H, W), Euclidean, in world units.
        exact: file of the planar depth (H, W) in the scene's units.
        focal_share: focal length as a share of the image's width.
        scale: world units per unit of the scene.
    """
    planar = read_array(exact, "exact depth of the demo").astype(np.float64)
    height, width = planar.shape
    rows, columns = np.indices(planar.shape) + 0.5
    focal = focal_share * width
    stretch = np.sqrt(1.0 + ((columns - width / 2) / focal) ** 2 + ((rows - height / 2) / focal) ** 2)
    truth = planar * stretch * scale
    return float(np.mean(np.abs(distance - truth) / truth))

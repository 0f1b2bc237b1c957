"""How far what is read of a written capture is from the truth about it."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
import torch
from dialects import Written

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset


def truth_of(path: Path, capture: Written) -> str:
    """Name of a photo in the truth."""
    (name,) = [name for name in capture.pixels if path.as_posix().endswith(f"/{name}")]
    return name


def worst_errors(splits: Sequence[FewShotDataset], capture: Written) -> Tuple[float, float, int]:
    """Largest distance of a ray from the point that it should meet, in pixels; largest relative error of depth; and
    how many views were looked at."""
    pixels_off, depth_off, views = 0.0, 0.0, 0
    for dataset in splits:
        transform, scale = dataset.file_to_world.double(), dataset.world_scale
        points = scale * (torch.from_numpy(capture.points) @ transform[:, :3].T + transform[:, 3])
        for position, path in enumerate(dataset.image_filenames):
            name = truth_of(path, capture)
            coords = torch.from_numpy(capture.pixels[name][:, ::-1].copy()).float()
            rays = dataset.cameras.generate_rays(position, coords=coords)
            toward = points - rays.origins
            away = torch.linalg.cross(rays.directions.double(), toward) / toward.norm(dim=-1, keepdim=True)
            focal = float(dataset.cameras.fx[position])
            pixels_off = max(pixels_off, focal * float(away.norm(dim=-1).max()))
            # A ray that leads away from its point meets it behind the camera.
            assert bool(((rays.directions * toward).sum(dim=-1) > 0).all())
            views += 1
            if name in capture.depths:
                depth_off = max(depth_off, _depth_error(dataset, position, capture.depths[name], scale))
    return pixels_off, depth_off, views


def _depth_error(dataset: FewShotDataset, position: int, true: np.ndarray, scale: float) -> float:
    """Largest relative error of the depth that a split has of a view; 0 where it has none."""
    if dataset.has_metric_depth(position):
        found = dataset.metric_depth(position)
        z_depth, valid = found.z_depth, found.valid
    else:
        measured = dataset.true_depth(position)
        if measured is None:
            return 0.0
        z_depth, valid = measured, measured > 0
    assert np.array_equal(valid, true > 0)
    return float(np.abs(z_depth[valid] / scale / true[valid] - 1.0).max())

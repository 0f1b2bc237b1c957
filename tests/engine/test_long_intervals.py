"""A small object before far walls: what a lite method learns of it in a few steps, in world space."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
import torch
from object_captures import ObjectCapture

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.registry import method_specification


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10.0 * torch.log10(((first - second) ** 2).mean()))


def trained(folder: Path, parser: LLFFDataParserConfig, steps: int) -> Tuple[float, float]:
    """PSNR of the test views, and of the training photo nearest to each."""
    config: Any = deepcopy(method_specification("freenerf_lite").config)
    config.output_dir, config.timestamp, config.vis = folder, "run", "tensorboard"
    config.max_num_iterations, config.machine.device_type = steps, "cpu"
    config.steps_per_save = config.steps_per_eval_image = 10 * steps
    config.pipeline.datamanager.dataparser, config.pipeline.evaluation.metrics = parser, ("psnr",)
    torch.manual_seed(0)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    pipeline, manager = trainer.pipeline.eval(), trainer.pipeline.datamanager
    places = manager.train_dataset.cameras.camera_to_worlds[:, :, 3]
    rendered, nearest = [], []
    for view in range(len(manager.eval_dataset)):
        camera, photo = manager.eval_dataset.cameras[view : view + 1], manager.eval_dataset[view]["image"]
        rendered.append(psnr(pipeline.model.get_outputs_for_camera(camera)["rgb"], photo))
        other = int((places - camera.camera_to_worlds[0, :, 3]).norm(dim=-1).argmin())
        nearest.append(psnr(manager.train_dataset[other]["image"], photo))
    return float(np.mean(rendered)), float(np.mean(nearest))


@pytest.mark.slow
def test_an_interval_may_be_long(tmp_path: Path) -> None:
    """Near 0.1 and far 100 (times 1.5): equal steps, and a distortion loss in units of length, give 18 dB."""
    scene = ObjectCapture(tuple(np.linspace(-20.0, 20.0, 9)), wall=40.0).write(tmp_path / "arc")
    views: Any = {"train_indices": (2, 4, 6), "test_indices": (3, 5), "ray_space": "metric"}
    parser = LLFFDataParserConfig(data=scene, near=0.15, far=150.0, **views)
    found, nearest = trained(tmp_path, parser, steps=300)
    assert found > 21.0 > nearest + 4.0, (found, nearest)

"""Runs that are trained for a step in this process, for commands that load one."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable

import pytest


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Function (folder, config of a dataparser, changes of the trainer's config) -> folder of a tiny sparsenerf-lite
    run."""

    def build(folder: Path, dataparser: Any, **changes: Any) -> Path:
        import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

        from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

        config: Any = deepcopy(sparsenerf_lite)
        config.output_dir, config.experiment_name, config.timestamp = folder, "scene", "now"
        config.machine.device_type, config.vis = "cpu", "tensorboard"
        config.max_num_iterations, config.steps_per_eval_image, config.steps_per_eval_all_images = 1, 0, 0
        config.pipeline.datamanager.dataparser = dataparser
        config.pipeline.datamanager.train_num_rays_per_batch = 64
        config.pipeline.depth.enabled = False
        config.pipeline.evaluation.metrics = ("psnr",)
        model = config.pipeline.model
        model.width, model.num_layers, model.skip_layer, model.num_octaves = 16, 2, 1, 4
        model.plane_resolutions, model.plane_channels = (4, 8), 4
        model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
        for name, value in changes.items():
            assert hasattr(config, name)
            setattr(config, name, value)
        config.save_config()
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        trainer.train()
        return trainer.base_dir

    return build

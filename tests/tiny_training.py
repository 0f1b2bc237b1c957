"""A tiny training as nerfstudio's command runs it, to be done in a process of its own, and what comes of it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, List, Optional

import torch

MODELS = "nerfstudio_models"


def tiny_config(
    scene: Path, output: Path, name: str, steps: int, load_dir: Optional[Path] = None, **changes: Any
) -> Any:
    """sparsenerf-lite at its smallest on a scene with depth priors; `changes` are fields of the trainer's config."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

    config: Any = deepcopy(sparsenerf_lite)
    config.output_dir, config.experiment_name, config.timestamp = output, "faults", name
    config.machine.device_type, config.vis, config.load_dir = "cpu", "tensorboard", load_dir
    config.max_num_iterations, config.steps_per_save = steps, 1000
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_eval_batch = 0
    config.logging.local_writer.max_log_size = 0
    config.pipeline.datamanager.dataparser.data = scene
    config.pipeline.datamanager.train_num_rays_per_batch, config.pipeline.depth.num_quads = 64, 8
    config.pipeline.evaluation.metrics = ("psnr",)
    model = config.pipeline.model
    model.width, model.num_layers, model.num_octaves = 16, 2, 4
    model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
    for key, value in changes.items():
        assert hasattr(config, key), key
        setattr(config, key, value)
    return config


def train(config: Any) -> None:
    """What `ns-train` does once its flags are read."""
    from nerfstudio.scripts.train import main

    main(config)


def state_of(run: Path, step: int) -> Any:
    """What a checkpoint of a run holds, without the seconds that it took."""
    state = torch.load(run / MODELS / f"step-{step:09d}.ckpt", weights_only=True)
    for name in ("cpu_seconds", "wall_seconds"):
        state["training_clock"].pop(name, None)
    return state


def differences(first: Any, second: Any, at: str = "") -> List[str]:
    """Where two nested states differ, bit by bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        found = [f"{at}: keys"] if first.keys() != second.keys() else []
        return found + [
            place
            for key in first.keys() & second.keys()
            for place in differences(first[key], second[key], f"{at}/{key}")
        ]
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return [f"{at}: length"]
        pairs = enumerate(zip(first, second, strict=True))
        return [place for index, (a, b) in pairs for place in differences(a, b, f"{at}/{index}")]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [at]
    return [] if type(first) is type(second) and first == second else [at]

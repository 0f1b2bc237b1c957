"""One process of a distributed training on CPU: `python one_rank.py RANK WORLD_SIZE MEETING_FILE DATA OUTPUT STEPS`.

nerfstudio's own launcher wants a GPU for more than one process, so its training loop is called in place of it.
"""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import torch
import torch.distributed as dist
from nerfstudio.scripts import train

from fewshot_ns.configs.pixelnerf import pixelnerf_lite
from fewshot_ns.data.multiscene.batches import SceneBatches
from fewshot_ns.engine.trainer import FewShotTrainer


def tiny_config(data: Path, output: Path, steps: int) -> Any:
    """A run of a few steps."""
    config: Any = deepcopy(pixelnerf_lite)
    config.output_dir, config.timestamp, config.experiment_name = output, "run", "two-ranks"
    config.machine.device_type, config.vis, config.max_num_iterations = "cpu", "tensorboard", steps
    config.steps_per_eval_image, config.load_dir = 0, None
    manager, model = config.pipeline.datamanager, config.pipeline.model
    manager.data, manager.scenes_per_batch, manager.rays_per_scene = data, 2, 8
    model.width, model.num_samples, model.min_eval_samples, model.compute_dtype = 16, 4, 4, "float32"
    model.num_importance_samples = model.num_depth_samples = 2
    config.pipeline.evaluation.metrics = ("psnr",)
    return config


def main(rank: int, world_size: int, meeting: Path, data: Path, output: Path, steps: int) -> None:
    """Trains, and writes what this rank has seen and what has become of its weights."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    drawn: List[Any] = []
    original, trainers = SceneBatches.draw, []

    def watched(self: SceneBatches, step: int) -> Any:
        rays, batch = original(self, step)
        drawn.append({"scenes": batch["scenes"], "sources": batch["sources"], "pixels": batch["indices"].tolist()})
        return rays, batch

    class Watched(FewShotTrainer):
        def train(self) -> None:
            trainers.append(self)
            super().train()

    SceneBatches.draw = watched
    config = tiny_config(data, output, steps)
    config._target = Watched
    config.get_base_dir().mkdir(parents=True, exist_ok=True)
    train.train_loop(rank, world_size, config, rank)
    (pipeline,) = [trainer.pipeline for trainer in trainers]
    weights = {name: float(value.double().sum()) for name, value in pipeline.model.named_parameters()}
    (output / f"rank-{rank}.json").write_text(json.dumps({"drawn": drawn, "weights": weights}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    meeting, data, output = map(Path, sys.argv[3:6])
    main(int(sys.argv[1]), int(sys.argv[2]), meeting, data, output, int(sys.argv[6]))

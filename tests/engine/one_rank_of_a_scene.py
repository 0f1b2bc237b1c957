"""One process of a training of one scene: `python one_rank_of_a_scene.py RANK WORLD_SIZE FOLDER SCENE RUN METHOD STEPS
[key=value ...]`.

nerfstudio's own launcher wants a GPU for more than one process, so its training loop is called in place of it. Of each
training, RANK writes `FOLDER/RUN-RANK.json`: with how many Gaussians it began, if any, what it drew, and what became of
its weights.
"""

import json
import sys
from pathlib import Path
from typing import Any, List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import torch
import torch.distributed as dist
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.scripts import train
from small_methods import small

from fewshot_ns import registry
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager
from fewshot_ns.engine.trainer import FewShotTrainer
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.priors.base import prior_configs


def tiny_config(folder: Path, scene: Path, run: str, method: str, steps: int) -> Any:
    """A run of a few steps with the method's own priors, refined poses, and evaluation after the second step."""
    networks: Any = dict.fromkeys(("encoder", "diffusion", "clip"), folder)
    config = small(method, networks, scene, folder, folder)
    own: Any = registry.method_specification(method).config
    for name, prior in prior_configs(config.pipeline).items():
        prior.enabled = prior_configs(own.pipeline)[name].enabled
    config.pipeline.datamanager.whole_images = own.pipeline.datamanager.whole_images
    config.pipeline.model.camera_optimizer = CameraOptimizerConfig(mode="SO3xR3")
    if hasattr(config.pipeline.model, "densification"):
        config.pipeline.model.densification = DensificationConfig(
            start_step=1, every=2, stop_fraction=1.0, gradient=1e-12, size=0.002
        )
    config.output_dir, config.timestamp, config.experiment_name = folder, run, "two-ranks"
    config.machine.device_type, config.vis, config.max_num_iterations = "cpu", "tensorboard", steps
    config.steps_per_eval_batch = config.steps_per_eval_image = 0
    config.steps_per_eval_all_images, config.steps_per_save = 2, 1000
    return config


def main(rank: int, world_size: int, folder: Path, scene: Path, run: str, method: str, steps: int) -> None:
    """Trains, and writes what this rank has seen and what has become of its weights."""
    torch.set_num_threads(1)
    if world_size > 1:
        meeting = f"file://{folder / f'{run}-meeting'}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    drawn: List[Any] = []
    began: List[int] = []
    original, trainers = FewShotDataManager.next_train, []

    def watched(self: FewShotDataManager, step: int, requests: Any = ()) -> Any:
        rays, batch = original(self, step, requests)
        drawn.append(batch["indices"].tolist())
        return rays, batch

    class Watched(FewShotTrainer):
        def train(self) -> None:
            trainers.append(self)
            began.extend(len(value) for name, value in self.pipeline.model.named_parameters() if name.endswith("means"))
            super().train()

    FewShotDataManager.next_train = watched
    config = tiny_config(folder, scene, run, method, steps)
    for key, value in (given.split("=", 1) for given in sys.argv[8:]):
        assert hasattr(config, key), key
        setattr(config, key, Path(value) if key == "load_dir" else float(value))
    config._target = Watched
    config.get_base_dir().mkdir(parents=True, exist_ok=True)
    train.train_loop(rank, world_size, config, rank)
    (pipeline,) = [trainer.pipeline for trainer in trainers]
    weights = {name: value.tolist() for name, value in pipeline.model.named_parameters()}
    (folder / f"{run}-{rank}.json").write_text(json.dumps({"drawn": drawn, "weights": weights, "began": began}))
    if world_size > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    folder, scene = map(Path, sys.argv[3:5])
    main(int(sys.argv[1]), int(sys.argv[2]), folder, scene, sys.argv[5], sys.argv[6], int(sys.argv[7]))

"""What tests have processes of their own do: functions that can be named to another process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, List, Optional


def command(words: List[str], cache: Path) -> None:
    """`ns-fewshot` with a cache of its own."""
    from fewshot_ns.scripts.cli import main
    from fewshot_ns.utils.cache import CACHE_ENV

    os.environ[CACHE_ENV] = str(cache)
    sys.exit(main(words))


def hold_maps(folder: Path, ready: Path) -> None:
    """Writes maps into a folder, and does not end."""
    from fewshot_ns.data.depth.map_folder import MapFolder

    with MapFolder.prepare(folder, ["a.npz"], "ns-fewshot depth", False).new_maps():
        ready.touch()
        signal.pause()


def train_endlessly(config: Any, ready: Path) -> None:
    """Trains a step that does not end."""
    from tiny_training import train

    from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipeline

    def endless(self: Any, step: int) -> Any:
        ready.touch()
        while True:
            time.sleep(0.01)

    FewShotPipeline.get_train_loss_dict = endless  # type: ignore[method-assign]
    train(config)


def train_signalled(config: Any, place: str, number: int) -> None:
    """Trains, and gets a signal in a method of the trainer that comes before the first step."""
    from tiny_training import train

    from fewshot_ns.engine.trainer import FewShotTrainer

    inner = getattr(FewShotTrainer, place)

    def signalled(self: Any) -> Any:
        signal.raise_signal(number)
        return inner(self)

    setattr(FewShotTrainer, place, signalled)
    train(config)


def train_rank(rank: int, folder: Path, interrupt: Optional[int]) -> None:
    """One of two processes of a training, as nerfstudio's launcher has them.

    Args:
        rank: of this process.
        folder: where they meet; it has the config.yml of the training.
        interrupt: step after which this process alone gets SIGINT; None: never.
    """
    import torch.distributed as dist
    import yaml
    from nerfstudio.scripts.train import train_loop

    from fewshot_ns.engine.trainer import FewShotTrainer

    class Interrupted(FewShotTrainer):
        def train_iteration(self, step: int) -> Any:
            if step == interrupt:
                signal.raise_signal(signal.SIGINT)
            return super().train_iteration(step)

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    config = yaml.load((folder / "config.yml").read_text("utf8"), Loader=yaml.Loader)
    config._target = Interrupted
    train_loop(rank, 2, config, rank)


def set_up_endlessly(config: Any, ready: Path) -> None:
    """Reads a scene for ever, when the training is set up."""
    from nerfstudio.scripts.train import launch, train_loop

    from fewshot_ns.engine import trainer

    def endless(manager: Any) -> None:
        ready.touch()
        time.sleep(60)

    trainer.settle_dataparser = endless
    launch(train_loop, 1, config=config, device_type="cpu")

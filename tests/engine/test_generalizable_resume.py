"""A run across scenes that is taken up again is the run that was never interrupted."""

import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch


def tiny_config(data: Path, output: Path, steps: int) -> Any:
    """That of `one_rank.py`, which is a script and no module of a package."""
    path = Path(__file__).with_name("one_rank.py")
    specification = importlib.util.spec_from_file_location("one_rank", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.tiny_config(data, output, steps)


def weights_after(config: Any, steps: int) -> dict:
    """Trains as nerfstudio's script does and returns what was saved."""
    random.seed(42)
    np.random.seed(42)
    torch.manual_seed(42)
    config.get_base_dir().mkdir(parents=True)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    path = trainer.checkpoint_dir / f"step-{steps - 1:09d}.ckpt"
    return torch.load(path, weights_only=True)["pipeline"]


def test_resumed_run_equals_uninterrupted_run_bit_by_bit(tiny_solids: Path, tmp_path: Path):
    whole = weights_after(tiny_config(tiny_solids, tmp_path / "whole", 6), 6)
    half = tiny_config(tiny_solids, tmp_path / "half", 3)
    first = weights_after(half, 3)
    rest = tiny_config(tiny_solids, tmp_path / "rest", 6)
    rest.load_dir = half.get_checkpoint_dir()
    resumed = weights_after(rest, 6)
    assert any(not torch.equal(first[name], value) for name, value in whole.items())
    assert [name for name, value in whole.items() if not torch.equal(value, resumed[name])] == []

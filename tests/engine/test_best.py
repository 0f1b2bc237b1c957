"""The best checkpoint by validation views: kept, resumed, and never in the way of the training."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Iterator, List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch

from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.engine.run_lock import RunBusyError
from fewshot_ns.engine.trainer import FewShotTrainer
from fewshot_ns.pipelines.validation import ValidationViews
from fewshot_ns.scripts.eval import EvalCommand
from fewshot_ns.scripts.runs import find_config, load_run
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


@pytest.fixture
def make_config(tiny_scene: Path, tmp_path: Path):
    """Gives configs of runs below tmp_path; of the scene's views 1, 3 and 4 train, 0 tests, 2 is left over."""

    def build(name: str, steps: int, **changes: Any) -> Any:
        config: Any = deepcopy(sparsenerf_lite)
        config.output_dir, config.experiment_name, config.timestamp = tmp_path, "scene", name
        config.machine.device_type, config.vis = "cpu", "tensorboard"
        config.max_num_iterations, config.steps_per_save = steps, 1000
        config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_eval_batch = 0
        config.pipeline.datamanager.dataparser.data = tiny_scene
        config.pipeline.datamanager.train_num_rays_per_batch = 64
        config.pipeline.depth.num_quads = 8
        config.pipeline.evaluation.metrics = ("psnr",)
        model = config.pipeline.model
        model.width, model.num_layers, model.num_octaves = 16, 2, 4
        model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
        config.keep_best, config.keep_best_every, config.keep_best_views = "psnr", 2, (2,)
        for key, value in changes.items():
            assert hasattr(config, key)
            setattr(config, key, value)
        return config

    return build


@pytest.fixture
def measured(monkeypatch):
    """Every value that is measured, with a function to decide them: None leaves them as they are."""
    values: List[float] = []
    planned: Dict[int, float] = {}
    true_measure = ValidationViews.measure

    def measure(self: ValidationViews) -> float:
        found = true_measure(self)
        # Draws random numbers, as a model may that is evaluated.
        torch.rand(3)
        np.random.rand(3)
        random.random()
        values.append(planned.get(len(values), found))
        return values[-1]

    monkeypatch.setattr(ValidationViews, "measure", measure)
    return values, planned


def train(config: Any) -> FewShotTrainer:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    config.get_base_dir().mkdir(parents=True)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def best_of(trainer: FewShotTrainer) -> Dict[str, Any]:
    """best.json, after a check that its checkpoint is the only one and knows the same."""
    record = json.loads((trainer.base_dir / "best.json").read_text())
    (path,) = (trainer.base_dir / "best_checkpoint").iterdir()
    assert path.name == f"step-{record['step']:09d}.ckpt"
    state = torch.load(path, weights_only=True)
    assert state["step"] == record["step"] and state["best"] == record
    return record


def weights(trainer: FewShotTrainer, folder: str, step: int) -> Dict[str, Any]:
    return torch.load(trainer.base_dir / folder / f"step-{step:09d}.ckpt", weights_only=True)["pipeline"]


def equal(first: Dict[str, Any], second: Dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_best_is_kept_and_training_goes_as_without(make_config, measured):
    values, planned = measured
    planned.update({0: 10.0, 1: 12.0, 2: 11.0, 3: 11.5})
    kept = train(make_config("kept", 7))
    # After steps 1, 3, 5, and after the last one.
    assert len(values) == 4
    assert best_of(kept) == {"metric": "psnr", "views": [2], "step": 3, "value": 12.0}
    plain = train(make_config("plain", 7, keep_best=None))
    assert len(values) == 4 and not (plain.base_dir / "best.json").exists()
    assert equal(weights(kept, "nerfstudio_models", 6), weights(plain, "nerfstudio_models", 6))
    assert "best" not in torch.load(plain.checkpoint_dir / "step-000000006.ckpt", weights_only=True)
    half = train(make_config("half", 4, keep_best=None))
    assert equal(weights(kept, "best_checkpoint", 3), weights(half, "nerfstudio_models", 3))


def test_it_is_the_metric_of_these_views_alone(make_config, measured):
    """Measured by hand on view 2 with the weights of the checkpoint."""
    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset

    values, _ = measured
    trainer = train(make_config("run", 2))
    pipeline: Any = trainer.pipeline
    dataset = FewShotDataset(pipeline.datamanager.dataparser.outputs_of_views((2,), "val"))
    assert dataset.image_filenames[0].name == "view_02.png"
    pipeline.eval()
    with torch.no_grad():
        rgb = pipeline.model.get_outputs_for_camera(dataset.cameras[0:1])["rgb"].clamp(0, 1)
    error = ((rgb - dataset.get_image_float32(0)) ** 2).mean()
    assert best_of(trainer)["value"] == values[-1] == pytest.approx(float(-10 * error.log10()), abs=1e-4)


def test_smaller_is_better_where_that_is_so(make_config, measured):
    _, planned = measured
    planned.update({0: 0.3, 1: 0.1, 2: 0.2})
    trainer = train(make_config("run", 6, keep_best="census_error"))
    assert best_of(trainer) == {"metric": "census_error", "views": [2], "step": 3, "value": 0.1}


@pytest.mark.parametrize("better_later", [False, True])
def test_a_resumed_run_ends_with_the_best_of_the_whole(make_config, measured, better_later: bool):
    """The best so far comes along, file and all, or gives way to a later one; bit-equal to the run in one go."""
    values, planned = measured
    plan = [13.0, 12.0, 14.0 if better_later else 11.0, 10.0]
    planned.update(dict(enumerate(plan)))
    whole = train(make_config("whole", 8))
    values.clear()
    half = train(make_config("half", 4))
    assert best_of(half)["step"] == 1
    resumed = train(make_config("resumed", 8, load_dir=half.checkpoint_dir))
    assert len(values) == 4
    assert best_of(resumed) == best_of(whole)
    assert best_of(resumed)["step"] == (5 if better_later else 1)
    step = best_of(whole)["step"]
    assert equal(weights(resumed, "best_checkpoint", step), weights(whole, "best_checkpoint", step))
    assert best_of(half)["step"] == 1  # its own stays


def test_another_metric_or_a_lost_file_begins_anew(make_config, measured, capsys):
    values, planned = measured
    planned.update({0: 13.0, 1: 12.0, 2: 11.0, 3: 10.0})
    half = train(make_config("half", 4))
    other = train(make_config("other", 6, load_dir=half.checkpoint_dir, keep_best="census_error"))
    assert best_of(other) == {"metric": "census_error", "views": [2], "step": 5, "value": 11.0}
    assert "kept its best checkpoint by psnr" in " ".join(capsys.readouterr().out.split())
    (half.base_dir / "best_checkpoint" / "step-000000001.ckpt").unlink()
    lost = train(make_config("lost", 6, load_dir=half.checkpoint_dir))
    assert best_of(lost)["value"] == 10.0 and "is gone" in " ".join(capsys.readouterr().out.split())


def test_commands_take_the_best_one(make_config, measured):
    _, planned = measured
    planned.update({0: 13.0, 1: 12.0})
    trainer = train(make_config("run", 4))
    pipeline: Any = load_run(trainer.base_dir / "config.yml", "inference", best=True)
    best, last = (weights(trainer, folder, step) for folder, step in (("best_checkpoint", 1), ("nerfstudio_models", 3)))
    assert equal(dict(pipeline.state_dict()), best) and not equal(best, last)
    EvalCommand(trainer.base_dir, best=True).main()
    written = json.loads((trainer.base_dir / "eval-best.json").read_text())
    assert written["step"] == 1 and "best_checkpoint" in written["checkpoint"]
    EvalCommand(trainer.base_dir).main()
    assert json.loads((trainer.base_dir / "eval.json").read_text())["step"] == 3
    (trainer.base_dir / "best_checkpoint" / "step-000000001.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match="best_checkpoint: expected the best checkpoint of a run trained with"):
        load_run(trainer.base_dir / "config.yml", best=True)


def test_nerfstudios_own_commands_take_the_best_by_a_config_of_its_own(make_config, measured):
    from nerfstudio.utils.eval_utils import eval_setup

    _, planned = measured
    planned.update({0: 13.0, 1: 12.0})
    trainer = train(make_config("run", 4))
    run = trainer.base_dir
    for name, folder, step in (("config", "nerfstudio_models", 3), ("best_config", "best_checkpoint", 1)):
        _, pipeline, path, loaded = eval_setup(run / f"{name}.yml", test_mode="inference")
        assert (path, loaded) == (run / folder / f"step-{step:09d}.ckpt", step)
        assert equal(dict(pipeline.state_dict()), weights(trainer, folder, step))
    # As the documentation makes it for runs that have none.
    by_hand = (run / "config.yml").read_text().replace("nerfstudio_models", "best_checkpoint")
    assert (run / "best_config.yml").read_text() == by_hand
    # A folder still means its one run, and figures of the best go beside those of the newest.
    assert find_config(run) == run / "config.yml"
    EvalCommand(run / "best_config.yml").main()
    assert json.loads((run / "eval-best.json").read_text())["step"] == 1 and not (run / "eval.json").exists()
    assert not (train(make_config("plain", 2, keep_best=None)).base_dir / "best_config.yml").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_best": "sharpness"}, "unknown metric 'sharpness'"),
        ({"keep_best_every": 0}, "--keep-best-every: expected at least 1 step"),
        ({"keep_best_views": (0,)}, r"--keep-best-views: test views are among them \(\[0\]\)"),
        ({"keep_best_views": (2, 3)}, r"--keep-best-views: training views are among them \(\[3\]\)"),
        ({"keep_best_views": (5,)}, r"expected views of the scene \(0 to 4\), got \[5\]"),
        ({"keep_best_views": None}, "no validation views of its own; name some"),
    ],
)
def test_wrong_flags_end_before_training(make_config, changes: Dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        trainer = make_config("wrong", 2, **changes).setup(local_rank=0, world_size=1)
        trainer.base_dir.mkdir(parents=True, exist_ok=True)
        trainer.setup()


def test_validation_views_of_the_scene(make_blender_scene, tmp_path: Path, tiny_pipeline_config):
    from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig

    scene = make_blender_scene(tmp_path / "scene", (4, 3, 9))
    config = tiny_pipeline_config(FewShotBlenderDataParserConfig(data=scene, num_views=3, testskip=1))
    config.depth.enabled = False
    pipeline = config.setup(device="cpu", test_mode="val")
    # Up to four of nine at equal steps; they come after the training and the test frames.
    views = pipeline.validation("psnr", None)
    assert views.views == (7, 10, 12, 15) and np.isfinite(views.measure())


def test_nan_is_never_the_best(make_config, measured, capsys):
    _, planned = measured
    planned.update({0: float("nan"), 1: 12.0, 2: float("inf")})
    trainer = train(make_config("run", 6))
    assert best_of(trainer)["value"] == 12.0 and best_of(trainer)["step"] == 3
    assert "psnr of the validation views is nan; not kept" in " ".join(capsys.readouterr().out.split())


def test_commands_load_no_checkpoint_of_another_method_and_no_stray_file(make_config):
    trainer = train(make_config("run", 1, keep_best=None))
    for stray in ("step-abc.ckpt", "notes.txt", "step-7.ckpt", "mine.ckpt"):
        (trainer.checkpoint_dir / stray).write_text("mine")
    pipeline: Any = load_run(trainer.base_dir / "config.yml", "inference")
    assert equal(dict(pipeline.state_dict()), weights(trainer, "nerfstudio_models", 0))
    EvalCommand(trainer.base_dir).main()
    path = trainer.checkpoint_dir / "step-000000000.ckpt"
    torch.save({**torch.load(path, weights_only=True), "method": "freenerf-lite"}, path)
    with pytest.raises(
        CheckpointMismatchError, match=r"expected a checkpoint of sparsenerf-lite, found .*freenerf-lite"
    ):
        load_run(trainer.base_dir / "config.yml", "inference")


def test_the_second_training_of_one_name_does_not_touch_the_first(make_config):
    trainer = train(make_config("run", 1, keep_best=None))
    files = [path for path in trainer.base_dir.rglob("*") if path.is_file()]
    # TensorBoard's writer of the first may still be at work.
    before = {path: path.read_bytes() for path in files if "tfevents" not in path.name}
    with lock_held(trainer.base_dir), pytest.raises(RunBusyError, match="another training"):
        make_config("run", 3, keep_best=None).save_config()
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    assert [path.name for path in changed] == ["training.lock"]


@contextmanager
def lock_held(run: Path) -> Iterator[None]:
    """Another process trains there."""
    code = "import sys, pathlib, time; from fewshot_ns.engine.run_lock import claim_run; "
    code += "claim_run(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.communicate()

"""Runs whose training photos get other poses: optimizers, records, and resuming."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.exporter.exporter_utils import collect_camera_poses

from fewshot_ns import registry
from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP, correction_sizes
from fewshot_ns.configs.regnerf import regnerf_lite
from fewshot_ns.configs.simplified_nerf import simplified_nerf
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.configs.stereo_nerf import stereo_nerf_lite
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


@pytest.fixture
def make_config(tiny_scene: Path, tmp_path: Path) -> Callable[..., Any]:
    """Function (name of the run, steps, mode) -> config of a tiny run below tmp_path."""

    def build(name: str, steps: int, mode: str = "SO3xR3", method: Any = sparsenerf_lite) -> Any:
        config: Any = deepcopy(method)
        config.output_dir, config.experiment_name, config.timestamp = tmp_path, "tiny", name
        config.machine.device_type, config.vis, config.max_num_iterations = "cpu", "tensorboard", steps
        config.steps_per_save, config.steps_per_eval_image, config.steps_per_eval_all_images = 1000, 0, 0
        manager, model = config.pipeline.datamanager, config.pipeline.model
        manager.dataparser, manager.train_num_rays_per_batch = LLFFDataParserConfig(data=tiny_scene), 64
        config.pipeline.depth.num_quads = 8
        config.pipeline.evaluation.metrics = ("psnr",)
        model.width, model.num_layers, model.num_octaves = 16, 2, 4
        model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
        model.camera_optimizer = CameraOptimizerConfig(mode=mode)  # type: ignore[arg-type]
        return config

    return build


def set_up(config: Any, load_dir: Any = None) -> Any:
    torch.manual_seed(42)
    config.load_dir = load_dir
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def trained(config: Any, load_dir: Any = None) -> Any:
    trainer = set_up(config, load_dir)
    trainer.train()
    return trainer


def state_of(trainer: Any) -> Any:
    (path,) = trainer.checkpoint_dir.glob("step-*.ckpt")
    return torch.load(path, weights_only=True)


def record_of(trainer: Any) -> Any:
    return json.loads((trainer.base_dir / "resolved.json").read_text(encoding="utf8"))


ADJUSTMENT = "_model.camera_optimizer.pose_adjustment"


def test_poses_move_and_the_run_says_by_how_much(make_config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trained(make_config("on", 6))
    state, model = state_of(trainer), trainer.pipeline.model
    moved = state["pipeline"][ADJUSTMENT]
    assert moved.shape == (3, 6) and moved.abs().min() > 0
    assert CAMERA_GROUP in state["optimizers"] and CAMERA_GROUP in state["schedulers"]
    # The rate falls to a tenth over the run, whatever its length.
    assert state["schedulers"][CAMERA_GROUP]["_last_lr"] == [pytest.approx(1e-4)]
    record = record_of(trainer)["training_poses"]
    degrees, distance = correction_sizes(model.pose_corrections())
    assert record == {
        "mode": "SO3xR3",
        "camera_opt_rotation_mean": pytest.approx(float(degrees.mean())),
        "camera_opt_rotation_max": pytest.approx(float(degrees.max())),
        "camera_opt_translation_mean": pytest.approx(float(distance.mean())),
        "camera_opt_translation_max": pytest.approx(float(distance.max())),
    }
    assert record_of(trainer)["training"]["max_num_iterations"] == 6
    said = capsys.readouterr().out
    assert f"Poses of the 3 training photos: turned by {float(degrees.mean()):.3g} degrees on average" in said
    # The photos' cameras are still as the scene has them, which evaluation and priors see.
    given = trainer.pipeline.datamanager.dataparser.get_dataparser_outputs("train").cameras
    assert torch.equal(trainer.pipeline.datamanager.train_dataset.cameras.camera_to_worlds, given.camera_to_worlds)


def test_losses_hold_the_penalty_and_metrics_the_changes(make_config: Any) -> None:
    pipeline: Any = set_up(make_config("on", 4)).pipeline
    _, losses, metrics = pipeline.get_train_loss_dict(0)
    assert float(losses["camera_opt_regularizer"]) == 0.0 and float(metrics["camera_opt_rotation_mean"]) < 1e-3
    torch.stack(list(losses.values())).sum().backward()
    (adjustment,) = pipeline.get_param_groups()[CAMERA_GROUP]
    assert adjustment.grad.abs().min() > 0


def test_off_is_a_run_without_any_of_it(make_config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config("off", 3, "off")
    before = deepcopy(config)
    del before.optimizers[CAMERA_GROUP]
    before.timestamp = "before"
    off, plain = trained(config), trained(before)
    states = state_of(off), state_of(plain)
    assert states[0]["pipeline"].keys() == states[1]["pipeline"].keys()
    assert not any("camera" in name for name in states[0]["pipeline"])
    assert all(torch.equal(value, states[1]["pipeline"][name]) for name, value in states[0]["pipeline"].items())
    assert set(states[0]["optimizers"]) == {"field", "planes", "proposal"}
    records = record_of(off), record_of(plain)
    assert records[0] == records[1] and "training_poses" not in records[0]
    assert "Poses of" not in capsys.readouterr().out


def test_zero_rate_leaves_losses_bit_equal(make_config: Any) -> None:
    """Identity corrections change no ray, so what differs is what moves."""
    config = make_config("still", 4)
    config.optimizers[CAMERA_GROUP]["optimizer"].lr = 0.0
    still, off = trained(config), trained(make_config("off", 4, "off"))
    states = state_of(still)["pipeline"], state_of(off)["pipeline"]
    assert states[0].pop(ADJUSTMENT).abs().max() == 0
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_resumed_run_is_bit_equal(make_config: Any) -> None:
    whole, half = trained(make_config("whole", 6)), make_config("half", 6)
    half.steps_per_save, half.max_num_iterations = 3, 3
    # The schedule is that of the whole run.
    half.optimizers[CAMERA_GROUP]["scheduler"].final_ratio = 0.1**0.5
    first = trained(half)
    resumed = trained(make_config("resumed", 6), first.checkpoint_dir)
    expected, found = state_of(whole), state_of(resumed)
    for part in ("pipeline",):
        for name, value in expected[part].items():
            assert torch.equal(value, found[part][name]), name
    for axis in ("exp_avg", "exp_avg_sq"):
        values = [state["optimizers"][CAMERA_GROUP]["state"][0][axis] for state in (expected, found)]
        assert torch.equal(*values)
    assert record_of(resumed)["training_poses"] == record_of(whole)["training_poses"]
    with pytest.raises(CheckpointMismatchError, match="found .'camera_opt'"):
        set_up(make_config("other", 6, "off"), first.checkpoint_dir)


def test_a_method_without_the_group_gets_ours(make_config: Any) -> None:
    config = make_config("other", 4)
    del config.optimizers[CAMERA_GROUP]
    found, expected = trained(config), trained(make_config("own", 4))
    states = state_of(found)["pipeline"], state_of(expected)["pipeline"]
    assert torch.equal(states[0][ADJUSTMENT], states[1][ADJUSTMENT])


def test_exported_cameras_are_the_refined_ones(make_config: Any) -> None:
    trainer = trained(make_config("on", 4))
    frames, _ = collect_camera_poses(trainer.pipeline)
    expected = trainer.pipeline.model.train().training_cameras(trainer.pipeline.datamanager.train_dataset.cameras)
    torch.testing.assert_close(torch.tensor([frame["transform"] for frame in frames]), expected.camera_to_worlds)


def test_every_method_has_the_group_where_it_may_be_used() -> None:
    for name in registry.METHODS:
        config: Any = registry.method_specification(name).config
        many_scenes = isinstance(config.pipeline.model, ConditionedModelConfig)
        assert (CAMERA_GROUP in config.optimizers) != many_scenes, name
        assert config.pipeline.model.camera_optimizer.mode == "off"


def test_derived_methods_keep_the_rate_of_poses() -> None:
    assert simplified_nerf.optimizers["field"]["optimizer"].lr == 5e-5
    groups = [method.optimizers[CAMERA_GROUP] for method in (simplified_nerf, regnerf_lite, stereo_nerf_lite)]
    assert groups[0] == groups[1] == groups[2] and groups[0] is not groups[1]
    assert groups[0]["optimizer"].lr == 1e-3

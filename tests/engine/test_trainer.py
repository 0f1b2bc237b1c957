"""The trainer on a real method, made tiny: resume, atomic saves, strict loading, stops, records."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, List, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
import yaml
from nerfstudio.utils import writer

from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.engine.checks import NonFiniteGradientError, NonFiniteLossError
from fewshot_ns.engine.resume import load_last_good
from fewshot_ns.engine.trainer import FewShotTrainer, FewShotTrainerConfig
from fewshot_ns.scripts.eval import EvalCommand
from fewshot_ns.scripts.runs import load_checkpoint_of_run
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, DamagedCheckpointError

MODEL_DIR = "nerfstudio_models"


@pytest.fixture
def make_config(tiny_scene: Path, tmp_path: Path):
    """Gives configs of runs below tmp_path."""

    def build(name: str, steps: int, **changes: Any) -> FewShotTrainerConfig:
        config: Any = deepcopy(sparsenerf_lite)  # its pipeline's fields are typed as nerfstudio's
        config.output_dir, config.timestamp = tmp_path, name
        config.machine.device_type = "cpu"
        config.vis = "tensorboard"
        config.max_num_iterations = steps
        config.steps_per_save = 1000
        config.steps_per_eval_image = config.steps_per_eval_all_images = 0
        manager = config.pipeline.datamanager
        manager.dataparser.data = tiny_scene
        manager.train_num_rays_per_batch = 64
        config.pipeline.depth.num_quads = 8
        model = config.pipeline.model
        model.width, model.num_layers, model.num_octaves = 16, 2, 4
        model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
        for key, value in changes.items():
            assert hasattr(config, key)
            setattr(config, key, value)
        return config

    return build


def seed_everything(seed: int = 42) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def train(config: FewShotTrainerConfig) -> FewShotTrainer:
    """What nerfstudio's train script does for one process."""
    seed_everything()
    config.get_base_dir().mkdir(parents=True, exist_ok=True)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def checkpoint(trainer: FewShotTrainer, step: int) -> Any:
    return torch.load(trainer.checkpoint_dir / f"step-{step:09d}.ckpt", weights_only=True)


def differences(first: Any, second: Any, at: str = "") -> list:
    """Where two nested states differ, bit by bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        found = [f"{at}: keys"] if first.keys() != second.keys() else []
        return found + [
            d for key in first.keys() & second.keys() for d in differences(first[key], second[key], f"{at}/{key}")
        ]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{at}: length"]
        return [d for i, (a, b) in enumerate(zip(first, second, strict=True)) for d in differences(a, b, f"{at}/{i}")]
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [at]
    return [] if first == second else [at]


def test_resumed_run_equals_uninterrupted_run_bit_by_bit(make_config):
    whole = train(make_config("whole", 8))
    half = train(make_config("half", 4))
    resumed = train(make_config("resumed", 8, load_dir=half.checkpoint_dir))

    expected, actual = checkpoint(whole, 7), checkpoint(resumed, 7)
    assert actual["training_clock"].pop("steps") == expected["training_clock"].pop("steps") == 8
    for state in (expected, actual):
        del state["training_clock"]  # seconds differ, of course
    assert differences(expected, actual) == []
    assert expected["pipeline"] and expected["random_states"] and expected["optimizers"]["field"]["state"]


def test_resume_loads_one_checkpoint_of_several(make_config):
    first = train(make_config("first", 3, steps_per_save=1, save_only_latest_checkpoint=False))
    names = sorted(path.name for path in first.checkpoint_dir.iterdir())
    assert names == [f"step-00000000{step}.ckpt" for step in (1, 2)]  # nerfstudio saves at multiples above zero
    resumed = train(make_config("resumed", 3, load_checkpoint=first.checkpoint_dir / "step-000000001.ckpt"))
    assert differences(checkpoint(first, 2)["pipeline"], checkpoint(resumed, 2)["pipeline"]) == []


@pytest.fixture
def fresh_log(monkeypatch):
    """nerfstudio's log as a process begins with it: earlier tests have left steps there."""
    monkeypatch.setattr(writer, "GLOBAL_BUFFER", {})
    monkeypatch.setattr(writer, "EVENT_WRITERS", [])
    monkeypatch.setattr(writer, "EVENT_STORAGE", [])


def test_no_steps_save_the_weights_as_they_are(make_config, fresh_log):
    kept = train(make_config("kept", 0))
    assert [path.name for path in kept.checkpoint_dir.iterdir()] == ["step-000000000.ckpt"]
    state = checkpoint(kept, 0)
    assert state["step"] == 0 and state["training_clock"]["steps"] == 0 and kept.config.max_num_iterations == 0
    assert differences(state["pipeline"], dict(kept.pipeline.state_dict())) == []
    assert json.loads((kept.base_dir / "train_stats.json").read_text())["steps"] == 0


def test_max_num_iterations_is_the_total(make_config, fresh_log, capsys):
    first = train(make_config("first", 2))
    writer.GLOBAL_BUFFER.clear()  # the next one is another process
    again = train(make_config("again", 2, load_dir=first.checkpoint_dir))
    assert "Nothing left to train" in capsys.readouterr().out
    assert [path.name for path in again.checkpoint_dir.iterdir()] == ["step-000000001.ckpt"]
    assert differences(checkpoint(first, 1)["pipeline"], checkpoint(again, 1)["pipeline"]) == []
    assert again.config.max_num_iterations == 2


def test_old_checkpoints_go_only_after_the_new_one_is_in_place(make_config, monkeypatch):
    trainer = train(make_config("run", 2))

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("torch.save", full_disk)
        trainer._last_step = 5
        with pytest.raises(OSError, match="disk full"):
            trainer.save_checkpoint(5)
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000001.ckpt"]

    trainer.save_checkpoint(5)
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000005.ckpt"]
    assert not list(trainer.base_dir.glob(".*partial"))


def damage(path: Path) -> None:
    """Overwrites a stretch of the weights: torch reads such a file without a word."""
    content = bytearray(path.read_bytes())
    start = len(content) // 2
    content[start : start + 64] = bytes(byte ^ 0xFF for byte in content[start : start + 64])
    path.write_bytes(bytes(content))


def test_resume_falls_back_to_the_backup_and_says_so(make_config, capsys):
    first = train(make_config("first", 5, steps_per_save=2))
    backup = first.base_dir / "checkpoint_backup"
    assert [path.name for path in first.checkpoint_dir.iterdir()] == ["step-000000004.ckpt"]
    assert [path.name for path in backup.iterdir()] == ["step-000000002.ckpt"]
    damage(first.checkpoint_dir / "step-000000004.ckpt")
    resumed = train(make_config("resumed", 5, load_dir=first.checkpoint_dir))
    said = capsys.readouterr().out
    assert "step-000000004.ckpt" in said and "last good checkpoint" in said and "after step 2" in said
    # What follows is what an undamaged run had come to.
    assert differences(checkpoint(resumed, 4)["pipeline"], first.pipeline.state_dict()) == []


def test_resume_falls_back_to_an_older_checkpoint_of_the_folder(make_config, capsys):
    first = train(make_config("first", 3, steps_per_save=1, save_only_latest_checkpoint=False))
    assert not (first.base_dir / "checkpoint_backup").exists()
    (first.checkpoint_dir / "step-000000002.ckpt").write_bytes(b"")
    train(make_config("resumed", 3, load_dir=first.checkpoint_dir))
    assert "after step 1" in capsys.readouterr().out


def test_our_commands_fall_back_to_the_backup_and_say_so(make_config, capsys):
    """`ns-fewshot eval` and whatever else renders a run; a bit of the zip directory is wrong, and then all is gone."""
    config = make_config("run", 5, steps_per_save=2)
    config.pipeline.evaluation.metrics = ("psnr",)
    # As ns-train saves it before training: nerfstudio's datamanagers write into their configs.
    saved = deepcopy(config)
    run = train(config)
    saved.save_config()
    newest, backup = run.checkpoint_dir / "step-000000004.ckpt", run.base_dir / "checkpoint_backup/step-000000002.ckpt"
    content = newest.read_bytes()
    method = content.index(b"PK\x01\x02") + 10
    newest.write_bytes(content[:method] + b"\x63" + content[method + 1 :])
    pipeline, file = load_checkpoint_of_run(run.base_dir, "inference")
    said = " ".join(capsys.readouterr().out.split())
    assert file == backup and "step-000000004.ckpt" in said and "last good checkpoint" in said
    weights = torch.load(backup, weights_only=True)["pipeline"]
    assert differences(dict(pipeline.state_dict()), weights) == []
    EvalCommand(run.base_dir).main()
    assert "last good checkpoint" in " ".join(capsys.readouterr().out.split())
    written = json.loads((run.base_dir / "eval.json").read_text())
    assert written["step"] == 2 and written["checkpoint"] == str(backup)
    backup.write_bytes(b"nothing")
    with pytest.raises(DamagedCheckpointError, match=r"step-000000004\.ckpt(.|\n)*step-000000002\.ckpt"):
        load_checkpoint_of_run(run.base_dir, "inference")


def test_the_best_checkpoint_has_no_backup(make_config):
    first = train(make_config("first", 5, steps_per_save=2))
    best = first.base_dir / "best_checkpoint"
    best.mkdir()
    (best / "step-000000000.ckpt").write_bytes(b"nothing")
    with pytest.raises(DamagedCheckpointError, match=r"step-000000000\.ckpt"):
        load_last_good(best, backup=False)


def test_a_damaged_checkpoint_that_was_asked_for_is_an_error(make_config):
    first = train(make_config("first", 5, steps_per_save=2))
    damage(first.checkpoint_dir / "step-000000004.ckpt")
    for asked in (
        {"load_step": 4, "load_dir": first.checkpoint_dir},
        {"load_checkpoint": first.checkpoint_dir / "step-000000004.ckpt"},
    ):
        with pytest.raises(DamagedCheckpointError, match=r"step-000000004\.ckpt.*wrong bytes"):
            train(make_config(f"asked-{len(asked)}", 6, **asked))
    (first.base_dir / "checkpoint_backup" / "step-000000002.ckpt").write_bytes(b"nothing")
    with pytest.raises(DamagedCheckpointError, match=r"step-000000004\.ckpt(.|\n)*step-000000002\.ckpt"):
        train(make_config("none", 6, load_dir=first.checkpoint_dir))


def test_another_model_is_refused_with_every_key(make_config):
    first = train(make_config("first", 1))
    other = make_config("other", 2, load_dir=first.checkpoint_dir)
    other.pipeline.model.width = 12
    with pytest.raises(
        CheckpointMismatchError, match=r"step-000000000\.ckpt.*\n.*of another shape \(\d+\):(.|\n)*expected"
    ):
        train(other)


def test_other_parameter_groups_are_refused(make_config):
    first = train(make_config("first", 1))
    path = first.checkpoint_dir / "step-000000000.ckpt"
    state = torch.load(path, weights_only=True)
    state["optimizers"] = {"fields": state["optimizers"]["field"]}
    torch.save(state, path)
    with pytest.raises(CheckpointMismatchError, match=r"\['field', 'planes', 'proposal'\], found \['fields'\]"):
        train(make_config("other", 2, load_dir=first.checkpoint_dir))


def test_eval_refuses_another_model_too(make_config):
    """`ns-eval` loads through the pipeline alone."""
    first = train(make_config("first", 1))
    state = checkpoint(first, 0)["pipeline"]
    state.popitem()
    with pytest.raises(CheckpointMismatchError, match=r"missing \(1\)"):
        first.pipeline.load_pipeline(state, 0)


def test_missing_checkpoint_is_named(make_config, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(make_config("run", 1, load_dir=tmp_path / "nowhere"))


def poison(trainer: FewShotTrainer, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Makes the model's colour loss NaN from a step on."""
    model = trainer.pipeline.model
    honest = model.get_loss_dict

    def dishonest(*args: Any, **kwargs: Any) -> Any:
        losses = honest(*args, **kwargs)
        if trainer.step >= step:
            losses["rgb_loss"] = losses["rgb_loss"] * float("nan")
        return losses

    monkeypatch.setattr(model, "get_loss_dict", dishonest)


def set_up(config: FewShotTrainerConfig) -> FewShotTrainer:
    seed_everything()
    config.get_base_dir().mkdir(parents=True)
    trainer = config.setup()
    trainer.setup()
    return trainer


def test_nan_loss_stops_with_step_and_term_and_spares_the_parameters(make_config, monkeypatch):
    reference = train(make_config("reference", 3))
    trainer = set_up(make_config("poisoned", 10))
    poison(trainer, monkeypatch, step=3)
    with pytest.raises(NonFiniteLossError, match=r"step 3: .*rgb_loss = nan"):
        trainer.train()
    assert differences(trainer.pipeline.state_dict(), reference.pipeline.state_dict()) == []


def test_nan_gradient_stops_with_step_and_parameter(make_config):
    trainer = set_up(make_config("poisoned", 10))
    parameter = trainer.optimizers.parameters["field"][0]
    (name,) = [name for name, other in trainer.pipeline.named_parameters() if other is parameter]
    before = {key: value.clone() for key, value in trainer.pipeline.state_dict().items()}
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteGradientError, match=rf"step 0: .* {name}"):
        trainer.train()
    assert differences(before, dict(trainer.pipeline.state_dict())) == []


def test_cpu_budget_stops_cleanly_and_the_run_can_go_on(make_config):
    trainer = train(make_config("short", 100000, max_train_cpu_seconds=0.5))
    (path,) = trainer.checkpoint_dir.iterdir()
    state = torch.load(path, weights_only=True)
    steps = state["step"] + 1
    assert 0 < steps < 100000
    assert path.name == f"step-{steps - 1:09d}.ckpt"
    assert state["training_clock"]["steps"] == steps
    assert state["training_clock"]["cpu_seconds"] >= 0.5

    longer = train(make_config("longer", steps + 2, load_dir=trainer.checkpoint_dir))
    assert checkpoint(longer, steps + 1)["training_clock"]["steps"] == steps + 2


def test_the_run_records_its_cost_and_its_views(make_config):
    trainer = train(make_config("run", 3))
    stats = json.loads((trainer.base_dir / "train_stats.json").read_text())
    assert stats["steps"] == 3 and stats["rays"] == 3 * 64
    assert 0 < stats["cpu_seconds"] < 60 and 0 < stats["wall_seconds"] < 60
    assert stats["rays_per_cpu_second"] == pytest.approx(stats["rays"] / stats["cpu_seconds"])
    views = json.loads((trainer.base_dir / "views.json").read_text())
    assert views == {"protocol": "llff-3", "train_indices": [1, 3, 4], "test_indices": [0]}


def test_run_folder_is_named_after_the_scene(make_config):
    assert make_config("a", 1).get_base_dir().parts[-3:] == ("tiny", "sparsenerf-lite", "a")


def test_pipeline_learns_where_the_run_lies(make_config):
    config = make_config("run", 1)
    saved = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    assert saved.get_checkpoint_dir() == config.get_base_dir() / MODEL_DIR
    assert saved.pipeline.run_dir == config.get_base_dir()


def test_nothing_is_saved_before_the_first_step(make_config, capsys):
    trainer = set_up(make_config("run", 1))
    trainer.save_checkpoint(0)
    assert not trainer.checkpoint_dir.exists()
    assert "no checkpoint saved" in capsys.readouterr().out


def test_checkpoint_of_the_plain_nerfstudio_trainer_can_be_resumed(make_config):
    """It has no random states and no clock."""
    first = train(make_config("first", 1))
    path = first.checkpoint_dir / "step-000000000.ckpt"
    state = torch.load(path, weights_only=True)
    del state["random_states"], state["training_clock"]
    torch.save(state, path)
    resumed = train(make_config("resumed", 3, load_dir=first.checkpoint_dir))
    assert checkpoint(resumed, 2)["training_clock"]["steps"] == 2


def changed(trainer: FewShotTrainer, step: int, change: Callable[[Any], Any]) -> None:
    """Writes a checkpoint anew, changed."""
    path = trainer.checkpoint_dir / f"step-{step:09d}.ckpt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_a_checkpoint_of_another_method_of_equal_shapes_is_refused(make_config):
    first = train(make_config("first", 1))
    assert checkpoint(first, 0)["method"] == "sparsenerf-lite"
    other = make_config("other", 2, load_dir=first.checkpoint_dir)
    other.method_name = "another-method"
    with pytest.raises(
        CheckpointMismatchError, match=r"step-000000000\.ckpt: expected .* another-method, .* 'sparsenerf-l"
    ):
        train(other)
    # Those of earlier versions do not say it.
    changed(first, 0, lambda state: state.pop("method"))
    other.timestamp = "old"
    train(other)


WITHOUT: List[Tuple[Callable[[Any], Any], str]] = [
    (lambda state: state.pop("schedulers"), r"without schedulers; --load-scheduler False"),
    (lambda state: state.pop("optimizers"), r"without optimizers$"),
    (lambda state: state.pop("scalers"), r"without scalers$"),
    (lambda state: state.update(step="three"), r"found step: 'three'"),
    (lambda state: state.update(step=-4), r"found step: -4"),
    (lambda state: state.update(optimizers=[1]), r"found optimizers: list"),
    (lambda state: state["schedulers"].popitem(), r"expected schedulers for the parameter groups"),
    (lambda state: state["optimizers"].update(field={"state": {}, "param_groups": []}), r"expected optimizers of"),
    (lambda state: state["training_clock"].update(start=3), r"sums of a training clock, found \['start'\]"),
    (lambda state: state["training_clock"].update(cpu_seconds=float("nan")), r"found \['cpu_seconds'\]"),
    (lambda state: state["random_states"].pop("numpy"), r"states of the random generators"),
    (lambda state: state["random_states"].update(torch=torch.zeros(3)), r"states of the random generators"),
    (lambda state: state.update(random_states=7), r"states of the random generators"),
]


def test_a_checkpoint_without_what_a_resume_needs_is_one_error(make_config, tmp_path):
    first = train(make_config("first", 1))
    resumed = set_up(make_config("resumed", 2))
    good, path = first.checkpoint_dir / "step-000000000.ckpt", tmp_path / "changed.ckpt"
    resumed.config.load_checkpoint = path
    before = torch.get_rng_state()
    for change, said in WITHOUT:
        state = torch.load(good, weights_only=True)
        change(state)
        torch.save(state, path)
        with pytest.raises(CheckpointMismatchError, match=said) as caught:
            resumed._load_checkpoint()
        assert str(path) in str(caught.value)
    assert torch.equal(before, torch.get_rng_state())
    resumed.config.load_checkpoint = good
    resumed._load_checkpoint()
    assert resumed._start_step == 1


def test_schedules_may_begin_anew_without_their_states(make_config):
    first = train(make_config("first", 1))
    changed(first, 0, lambda state: state.pop("schedulers"))
    resumed = train(make_config("anew", 2, load_dir=first.checkpoint_dir, load_scheduler=False))
    assert checkpoint(resumed, 1)["step"] == 1


def test_stray_files_beside_checkpoints_are_left_alone(make_config):
    first = train(make_config("first", 1))
    strays = ("step-abc.ckpt", "step-000.ckpt.bak", "notes.txt", "mine.ckpt", "step-7.ckpt")
    for name in strays:
        (first.checkpoint_dir / name).write_text("mine")
    (first.checkpoint_dir / "step-000000009.ckpt").mkdir()
    resumed = make_config("first", 4, load_dir=first.checkpoint_dir, steps_per_save=1)
    trainer = resumed.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    names = sorted(path.name for path in first.checkpoint_dir.iterdir())
    assert names == sorted([*strays, "step-000000003.ckpt", "step-000000009.ckpt"])
    assert [path.name for path in (first.base_dir / "checkpoint_backup").iterdir()] == ["step-000000002.ckpt"]

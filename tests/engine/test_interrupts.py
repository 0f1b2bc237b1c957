"""Signals end a training after its step: a checkpoint, a status that is not 0, and a word on how to go on."""

from __future__ import annotations

import signal
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
import yaml
from child_actions import set_up_endlessly, train_endlessly, train_rank, train_signalled
from forked import Forked
from tiny_training import MODELS, differences, state_of, tiny_config, train

from fewshot_ns.configs.pixelnerf import pixelnerf_lite
from fewshot_ns.engine.best import BEST_KEY
from fewshot_ns.engine.stop_signals import StopSignals, TrainingInterrupted, how_to_go_on
from fewshot_ns.engine.trainer import FewShotTrainer
from fewshot_ns.utils.checkpoints import checkpoints_in

LONG = 100_000


def the_run(output: Path, name: str) -> Path:
    return output / "faults" / "sparsenerf-lite" / name


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_with_a_checkpoint_from_which_it_goes_on(
    number: int, status: int, tiny_scene: Path, tmp_path: Path
) -> None:
    """Through nerfstudio's own command from the config on; bit-equal with a run that nobody has disturbed."""
    keep = {"keep_best": "psnr", "keep_best_every": 50, "keep_best_views": (2,)}
    process = Forked(train, tiny_config(tiny_scene, tmp_path, "run", LONG, **keep), log=tmp_path / "log")
    run = the_run(tmp_path, "run")
    # Its first measurement: it is in the middle of its steps.
    process.wait_for(lambda: (run / "best_checkpoint").is_dir(), pause=0.01)
    process.send(number)
    assert process.end() == status, process.said
    (step,) = checkpoints_in(run / MODELS)
    said = " ".join(process.said.split())
    assert f"{signal.Signals(number).name}: training was ended after step {step}, which is saved." in said
    assert f"--load-dir {run / MODELS}" in said and "Training Finished" not in said
    assert not list(run.glob(".*partial")) and (run / "train_stats.json").is_file()
    end = step + 20
    whole = Forked(train, tiny_config(tiny_scene, tmp_path, "whole", end, **keep), log=tmp_path / "whole.log")
    # Into its own folder, whose lock is free again.
    again = tiny_config(tiny_scene, tmp_path, "run", end, run / MODELS, **keep)
    resumed = Forked(train, again, log=tmp_path / "again.log")
    assert (whole.end(), resumed.end()) == (0, 0), whole.said + resumed.said
    expected, found = state_of(the_run(tmp_path, "whole"), end - 1), state_of(run, end - 1)
    assert differences(expected, found) == []
    assert expected[BEST_KEY]["views"] == [2]


def test_a_paused_training_ends_too(tiny_scene: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_scene, tmp_path, "run", LONG, start_paused=True)
    process = Forked(train, config, log=tmp_path / "log")
    process.wait_for(lambda: (the_run(tmp_path, "run") / "dataparser_transforms.json").is_file())
    time.sleep(0.5)
    process.send(signal.SIGTERM)
    assert process.end() == 143 and "before its first step; there was nothing to save" in " ".join(process.said.split())
    assert not (the_run(tmp_path, "run") / MODELS).exists()


def test_a_second_interrupt_ends_at_once(tiny_scene: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = Forked(train_endlessly, tiny_config(tiny_scene, tmp_path, "run", 5), ready, log=tmp_path / "log")
    process.wait_for(ready.is_file)
    process.send(signal.SIGINT)
    process.wait_for(lambda: "Ctrl-C once more" in process.said)
    # As nerfstudio's launcher of several processes does.
    process.send(signal.SIGTERM)
    time.sleep(0.2)
    assert process.process.is_alive()
    process.send(signal.SIGINT)
    assert process.end() == 130
    assert not (the_run(tmp_path, "run") / MODELS).exists()


def test_before_the_first_step_there_is_nothing_to_save(tiny_scene: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = Forked(set_up_endlessly, tiny_config(tiny_scene, tmp_path, "run", 5), ready, log=tmp_path / "log")
    process.wait_for(ready.is_file)
    process.send(signal.SIGINT)
    assert process.end() == 130


@pytest.mark.parametrize(
    "place, number, status",
    [
        ("_write_views", signal.SIGINT, 130),
        ("_init_viewer_state", signal.SIGINT, 130),
        ("_init_viewer_state", signal.SIGTERM, 143),
    ],
)
def test_between_set_up_and_the_first_step(
    place: str, number: int, status: int, tiny_scene: Path, tmp_path: Path
) -> None:
    """nerfstudio's command answers a KeyboardInterrupt with status 0; a training that starts paused would not end."""
    config = tiny_config(tiny_scene, tmp_path, "run", 5, start_paused=True)
    process = Forked(train_signalled, config, place, number, log=tmp_path / "log")
    assert process.end() == status, process.said
    assert not (the_run(tmp_path, "run") / MODELS).exists()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")
def test_processes_of_one_training_end_after_the_same_step(tiny_pixelnerf: Callable[..., Any], tmp_path: Path) -> None:
    """Whichever is asked; one of them saves."""
    config: Any = deepcopy(pixelnerf_lite)
    config.output_dir, config.experiment_name, config.timestamp = tmp_path, "faults", "run"
    config.machine.device_type, config.vis, config.max_num_iterations = "cpu", "tensorboard", LONG
    config.steps_per_eval_image, config.pipeline = 0, tiny_pixelnerf()
    config.get_base_dir().mkdir(parents=True)
    (tmp_path / "config.yml").write_text(yaml.dump(config), "utf8")
    both = [
        Forked(train_rank, rank, tmp_path, 4 if rank == 1 else None, log=tmp_path / f"{rank}.log") for rank in range(2)
    ]
    assert [process.end() for process in both] == [130, 130], both[0].said + both[1].said
    assert list(checkpoints_in(config.get_base_dir() / MODELS)) == [4]
    words = "training was ended after step 4"
    assert words in " ".join(both[0].said.split()) and words not in both[1].said


def set_up(config: Any) -> FewShotTrainer:
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def test_signals_are_given_back(tiny_scene: Path, tmp_path: Path) -> None:
    """Also after an interrupt, which in a program is the exception TrainingInterrupted."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    trainer = set_up(tiny_config(tiny_scene, tmp_path, "run", LONG))

    def interrupt(step: int) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    trainer.callbacks[0].func = lambda step, inner=trainer.callbacks[0].func: (inner(step=step), interrupt(step))
    with pytest.raises(TrainingInterrupted) as caught:
        trainer.train()
    assert caught.value.code == 130 and list(checkpoints_in(trainer.checkpoint_dir)) == [3]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_with_the_last_step_done_is_no_interrupt(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = set_up(tiny_config(tiny_scene, tmp_path, "run", 3))
    save = trainer.save_checkpoint

    def interrupted_save(step: int) -> None:
        signal.raise_signal(signal.SIGTERM)
        save(step)

    trainer.save_checkpoint = interrupted_save  # type: ignore[method-assign]
    trainer.train()
    assert list(checkpoints_in(trainer.checkpoint_dir)) == [2]


def test_other_threads_and_ignored_signals_are_left_alone() -> None:
    signals, seen = StopSignals(lambda: None), []

    def in_a_thread() -> None:
        with signals.heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.heeded():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
        assert signals.number == signal.SIGTERM and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_words_name_the_folder_to_go_on_from() -> None:
    words = how_to_go_on(7, signal.SIGTERM, Path("run") / MODELS)
    assert (
        words.startswith("SIGTERM: training was ended after step 7") and f"--load-dir {Path('run') / MODELS}" in words
    )

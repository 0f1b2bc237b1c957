"""nerfstudio's trainer with atomic, complete and strictly loaded checkpoints and a record of the cost of training."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Dict, Optional, Tuple, Type

import yaml
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import comms, writer
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.misc import step_check
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP
from fewshot_ns.data.datamanagers.own_parsers import settle_dataparser
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.engine.best import BEST_KEY, BestCheckpoint
from fewshot_ns.engine.error_lines import shorten_errors_of_training
from fewshot_ns.engine.optimizers import CheckedOptimizers, pose_optimizer
from fewshot_ns.engine.resume import (
    capture_random_states,
    draw_apart,
    load_last_good,
    restore_random_states,
    retire_older,
)
from fewshot_ns.engine.resume_state import METHOD_KEY, check_method, check_resumable, loading
from fewshot_ns.engine.run_lock import claim_run, free_timestamp, release_run
from fewshot_ns.engine.scene_bounds import (
    RESOLVED_NAME,
    bounds_to_train_with,
    check_scene,
    from_main_process,
    parser_without_bounds,
)
from fewshot_ns.engine.schedulers import RunLengthSchedulerConfig
from fewshot_ns.engine.stop_signals import (
    StopSignals,
    TrainingInterrupted,
    how_to_go_on,
    interrupted_before_training,
    largest_of_all,
)
from fewshot_ns.engine.training_clock import TrainingClock
from fewshot_ns.utils.checkpoints import (
    CheckpointMismatchError,
    check_state,
    load_checkpoint,
    model_state,
    save_checkpoint,
)
from fewshot_ns.utils.configs import SavedConfig
from fewshot_ns.utils.files import write_json, write_text
from fewshot_ns.utils.leftovers import sweep
from fewshot_ns.viewer.messages import guard_messages
from fewshot_ns.viewer.serving import stop_rendering
from fewshot_ns.viewer.training_page import local_viewer, training_goes_on


@dataclass
class FewShotTrainerConfig(SavedConfig, TrainerConfig):
    """Configuration of a training run."""

    outermost: ClassVar[bool] = True
    """A config.yml begins with this config."""
    _target: Type = field(default_factory=lambda: FewShotTrainer)
    """target class to instantiate"""
    max_num_iterations: Optional[int] = 5000  # type: ignore[assignment]
    """Steps of the whole run; a resumed run trains only the remaining ones. None: the method's own length for the
    scene's ray space, one of the next two fields. 0: the initial weights are saved."""
    ndc_iterations: int = 5000
    """Length for scenes in NDC, where `max_num_iterations` or a scheduler's `max_steps` is None."""
    metric_iterations: int = 5000
    """The same for metric scenes."""
    viewer: ViewerConfig = field(default_factory=local_viewer)
    """Viewer configuration"""
    max_train_cpu_seconds: Optional[float] = None
    """Stop, as if max_num_iterations were reached, once training has used this much CPU time (user + system)."""
    keep_best: Optional[str] = None
    """Metric by name (psnr, ssim, lpips, ...), by whose mean over validation views the best checkpoint is kept, in
    best_checkpoint beside the newest; None: only the newest is kept."""
    keep_best_every: int = 500
    """Steps between two such measurements; one more comes after the last step."""
    keep_best_views: Optional[Tuple[int, ...]] = None
    """Validation views by their index in the scene, which neither train nor test; None: up to four of the scene's own
    validation split."""

    def set_timestamp(self) -> None:
        """What `ns-train` calls first, before it shows and saves the config: the dataparser is settled and the scene
        looked at here, so that an error is not the last line after hundreds."""
        shorten_errors_of_training()
        settle_dataparser(self.pipeline.datamanager)
        check_scene(self)
        super().set_timestamp()

    def set_experiment_name(self) -> None:
        """Names the run after the scene; nerfstudio does so only where `--data` is given before the parser."""
        manager = self.pipeline.datamanager
        if self.experiment_name is None and manager.data is None and hasattr(manager, "dataparser"):
            self.experiment_name = getattr(manager, "dataparser").data.resolve().name or None  # noqa: B009
        super().set_experiment_name()

    def save_config(self) -> None:
        """Writes config.yml, whole or not at all, into a folder that no other training writes into.

        Where nerfstudio has made the timestamp, and another training has it, the run goes beside that one's.

        Raises:
            RunBusyError: another training has the folder, and it was named by the user.
            DiskFullError: there is no room for the file.
        """
        if self.machine.machine_rank == 0:
            folder = self.get_base_dir()
            timestamp = free_timestamp(folder)
            if timestamp != folder.name:
                CONSOLE.print(f"{folder}: another training is there; this one goes to {timestamp} beside it.")
                self.timestamp = timestamp
        path = self.get_base_dir() / "config.yml"
        CONSOLE.log(f"Saving config to: {path}")
        write_text(path, yaml.dump(self))

    def get_base_dir(self) -> Path:
        """The folder of the run: the parent of the checkpoints' folder where that is absolute, as our tools set it for
        runs outside nerfstudio's output layout."""
        if self.relative_model_dir.is_absolute():
            return self.relative_model_dir.parent
        return super().get_base_dir()

    def get_checkpoint_dir(self) -> Path:
        """The folder of the checkpoints.

        nerfstudio calls this right before it builds the pipeline, in training as in `ns-eval` and `ns-render`, and
        never tells the pipeline the run's folder. So the pipeline's config gets it here.
        """
        if hasattr(self.pipeline, "run_dir"):
            setattr(self.pipeline, "run_dir", self.get_base_dir())  # noqa: B010 - not a field of nerfstudio's config
        if hasattr(self.pipeline, "resumed_run"):
            resumed = self.load_dir.parent if self.load_dir is not None else None
            if self.load_checkpoint is not None and resumed is None:
                resumed = self.load_checkpoint.parent.parent
            setattr(self.pipeline, "resumed_run", resumed)  # noqa: B010
        return super().get_checkpoint_dir()


class FewShotTrainer(Trainer):
    """Trainer with

    - checkpoints that are written atomically, load under weights-only rules and hold the random states, so that a run
      resumed on CPU is bit-equal to an uninterrupted one;
    - a backup of the checkpoint before the newest, from which a run resumes if the newest is damaged;
    - strict loading, with one message that lists what does not fit;
    - a stop at the first loss or gradient that is not finite;
    - an end with a checkpoint after SIGINT and SIGTERM;
    - `train_stats.json` (cost), `views.json` (split) and `resolved.json` (values of fields that are None).

    Args:
        config: the configuration of the run.
        local_rank: rank of this process on its machine.
        world_size: number of processes.
    """

    config: FewShotTrainerConfig

    def __init__(self, config: FewShotTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        super().__init__(config, local_rank, world_size)
        self.clock = TrainingClock()
        self._last_step = -1
        self._end_step = 0
        self._stop = False
        self._states_to_restore: Optional[Dict[str, Any]] = None
        self._resolved: Dict[str, Any] = {}
        self._best: Optional[BestCheckpoint] = None
        self._loaded_best: Optional[Tuple[Any, Path]] = None
        self._signals = StopSignals(self._stop_when_asked)

    def setup(self, test_mode: Any = "val") -> None:
        """Builds pipeline, optimizers, writers and viewer, and loads the checkpoint to resume from.

        Args:
            test_mode: see nerfstudio's trainer.

        Raises:
            TrainingInterrupted: by Ctrl-C.
        """
        with interrupted_before_training():
            self._set_up(test_mode)

    def _set_up(self, test_mode: Any) -> None:
        settle_dataparser(self.config.pipeline.datamanager)
        if test_mode == "val":
            if comms.is_main_process():
                claim_run(self.base_dir)
                sweep(self.base_dir)
            self._settle_bounds()
        super().setup(test_mode)
        guard_messages(getattr(self.viewer_state, "viser_server", None))
        # First before and last after the step, so that the cost of the pipeline's own callbacks counts as training.
        self.callbacks = [
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before_iteration),
            *self.callbacks,
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._after_iteration),
        ]
        if test_mode == "val" and self.config.keep_best is not None:
            self._keep_best(self.config.keep_best)

    def _keep_best(self, metric: str) -> None:
        """Has the best checkpoint kept from now on, by the main process."""
        every = self.config.keep_best_every
        if every < 1:
            raise ValueError(f"--keep-best-every: expected at least 1 step, got {every}")
        pipeline = self._whole_pipeline()
        if not hasattr(pipeline, "validation"):
            raise ValueError(f"--keep-best: expected a pipeline of this package, found {type(pipeline).__name__}")
        validation = pipeline.validation(metric, self.config.keep_best_views)
        if not comms.is_main_process():
            return
        self._best = BestCheckpoint(self.base_dir, validation, every)
        if self._loaded_best is not None:
            self._best.resume(*self._loaded_best)
        self.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._measure_best))

    def _settle_bounds(self) -> None:
        """Takes near and far from the photos where nothing else says them, and saves the config with them."""
        parser = parser_without_bounds(self.config)
        if parser is None:
            return
        found = bounds_to_train_with(self.config) if comms.is_main_process() else None
        if self.world_size > 1:
            found = from_main_process(found, self.device)
        if found is not None:
            parser.near, parser.far = found
            parser.bounds_from_photos = True
            self._save_config()

    @check_main_thread
    def _save_config(self) -> None:
        """Writes config.yml as the command did that started the training, which does not know the run's folder."""
        pipeline: Any = self.config.pipeline
        if hasattr(pipeline, "run_dir"):
            pipeline = replace(pipeline, run_dir=None)
        replace(self.config, pipeline=pipeline).save_config()

    def setup_optimizers(self) -> Optimizers:
        """Builds optimizers that stop at a gradient that is not finite, and resolves lengths that are None."""
        parameters = self.pipeline.get_param_groups()
        optimizers = copy.deepcopy(self.config.optimizers)
        if CAMERA_GROUP in parameters:
            # Methods of others need not have it.
            optimizers = {**pose_optimizer(), **optimizers}
        else:
            optimizers.pop(CAMERA_GROUP, None)
        schedulers = [group["scheduler"] for group in optimizers.values() if group.get("scheduler") is not None]
        open_ones = [scheduler for scheduler in schedulers if getattr(scheduler, "max_steps", 0) is None]
        if self.config.max_num_iterations is None or open_ones:
            space = self._whole_pipeline().model.geometry.ray_space
            length = self.config.ndc_iterations if space == "ndc" else self.config.metric_iterations
            for scheduler in open_ones:
                scheduler.max_steps = length
            if self.config.max_num_iterations is None:
                self.config.max_num_iterations = length
        total = self.config.max_num_iterations
        for scheduler in schedulers:
            if isinstance(scheduler, RunLengthSchedulerConfig):
                scheduler.max_steps = total
        model = self._whole_pipeline().model
        model.run_length = total
        self._rate_scales = model.learning_rate_scales()
        for name, factor in self._rate_scales.items():
            optimizers[name]["optimizer"].lr *= factor
        self.schedule_lengths = [getattr(scheduler, "max_steps", None) for scheduler in schedulers]
        return CheckedOptimizers(
            optimizers,
            parameters,
            named_parameters=self.pipeline.named_parameters,
            current_step=lambda: self.step,
            averages=self.world_size > 1 and model.replaces_parameters,
        )

    def train(self) -> None:
        """Trains up to `max_num_iterations` steps in all, or until the CPU time is used up; with 0 steps the initial
        weights are saved.

        Raises:
            TrainingInterrupted: by SIGINT or SIGTERM, after the step that was being trained; it is saved.
        """
        with interrupted_before_training():
            self._write_views()
        total = self.config.max_num_iterations or 0
        self._last_step = self.step = self._start_step - 1
        if self._start_step >= total:
            CONSOLE.print(f"Nothing left to train: {self._start_step} of {total} steps are done.")
            # nerfstudio's log divides by these two, and only a training step would set the first.
            writer.GLOBAL_BUFFER.update(step=max(self.step, 0), max_iter=max(total, 1))
        # nerfstudio takes the field for the number of steps after the resume.
        self.config.max_num_iterations = max(total - self._start_step, 0)
        self._end_step = max(total, self._start_step)
        try:
            with self._signals.heeded():
                super().train()
        finally:
            stop_rendering()
            self.config.max_num_iterations = total
            release_run(self.base_dir)
        if self._interrupted:
            number = self._signals.number or 0
            if comms.is_main_process():
                step = self._last_step if self._last_step >= self._start_step else None
                CONSOLE.print(how_to_go_on(step, number, self.checkpoint_dir), soft_wrap=True)
            raise TrainingInterrupted(number)

    @property
    def _interrupted(self) -> bool:
        """Whether a signal ends the training before its last step."""
        return self._signals.number is not None and self._last_step + 1 < self._end_step

    @property
    def stop_training(self) -> bool:  # type: ignore[override]
        """Whether no further step is trained. nerfstudio's loop sets this to False when it begins, which must not undo
        a signal that came before, or a training that starts paused would wait on."""
        return self._stop or (self.world_size == 1 and self._signals.number is not None)

    @stop_training.setter
    def stop_training(self, stop: bool) -> None:
        self._stop = stop

    def _stop_when_asked(self) -> None:
        if self.world_size > 1:
            # They agree on it after a step, for which none may wait.
            self.training_state = "training"

    def _after_train(self) -> None:
        """What ends a training: its checkpoint, and where no signal has ended it all else."""
        if not self._interrupted:
            super()._after_train()
            return
        self.training_state = "completed"
        if self._last_step >= self._start_step:
            self.save_checkpoint(self.step)
            writer.write_out_storage()

    def _train_complete_viewer(self) -> None:
        """Keeps the viewer open for what is trained, until Ctrl-C."""
        self._signals.restore()
        if self._signals.number is None:
            super()._train_complete_viewer()

    def train_iteration(self, step: int) -> Tuple[Tensor, Dict[str, Tensor], Dict[str, Tensor]]:
        """One step; what it returns is for the log and detached."""
        loss, loss_dict, metrics_dict = super().train_iteration(step)
        return loss.detach(), {name: term.detach() for name, term in loss_dict.items()}, metrics_dict

    def eval_iteration(self, step: int) -> None:
        """Evaluates while training, where some view is held out."""
        if getattr(self._whole_pipeline(), "evaluates", True):
            super().eval_iteration(step)

    def _whole_pipeline(self) -> Any:
        """The pipeline without the wrapper of DistributedDataParallel."""
        return getattr(self.pipeline, "module", self.pipeline)

    def _before_iteration(self, step: int) -> None:
        if self._states_to_restore is not None:
            # As late as possible: building datasets, viewer and writers draws random numbers, too.
            restore_random_states(self._states_to_restore)
            self._states_to_restore = None
            draw_apart(comms.get_rank())
        self.clock.start()

    def _after_iteration(self, step: int) -> None:
        self.clock.stop(self.world_size * self.pipeline.datamanager.get_train_rays_per_batch())
        self._last_step = step
        if step_check(step, self.config.logging.steps_per_log, run_at_zero=True):
            writer.put_scalar(name="Train CPU Seconds", scalar=self.clock.cpu_seconds, step=step)
        limit = self.config.max_train_cpu_seconds
        # None stops alone: the others would wait for its gradients.
        is_over = limit is not None and largest_of_all(int(self.clock.cpu_seconds >= limit), self.device)
        if is_over and not self.stop_training:
            CONSOLE.print(f"Stopping after step {step}: training has cost {limit:g} CPU seconds.")
            self.stop_training = True
        self._signals.agree(self.device)
        if self._signals.number is not None:
            self.stop_training = True

    def _measure_best(self, step: int) -> None:
        """Measures the validation views where it is time to."""
        if self._best is None:
            return
        # What goes on later is measured then as if nothing had come between.
        is_last = step + 1 == self._end_step or (self.stop_training and not self._interrupted)
        value = self._best.after_step(step, is_last, lambda: self._state(step))
        if value is not None:
            writer.put_scalar(name=f"Validation {self._best.validation.metric}", scalar=value, step=step)

    def _state(self, step: int) -> Dict[str, Any]:
        """What a checkpoint holds."""
        best = None if self._best is None else self._best.state()
        return {
            "step": step,
            METHOD_KEY: self.config.method_name,
            "pipeline": self._whole_pipeline().state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            # Before the first step those of the loaded checkpoint still count.
            "random_states": self._states_to_restore or capture_random_states(),
            "training_clock": self.clock.state_dict(),
            **({} if best is None else {BEST_KEY: best}),
        }

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Writes checkpoint, `train_stats.json` and, into `resolved.json`, by how much refined poses have moved.

        Older checkpoints are removed only once the new one is written; the last of them becomes the backup.

        Args:
            step: the step that was just trained; before the first one nothing is saved, unless no steps are wanted.
        """
        step = min(step, self._last_step)  # a stopped loop reports the step that it did not take
        if step < 0 and self.config.max_num_iterations != 0:
            CONSOLE.print("No step has been trained: no checkpoint saved.")
            return
        step = max(step, 0)
        pipeline = self._whole_pipeline()
        path = self.checkpoint_dir / f"step-{step:09d}.ckpt"
        save_checkpoint(path, self._state(step), staging_dir=self.base_dir)
        if self.config.save_only_latest_checkpoint:
            retire_older(path)
        write_json(self.base_dir / "train_stats.json", self.clock.summary())
        poses = pipeline.training_poses() if self._resolved else {}
        if poses:
            self._resolved |= poses
            write_json(self.base_dir / RESOLVED_NAME, self._resolved)

    def _load_checkpoint(self) -> None:
        """Loads the checkpoint of `load_dir` (and `load_step`) or `load_checkpoint`, completely or not at all.

        With `load_dir` alone, the last good checkpoint is loaded where the newest is damaged.
        """
        config = self.config
        if config.load_dir is not None:
            # What a killed run has left there is of no use to this one.
            sweep(config.load_dir.parent)
            path, state = load_last_good(config.load_dir, config.load_step)
        elif config.load_checkpoint is not None:
            path, state = config.load_checkpoint, load_checkpoint(config.load_checkpoint)
        else:
            return
        check_method(state, config.method_name, path)
        schedulers = self.optimizers.schedulers if config.load_scheduler else None
        check_resumable(state, path, self.optimizers.optimizers, schedulers, self.clock.state_dict())
        self._make_room_for(state["pipeline"])
        check_state(self.pipeline, state["pipeline"], path)
        self.pipeline.load_pipeline(state["pipeline"], state["step"])
        loading(path, "optimizers", lambda: self.optimizers.load_optimizers(state["optimizers"]))
        if config.load_scheduler:
            loading(path, "schedulers", lambda: self.optimizers.load_schedulers(state.get("schedulers", {})))
        else:
            self._rescale_schedulers()
        loading(path, "the scaler of gradients", lambda: self.grad_scaler.load_state_dict(state["scalers"]))
        self.clock.load_state_dict(state.get("training_clock", {}))
        self._states_to_restore = state.get("random_states")
        self._loaded_best = state.get(BEST_KEY), path.parent
        self._start_step = state["step"] + 1
        CONSOLE.print(f"Resuming after step {state['step']} of {path}")

    def _update_viewer_state(self, step: int) -> None:
        """What a page has sent may be anything."""
        with training_goes_on():
            super()._update_viewer_state(step)

    def _rescale_schedulers(self) -> None:
        """Lets schedules that begin anew use units of the scene that only the checkpoint knew."""
        for name, factor in self._whole_pipeline().model.learning_rate_scales().items():
            scheduler = self.optimizers.schedulers.get(name)
            if scheduler is not None:
                ratio = factor / self._rate_scales[name]
                scheduler.base_lrs = [rate * ratio for rate in scheduler.base_lrs]

    def _make_room_for(self, state: Dict[str, Any]) -> None:
        """Lets a backbone that says so take another number of primitives, and the optimizers its new parameters.

        Raises:
            CheckpointMismatchError: several processes train a backbone that does not replace its parameters by itself,
                and know those that it was built with.
        """
        pipeline = self._whole_pipeline()
        make_room = getattr(pipeline.model, "make_room_for", None)
        if make_room is None or not make_room(model_state(state)):
            return
        if self.world_size > 1 and not pipeline.model.replaces_parameters:
            raise CheckpointMismatchError(
                "a checkpoint with another number of primitives can be resumed by one process alone; expected "
                f"--machine.num-devices 1, found {self.world_size} processes"
            )
        for name, parameters in pipeline.get_param_groups().items():
            if name in self.optimizers.optimizers:
                self.optimizers.parameters[name] = parameters
                self.optimizers.optimizers[name].param_groups[0]["params"] = parameters

    @check_main_thread
    def _write_views(self) -> None:
        """Writes the run's `views.json` (train and test views) and `resolved.json` (values that the scene decided)."""
        pipeline = self._whole_pipeline()
        if hasattr(pipeline, "resolved"):
            training = {"max_num_iterations": self.config.max_num_iterations, "schedules": self.schedule_lengths}
            self._resolved = {"training": training, **pipeline.resolved()}
            write_json(self.base_dir / RESOLVED_NAME, self._resolved)
        dataset = self.pipeline.datamanager.train_dataset
        record = dataset.metadata.get(METADATA_KEY) if dataset is not None else None
        if not isinstance(record, FewShotMetadata):
            return
        views = {
            "protocol": record.protocol,
            "train_indices": [int(index) for index in record.train_indices],
            "test_indices": [int(index) for index in record.test_indices],
        }
        write_json(self.base_dir / "views.json", views)

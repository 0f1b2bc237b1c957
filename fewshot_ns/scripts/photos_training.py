"""The training of `ns-fewshot photos`: checked before poses are found, taken up where it stopped, and put in the place
of an earlier one only when it is complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple

from fewshot_ns.scripts.scenes import dataparser_names, split_dataparser

if TYPE_CHECKING:
    from rich.console import Console

DONE = "trained.json"
"""In the folder of a run: its key."""
RUN = "run"
TRAINING = "training"
"""Folder of a training that is not complete, with its log."""
RECORD = "training.json"
PARSER = "fewshot-nerfstudio-data"
OWN_FLAGS = ("--data", "--output-dir", "--experiment-name", "--timestamp", "--load-dir", "--load-checkpoint", "--vis")
"""Flags of ns-train that the command sets itself."""
SECONDS_BETWEEN = 30.0
PERCENT_BETWEEN = 10.0
"""How far training goes on between two lines of progress where there is no terminal; whichever comes first."""
_AFTER = "after `--` at the end of the command"
_STEP_LINE = re.compile(r"^\s*\d+ \((\d+\.\d+)%\)")
"""What ns-train prints for a logged step."""


def per_scene_methods() -> Tuple[str, ...]:
    """Names of the methods that train on one scene."""
    from fewshot_ns import registry

    return tuple(name.replace("_", "-") for name, method in registry.METHODS.items() if not method.many_scenes)


def check_method(method: str) -> None:
    """Makes sure that a method trains on one scene.

    Raises:
        ValueError: it does not, or there is none of the name.
    """
    names = per_scene_methods()
    if method not in names:
        raise ValueError(
            f"--method: expected one of {', '.join(names)}, which train on one scene; got {method!r} (methods that "
            "train across scenes are shown new photos by ns-fewshot retarget)"
        )


def split_words(words: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Parts further flags of ns-train into those of the method and those of the dataparser, behind its name.

    Raises:
        ValueError: a flag that the command sets itself, or another dataparser.
    """
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        if flag in OWN_FLAGS:
            raise ValueError(f"{flag}: set by ns-fewshot photos itself; leave it out")
    of_method, of_parser = split_dataparser(["ns-train", *words])
    if of_method[-1] == PARSER:
        return of_method[1:-1], of_parser
    if of_method[-1] in dataparser_names():
        raise ValueError(f"expected flags of ns-train and perhaps {PARSER} with flags, found {of_method[-1]}")
    return of_method[1:], []


def check_needs(method: str, words: Sequence[str], has_maps: bool) -> None:
    """Makes sure that a method has what its priors need besides photos and poses, as far as that is soon known.

    Args:
        method: Which trains on one scene.
        words: Further flags of ns-train.
        has_maps: Whether the scene will have depth maps of its own.

    Raises:
        ValueError: wrong flags, or no depth maps; the message names the ways out.
        WeightsNotFoundError: a network is neither on this machine nor can it be downloaded; likewise.
    """
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.bench.planning.config_identity import resolve_config
    from fewshot_ns.pretrained.encoders.image_encoder import ImageEncoder
    from fewshot_ns.pretrained.weights import FolderSpec, resolve_weights, ways_out
    from fewshot_ns.priors.base import prior_configs, prior_flag
    from fewshot_ns.priors.depth.metric import NEED_SCALE
    from fewshot_ns.priors.depth.prior import DepthPriorConfig
    from fewshot_ns.priors.depth.sources import ways_to_depth
    from fewshot_ns.priors.semantic import SemanticPriorConfig, ways_without_encoder

    of_method, of_parser = split_words(words)
    config = resolve_config(method, [*of_method, PARSER, *of_parser])
    parser = config.pipeline.datamanager.dataparser  # type: ignore[attr-defined]
    has_maps = has_maps or parser.depth_dir is not None
    for name, prior in prior_configs(config.pipeline).items():
        flag = prior_flag(name)
        if isinstance(prior, SemanticPriorConfig) and prior.enabled:
            try:
                with ways_out(f"{_AFTER}: {ways_without_encoder(prior, flag)}"):
                    ImageEncoder(prior.encoder)
            except ImportError as error:
                raise ValueError(f"--method {method}: {error}") from error
        if "depth_maps" in prior.scene_files() and not has_maps:
            ways = ways_to_depth(flag, isinstance(prior, DepthPriorConfig) and prior.loss in NEED_SCALE)
            raise ValueError(
                f"--method {method}: expected depth maps, which photos alone do not have. Ways out, {_AFTER}: {ways}"
            )
        if isinstance(prior, DepthPriorConfig) and prior.enabled and "mono" in (prior.source, prior.fill):
            spec = FolderSpec(prior.mono.model, f"{flag}.mono.weights", "monocular depth network")
            ways = ways_to_depth(flag, prior.loss in NEED_SCALE, ("mono",))
            with ways_out(f"{_AFTER}: {ways}"):
                resolve_weights(spec, prior.mono.weights, prior.mono.download)


@dataclass(frozen=True)
class Training:
    """One training of a scene."""

    output_dir: Path
    """The command's folder: the run goes to `run` in it, and until it is complete to `training`."""
    method: str
    words: Tuple[str, ...]
    """Flags of ns-train for the method."""
    parser_words: Tuple[str, ...]
    """Flags of the dataparser."""
    key: str
    """Names scene and settings: a run with the same key is this one."""
    note: str = ""
    """What is said of it, in words."""

    def run(self, scene: Path, console: Console, force: bool = False) -> Path:
        """Trains, or takes what an earlier call has trained; gives the folder of the run.

        Raises:
            CommandError: ns-train failed; an earlier run stays as it was.
        """
        from fewshot_ns.utils.files import write_json

        run, work = self.output_dir / RUN, self.output_dir / TRAINING
        if not force and _key_of(run / DONE) == self.key:
            console.print(f"training {self.method}: done before", highlight=False)
            return run
        # nerfstudio's folder is OUTPUT/EXPERIMENT/METHOD/TIMESTAMP; the dot leaves the last part out.
        folder = work / RUN / self.method
        step = None if force or _key_of(work / RECORD) != self.key else _last_step(folder)
        if step is None:
            shutil.rmtree(work, ignore_errors=True)
        else:
            console.print(f"training {self.method}: goes on from step {step}", highlight=False)
        write_json(work / RECORD, {"key": self.key})
        log = self._train(scene, folder, step is not None, console)
        write_json(folder / DONE, {"key": self.key})
        if run.exists():
            os.replace(run, work / "replaced")
        os.replace(folder, run)
        os.replace(log, self.output_dir / "train.log")
        shutil.rmtree(work)
        return run

    def _train(self, scene: Path, folder: Path, resume: bool, console: Console) -> Path:
        """Runs ns-train; gives its log."""
        from fewshot_ns.bench.execution.records import next_log
        from fewshot_ns.utils.processes import CommandError, CommandRunner, console_script

        work = self.output_dir / TRAINING
        command = [str(console_script("ns-train")), self.method, "--data", str(scene), "--output-dir", str(work)]
        command += ["--experiment-name", RUN, "--timestamp", ".", "--vis", "tensorboard"]
        command += ["--logging.local-writer.max-log-size", "0"]
        command += ["--load-dir", str(folder / "nerfstudio_models")] if resume else []
        command += [*self.words, PARSER, *self.parser_words]
        log = next_log(work, "train")
        stays = f"; the earlier result in {self.output_dir / RUN} stays" if (self.output_dir / RUN).is_dir() else ""
        try:
            with console.status(f"training {self.method}{self.note}") as status:
                lines = ProgressLines(self.method, console, status.update)
                CommandRunner().run(command, log, lines.read)
            if _last_step(folder) is None:
                raise CommandError("ns-train ended without a checkpoint")
        except CommandError as error:
            said = last_message(log.read_text("utf8")) if log.is_file() else str(error)
            raise CommandError(f"training {self.method} failed: {said}\n  The whole log is {log}{stays}.") from error
        except KeyboardInterrupt:
            step = _last_step(folder)
            if step is not None:
                console.print(f"The same call again goes on from step {step}.", highlight=False)
            raise
        return log


class ProgressLines:
    """Says how far a training is: on a terminal in one line that changes, elsewhere in a line now and then.

    Args:
        method: What trains.
        console: Where.
        update: Changes the line of the terminal.
        clock: Seconds.
    """

    def __init__(
        self, method: str, console: Console, update: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.method, self.console, self.update, self.clock = method, console, update, clock
        self._percent, self._time = 0.0, clock()

    def read(self, line: str) -> None:
        """Takes a line that ns-train prints."""
        found = _STEP_LINE.match(line)
        if found is None:
            return
        percent = float(found.group(1))
        text = f"training {self.method}: {percent:.0f} %"
        if self.console.is_terminal:
            self.update(text)
        elif percent - self._percent >= PERCENT_BETWEEN or self.clock() - self._time >= SECONDS_BETWEEN:
            self.console.print(text, highlight=False)
            self._percent, self._time = percent, self.clock()


def last_message(log: str) -> str:
    """What a command said last: the message of its exception without the traceback, or its last lines."""
    lines = [line.rstrip() for line in log.splitlines()]
    traces = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if traces:
        said = [number for number in range(traces[-1] + 1, len(lines)) if lines[number][:1].strip()]
        if said:
            kind, colon, message = lines[said[0]].partition(": ")
            first = message if colon and kind.endswith("Error") and " " in message else lines[said[0]]
            return "\n".join([first, *lines[said[0] + 1 :]]).strip()
    return "\n".join([line for line in lines if line.strip()][-15:]) or "it said nothing"


def _key_of(path: Path) -> Optional[str]:
    """The key in a record; None where there is none."""
    try:
        return json.loads(path.read_text("utf8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _last_step(folder: Path) -> Optional[int]:
    from fewshot_ns.bench.execution.records import last_step

    return last_step(folder)

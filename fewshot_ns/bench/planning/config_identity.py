"""What a recipe's words come to: the resolved config of a training, the scene as it will be read, and their hashes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Tuple

from fewshot_ns.utils.hashing import digest, file_key

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.engine.trainer import TrainerConfig

_PLACES = ("output_dir", "experiment_name", "timestamp", "load_dir")
_NOT_DECIDING = ("bench", "presentation", "recipes", "scripts", "synthetic", "viewer")
"""Folders of this package whose code has no part in a training or its evaluation."""


def registered_methods() -> Dict[str, TrainerConfig]:
    """Every method that `ns-train` knows in this environment, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nerfstudio.configs.method_configs import all_methods

    return all_methods


def own_methods() -> Tuple[str, ...]:
    """Names of the methods of this package."""
    from fewshot_ns import registry

    return tuple(sorted(name.replace("_", "-") for name in registry.METHODS))


def schedule_flags(config: TrainerConfig, steps: int) -> Tuple[str, ...]:
    """Flags that stretch every learning-rate schedule of a method with the length of the training.

    Other lengths in steps (of a prior that fades, an encoding that opens) are part of the method and stay.

    Args:
        config: of the method.
        steps: of the training.
    """
    from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP

    own = config.max_num_iterations
    words: List[str] = []
    for name, group in config.optimizers.items():
        scheduler = group.get("scheduler")
        # The schedule of poses follows the run by itself.
        if hasattr(scheduler, "max_steps") and name != CAMERA_GROUP:
            # DietNeRF's schedule, for one, is made for more steps than it trains.
            length = scheduler.max_steps
            stretched = steps if own is None or length is None else max(1, round(steps * length / own))
            words += [f"--optimizers.{name}.scheduler.max-steps", str(stretched)]
    return tuple(words)


def resolve_config(method: str, words: Sequence[str]) -> TrainerConfig:
    """The config that `ns-train METHOD WORDS` would train with.

    Args:
        method: a registered method.
        words: its flags, then the dataparser's name and its flags.

    Raises:
        ValueError: the flags are wrong; the message is the parser's.
    """
    import tyro

    default = copy.deepcopy(registered_methods()[method])
    kind: Any = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[type(default)]]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return tyro.cli(kind, default=default, args=list(words), prog=f"ns-train {method}")
    except SystemExit as ended:
        raise ValueError(_plain(said.getvalue()) or "the flags make ns-train show its help") from ended


def _plain(text: str) -> str:
    """The first sentences of the parser's boxed message, in one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [re.sub(r"[│╭╮╰╯─━┃]+|^-{3,}$", " ", line.strip()).strip() for line in text.splitlines()]
    lines = [line for line in lines if line.strip("- ")]
    ends = ("For full helptext", "Argument helptext", "Available subcommands")
    stop = next((number for number, line in enumerate(lines) if line.startswith(ends)), len(lines))
    # The heading of the box ("Value error") says less than what follows it.
    return " ".join(" ".join(lines[1:stop] or lines).split())


def deciding_fields(config: TrainerConfig) -> Dict[str, str]:
    """Every field of a config that decides what is trained, by its path; not where files lie, nor how it is shown.

    The metrics are not among them: they decide the figures alone.
    """
    config = copy.deepcopy(config)
    for name in (*_PLACES, "logging", "viewer", "vis", "data", "steps_per_save"):
        setattr(config, name, None)
    datamanager = config.pipeline.datamanager
    for holder in (datamanager, getattr(datamanager, "dataparser", None)):
        if hasattr(holder, "data"):
            setattr(holder, "data", None)  # noqa: B010 - not a field of every config
    if hasattr(config.pipeline, "evaluation"):
        setattr(config.pipeline, "evaluation", None)  # noqa: B010
    found: Dict[str, str] = {}
    _walk("", config, found)
    return found


def _walk(path: str, value: Any, found: Dict[str, str]) -> None:
    """Notes the leaves below a value as text that is the same in every process."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        entries = {str(key): entry for key, entry in value.items()}
    elif isinstance(value, (list, tuple)):
        entries = {str(number): entry for number, entry in enumerate(value)}
        found[path] = f"{len(value)} entries"
    else:
        # A function's own text holds its address.
        found[path] = f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)
        return
    for name, entry in entries.items():
        _walk(f"{path}.{name}" if path else name, entry, found)


@functools.lru_cache(maxsize=1)
def source_key() -> str:
    """A hash of this package's version, of the code that has a part in results, and of the libraries that have.

    It is taken once per process, so that an edit meanwhile does not tear one benchmark apart.
    """
    from importlib.metadata import version

    package = Path(__file__).resolve().parents[2]
    files = [file for file in package.rglob("*.py") if file.relative_to(package).parts[0] not in _NOT_DECIDING]
    parts: List[Any] = [version(library) for library in ("fewshot-ns", "nerfstudio", "torch", "numpy")]
    for file in sorted(files):
        parts += [file.relative_to(package), file.read_bytes()]
    return digest(*parts)


@dataclass(frozen=True)
class SceneIdentity:
    """What a scene's dataparser made of its files."""

    key: str
    """Hash of cameras, images, depth maps and masks of the views in use."""
    size: Tuple[int, int]
    """Width and height of the first test view, pixels."""
    train_views: Tuple[str, ...]
    """Names of the training images."""
    test_views: int
    """Number of test views."""
    has_depth: bool
    """Whether there are depth maps of the training views."""
    has_masks: bool
    """Whether there are object masks of the test views."""
    test_scenes: int = 0
    """Of a multi-scene dataset: number of test scenes; 0 for one scene."""
    first_test_scene: str = ""
    """Its first test scene."""
    ray_space: str = ""
    """'ndc' or 'metric' of one scene; '' where another package's dataparser has read it."""


def identify_scene(dataparser: Any) -> SceneIdentity:
    """Reads a scene's poses and file lists, and the ends of its files; decodes no image.

    Args:
        dataparser: config of the dataparser, its `data` set.

    Raises:
        FileNotFoundError: the scene, or a file of it, is not there.
        ValueError: it cannot be read, or holds nothing out.
    """
    from nerfstudio.utils.rich_utils import CONSOLE

    from fewshot_ns.data.records.metadata import METADATA_KEY

    quiet, CONSOLE.quiet = CONSOLE.quiet, True
    try:
        parser = dataparser.setup()
        train, test = (parser.get_dataparser_outputs(split=split) for split in ("train", "test"))
    finally:
        CONSOLE.quiet = quiet
    records = [outputs.metadata.get(METADATA_KEY) for outputs in (train, test)]
    if records[0] is not None and not records[0].test_indices:
        raise ValueError(
            f"{dataparser.data}: expected a view to measure on, found none: all {len(train.image_filenames)} views "
            "train; give fewer to --num-views, or name some in --test-indices"
        )
    parts: List[Any] = []
    for outputs, record in zip((train, test), records, strict=True):
        parts += camera_values(outputs.cameras)
        parts += [_set_fields(getattr(record, name, None)) for name in ("geometry", "depth_encoding")]
        unseen = getattr(record, "rendered_indices", ())
        views = getattr(record, "image_indices", range(len(outputs.image_filenames)))
        with_photo = zip(views, outputs.image_filenames, strict=True)
        parts += [file_key(file) for view, file in with_photo if view not in unseen]
    depths = getattr(records[0], "depth_prior_filenames", None)
    masks = getattr(records[1], "object_mask_filenames", None)
    alphas = getattr(records[0], "alpha_filenames", None)
    files = (*(depths or ()), *(masks or ()), *(train.mask_filenames or ()), *(alphas or ()))
    parts += [file_key(file) for file in files]
    cameras = test.cameras
    return SceneIdentity(
        key=digest(*parts),
        size=(int(cameras.width[0].item()), int(cameras.height[0].item())),
        train_views=_view_names(train, records[0]),
        test_views=len(test.image_filenames) - len(getattr(records[1], "rendered_indices", ())),
        has_depth=depths is not None,
        has_masks=masks is not None,
        ray_space="" if records[0] is None else records[0].geometry.ray_space,
    )


def _view_names(outputs: Any, record: Any) -> Tuple[str, ...]:
    """Names of the photos of a split, which its record knows where one of our dataparsers has read it."""
    known = () if record is None else tuple(photo.name for photo in record.photos)
    return known or tuple(Path(file).name for file in outputs.image_filenames)


def _set_fields(record: Any) -> Any:
    """The fields of a record that are not as by default, so that a later version's new ones change nothing."""
    if record is None:
        return None
    return [
        (field.name, getattr(record, field.name))
        for field in dataclasses.fields(record)
        if getattr(record, field.name) != field.default
    ]


def camera_values(cameras: Cameras) -> List[bytes]:
    """What the key of a scene takes of its cameras."""
    values = (cameras.camera_to_worlds, cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.width, cameras.height)
    return [value.float().cpu().numpy().tobytes() for value in values]

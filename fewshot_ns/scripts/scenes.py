"""Scenes on the command line: `COMMAND --data DIR [NAME-data FLAGS...]`, the dataparser and its flags last, as in
`ns-train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Literal, Optional, Sequence, Tuple

from fewshot_ns import registry

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

    from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
    from fewshot_ns.priors.depth.photo_depths import PhotoConfig

AUTO = "auto"


def dataparser_names() -> Tuple[str, ...]:
    """Names of our dataparsers."""
    return tuple(name.replace("_", "-") for name in registry.DATAPARSERS)


def split_dataparser(arguments: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Parts a command line after the name of a dataparser, where it is not the value of a flag `--parser`.

    Returns:
        The arguments up to the name, and the dataparser's own flags behind it; all and none where no name is there.
    """
    names = dataparser_names()
    for position, argument in enumerate(arguments):
        if position > 0 and argument in names and arguments[position - 1] != "--parser":
            return list(arguments[: position + 1]), list(arguments[position + 1 :])
    return list(arguments), []


def is_of_format(data: Path, config: DataParserConfig) -> bool:
    """Whether nothing says that a scene or a set of scenes has another format than a dataparser's.

    Raises:
        FileNotFoundError: no such folder.
        NoPosesError: a folder of bare photos, which are of no format.
    """
    from fewshot_ns.data.dataparsers.automatic import CONFIGS
    from fewshot_ns.data.dataparsers.recognition import NoPosesError, recognise

    try:
        return CONFIGS[recognise(data, many_scenes=True).parser] is type(config)
    except NoPosesError:
        raise
    except ValueError:
        return True


def scene_config(data: Path, name: str, arguments: Sequence[str], many_scenes: bool = False) -> FewShotDataParserConfig:
    """Configuration of a scene's dataparser.

    Args:
        data: The scene.
        name: Of the dataparser, or 'auto' or 'fewshot-data' to go by the scene's files.
        arguments: The dataparser's own flags.
        many_scenes: Whether going by the files, a data set of many scenes is found too.

    Raises:
        FileNotFoundError: no such scene.
        ValueError: an unknown dataparser, or none that fits.
        SystemExit: by the parser of the flags: status 0 after --help, 2 where they are wrong.
    """
    # nerfstudio's modules import each other in this order only.
    import nerfstudio.configs.method_configs  # noqa: F401
    import tyro

    from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig

    name = "fewshot-data" if name == AUTO else name
    if name not in dataparser_names():
        raise ValueError(f"unknown dataparser {name!r}; expected {', '.join(dataparser_names())}")
    default: Any = registry.dataparser_specification(name.replace("-", "_")).config
    default.camera_sized_files = False
    config = tyro.cli(type(default), default=default, args=list(arguments), prog=f"ns-fewshot ... {name}")
    config.data = data
    if isinstance(config, FewShotAutoDataParserConfig):
        config.many_scenes = many_scenes
        config = config.settled()
    return config  # type: ignore[return-value]


def photo_config(source: Literal["stereo", "mvs"], weights: Optional[Path] = None, device: str = "auto") -> PhotoConfig:
    """How a source matches the photos of a scene, with the defaults of training.

    Args:
        source: by hand-made costs (stereo) or by a network (mvs).
        weights: file of the network's weights; None: the folder that FEWSHOT_WEIGHTS names.
        device: where it runs: auto, cpu, cuda, ...
    """
    from fewshot_ns.data.stereo.estimate import StereoConfig
    from fewshot_ns.pretrained.multiview_depth import MultiViewDepthConfig

    if source == "stereo":
        return StereoConfig(device=device)
    return MultiViewDepthConfig(weights=weights, device=device)

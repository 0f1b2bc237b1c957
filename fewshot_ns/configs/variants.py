"""Methods that are another method with a few fields changed."""

from copy import deepcopy
from dataclasses import fields, replace
from typing import Any, Mapping, Optional

from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP
from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig

Fields = Optional[Mapping[str, Any]]


def one_scene(*own: DataParserConfig) -> FewShotAutoDataParserConfig:
    """The dataparser of a method of single scenes: that of the folder's format.

    Args:
        own: the method's settings of single formats, which hold for a named dataparser too; others have their defaults.
    """
    return FewShotAutoDataParserConfig(own=own)


def many_scenes(*own: DataParserConfig) -> FewShotAutoDataParserConfig:
    """The same of a generalizable method, which knows no NDC.

    Args:
        own: its settings of single formats.
    """
    return FewShotAutoDataParserConfig(own=(LLFFDataParserConfig(ray_space="metric"), *own), many_scenes=True)


def derive(
    base: FewShotTrainerConfig,
    method_name: str,
    schedule: Fields = None,
    optimizer: Fields = None,
    **changes: Any,
) -> FewShotTrainerConfig:
    """A copy of a method under a new name, which shares nothing with it.

    Args:
        base: the method to start from.
        method_name: name of the new one.
        schedule: fields of all learning-rate schedulers that change, but for that of poses.
        optimizer: fields of all optimizers that change, but for that of poses.
        changes: by the name of a part of the pipeline, a prior or `datamanager` or `model`, the fields of it that
            change; other names are fields of the trainer's config.

    Raises:
        TypeError: a field that the part does not have.
    """
    parts = {one.name for one in fields(base.pipeline)} & changes.keys()
    trainer = {name: value for name, value in changes.items() if name not in parts}
    config = replace(deepcopy(base), method_name=method_name, **trainer)
    changed = {name: replace(getattr(config.pipeline, name), **deepcopy(dict(changes[name]))) for name in parts}
    optimizers = {
        name: {
            **group,
            "optimizer": replace(group["optimizer"], **(optimizer or {})),
            "scheduler": replace(group["scheduler"], **(schedule or {})),
        }
        for name, group in config.optimizers.items()
        if name != CAMERA_GROUP
    }
    poses = {name: group for name, group in config.optimizers.items() if name == CAMERA_GROUP}
    pipeline = replace(config.pipeline, **changed)
    return replace(config, pipeline=pipeline, optimizers={**optimizers, **poses})

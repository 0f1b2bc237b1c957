"""Methods that are another method with a few fields changed."""

from copy import deepcopy
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional

from fewshot_ns.engine.trainer import FewShotTrainerConfig

Fields = Optional[Mapping[str, Any]]


def derive(
    base: FewShotTrainerConfig,
    method_name: str,
    datamanager: Fields = None,
    model: Fields = None,
    depth: Fields = None,
    smoothness: Fields = None,
    semantic: Fields = None,
    diffusion: Fields = None,
    schedule: Fields = None,
    optimizer: Fields = None,
    **trainer: Any,
) -> FewShotTrainerConfig:
    """A copy of a method under a new name, which shares nothing with it.

    Args:
        base: the method to start from.
        method_name: name of the new one.
        datamanager: fields of the pipeline's datamanager that change; so with `model` and the priors.
        schedule: fields of all learning-rate schedulers that change.
        optimizer: fields of all optimizers that change.
        trainer: fields of the trainer's config that change.

    Raises:
        TypeError: a field that the part does not have.
    """
    config = replace(deepcopy(base), method_name=method_name, **trainer)
    parts: Dict[str, Fields] = dict(datamanager=datamanager, model=model, depth=depth)
    parts |= dict(smoothness=smoothness, semantic=semantic, diffusion=diffusion)
    changed = {name: replace(getattr(config.pipeline, name), **fields) for name, fields in parts.items() if fields}
    optimizers = {
        name: {
            **group,
            "optimizer": replace(group["optimizer"], **(optimizer or {})),
            "scheduler": replace(group["scheduler"], **(schedule or {})),
        }
        for name, group in config.optimizers.items()
    }
    return replace(config, pipeline=replace(config.pipeline, **changed), optimizers=optimizers)

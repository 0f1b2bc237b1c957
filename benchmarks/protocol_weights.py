"""Which weights the cells of a plan want that are not on this disk; downloads nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Dict, Iterator, List, Sequence, Tuple

from protocol_worth import Ranked

from fewshot_ns.bench.planning.config_identity import resolve_config
from fewshot_ns.encoders.convert_gmflow import MatchingEncoderConfig
from fewshot_ns.encoders.resnet import ResNetEncoderConfig
from fewshot_ns.evaluation.metrics.lpips import BACKBONE_WEIGHTS
from fewshot_ns.pretrained.encoders.image_encoder import FLAG, ImageEncoder
from fewshot_ns.pretrained.weights import WeightsNotFoundError, resolve_weights
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.priors.semantic import SemanticPriorConfig

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig


def absent_weights(cells: Sequence[Ranked]) -> Dict[str, Tuple[str, ...]]:
    """Methods that want weights which are not on this disk, by the name of the weights.

    A training downloads them where it may; else one that needs them fails, and LPIPS is n/a. Those of diffusion models
    are not looked for.

    Args:
        cells: of a plan.
    """
    configs: Dict[Tuple[str, str], TrainerConfig] = {}
    for one in cells:
        key = (one.recipe, one.cell.label)
        if key not in configs:
            configs[key] = resolve_config(one.cell.method, (*one.cell.flags, *one.cell.parser))
    found: Dict[str, List[str]] = {}
    looked: Dict[str, List[str]] = {}
    for (_, label), config in configs.items():
        # Loading a network to know that it is there takes seconds; equal configs have equal answers.
        key = repr(_asked(config))
        if key not in looked:
            looked[key] = list(_absent(config))
        for name in looked[key]:
            if label not in found.setdefault(name, []):
                found[name].append(label)
    return {name: tuple(labels) for name, labels in found.items()}


def _asked(config: TrainerConfig) -> List[object]:
    """The parts of a config that ask for weights."""
    pipeline = config.pipeline
    semantic = [prior for prior in prior_configs(pipeline).values() if isinstance(prior, SemanticPriorConfig)]
    return [getattr(pipeline, "evaluation", None), getattr(pipeline.model, "encoder", None), semantic]


def _absent(config: TrainerConfig) -> Iterator[str]:
    """First lines of what is said of each weights file that is not there."""
    evaluation, encoder, semantic = _asked(config)
    metrics = {name.removeprefix("masked_") for name in getattr(evaluation, "metrics", ())}
    backbones = {"lpips": "vgg", "lpips_unscaled": "vgg", "avg_error": "vgg", "lpips_alex": "alex"}
    given = {
        "vgg": getattr(evaluation, "lpips_weights", None),
        "alex": getattr(evaluation, "lpips_alex_weights", None),
    }
    for backbone in sorted({backbones[name] for name in metrics & backbones.keys()}):
        try:
            resolve_weights(BACKBONE_WEIGHTS[backbone], given[backbone], download=False)
        except WeightsNotFoundError as error:
            yield _first_line(error)
    try:
        if isinstance(encoder, (ResNetEncoderConfig, MatchingEncoderConfig)) and encoder.pretrained:
            here = replace(encoder, download=False)
            network = here.setup()
            here.load(network, "--pipeline.model.encoder.weights")  # type: ignore[arg-type]
        for prior in semantic if isinstance(semantic, list) else ():
            if prior.enabled:
                ImageEncoder(replace(prior.encoder, download=False), flag=FLAG)
    except WeightsNotFoundError as error:
        yield _first_line(error)
    except ImportError as error:
        yield str(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("weights not found: ")

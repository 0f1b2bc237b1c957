"""Image encoders of open_clip, timm and torchvision: built by name, given weights found on this disk or downloaded."""

from __future__ import annotations

import json
import pickle
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Literal, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.preprocessing import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from fewshot_ns.pretrained.weights import WeightsNotFoundError, WeightsSpec, load_weights, resolve_weights
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, check_state
from fewshot_ns.utils.json_files import read_json_object
from fewshot_ns.utils.optional_imports import require

_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Endings of files with weights."""


@dataclass(frozen=True)
class HookPoint:
    """Where a forward hook takes an activation."""

    module: nn.Module
    """The hooked module."""
    side: Literal["input", "output"]
    """Whether the module's input or its output is taken."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights."""

    module: nn.Module
    """The image part of the model."""
    name: str
    """Its name, for the cache."""
    weights: Path
    """File of the weights."""
    size: Tuple[int, int]
    """(height, width) that it was trained on."""
    mean: Sequence[float]
    """Mean of its inputs, per channel."""
    std: Sequence[float]
    """Standard deviation of its inputs, per channel."""
    embed: Callable[[Tensor], Tensor]
    """Embedding (N, C) of inputs (N, 3, H, W), or a map (N, C, h, w) of them."""
    class_token: Optional[HookPoint] = None
    """Where the tokens (N, T, C) after the last block are taken, the class token first; None: it has no class token."""
    prefix: str = ""
    """Prefix that the user may write before the names of its modules."""


def load_model(config: EncoderConfig, flag: str) -> LoadedModel:
    """Builds a model and gives it its weights.

    Args:
        config: see `EncoderConfig`.
        flag: command line flag of the weights, for messages.

    Raises:
        WeightsNotFoundError: the weights were not found.
        ValueError: an unknown model, or weights that do not fit it.
        ImportError: its library is not installed.
    """
    return {"open_clip": _load_open_clip, "timm": _load_timm, "torchvision": _load_torchvision}[config.library](
        config, flag
    )


def _load_open_clip(config: EncoderConfig, flag: str) -> LoadedModel:
    library = require("open_clip", "priors")
    folder, description = _described_folder(config.weights, "open_clip_config.json")
    published: Dict[str, Any] = library.pretrained.get_pretrained_cfg(config.model, config.pretrained) or {}
    if description is not None:
        if "model_cfg" not in description:
            raise ValueError(f"{folder}: expected 'model_cfg' in open_clip_config.json, found {sorted(description)}")
        architecture = description["model_cfg"]
        published = description.get("preprocess_cfg", {})
    else:
        architecture = library.get_model_config(config.model)
        if architecture is None:
            raise ValueError(f"open_clip has no model {config.model!r}; it has {', '.join(library.list_models())}")
    stem = f"{config.model}-{config.pretrained}".replace("/", "-")
    hub = published.get("hf_hub", "").rstrip("/")
    url = published.get("url") or None
    own_name = (url.rpartition("/")[2],) if url else ()
    spec = WeightsSpec(
        name=f"open_clip {config.model} ({config.pretrained})",
        filenames=_OPEN_CLIP_FILES if folder else (*_weight_names(stem, hub, _OPEN_CLIP_FILES), *own_name),
        flag=flag,
        cache_filenames=() if folder else own_name,
        url=url,
        hub=hub if hub.count("/") == 1 else None,
        hub_filenames=_OPEN_CLIP_FILES,
    )
    path = resolve_weights(spec, config.weights, config.download)
    visual = _visual_tower(library, architecture, config.model)
    state = _torchscript_or_plain(path)
    state = state.get("state_dict", state)
    state = {name.removeprefix("module."): value for name, value in state.items()}
    _load_exactly(visual, {name[7:]: value for name, value in state.items() if name.startswith("visual.")}, path)
    trunk = getattr(visual, "trunk", None)
    if hasattr(visual, "transformer"):
        _truncate_blocks(visual.transformer, "resblocks", config)
        token = HookPoint(visual.transformer, "output")
    else:
        token = None if trunk is None else _timm_token(trunk, config)
    return LoadedModel(
        module=visual,
        name=json.dumps(architecture.get("vision_cfg"), sort_keys=True),
        weights=path,
        size=_size_pair(visual.image_size),
        mean=published.get("mean") or CLIP_MEAN,
        std=published.get("std") or CLIP_STD,
        embed=visual,
        class_token=token,
    )


def _visual_tower(library: Any, architecture: Mapping[str, Any], name: str) -> Any:
    """The image part of open_clip's model of an architecture, which open_clip takes by name alone."""
    temporary = f"fewshot-ns-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{temporary}.json"
        path.write_text(json.dumps(dict(architecture)), encoding="utf8")
        library.add_model_config(path)
    try:
        return library.create_model(temporary, pretrained_hf=False).visual
    except (TypeError, KeyError, RuntimeError) as error:
        raise ValueError(f"open_clip cannot build {name}: {error}") from error


def _load_timm(config: EncoderConfig, flag: str) -> LoadedModel:
    library = require("timm", "priors")
    folder, description = _described_folder(config.weights, "config.json")
    name, arguments = config.model, {}
    if description is not None:
        name = description.get("architecture", name)
        arguments = dict(description.get("model_args") or {})
        arguments["num_classes"] = description.get("num_classes", arguments.get("num_classes", 1000))
    try:
        model = library.create_model(name, pretrained=False, **arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"timm cannot build {name!r}: {error}") from error
    known: Dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or model.default_cfg)
    known |= {key: value for key, value in ((description or {}).get("pretrained_cfg") or {}).items() if value}
    url = known.get("url") or None
    spec = WeightsSpec(
        name=f"timm {config.model}",
        filenames=_HUB_FILES if folder else _weight_names(config.model, f"timm/{config.model}", _HUB_FILES),
        flag=flag,
        cache_filenames=(url.rpartition("/")[2],) if url and not folder else (),
        url=url,
        hub=known.get("hf_hub_id") or (None if url else f"timm/{config.model}"),
        hub_filenames=_HUB_FILES,
    )
    path = resolve_weights(spec, config.weights, config.download)
    state = load_weights(path)
    _load_exactly(model, state.get("state_dict", state), path)
    size = known.get("input_size") or (3, 224, 224)
    own = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return LoadedModel(
        module=model,
        name=json.dumps([name, arguments], sort_keys=True),
        weights=path,
        size=_size_pair(own or size[1:]),
        mean=known.get("mean") or IMAGENET_MEAN,
        std=known.get("std") or IMAGENET_STD,
        embed=lambda batch: model.forward_head(model.forward_features(batch), pre_logits=True),
        class_token=_timm_token(model, config),
    )


def _timm_token(model: Any, config: EncoderConfig) -> Optional[HookPoint]:
    if getattr(model, "cls_token", None) is None or not hasattr(model, "norm") or not hasattr(model, "blocks"):
        return None
    _truncate_blocks(model, "blocks", config)
    return HookPoint(model.norm, "input")


def _load_torchvision(config: EncoderConfig, flag: str) -> LoadedModel:
    from torchvision import models

    try:
        # Without storage: the classifier of VGG alone is half a gigabyte, and may not be asked for.
        with torch.device("meta"):
            model: Any = models.get_model(config.model, weights=None)
        published = models.get_model_weights(config.model).DEFAULT  # type: ignore[attr-defined]
    except ValueError as error:
        raise ValueError(f"torchvision has no model {config.model!r}: {error}") from error
    cached = published.url.rpartition("/")[2]
    spec = WeightsSpec(
        name=f"torchvision {config.model}",
        filenames=(f"{config.model}_features_torchvision.pt", *(f"{config.model}{suffix}" for suffix in SUFFIXES)),
        flag=flag,
        cache_filenames=(cached,),
        url=published.url,
        sha256=cached.rpartition("-")[2].partition(".")[0],
    )
    path = resolve_weights(spec, config.weights, config.download)
    state = load_weights(path)
    state = state.get("state_dict", state)
    prefix = ""
    if hasattr(model, "features") and not any(name.startswith("classifier.") for name in state):
        prefix, model = "features.", model.features
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    _load_exactly(model, state, path, assign=True)
    transform = published.transforms()
    return LoadedModel(
        module=model,
        name=config.model,
        weights=path,
        size=_size_pair(transform.crop_size[0]),
        mean=transform.mean,
        std=transform.std,
        embed=_torchvision_embedding(model, config.model),
        class_token=_torchvision_token(model, config),
        prefix=prefix,
    )


def _torchvision_token(model: Any, config: EncoderConfig) -> Optional[HookPoint]:
    if not hasattr(model, "class_token"):
        return None
    _truncate_blocks(model.encoder, "layers", config)
    return HookPoint(model.encoder.ln, "input")


def _torchvision_embedding(model: Any, name: str) -> Callable[[Tensor], Tensor]:
    """Convolution features of a model as a map, or what its last layer sees of the whole image."""
    if isinstance(model, nn.Sequential):
        return model
    if hasattr(model, "features"):
        return model.features
    for head in ("fc", "heads", "head"):
        if hasattr(model, head):
            setattr(model, head, nn.Identity())
            return model
    raise ValueError(f"{name}: no embedding of a whole image is known; choose --pipeline.semantic.encoder.output layer")


def _torchscript_or_plain(path: Path) -> Mapping[str, Any]:
    """Weights of a file, which for OpenAI's own releases is a TorchScript archive."""
    try:
        return load_weights(path)
    except ValueError:
        try:
            return torch.jit.load(path, map_location="cpu").state_dict()
        except (RuntimeError, pickle.UnpicklingError):
            pass
        raise


def _described_folder(weights: Optional[Path], name: str) -> Tuple[Optional[Path], Optional[Dict[str, Any]]]:
    """The folder that the user gave as weights and the model description in it; None, None where it is no folder."""
    folder = None if weights is None else weights.expanduser()
    if folder is None or not folder.is_dir():
        return None, None
    path = folder / name
    if not path.is_file():
        raise WeightsNotFoundError(f"{folder}: expected the configuration of a model ({name}), found none")
    try:
        return folder, read_json_object(path)
    except ValueError as error:
        raise ValueError(f"{path}: expected the configuration of a model, found {error}") from error


def _weight_names(stem: str, repository: str, files: Sequence[str]) -> Tuple[str, ...]:
    """Names that a model may have in a weights folder: a file, or one in a folder named like its repository."""
    folder = repository.replace("/", "--")
    in_folder = tuple(f"{folder}/{file}" for file in files) if folder else ()
    return (*(f"{stem}{suffix}" for suffix in SUFFIXES), *in_folder)


def _load_exactly(module: nn.Module, state: Mapping[str, Any], path: Path, assign: bool = False) -> None:
    """Loads a state dict into a module, in float32.

    Args:
        module: the model.
        state: name -> tensor.
        path: its file, for the message.
        assign: whether the module takes over the tensors themselves, as one without storage must.

    Raises:
        ValueError: lists what is missing, unexpected or of another shape.
    """
    try:
        check_state(module, state, path)
    except CheckpointMismatchError as error:
        raise ValueError(f"{error}\n  (weights of an image encoder)") from error
    module.load_state_dict(dict(state), assign=assign)
    module.float()


def _truncate_blocks(module: Any, name: str, config: EncoderConfig) -> None:
    """Removes the transformer blocks after the first `config.num_layers` from the module's list called `name`."""
    blocks = getattr(module, name)
    if config.num_layers is None:
        return
    if not 1 <= config.num_layers <= len(blocks):
        raise ValueError(
            f"--pipeline.semantic.encoder.num-layers: expected 1 to {len(blocks)} for {config.model}, "
            f"got {config.num_layers}"
        )
    setattr(module, name, blocks[: config.num_layers])


def _size_pair(size: Any) -> Tuple[int, int]:
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return int(height), int(width)

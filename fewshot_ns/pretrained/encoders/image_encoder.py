"""Frozen image encoders for the semantic prior: any model of open_clip, timm or torchvision, and what it sees."""

import hashlib
import json
from pathlib import Path
from typing import Any, Optional, Protocol, Tuple, Union

import torch
from torch import Tensor, nn

from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.files import Tap
from fewshot_ns.pretrained.encoders.libraries import load_model
from fewshot_ns.pretrained.encoders.preprocessing import encoder_input

FLAG = "--pipeline.semantic.encoder.weights"
"""Command line flag of the weights, for messages."""
VERSION = 1
"""Counts the changes of what this module does to images and outputs; a new one makes cached embeddings new."""


class Encoder(Protocol):
    """What the semantic prior asks of an encoder."""

    key: str
    """Names everything that an embedding depends on beside the image."""

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C) embeddings of images (N, H, W, 3), differentiable by the images."""
        ...


class ImageEncoder:
    """A frozen model with its preprocessing.

    Args:
        config: see `EncoderConfig`.
        device: where it runs.
        flag: command line flag of the weights, for messages.

    Raises:
        WeightsNotFoundError: the weights are nowhere to be had.
        ValueError: an unknown model, weights that do not fit it, or an output that it does not have.
        ImportError: its library is not installed.
    """

    def __init__(self, config: EncoderConfig, device: Union[str, torch.device] = "cpu", flag: str = FLAG) -> None:
        self.config, self.device = config, torch.device(device)
        if config.output == "layer" and not config.layer:
            raise ValueError("--pipeline.semantic.encoder.output layer needs --pipeline.semantic.encoder.layer NAME")
        # The random initialisation that the loaded weights replace must not move the random state of a training run.
        with torch.random.fork_rng(devices=[]):
            self.loaded = load_model(config, flag)
        self.loaded.module.to(self.device).eval().requires_grad_(False)
        side = config.image_size
        self.size: Tuple[int, int] = self.loaded.size if side is None else (side, side)
        self.tap = self._tap()
        self.key = self._key()

    def __call__(self, images: Tensor) -> Tensor:
        """See `Encoder`."""
        config, loaded = self.config, self.loaded
        images = images.to(self.device)
        batch = encoder_input(images, self.size, config.resize, loaded.mean, loaded.std, config.clamp)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=config.compute_dtype == "bfloat16"):
            output = loaded.embed(batch) if self.tap is None else _listen(loaded.module, self.tap, batch)
        return self._as_vectors(output.float(), len(images))

    def _as_vectors(self, output: Tensor, count: int) -> Tensor:
        """(N, C) of an output (N, C), (N, tokens, C) or (N, C, H, W)."""
        if output.ndim == 3 and output.shape[0] != count:
            output = output.transpose(0, 1)  # older transformers of open_clip keep the tokens first
        if output.ndim == 3 and self.config.output == "cls_token":
            return output[:, 0]
        if output.ndim == 2 or self.config.pooling == "flatten":
            return output.flatten(1)
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(-1)

    def _tap(self) -> Optional[Tap]:
        config, modules = self.config, dict(self.loaded.module.named_modules())
        if config.output == "projected":
            return None
        if config.output == "cls_token":
            if self.loaded.class_token is None:
                raise ValueError(
                    f"{config.library} {config.model} has no class token; choose --pipeline.semantic.encoder.output "
                    "projected, or layer"
                )
            return self.loaded.class_token
        name = config.layer.removeprefix(self.loaded.prefix)
        if name not in modules:
            shown = ", ".join(key for key in modules if key and key.count(".") < 2)
            raise ValueError(f"--pipeline.semantic.encoder.layer: {config.model} has no {config.layer!r}, only {shown}")
        return Tap(modules[name], "output")

    def _key(self) -> str:
        config, loaded = self.config, self.loaded
        parts = [VERSION, config.library, loaded.name, _file_hash(loaded.weights), config.output, config.layer]
        parts += [config.num_layers, config.pooling, self.size, config.resize, loaded.mean, loaded.std]
        parts += [config.clamp, config.compute_dtype]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Reached(Exception):
    """Ends a forward pass where nothing more is needed of it."""


def _listen(module: nn.Module, tap: Tap, batch: Tensor) -> Tensor:
    """What passes a place of a model on a batch; the layers behind it are not run."""
    heard = []

    def keep(value: Any) -> None:
        heard.append(value[0] if isinstance(value, (tuple, list)) else value)
        raise _Reached

    if tap.side == "input":
        handle = tap.module.register_forward_pre_hook(lambda _, inputs: keep(inputs))
    else:
        handle = tap.module.register_forward_hook(lambda _, __, output: keep(output))
    try:
        module(batch)
    except _Reached:
        return heard[0]
    finally:
        handle.remove()
    raise ValueError("expected the model to run the chosen layer, but it did not")


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

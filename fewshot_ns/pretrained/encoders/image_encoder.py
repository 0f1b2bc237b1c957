"""Frozen image encoders for the semantic prior: any model of open_clip, timm or torchvision, with its preprocessing."""

from typing import Any, Optional, Protocol, Tuple, Union

import torch
from torch import Tensor, nn

from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.libraries import HookPoint, load_model
from fewshot_ns.pretrained.encoders.preprocessing import encoder_input
from fewshot_ns.utils.hashing import file_hash, json_hash

FLAG = "--pipeline.semantic.encoder.weights"
"""Command line flag of the weights, for messages."""
VERSION = 1
"""Version of the processing around the model; a new one makes cached embeddings stale."""


class Encoder(Protocol):
    """What the semantic prior needs of an encoder."""

    key: str
    """Identifies everything that an embedding depends on, except the image."""

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C) embeddings of images (N, H, W, 3), differentiable with respect to them."""
        ...


class ImageEncoder:
    """A frozen model with its preprocessing.

    Args:
        config: see `EncoderConfig`.
        device: where it runs.
        flag: command line flag of the weights, for messages.

    Raises:
        WeightsNotFoundError: the weights were not found.
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
        self.hook = self._hook_point()
        self.key = self._key()

    def __call__(self, images: Tensor) -> Tensor:
        """See `Encoder`."""
        config, loaded = self.config, self.loaded
        images = images.to(self.device)
        batch = encoder_input(images, self.size, config.resize, loaded.mean, loaded.std, config.clamp)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=config.compute_dtype == "bfloat16"):
            output = loaded.embed(batch) if self.hook is None else _activation(loaded.module, self.hook, batch)
        return self._pooled(output.float(), len(images))

    def _pooled(self, output: Tensor, count: int) -> Tensor:
        """(N, C) of an output (N, C), (N, tokens, C) or (N, C, H, W)."""
        if output.ndim == 3 and output.shape[0] != count:
            output = output.transpose(0, 1)  # older transformers of open_clip keep the tokens first
        if output.ndim == 3 and self.config.output == "cls_token":
            return output[:, 0]
        if output.ndim == 2 or self.config.pooling == "flatten":
            return output.flatten(1)
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(-1)

    def _hook_point(self) -> Optional[HookPoint]:
        """Where the output is taken; None where it is the model's own embedding."""
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
        return HookPoint(modules[name], "output")

    def _key(self) -> str:
        config, loaded = self.config, self.loaded
        parts = [VERSION, config.library, loaded.name, file_hash(loaded.weights), config.output, config.layer]
        parts += [config.num_layers, config.pooling, self.size, config.resize, loaded.mean, loaded.std]
        parts += [config.clamp, config.compute_dtype]
        return json_hash(parts)


class _StopForward(Exception):
    """Ends a forward pass once its hook has what is needed."""


def _activation(module: nn.Module, point: HookPoint, batch: Tensor) -> Tensor:
    """The activation of a batch at a hook point; the layers after it are not run."""
    captured = []

    def capture(value: Any) -> None:
        captured.append(value[0] if isinstance(value, (tuple, list)) else value)
        raise _StopForward

    if point.side == "input":
        handle = point.module.register_forward_pre_hook(lambda _, inputs: capture(inputs))
    else:
        handle = point.module.register_forward_hook(lambda _, __, output: capture(output))
    try:
        module(batch)
    except _StopForward:
        return captured[0]
    finally:
        handle.remove()
    raise ValueError("expected the model to run the chosen layer, but it did not")

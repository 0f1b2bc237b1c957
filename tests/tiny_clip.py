"""A tiny CLIP of open_clip's own class with random weights, saved as the library's users have it on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch


def save_image_encoder(folder: Path) -> Path:
    """Writes it to a folder, by torch's own random numbers; skips the test where open_clip is not installed."""
    open_clip = pytest.importorskip("open_clip")
    text = {"context_length": 4, "vocab_size": 10, "width": 8, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.save(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder

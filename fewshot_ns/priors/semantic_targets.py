"""Embeddings of the training views, computed once and kept in a cache by the content of the image and the encoder."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.pretrained.encoders.image_encoder import Encoder
from fewshot_ns.utils.files import replacing

_EMBEDDING, _KEY = "embedding", "key"


def target_embeddings(encoder: Encoder, images: Sequence[Tensor], folder: Path) -> Tensor:
    """(V, C) embeddings of images (H, W, 3), on the CPU, computed where the cache has none.

    Args:
        encoder: gives embeddings.
        images: photos on their background, [0, 1].
        folder: of the cache.

    Raises:
        ValueError: an embedding that is not finite, or has no length to compare.
    """
    found = []
    for index, image in enumerate(images):
        key = hashlib.sha256(f"{encoder.key} {tuple(image.shape)} {_digest(image)}".encode()).hexdigest()
        path = folder / key[:2] / f"{key}.npz"
        embedding = _read(path, key)
        if embedding is None:
            with torch.no_grad():
                embedding = encoder(image[None])[0].cpu()
            if not embedding.isfinite().all() or embedding.norm() == 0:
                raise ValueError(f"training view {index}: expected a finite embedding, found {embedding}")
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **{_EMBEDDING: embedding.numpy(), _KEY: np.array(key)})
        found.append(embedding)
    return torch.stack(found)


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _read(path: Path, key: str) -> Optional[Tensor]:
    """The embedding in a file of the cache; None where there is none, or it is damaged or of something else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            embedding = torch.from_numpy(archive[_EMBEDDING])
            return embedding if str(archive[_KEY]) == key and embedding.isfinite().all() else None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None

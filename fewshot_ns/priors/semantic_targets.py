"""Embeddings of the training views, computed once and kept in a cache by the content of the image and the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

import torch
from torch import Tensor

from fewshot_ns.pretrained.encoders.image_encoder import Encoder
from fewshot_ns.utils.cache import read_npz, write_npz
from fewshot_ns.utils.hashing import sha256_hex

_EMBEDDING, _KEY = "embedding", "key"


def target_embeddings(encoder: Encoder, images: Sequence[Tensor], folder: Path) -> Tensor:
    """(V, C) embeddings of images (H, W, 3), on the CPU, computed where the cache has none.

    Args:
        encoder: gives embeddings.
        images: photos on their background, [0, 1].
        folder: of the cache.

    Raises:
        ValueError: an embedding that is not finite, or zero.
    """
    embeddings = []
    for index, image in enumerate(images):
        key = sha256_hex([f"{encoder.key} {tuple(image.shape)} {_digest(image)}"])
        path = folder / key[:2] / f"{key}.npz"
        embedding = _read(path, key)
        if embedding is None:
            with torch.no_grad():
                embedding = encoder(image[None])[0].cpu()
            if not embedding.isfinite().all() or embedding.norm() == 0:
                raise ValueError(f"training view {index}: expected a finite embedding, found {embedding}")
            write_npz(path, {_EMBEDDING: embedding.numpy(), _KEY: key})
        embeddings.append(embedding)
    return torch.stack(embeddings)


def _digest(image: Tensor) -> str:
    return sha256_hex([image.detach().cpu().contiguous().numpy().tobytes()])


def _read(path: Path, key: str) -> Optional[Tensor]:
    """The embedding in a file of the cache; None where there is none, or it is damaged or of another key."""
    entry = read_npz(path, _EMBEDDING, _KEY)
    if entry is None or str(entry[_KEY]) != key:
        return None
    embedding = torch.from_numpy(entry[_EMBEDDING])
    return embedding if embedding.isfinite().all() else None

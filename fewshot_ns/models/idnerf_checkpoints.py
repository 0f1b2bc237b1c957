"""Released checkpoints of MatchNeRF and ID-NeRF as parameters of our model."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

from torch import Tensor

from fewshot_ns.encoders.gmflow_checkpoints import released_parts
from fewshot_ns.priors.weights import load_weights


def released_state(path: Path) -> Optional[Dict[str, Tensor]]:
    """Parameters of a released file, {"model": {feat_enc.*, nerf_dec.*, latent_inference.*}}, by their names there.

    Returns:
        None for a training checkpoint of ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of neither kind, one of an encoder alone, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, found none")
    if {"step", "pipeline"} <= load_weights(path).keys():
        return None
    parts = released_parts(path)
    if not parts.decoder:
        raise ValueError(
            f"{path}: expected weights with a decoder (nerf_dec.*), found an encoder alone; give that by "
            "--pipeline.model.encoder.weights"
        )
    named = {"feat_enc": parts.encoder, "nerf_dec": parts.decoder, "latent_inference": parts.latent}
    return {f"{part}.{name}": value for part, state in named.items() for name, value in state.items()}

"""Importer of the released checkpoints of MatchNeRF and ID-NeRF."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns.encoders.convert_gmflow import released_parts
from fewshot_ns.fields.matching_field import Refinement
from fewshot_ns.pretrained.weights import load_weights


def released_state(path: Path, refinement: Refinement) -> Optional[Dict[str, Tensor]]:
    """Parameters of a released file, {"model": {feat_enc.*, nerf_dec.*, latent_inference.*}}, by their names there.

    Prints a warning if the file is ID-NeRF's and the model is not that of its code: shapes are equal, meanings differ.

    Args:
        path: the file.
        refinement: refinement of the model.

    Returns:
        None for a training checkpoint of ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, one with an encoder alone, or a damaged one.
    """
    if {"step", "pipeline"} <= load_weights(path).keys():
        return None
    parts = released_parts(path)
    if not parts.decoder:
        raise ValueError(
            f"{path}: expected weights with a decoder (nerf_dec.*), found an encoder alone; give that by "
            "--pipeline.model.encoder.weights"
        )
    if parts.latent and refinement != "scrambled":
        CONSOLE.print(
            f"[bold yellow]{path}:[/bold yellow] weights of ID-NeRF's released code. They were trained with other "
            "tokens, attention passes, windows and ray matrices than those of this model, and mean something else "
            "here. They are right in the method idnerf-released.",
            soft_wrap=True,
        )
    named = {"feat_enc": parts.encoder, "nerf_dec": parts.decoder, "latent_inference": parts.latent}
    return {f"{part}.{name}": value for part, state in named.items() for name, value in state.items()}

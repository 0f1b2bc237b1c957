"""Released weights of the matching encoder: GMFlow's, and those of MatchNeRF and ID-NeRF with their decoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Literal, NamedTuple, Optional

from torch import Tensor

from fewshot_ns.encoders.gmflow import MatchingEncoder
from fewshot_ns.pretrained.weights import WeightsSpec, load_weights, resolve_weights
from fewshot_ns.utils.checkpoints import load_strictly

_FLOW_PARTS = ("upsampler.", "feature_flow_attn.")
"""Parts of GMFlow that turn features into flow."""
_ENCODER_PARTS = ("backbone.", "transformer.", "featup_net.")
_ENCODER, _DECODER, _LATENT = "feat_enc.", "nerf_dec.", "latent_inference."
_SECOND_SCALE = "backbone.trident_conv.weight"
_UPSAMPLER = "featup_net."


class ReleasedParts(NamedTuple):
    """Parameters of a released file, by their names within each part; empty where the file lacks the part."""

    encoder: Dict[str, Tensor]
    """Of `MatchingEncoder`; without the upsampler if the file is GMFlow's."""
    decoder: Dict[str, Tensor]
    """Of MatchNeRF's or ID-NeRF's decoder."""
    latent: Dict[str, Tensor]
    """Of ID-NeRF's latent network."""


def released_parts(path: Path) -> ReleasedParts:
    """Reads a released file: a state dict, bare or under 'model', of GMFlow, MatchNeRF or ID-NeRF.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another network, or a damaged one.
    """
    state: Dict[str, Any] = load_weights(path)
    inner = state.get("model", state)
    state = {name.removeprefix("module."): value for name, value in (inner if isinstance(inner, dict) else {}).items()}
    flow = any(name.startswith(_ENCODER_PARTS) for name in state)
    known = (*_ENCODER_PARTS, *_FLOW_PARTS) if flow else (_ENCODER, _DECODER, _LATENT)
    foreign = sorted(name for name in state if not name.startswith(known))
    if foreign or not state:
        raise ValueError(
            f"{path}: expected weights of GMFlow (backbone.*, transformer.*) or of MatchNeRF and ID-NeRF "
            f"({_ENCODER}*, {_DECODER}*), found {', '.join(map(str, foreign[:5])) or 'nothing'}"
        )
    if flow:
        return ReleasedParts({name: v for name, v in state.items() if not name.startswith(_FLOW_PARTS)}, {}, {})
    parts = [
        {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)} for prefix in known
    ]
    return ReleasedParts(*parts)


def load_encoder(encoder: MatchingEncoder, path: Path) -> bool:
    """Loads an encoder's weights from a released file; all its parameters must fit.

    GMFlow's own file has no upsampler: MatchNeRF and ID-NeRF learn it from scratch, so it keeps its initialisation.

    Returns:
        Whether the file had the whole encoder, including an upsampler where the encoder has one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no encoder, or one with another number of scales.
        CheckpointMismatchError: parameters are missing, unknown, or of another shape.
    """
    state = released_parts(path).encoder
    if not state:
        raise ValueError(f"{path}: expected weights of a matching encoder ({_ENCODER}*), found a decoder alone")
    scales = 2 if _SECOND_SCALE in state else 1
    if scales != encoder.num_scales:
        raise ValueError(
            f"{path}: expected an encoder of {encoder.num_scales} scale(s) (--pipeline.model.encoder.num-scales), "
            f"found {scales}"
        )
    upsampler = {name: value for name, value in encoder.state_dict().items() if name.startswith(_UPSAMPLER)}
    complete = not upsampler or any(name.startswith(_UPSAMPLER) for name in state)
    load_strictly(encoder, state if complete else {**upsampler, **state}, path)
    return complete


def find_gmflow(num_scales: int, weights: Optional[Path], download: bool, flag: str) -> Path:
    """File of GMFlow's weights on this disk.

    Args:
        num_scales: 1 or 2.
        weights: the user's own file, or a folder with it; None: the usual order of search.
        download: whether it may be downloaded.
        flag: command line flag that takes the path, for the message.

    Raises:
        WeightsNotFoundError: it was not found.
    """
    if num_scales == 1:
        names = ("gmflow_sintel-0c07dcb3.pth", "gmflow_sintel.pth")
        # MatchNeRF's authors mirror the file that their method starts from.
        spec = WeightsSpec("GMFlow, one scale", names, flag, names[:1], hub="donydchen/matchnerf", hub_filenames=names)
    else:
        names = ("gmflow_with_refine_scale2.pth", "gmflow_with_refine_sintel-3ed1cf48.pth")
        # No address of this file alone is known to us.
        source = "GMFlow's pretrained models, linked from the README of https://github.com/haofeixu/gmflow"
        spec = WeightsSpec("GMFlow, two scales (with refinement)", names, flag, names, source=source)
    return resolve_weights(spec, weights, download)


@dataclass
class MatchingEncoderConfig:
    """The matching encoder and the source of its weights."""

    num_scales: Literal[1, 2] = 1
    """1: features at 1/4 are upsampled from those at 1/8 (original). 2: both are those of GMFlow's refined network."""
    fine_splits: int = 2
    """With two scales: attention windows along each axis of the map at 1/4; 0: no attention on that map."""
    frozen: bool = False
    """Whether the weights are not trained, so that source views are encoded without a graph."""
    pretrained: bool = True
    """Whether training starts from GMFlow's weights; False: from a random initialisation."""
    weights: Optional[Path] = None
    """File of GMFlow, MatchNeRF or ID-NeRF, or a folder with GMFlow's. None: FEWSHOT_WEIGHTS, then torch's cache, then,
    for one scale, a download."""
    download: bool = True
    """Whether weights that are not on this disk may be downloaded; those of two scales have no address."""

    def setup(self) -> MatchingEncoder:
        """Builds the encoder, with random weights."""
        encoder = MatchingEncoder(self.num_scales, fine_splits=self.fine_splits)
        return encoder.requires_grad_(not self.frozen)

    def load(self, encoder: MatchingEncoder, flag: str) -> None:
        """Loads the trained weights, if `pretrained`.

        Args:
            encoder: made by `setup`.
            flag: command line flag of `weights`, for the message.

        Raises:
            WeightsNotFoundError: they were not found.
            ValueError: a file of another network.
            CheckpointMismatchError: parameters are missing, unknown, or of another shape.
        """
        if self.pretrained:
            load_encoder(encoder, find_gmflow(self.num_scales, self.weights, self.download, flag))

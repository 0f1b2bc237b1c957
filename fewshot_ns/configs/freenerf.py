"""freenerf: mip-NeRF whose encoding opens column by column, with occlusion regularisation.

Source: Jiawei-Yang/FreeNeRF configs/freenerf (llff3, dtu3). It neither anneals near and far nor renders unseen views.
"""

from fewshot_ns.configs.compact import COARSE_TO_FINE, compact
from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot
from fewshot_ns.configs.paper_results import FREENERF, row
from fewshot_ns.configs.variants import derive
from fewshot_ns.model_components.curricula import FrequencyMaskConfig, NearFarAnnealingConfig

freenerf = derive(
    mipnerf_fewshot,
    "freenerf",
    model={"include_mean": True, "frequency_mask": FrequencyMaskConfig(steps=None)},
    occlusion={"enabled": True, "weight": 0.01},
)

LITE_CURRICULA = {
    "annealing": NearFarAnnealingConfig(steps=None),
    **COARSE_TO_FINE,
}
"""The opening of the planes from coarse to fine is the frequency regularisation; an MLP takes a mask
(`--pipeline.model.field-type mlp --pipeline.model.frequency-mask.steps 240`). Near and far open slowly in NDC alone,
which FreeNeRF does not do: there it gains 2 dB."""

LITE_OCCLUSION = {"enabled": True, "weight": 0.01, "num_samples": 1, "background_samples": 0}

freenerf_lite = derive(compact, "freenerf-lite", model=LITE_CURRICULA, occlusion=LITE_OCCLUSION)

_PAPER = FREENERF.citation
_RUN = "result.md of Wanggcong/FreeNeRF_plus_SparseNeRF, FreeNeRF alone"
paper_results = (
    *row("llff", 3, (19.63, 0.612, 0.308, 0.134), _PAPER),
    *row("llff", 6, (23.73, 0.779, 0.195, 0.075), _PAPER),
    *row("llff", 9, (25.13, 0.827, 0.160, 0.064), _PAPER),
    *row("dtu", 3, (19.92, 0.787, 0.182, 0.098), _PAPER),
    *row("dtu", 6, (23.25, 0.844, 0.137, 0.068), _PAPER),
    *row("dtu", 9, (25.38, 0.888, 0.096, 0.046), _PAPER),
    *row("llff/fern", 3, (21.13, 0.656, 0.290, 0.111), _PAPER, table=_RUN),
    *row("llff/flower", 3, (20.44, 0.615, 0.291, 0.132), _PAPER, table=_RUN),
    *row("llff/fortress", 3, (23.13, 0.572, 0.318, 0.101), _PAPER, table=_RUN),
    *row("llff/leaves", 3, (16.03, 0.494, 0.368, 0.187), _PAPER, table=_RUN),
    *row("llff/orchids", 3, (15.40, 0.432, 0.361, 0.199), _PAPER, table=_RUN),
    *row("llff/room", 3, (21.92, 0.828, 0.194, 0.082), _PAPER, table=_RUN),
    *row("llff/trex", 3, (20.19, 0.718, 0.240, 0.107), _PAPER, table=_RUN),
)
"""Published figures of freenerf; the scenes are single runs of SparseNeRF's author, horns is missing there."""

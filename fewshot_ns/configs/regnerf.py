"""regnerf: mip-NeRF with annealed near and far, and depth smoothness on patches of unseen views.

Source: google-research regnerf/configs (llff3, dtu3). Its code multiplies the smoothness by zero on LLFF and leaves the
normalising flow out; here, as in the paper, smoothness is on everywhere. The lite weights are our own choice.
"""

from fewshot_ns.configs.compact import compact
from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot
from fewshot_ns.configs.paper_results import REGNERF, row
from fewshot_ns.configs.variants import derive
from fewshot_ns.model_components.curricula import NearFarAnnealingConfig

regnerf = derive(
    mipnerf_fewshot,
    "regnerf",
    model={"annealing": NearFarAnnealingConfig(steps=None)},
    smoothness={"enabled": True, "factor": 1.0},
)

regnerf_lite = derive(
    compact,
    "regnerf-lite",
    model={"annealing": NearFarAnnealingConfig(steps=None)},
    smoothness={
        "enabled": True,
        "factor": 1.0,
        "num_patches": 4,
        "num_poses": 1000,
        "training_cameras_only": True,
        "weight_start": 5.0,
        "weight_end": 0.1,
        "ramp_steps": 150,
    },
)

_PAPER = REGNERF.citation
_SCAN114 = "README of the released code (google-research regnerf), masked PSNR of scan114 without the flow"
paper_results = (
    *row("llff", 3, (19.08, 0.587, 0.336, 0.149), _PAPER),
    *row("llff", 6, (23.10, 0.760, 0.206, 0.086), _PAPER),
    *row("llff", 9, (24.86, 0.820, 0.161, 0.067), _PAPER),
    *row("dtu", 3, (18.89, 0.745, 0.190, 0.112), _PAPER),
    *row("dtu", 6, (22.20, 0.841, 0.117, 0.071), _PAPER),
    *row("dtu", 9, (24.93, 0.884, 0.089, 0.047), _PAPER),
    *row("dtu/scan114", 3, (21.37,), _PAPER, table=_SCAN114),
)
"""Published figures of regnerf; all but the last with the normalising flow, which is not part of the released code."""

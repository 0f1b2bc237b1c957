"""sparsenerf: mip-NeRF with depth ranking, spatial continuity and, in metric scenes, RegNeRF's smoothness.

Source: Wanggcong/SparseNeRF configs (llff3, dtu3) and what its code makes of them. NVS-RGBD trains for 60000 steps:
`--max-num-iterations 60000 --optimizers.field.scheduler.max-steps 60000` (recipe nvs-rgbd).
"""

from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot
from fewshot_ns.configs.paper_results import SPARSENERF, row
from fewshot_ns.configs.variants import derive
from fewshot_ns.model_components.curricula import NearFarAnnealingConfig

MAX_STEPS = 90000

sparsenerf = derive(
    mipnerf_fewshot,
    "sparsenerf",
    max_num_iterations=MAX_STEPS,
    ndc_iterations=MAX_STEPS,
    metric_iterations=MAX_STEPS,
    schedule={"max_steps": MAX_STEPS},
    datamanager={"train_num_rays_per_batch": None},
    model={"annealing": NearFarAnnealingConfig(steps=None)},
    depth={"enabled": True},
    smoothness={"enabled": True, "num_patches": 4, "num_poses": 1000},
)

_PAPER = SPARSENERF.citation
paper_results = (
    *row("llff", 3, (19.86, 0.624, 0.328, 0.127), _PAPER),
    *row("dtu", 3, (19.55, 0.769, 0.201, 0.102), _PAPER),
)
"""Published figures of sparsenerf, for three views; LLFF's SSIM and LPIPS are those of the paper's second version."""

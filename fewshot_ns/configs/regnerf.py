"""regnerf: mip-NeRF with annealed near and far, and depth smoothness on patches of unseen views.

Source: google-research regnerf/configs (llff3, dtu3). Its code multiplies the smoothness by zero on LLFF and leaves the
normalising flow out; here, as in the paper, smoothness is on everywhere. The lite weights are our own choice.
"""

from copy import deepcopy

from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot, mipnerf_fewshot_lite
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.priors.smoothness import SmoothnessPriorConfig

regnerf = deepcopy(mipnerf_fewshot)
regnerf.method_name = "regnerf"
regnerf.pipeline.model.anneal_steps = None
regnerf.pipeline.smoothness = SmoothnessPriorConfig(enabled=True, factor=1.0)

regnerf_lite = deepcopy(mipnerf_fewshot_lite)
regnerf_lite.method_name = "regnerf-lite"
regnerf_lite.pipeline.model.anneal_steps = sparsenerf_lite.pipeline.model.anneal_steps
regnerf_lite.pipeline.smoothness = SmoothnessPriorConfig(
    enabled=True,
    factor=1.0,
    num_patches=4,
    num_poses=1000,
    training_cameras_only=True,
    weight_start=1.0,
    weight_end=0.03,
    ramp_steps=150,
)

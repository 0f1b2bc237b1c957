"""freenerf: mip-NeRF whose encoding opens column by column, with occlusion regularisation.

Source: Jiawei-Yang/FreeNeRF configs/freenerf (llff3, dtu3). It neither anneals near and far nor looks at unseen views.
"""

from copy import deepcopy

from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

freenerf = deepcopy(mipnerf_fewshot)
freenerf.method_name = "freenerf"
freenerf.pipeline.model.include_mean = True
freenerf.pipeline.model.frequency_mask_steps = None
freenerf.pipeline.model.occlusion_weight = 0.01

freenerf_lite = deepcopy(sparsenerf_lite)
freenerf_lite.method_name = "freenerf-lite"
freenerf_lite.pipeline.depth.enabled = False

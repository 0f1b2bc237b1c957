"""free-sparsenerf: FreeNeRF with SparseNeRF's depth terms.

Source: Wanggcong/FreeNeRF_plus_SparseNeRF: FreeNeRF's configs, ranking weight 0.5 on LLFF and DTU alike.
`sparsenerf-lite` has FreeNeRF's mask and occlusion term already, so the lite preset is the same under this name.
"""

from copy import deepcopy

from fewshot_ns.configs.freenerf import freenerf
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

free_sparsenerf = deepcopy(freenerf)
free_sparsenerf.method_name = "free-sparsenerf"
free_sparsenerf.pipeline.depth.enabled = True
free_sparsenerf.pipeline.depth.ranking_weight = 0.5

free_sparsenerf_lite = deepcopy(sparsenerf_lite)
free_sparsenerf_lite.method_name = "free-sparsenerf-lite"

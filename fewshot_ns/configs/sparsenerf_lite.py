"""sparsenerf-lite: SparseNeRF's losses on the compact field, whose planes, near and far open slowly."""

from fewshot_ns.configs.compact import COARSE_TO_FINE, compact
from fewshot_ns.configs.variants import derive
from fewshot_ns.model_components.curricula import NearFarAnnealingConfig

sparsenerf_lite = derive(
    compact,
    "sparsenerf-lite",
    model={"annealing": NearFarAnnealingConfig(steps=150), **COARSE_TO_FINE},
    depth={"enabled": True},
)

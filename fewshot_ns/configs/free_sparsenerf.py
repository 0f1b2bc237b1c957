"""free-sparsenerf: FreeNeRF with SparseNeRF's depth terms.

Source: Wanggcong/FreeNeRF_plus_SparseNeRF: FreeNeRF's configs, ranking weight 0.5 on LLFF and DTU alike.
"""

from fewshot_ns.configs.freenerf import freenerf, freenerf_lite
from fewshot_ns.configs.paper_results import FREE_SPARSENERF, row
from fewshot_ns.configs.variants import derive

free_sparsenerf = derive(freenerf, "free-sparsenerf", depth={"enabled": True, "ranking_weight": 0.5})

free_sparsenerf_lite = derive(freenerf_lite, "free-sparsenerf-lite", depth={"enabled": True})

_PAPER = FREE_SPARSENERF.citation
_RUN = "result.md of Wanggcong/FreeNeRF_plus_SparseNeRF"
paper_results = (
    *row("llff/fern", 3, (21.42, 0.656, 0.289, 0.109), _PAPER, table=_RUN),
    *row("llff/flower", 3, (20.76, 0.631, 0.291, 0.127), _PAPER, table=_RUN),
    *row("llff/fortress", 3, (24.33, 0.669, 0.282, 0.085), _PAPER, table=_RUN),
    *row("llff/leaves", 3, (17.49, 0.576, 0.345, 0.159), _PAPER, table=_RUN),
    *row("llff/orchids", 3, (16.21, 0.470, 0.346, 0.183), _PAPER, table=_RUN),
    *row("llff/room", 3, (21.58, 0.818, 0.199, 0.086), _PAPER, table=_RUN),
    *row("llff/trex", 3, (21.29, 0.738, 0.239, 0.098), _PAPER, table=_RUN),
)
"""Published figures of free-sparsenerf, scene by scene; horns is missing."""

"""simplified-nerf: the small NeRF that DietNeRF's paper compares with on few views.

Source: ajayjain/DietNeRF: one network of 128 samples, six octaves, no directions, 5e-5. By its scripts, lego keeps the
directions (`--pipeline.model.view-dependent True`), hotdog has five octaves (`--pipeline.model.num-octaves 5`), and
hotdog and materials a learning rate of 1e-5:

    --optimizers.field.optimizer.lr 1e-5 --optimizers.field.scheduler.lr-final 1e-6
"""

from fewshot_ns.configs.dietnerf import CONDITIONS, TABLE, dietnerf
from fewshot_ns.configs.paper_results import SIMPLIFIED_NERF, row
from fewshot_ns.configs.variants import derive

simplified_nerf = derive(
    dietnerf,
    "simplified-nerf",
    model={"num_samples": 128, "num_importance_samples": 0, "num_octaves": 6, "view_dependent": False},
    semantic={"enabled": False},
    optimizer={"lr": 5e-5},
    schedule={"lr_final": 5e-6},
)

_PAPER = SIMPLIFIED_NERF.citation
paper_results = (*row("blender", 8, (20.092, 0.822, 0.179), _PAPER, table=TABLE, conditions=CONDITIONS),)
"""Published figures of the simplified NeRF."""

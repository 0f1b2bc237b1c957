"""sparse-splatfacto and -lite: Gaussian splats from few views.

The first follows what recipes for LLFF with three views have in common (Binocular3DGS, DropGaussian, co-adaptation's
dropout; docs/sparse-splatfacto.md says what comes from where). Numbers of the second are our own choice, made on views
that no table reports.
"""

from typing import Dict

from fewshot_ns.configs.variants import derive, one_scene
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig, pose_optimizer
from fewshot_ns.engine.schedulers import RunLengthSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.edge_smoothness import EdgeSmoothnessPriorConfig
from fewshot_ns.priors.silhouette import SilhouettePriorConfig
from fewshot_ns.viewer.training_page import local_viewer

MAX_STEPS = 10_000
LITE_STEPS = 1000


def _optimizers(rates: Dict[str, float], final_ratios: Dict[str, float], rest: float) -> Dict[str, Dict]:
    own = {
        name: {
            "optimizer": ClippedAdamOptimizerConfig(lr=rate, eps=1e-15),
            "scheduler": RunLengthSchedulerConfig(final_ratio=final_ratios.get(name, rest)),
        }
        for name, rate in rates.items()
    }
    return {**own, **pose_optimizer()}


sparse_splatfacto = FewShotTrainerConfig(
    method_name="sparse-splatfacto",
    max_num_iterations=MAX_STEPS,
    steps_per_save=2000,
    steps_per_eval_batch=0,
    steps_per_eval_image=500,
    steps_per_eval_all_images=0,
    pipeline=FewShotPipelineConfig(
        datamanager=FewShotDataManagerConfig(
            dataparser=one_scene(LLFFDataParserConfig(ray_space="metric")), whole_images=True
        ),
        model=SparseSplatfactoModelConfig(
            position_unit="scene",
            opacity_dropout=0.2,
            dropout_start_step=500,
            opacity_decay=0.999,
            decay_start_step=500,
            densification=DensificationConfig(start_step=500, stop_fraction=0.5, every=100, gradient=5e-4),
        ),
        silhouette=SilhouettePriorConfig(enabled=True),
        edge_smoothness=EdgeSmoothnessPriorConfig(enabled=True),
    ),
    optimizers=_optimizers(
        {
            "means": 1.6e-4,
            "scales": 5e-3,
            "quats": 1e-3,
            "features_dc": 2.5e-3,
            "features_rest": 1.25e-4,
            "opacities": 5e-2,
        },
        {"means": 0.01},
        rest=1.0,
    ),
    viewer=local_viewer(1 << 15),
    vis="viewer",
)

sparse_splatfacto_lite = derive(
    sparse_splatfacto,
    "sparse-splatfacto-lite",
    max_num_iterations=LITE_STEPS,
    steps_per_save=500,
    optimizers=_optimizers(
        {
            "means": 0.1,
            "scales": 1e-2,
            "quats": 5e-3,
            "features_dc": 2e-2,
            "features_rest": 1e-3,
            "opacities": 5e-2,
        },
        {},
        rest=0.05,
    ),
    model={
        "position_unit": "pixel",
        "sh_degree": 0,
        "initial_scale": 1.0,
        "opacity_dropout": 0.1,
        "dropout_start_step": 0,
        "opacity_decay": 0.998,
        "decay_start_step": 0,
        "background": "auto",
        "densification": DensificationConfig(start_step=100, stop_fraction=0.6, every=100, gradient=5e-4),
    },
    initial_points={"stride": 2},
)

"""The compact baseline: the small fast field of all -lite presets, without priors.

Methods add priors to it. Numbers without a source are our own choice.
"""

from fewshot_ns.configs.variants import one_scene
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig, pose_optimizer
from fewshot_ns.engine.schedulers import WarmupCosineSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.model_components.curricula import NearFarAnnealingConfig
from fewshot_ns.models.compact import CompactModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.depth.metric import MetricDepthConfig
from fewshot_ns.priors.depth.prior import DepthPriorConfig
from fewshot_ns.priors.distortion import DistortionPriorConfig
from fewshot_ns.priors.plane_smoothness import PlaneSmoothnessPriorConfig
from fewshot_ns.viewer.training_page import local_viewer

MAX_STEPS = 1000

compact = FewShotTrainerConfig(
    method_name="compact",
    max_num_iterations=MAX_STEPS,
    steps_per_save=500,
    steps_per_eval_batch=0,
    steps_per_eval_image=500,
    steps_per_eval_all_images=0,
    pipeline=FewShotPipelineConfig(
        datamanager=FewShotDataManagerConfig(dataparser=one_scene(), train_num_rays_per_batch=1024),
        model=CompactModelConfig(annealing=NearFarAnnealingConfig(steps=0), coarse_steps=0, fine_steps=0),
        distortion=DistortionPriorConfig(enabled=True, weight=0.1),
        plane_smoothness=PlaneSmoothnessPriorConfig(enabled=True, weight=0.5),
        # Off, but with the constants that suit this field where a method or a user switches it on.
        depth=DepthPriorConfig(
            source="auto",
            metric=MetricDepthConfig(near_weight=None, min_sigma_of_maps=0.005),
            ranking_margin_scale=0.1,
            ranking_margin_fit=0.9,
            fade_start_step=200,
            fade_end_step=400,
            fade_ratio=0.1,
        ),
    ),
    optimizers={
        **{
            name: {
                "optimizer": ClippedAdamOptimizerConfig(lr=lr, eps=1e-8, clip_norm=clip_norm),
                "scheduler": WarmupCosineSchedulerConfig(warmup_steps=100, max_steps=MAX_STEPS, final_ratio=0.05),
            }
            for name, lr, clip_norm in (("field", 2e-3, 1.0), ("planes", 3e-2, None), ("proposal", 1e-1, None))
        },
        **pose_optimizer(),
    },
    viewer=local_viewer(4096),
    vis="viewer",
)

COARSE_TO_FINE = {"coarse_steps": 50, "fine_steps": 250}
"""Fields of the model by which its planes open from coarse to fine."""

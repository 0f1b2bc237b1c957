"""depth-mipnerf: proposal mip-NeRF whose weights are bounded by measured depth.

Source: AlexSheldrick/mipnerf_pl, branch depth-mipnerf, configs/lego.yaml (64 + 64 + 32 samples, 8192 rays, 50000 steps,
3e-3 to 2e-5); scannet and matterport train for 150000 steps from 2e-3 (recipes depth-mipnerf-scannet, -matterport). Its
other setting, lego_bkup:

    --pipeline.model.num-proposal-samples 128 --pipeline.model.proposal-weight 0.05
    --pipeline.depth.metric.near-weight 0.02 --pipeline.depth.metric.empty-weight 0.1
    --pipeline.datamanager.train-num-rays-per-batch 2048 --optimizers.field.optimizer.lr 5e-4
    --optimizers.field.scheduler.lr-final 5e-6 --optimizers.field.scheduler.delay-steps 2500

Numbers of the lite preset are our own choice.
"""

from fewshot_ns.configs.compact import COARSE_TO_FINE, compact
from fewshot_ns.configs.compact import MAX_STEPS as LITE_STEPS
from fewshot_ns.configs.paper_results import DEPTH_MIPNERF, row
from fewshot_ns.configs.variants import derive, one_scene
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig, pose_optimizer
from fewshot_ns.engine.schedulers import DelayedLogLinearSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.depth.metric import MetricDepthConfig
from fewshot_ns.priors.depth.prior import DepthPriorConfig
from fewshot_ns.viewer.training_page import local_viewer

MAX_STEPS = 50000

depth_mipnerf = FewShotTrainerConfig(
    method_name="depth-mipnerf",
    max_num_iterations=MAX_STEPS,
    steps_per_save=5000,
    steps_per_eval_batch=0,
    steps_per_eval_image=1000,
    steps_per_eval_all_images=0,
    pipeline=FewShotPipelineConfig(
        datamanager=FewShotDataManagerConfig(
            dataparser=one_scene(FewShotBlenderDataParserConfig(num_views=3, view_protocol="first")),
            train_num_rays_per_batch=8192,
        ),
        model=DepthMipNeRFModelConfig(),
        depth=DepthPriorConfig(enabled=True, loss="cdf"),
    ),
    optimizers={
        "field": {
            "optimizer": ClippedAdamOptimizerConfig(lr=3e-3, eps=1e-8, clip_norm=1e-3),
            "scheduler": DelayedLogLinearSchedulerConfig(
                lr_final=2e-5, max_steps=MAX_STEPS, delay_steps=512, delay_factor=0.01
            ),
        },
        **pose_optimizer(),
    },
    viewer=local_viewer(2048),
    vis="viewer",
)

depth_mipnerf_lite = derive(
    compact,
    "depth-mipnerf-lite",
    model=COARSE_TO_FINE,
    depth={
        "enabled": True,
        "loss": "cdf",
        "fade_ratio": 1.0,
        "metric": MetricDepthConfig(urf_anneal_steps=LITE_STEPS),
    },
)

_PAPER = DEPTH_MIPNERF.citation
_TABLE = "README of AlexSheldrick/mipnerf_pl, branch depth-mipnerf, row 'Ours' (CDF)"
_CONDITIONS = (
    "not stated; by configs and history: Lego re-rendered at 400x400 with true depth, first n training frames, white "
    "background, best of the validation scores on 12 views"
)
paper_results = (
    *row("blender/lego", 3, (23.81,), _PAPER, table=_TABLE, conditions=_CONDITIONS),
    *row("blender/lego", 6, (27.91,), _PAPER, table=_TABLE, conditions=_CONDITIONS),
    *row("blender/lego", 100, (36.96,), _PAPER, table=_TABLE, conditions=_CONDITIONS),
)
"""Published figures of depth-mipnerf, PSNR alone."""

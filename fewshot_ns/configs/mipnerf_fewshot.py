"""mipnerf-fewshot: mip-NeRF as the baseline of RegNeRF's and FreeNeRF's tables, and the basis of their methods.

Sources: google-research regnerf/configs and Jiawei-Yang/FreeNeRF configs/mipnerf (llff3, dtu3). 69768 steps of 4096
rays are 500 passes over three photos of 504x378, 43945 over three of 400x300. The depth prior is off; switched on, it
is that of SparseNeRF. The lite preset is the compact baseline.
"""

from fewshot_ns.configs.compact import compact
from fewshot_ns.configs.paper_results import MIPNERF, row
from fewshot_ns.configs.variants import derive, one_scene
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig, pose_optimizer
from fewshot_ns.engine.schedulers import DelayedLogLinearSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.models.mipnerf import MipNeRFModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.depth.prior import DepthPriorConfig
from fewshot_ns.viewer.training_page import local_viewer

mipnerf_fewshot = FewShotTrainerConfig(
    method_name="mipnerf-fewshot",
    max_num_iterations=None,
    ndc_iterations=69768,
    metric_iterations=43945,
    steps_per_save=10000,
    steps_per_eval_batch=0,
    steps_per_eval_image=1000,
    steps_per_eval_all_images=0,
    pipeline=FewShotPipelineConfig(
        datamanager=FewShotDataManagerConfig(
            dataparser=one_scene(), train_num_rays_per_batch=4096, single_image_batches=True
        ),
        model=MipNeRFModelConfig(),
        depth=DepthPriorConfig(
            num_quads=None, single_image=True, box_fraction=None, ranking_weight=None, continuity_weight=None
        ),
    ),
    optimizers={
        "field": {
            "optimizer": ClippedAdamOptimizerConfig(lr=2e-3, eps=1e-8, clip_value=0.1, clip_norm=0.1),
            "scheduler": DelayedLogLinearSchedulerConfig(
                lr_final=2e-5, max_steps=None, delay_steps=512, delay_factor=0.01
            ),
        },
        **pose_optimizer(),
    },
    viewer=local_viewer(1024),
    vis="viewer",
)

mipnerf_fewshot_lite = derive(compact, "mipnerf-fewshot-lite")

_PAPER = f"{MIPNERF.citation}, trained on few views by RegNeRF's authors"
paper_results = (
    *row("llff", 3, (16.11, 0.401, 0.460, 0.215), _PAPER),
    *row("llff", 6, (22.91, 0.756, 0.213, 0.090), _PAPER),
    *row("llff", 9, (24.88, 0.826, 0.160, 0.066), _PAPER),
    *row("dtu", 3, (9.10, 0.578, 0.348, 0.311), _PAPER),
    *row("dtu", 6, (16.84, 0.754, 0.197, 0.144), _PAPER),
    *row("dtu", 9, (23.56, 0.877, 0.100, 0.057), _PAPER),
)
"""Published figures of mipnerf-fewshot."""

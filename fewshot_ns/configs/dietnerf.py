"""dietnerf: NeRF whose renderings of unseen views have CLIP embeddings like the photos'.

Source: ajayjain/DietNeRF, configs of the Blender scenes (8 views of 400x400, 200000 steps, 5e-4 * 0.1^(step / 500000)).
Its last stage, fine-tuning on the photos alone to step 250000, is one more run that resumes:

    --load-dir RUN/nerfstudio_models --max-num-iterations 250000 --pipeline.semantic.enabled False

or, in one run, `--max-num-iterations 250000 --pipeline.semantic.stop-step 200000`. Numbers of the lite preset are our
own choice.
"""

from fewshot_ns.configs.compact import compact
from fewshot_ns.configs.paper_results import DIETNERF, row
from fewshot_ns.configs.variants import derive, one_scene
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig, pose_optimizer
from fewshot_ns.engine.schedulers import DelayedLogLinearSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.models.nerf import NeRFModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.depth.prior import DepthPriorConfig
from fewshot_ns.priors.semantic import SemanticPriorConfig
from fewshot_ns.priors.unseen_views import UnseenViewsConfig
from fewshot_ns.viewer.training_page import local_viewer

MAX_STEPS = 200000

dietnerf = FewShotTrainerConfig(
    method_name="dietnerf",
    max_num_iterations=MAX_STEPS,
    steps_per_save=10000,
    steps_per_eval_batch=0,
    steps_per_eval_image=5000,
    steps_per_eval_all_images=0,
    pipeline=FewShotPipelineConfig(
        datamanager=FewShotDataManagerConfig(
            dataparser=one_scene(FewShotBlenderDataParserConfig(downscale_factor=2)),
            train_num_rays_per_batch=1024,
            single_image_batches=True,
            crop_steps=500,
        ),
        model=NeRFModelConfig(),
        depth=DepthPriorConfig(),
        semantic=SemanticPriorConfig(enabled=True),
    ),
    optimizers={
        "field": {
            "optimizer": ClippedAdamOptimizerConfig(lr=5e-4, eps=1e-8),
            "scheduler": DelayedLogLinearSchedulerConfig(lr_final=5e-5, max_steps=500000, delay_steps=0),
        },
        **pose_optimizer(),
    },
    viewer=local_viewer(2048),
    vis="viewer",
)

dietnerf_lite = derive(
    compact,
    "dietnerf-lite",
    datamanager={"dataparser": one_scene(FewShotBlenderDataParserConfig(downscale_factor=2))},
    semantic={
        "enabled": True,
        "fine_weight": 0.03,
        "start_step": 200,
        "stop_step": 600,
        "views": UnseenViewsConfig(grid_size=64),
    },
)

PAPER = DIETNERF.citation
TABLE = "DietNeRF, table of the Blender scenes; as later papers repeat it, not checked against the paper"
CONDITIONS = (
    "8 scenes, 400x400, 25 test views (every eighth), mean of scenes; SSIM 7x7 uniform, data range 1; LPIPS VGG on "
    "images in [0, 1], not scaled to [-1, 1]"
)
paper_results = (*row("blender", 8, (23.147, 0.866, 0.109), PAPER, table=TABLE, conditions=CONDITIONS),)
"""Published figures of dietnerf, without the last stage on the photos alone (with it 23.591, 0.874, 0.097)."""

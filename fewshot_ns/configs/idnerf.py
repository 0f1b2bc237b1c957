"""idnerf, idnerf-released, matchnerf and lite presets: a decoder for all scenes on features that source views agree on.

Source: Iron-LYK/idnerf and donydchen/matchnerf, configurations for DTU: one target view and 1024 of its rays per step,
three source views, 25 epochs (MatchNeRF 12) of 30184 steps, AdamW with weight decay 1e-4 and one cycle, 5e-5 for
encoder and decoder (MatchNeRF's decoder 5e-4), gradients of the encoder clipped to norm 1. ID-NeRF's own configuration
names 1e-3 for the latent network, which its code then leaves out. docs/idnerf.md has the table of what else differs.
Numbers of the lite presets are our own choice.
"""

from dataclasses import replace
from typing import Any, Dict, Optional, Tuple

import torch
from nerfstudio.engine.optimizers import AdamOptimizerConfig

from fewshot_ns.configs.paper_results import MATCHNERF, PaperResult, row
from fewshot_ns.configs.variants import derive, many_scenes
from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig
from fewshot_ns.data.views.sources import SourceViewsConfig
from fewshot_ns.encoders.convert_gmflow import MatchingEncoderConfig
from fewshot_ns.engine.schedulers import OneCycleSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig
from fewshot_ns.models.idnerf import IDNeRFModelConfig
from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipelineConfig
from fewshot_ns.priors.diffusion.prior import DiffusionPriorConfig
from fewshot_ns.viewer.training_page import local_viewer

STEPS_PER_EPOCH = 30184
"""Training samples of DTU in MVSNet's layout: 88 scans, 49 views, 7 lights."""
EPOCHS = 25
MATCHNERF_EPOCHS = 12


def _groups(steps: int, field: float) -> Dict[str, Any]:
    """Optimizers and schedulers of all parameter groups that the model can have; those without parameters do nothing.

    Args:
        steps: length of the training.
        field: highest rate of the decoder.
    """

    def group(lr: float, clip: Optional[float] = None) -> Dict[str, Any]:
        optimizer = AdamOptimizerConfig(_target=torch.optim.AdamW, lr=lr, weight_decay=1e-4, max_norm=clip)
        return {"optimizer": optimizer, "scheduler": OneCycleSchedulerConfig(max_steps=steps)}

    return {"encoder": group(5e-5, clip=1.0), "field": group(field), "latent": group(1e-3)}


idnerf = FewShotTrainerConfig(
    method_name="idnerf",
    max_num_iterations=EPOCHS * STEPS_PER_EPOCH,
    steps_per_save=STEPS_PER_EPOCH // 10,
    steps_per_eval_batch=0,
    steps_per_eval_image=STEPS_PER_EPOCH // 10,
    steps_per_eval_all_images=STEPS_PER_EPOCH,
    pipeline=GeneralizablePipelineConfig(
        datamanager=MultiSceneDataManagerConfig(
            dataparser=many_scenes(),
            scenes_per_batch=1,
            num_sources=(3,),
            rays_per_scene=1024,
            target_views=1,
            train_source_mode="pairs",
            no_box_step=0,
            sources=SourceViewsConfig(mode="nearest", count=3, distance="l1"),
        ),
        model=IDNeRFModelConfig(),
        diffusion=DiffusionPriorConfig(enabled=True),
        evaluation=EvaluationConfig(region="auto"),
        scene_evaluation=SceneEvaluationConfig(test_while_training=True),
    ),
    optimizers=_groups(EPOCHS * STEPS_PER_EPOCH, field=5e-5),
    viewer=local_viewer(1024),
    vis="viewer",
)

RELEASED = {
    "window": "released",
    "refinement": "scrambled",
    "attention_passes": 3,
    "ray_matrices": "world_to_camera",
    "train_latent": False,
    "training_depths": "overshooting",
}
"""Fields of the model with which it computes what ID-NeRF's released code does."""

# There score distillation ends at a network that no optimizer holds, so it is left out, with its large models.
idnerf_released = derive(idnerf, "idnerf-released", model=RELEASED, diffusion={"enabled": False})

matchnerf = replace(
    derive(
        idnerf,
        "matchnerf",
        model={"window": "off", "refinement": "off", "training_depths": "overshooting"},
        diffusion={"enabled": False},
        max_num_iterations=MATCHNERF_EPOCHS * STEPS_PER_EPOCH,
    ),
    optimizers=_groups(MATCHNERF_EPOCHS * STEPS_PER_EPOCH, field=5e-4),
)

LITE_STEPS = 4000

# GMFlow's refined network brings features of its own at 1/4, and stays as it is: a CPU can train the rest.
idnerf_lite = replace(
    derive(
        idnerf,
        "idnerf-lite",
        datamanager={"rays_per_scene": 384, "train_source_mode": "nearby", "colour_jitter": 0.5},
        model={
            "encoder": MatchingEncoderConfig(num_scales=2, fine_splits=0, frozen=True),
            "window": "off",
            "num_samples": 48,
            "width": 64,
            "compute_dtype": "bfloat16",
        },
        diffusion={"enabled": False},
        max_num_iterations=LITE_STEPS,
        steps_per_save=1000,
        steps_per_eval_image=1000,
        steps_per_eval_all_images=0,
    ),
    optimizers=_groups(LITE_STEPS, field=1e-3),
)

# Without refinement the decoder sees how alike the views are, not what each shows; trained on few scenes, idnerf-lite
# learns to tell these scenes apart.
matchnerf_lite = derive(idnerf_lite, "matchnerf-lite", model={"refinement": "off"})

_PAPER = MATCHNERF.citation
README = "table of the code's README, trained on DTU"
THREE = "3 nearest source views; SSIM 7x7 uniform; LPIPS VGG; "
CENTRE = "the middle of the image, a tenth cut off on each side"

matchnerf_paper_results: Tuple[PaperResult, ...] = (
    *row(
        "matchnerf-dtu",
        3,
        (26.91, 0.934, 0.159),
        _PAPER,
        table=README,
        conditions=f"16 scans, 4 targets, 640x512, {THREE}pixels with a true depth, the others black",
    ),
    *row("matchnerf-llff", 3, (22.43, 0.805, 0.244), _PAPER, table=README, conditions=f"960x640, {THREE}{CENTRE}"),
    *row("matchnerf-blender", 3, (23.20, 0.897, 0.164), _PAPER, table=README, conditions=f"800x800, {THREE}{CENTRE}"),
    *row("matchnerf-tanks", 3, (21.94, 0.840, 0.258), _PAPER, table=README, conditions=f"{THREE}{CENTRE}"),
)
"""Published figures of MatchNeRF. Those of ID-NeRF's paper were not at hand, so none are quoted."""

"""Every registered method on tiny scenes, milliseconds per step, and tiny random networks of the classes it needs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import torch
from tiny_clip import save_image_encoder

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.models.idnerf import IDNeRFModelConfig
from fewshot_ns.priors.base import prior_configs


def save_networks(folder: Path) -> Dict[str, Path]:
    """Tiny random networks of the real classes, saved as their libraries save them; needs diffusers."""
    from tiny_diffusion import save_clip, save_diffusion

    torch.manual_seed(0)
    return {
        "encoder": save_image_encoder(folder / "encoder"),
        "diffusion": save_diffusion(folder / "diffusion"),
        "clip": save_clip(folder / "clip"),
    }


def set_where_there(config: Any, **values: Any) -> None:
    for name, value in values.items():
        if hasattr(config, name):
            setattr(config, name, value)


def small(method: str, networks: Dict[str, Path], rgbd: Path, solids: Path, mvsnet: Path) -> Any:
    """A method on a tiny scene, no prior on, milliseconds per step."""
    config: Any = deepcopy(registry.method_specification(method).config)
    pipeline, manager = config.pipeline, config.pipeline.datamanager
    model: Any = pipeline.model
    for prior in prior_configs(pipeline).values():
        prior.enabled, prior.start_step, prior.stop_step, prior.interval = False, 0, None, 1
    pipeline.evaluation.metrics = ("psnr",)
    pipeline.occlusion.weight = pipeline.distortion.weight = 0.01
    pipeline.normals.weight, pipeline.normals.orientation_weight = 0.0, 0.1
    pipeline.depth.num_quads, pipeline.depth.loss, pipeline.depth.box_fraction = 4, "ranking", 1.0
    pipeline.smoothness.num_patches, pipeline.smoothness.num_poses, pipeline.smoothness.factor = 2, 3, 1.0
    pipeline.smoothness.patch_size = 4
    pipeline.semantic.encoder.weights, pipeline.semantic.encoder.library = networks["encoder"], "open_clip"
    pipeline.semantic.views.grid_size = pipeline.diffusion.views.grid_size = 4
    pipeline.consistency.views.grid_size, pipeline.edge_smoothness.weight = 4, 1.0
    pipeline.semantic.fine_weight = 0.1
    pipeline.diffusion.weights, pipeline.diffusion.image_encoder_weights = networks["diffusion"], networks["clip"]
    pipeline.edge_smoothness.weight = 0.1
    # The trainer resolves the length of a schedule that is open.
    for group in config.optimizers.values():
        group["scheduler"].max_steps = group["scheduler"].max_steps or 100
    set_where_there(model, width=16, num_samples=6, num_importance_samples=4, num_depth_samples=2, min_eval_samples=6)
    if isinstance(model, ConditionedModelConfig):
        encoder: Any = vars(model)["encoder"]
        encoder.pretrained = False
        # A batch norm of one source image has nothing to average over.
        set_where_there(encoder, norm="group")
        manager.rays_per_scene, manager.scenes_per_batch = 16, 1
        if isinstance(model, IDNeRFModelConfig):
            manager.dataparser = MVSNetDTUDataParserConfig(data=mvsnet, num_views=6, train_lights=(2,))
            manager.sources.pool, manager.targets.views = (), (0, 3)
        else:
            manager.dataparser, manager.sources.mode = SRNDataParserConfig(data=solids), "random"
            manager.sources.count, manager.num_sources = 1, (1,)
        return config
    manager.dataparser = RGBDDataParserConfig(data=rgbd)
    manager.train_num_rays_per_batch, manager.crop_steps = 32, 0
    pipeline.initial_points.source, pipeline.initial_points.num_random = "random", 60
    set_where_there(model, num_layers=3, num_octaves=3, skip_layer=1, proposal_resolution=6, proposal_width=16)
    set_where_there(model, plane_resolutions=(4, 8), plane_channels=4)
    if hasattr(model, "num_proposal_samples"):
        many = isinstance(model.num_proposal_samples, tuple)
        model.num_proposal_samples = (6, 6) if many else 6
    return config


def one_scene(config: Any) -> None:
    """Restricts a generalizable method to one training scene."""
    manager = config.pipeline.datamanager
    parser = manager.dataparser.setup()
    from fewshot_ns.data.multiscene.library import SceneLibrary

    manager.scenes = (SceneLibrary(parser, None, 2**20, 4).table("train")[0].scene_id,)

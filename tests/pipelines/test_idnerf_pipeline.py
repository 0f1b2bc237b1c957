"""ID-NeRF in the pipeline of many scenes: target views, distillation in a step, renderings of a camera."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch

pytest.importorskip("diffusers", reason="needs the extra 'priors'")

from tiny_diffusion import save_clip, save_diffusion  # noqa: E402

from fewshot_ns.configs.idnerf import idnerf, matchnerf  # noqa: E402
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig  # noqa: E402
from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a set of scenes, a diffusion model and an image encoder."""
    folder = tmp_path_factory.mktemp("idnerf")
    write_solids(
        folder / "set", SolidsConfig(objects=4, views=5, size=32, supersample=1, val_share=0.25, test_share=0.25)
    )
    save_diffusion(folder / "sd")
    save_clip(folder / "clip")
    return folder


def tiny(folder: Path, method: Any = idnerf) -> Any:
    config = deepcopy(method.pipeline)
    manager, model, prior = config.datamanager, config.model, config.diffusion
    manager.dataparser, manager.data = SRNDataParserConfig(data=folder / "set"), folder / "set"
    manager.num_sources, manager.sources.count, manager.rays_per_scene, manager.data_seed = (2,), 2, 8, 0
    manager.train_source_mode = "nearby"
    model.num_views, model.num_samples, model.width, model.encoder.pretrained = 2, 6, 16, False
    prior.weights, prior.image_encoder_weights = folder / "sd", folder / "clip"
    config.evaluation.metrics = ("psnr",)
    return config


def moved_parts(pipeline: Any, loss: torch.Tensor) -> set:
    """Parts of the model that a loss has a gradient for."""
    pipeline.model.zero_grad()
    loss.backward()
    named = pipeline.model.named_parameters()
    return {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.abs().sum() > 0}


def test_a_step_with_distillation(folder):
    pipeline = tiny(folder).setup(device="cpu", test_mode="val")
    _, losses, metrics = pipeline.get_train_loss_dict(0)
    assert set(losses) == {"rgb_loss", "diffusion"} and metrics["psnr"].isfinite()
    assert moved_parts(pipeline, losses["diffusion"]) == {"latent_inference"}
    losses = pipeline.get_train_loss_dict(1)[1]
    assert moved_parts(pipeline, losses["rgb_loss"]) >= {"feat_enc", "nerf_dec"}
    assert not any("unet" in name for name in pipeline.state_dict())


def test_semantic_prior_knows_no_latent_of_unseen_views(folder):
    config = tiny(folder)
    config.datamanager.scenes = (config.setup(device="cpu", test_mode="test").datamanager.active.scene.entry.scene_id,)
    config.semantic.enabled = True
    with pytest.raises(ValueError, match=r"--pipeline.semantic.enabled: .*--pipeline.model.refinement off"):
        config.setup(device="cpu", test_mode="val")


def test_several_scenes_in_a_step(folder):
    config = tiny(folder)
    config.datamanager.scenes_per_batch = 2
    pipeline = config.setup(device="cpu", test_mode="val")
    outputs, losses, _ = pipeline.get_train_loss_dict(0)
    assert outputs.rgb.shape == (16, 3) and pipeline.model.targets.latents.shape[0] == 2
    assert losses["diffusion"].isfinite()


def test_rays_of_many_views_have_no_latent(folder):
    config = tiny(folder)
    config.datamanager.target_views, config.datamanager.train_source_mode = None, "random"
    pipeline = config.setup(device="cpu", test_mode="val")
    with pytest.raises(RuntimeError, match="--pipeline.datamanager.target-views 1"):
        pipeline.get_train_loss_dict(0)


@pytest.mark.parametrize("method", [idnerf, matchnerf], ids=["idnerf", "matchnerf"])
def test_cameras_are_rendered_without_diffusion(folder, method, tmp_path):
    config = tiny(folder, method)
    config.diffusion.weights = tmp_path / "nowhere"
    pipeline = config.setup(device="cpu", test_mode="inference")
    pipeline.eval()
    camera = pipeline.datamanager.train_dataset.cameras[:1]
    outputs = pipeline.model.get_outputs_for_camera(camera)
    assert outputs["rgb"].shape == (32, 32, 3) and outputs["rgb"].isfinite().all()


def test_a_method_without_latent_has_renderings_of_one_scene(folder):
    config = tiny(folder, matchnerf)
    config.diffusion.enabled = True
    with pytest.raises(ValueError, match="--pipeline.diffusion.enabled: expected one scene to train on, found 2; name"):
        config.setup(device="cpu", test_mode="val")
    config.datamanager.scenes = (config.setup(device="cpu", test_mode="test").datamanager.active.scene.entry.scene_id,)
    config.diffusion.views.grid_size, config.diffusion.views.poses = 4, "training"
    pipeline = config.setup(device="cpu", test_mode="val")
    assert not pipeline.priors.all["diffusion"].on_latents
    losses = pipeline.get_train_loss_dict(0)[1]
    assert set(losses) == {"rgb_loss", "diffusion"}
    assert moved_parts(pipeline, losses["diffusion"]) >= {"nerf_dec"}


def test_switched_off_distillation_changes_nothing_else(folder, tmp_path):
    """The same step with and without: colours, colour loss and all gradients but the latent network's are the same."""

    def step(enabled: bool) -> Any:
        config = tiny(folder)
        config.diffusion.enabled = enabled
        if not enabled:
            config.diffusion.weights = config.diffusion.image_encoder_weights = tmp_path / "nowhere"
        torch.manual_seed(0)
        pipeline = config.setup(device="cpu", test_mode="val")
        torch.manual_seed(1)
        outputs, losses, _ = pipeline.get_train_loss_dict(0)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: value.grad for name, value in pipeline.model.named_parameters()}
        return outputs.rgb.detach(), losses, gradients, set(pipeline.state_dict())

    rgb, losses, gradients, names = step(True)
    plain_rgb, plain_losses, plain_gradients, plain_names = step(False)
    assert losses.keys() - plain_losses.keys() == {"diffusion"} and names == plain_names
    assert rgb.equal(plain_rgb) and losses["rgb_loss"].equal(plain_losses["rgb_loss"])
    differ = {
        name.split(".")[0]
        for name, value in plain_gradients.items()
        if (value is None) != (gradients[name] is None) or (value is not None and not value.equal(gradients[name]))
    }
    assert differ == {"latent_inference"}


def test_a_camera_path_encodes_every_pair_of_views_once(folder):
    """Forth and back between cameras that have source views of their own."""
    pipeline = tiny(folder).setup(device="cpu", test_mode="inference")
    pipeline.eval()
    cameras, encoder = pipeline.datamanager.train_dataset.cameras, pipeline.model.feat_enc
    manager = pipeline.datamanager
    pairs = {frozenset(manager.selector.sources_for(manager.active, pose)) for pose in cameras.camera_to_worlds}
    met, matched = [], encoder.matched
    encoder.matched = lambda maps: met.append(len(maps[0])) or matched(maps)

    def path(order: Any) -> Any:
        return [pipeline.model.get_outputs_for_camera(cameras[i : i + 1])["rgb"] for i in order]

    forth = path(range(len(cameras)))
    # The pipeline has conditioned the model on the first camera's sources when it was set up.
    assert len(met) == len(pairs) - 1 > 0
    back = path(reversed(range(len(cameras))))
    assert len(met) == len(pairs) - 1
    for one, other in zip(forth, reversed(back), strict=True):
        assert one.equal(other)
    with torch.no_grad():
        encoder.backbone.conv1.weight.mul_(1.5)
    assert not path([len(cameras) - 1])[0].equal(forth[-1]) and len(met) == len(pairs)

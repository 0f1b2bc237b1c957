"""A backbone that renders images, not rays (that of docs/add_a_method.md), under priors, through the real pipeline."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from documented_code import page_module
from tiny_clip import save_image_encoder

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.utils.cache import CACHE_ENV
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ModuleType]:
    with page_module("add_a_method.md", tmp_path) as module:
        yield module


@pytest.fixture
def method(page: ModuleType, tiny_rgbd_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The method on a tiny capture with depth of known scale, 40 blobs, no prior."""
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    config: Any = deepcopy(page.blobs)
    pipeline = config.pipeline
    pipeline.datamanager.dataparser = RGBDDataParserConfig(data=tiny_rgbd_scene)
    pipeline.datamanager.train_num_rays_per_batch, pipeline.model.num_blobs = 128, 40
    pipeline.model.size, pipeline.evaluation.metrics = 0.1, ("psnr",)
    pipeline.smoothness.num_patches, pipeline.smoothness.num_poses, pipeline.smoothness.patch_size = 2, 5, 4
    pipeline.depth.num_quads = 16
    config.output_dir, config.experiment_name, config.timestamp = tmp_path / "runs", "tiny", "run"
    config.vis, config.machine.device_type = "tensorboard", "cpu"
    return config


@pytest.fixture
def run() -> Callable[..., Any]:
    """Function (config, steps) -> trainer that has trained, and the loss terms of its first and last step."""

    def train(config: Any, steps: int) -> Any:
        config.max_num_iterations = steps
        torch.manual_seed(0)
        trainer = config.setup()
        trainer.setup()
        found, step_of = [], trainer.pipeline.get_train_loss_dict

        def recorded(step: int) -> Any:
            result = step_of(step)
            found.append({name: float(term.detach()) for name, term in result[1].items()})
            return result

        trainer.pipeline.get_train_loss_dict = recorded
        trainer.train()
        return trainer, found

    return train


def test_colours_alone(method: Any, run: Callable[..., Any]) -> None:
    trainer, losses = run(method, 60)
    assert all(step.keys() == {"rgb_loss"} for step in losses)
    assert losses[-1]["rgb_loss"] < 0.8 * losses[0]["rgb_loss"]
    camera, batch = trainer.pipeline.datamanager.next_eval_image(0)
    outputs = trainer.pipeline.model.get_outputs_for_camera(camera)
    assert outputs["rgb"].shape == (24, 32, 3) and outputs["depth"].shape == outputs["accumulation"].shape == (
        24,
        32,
        1,
    )
    assert trainer.pipeline.get_average_eval_image_metrics()["psnr"] > 0


def test_whole_images_go_on_in_the_middle_of_an_epoch(method: Any, run: Callable[..., Any]) -> None:
    method.pipeline.datamanager.whole_images = True
    method.pipeline.depth.enabled, method.pipeline.depth.loss = True, "l2"
    trainer, _ = run(deepcopy(method), 5)
    part = deepcopy(method)
    part.timestamp = "part"
    stopped, _ = run(part, 2)
    again = deepcopy(part)
    again.load_dir = stopped.checkpoint_dir
    resumed, losses = run(again, 5)
    assert len(losses) == 3 and resumed.clock.rays == trainer.clock.rays == 5 * 24 * 32
    expected, found = trainer.pipeline.state_dict(), resumed.pipeline.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """Folder of a tiny CLIP with random weights."""
    return save_image_encoder(tmp_path / "clip")


@pytest.mark.parametrize("prior", ["ranking", "l2", "smoothness", "semantic", "consistency"])
def test_under_priors(prior: str, method: Any, run: Callable[..., Any], encoder: Path) -> None:
    pipeline = method.pipeline
    terms = {"ranking": {"depth_ranking", "depth_continuity"}, "l2": {"depth_l2"}}
    terms |= {"smoothness": {"depth_smoothness"}, "semantic": {"semantic"}, "consistency": {"view_consistency"}}
    if prior in ("ranking", "l2"):
        pipeline.depth.enabled, pipeline.depth.loss = True, prior
        pipeline.depth.ranking_weight, pipeline.depth.metric.l2_weight = 1.0, 1.0
    else:
        getattr(pipeline, prior).enabled = True
    pipeline.smoothness.weight_start = pipeline.smoothness.weight_end = 1.0
    pipeline.consistency.weight, pipeline.consistency.views.grid_size = 1.0, 12
    pipeline.semantic.encoder.weights, pipeline.semantic.views.grid_size, pipeline.semantic.interval = encoder, 8, 1
    trainer, losses = run(method, 40)
    assert all(step.keys() == {"rgb_loss", *terms[prior]} for step in losses)
    if prior in ("l2", "smoothness"):
        (name,) = terms[prior]
        assert losses[-1][name] < losses[0][name]
    # The term alone reaches the blobs: depth moves them, the encoder colours them.
    pipe = trainer.pipeline
    pipe.model.zero_grad()
    _, last, _ = pipe.get_train_loss_dict(40)
    torch.stack([term for name, term in last.items() if name != "rgb_loss"]).sum().backward()
    reached = pipe.model.blobs["colours" if prior == "semantic" else "means"].grad
    assert reached is not None and reached.abs().sum() > 0


def test_what_it_cannot_serve_is_refused(method: Any) -> None:
    method.pipeline.depth.enabled, method.pipeline.depth.loss = True, "cdf"
    reason = r"loss cdf bounds weights along rays, and BlobModel has no samples along rays"
    with pytest.raises(ValueError, match=rf"{reason}; use --pipeline.depth.loss l2 or ranking"):
        method.pipeline.setup(device="cpu", test_mode="val")
    method.pipeline.depth.enabled, method.pipeline.occlusion.enabled = False, True
    with pytest.raises(ValueError, match=r"BlobModel has no densities along rays; splats have dropout"):
        method.pipeline.setup(device="cpu", test_mode="val")


def test_forward_facing_scenes_are_taken_as_metric_ones(method: Any, tiny_llff_scene: Path) -> None:
    # nerfstudio keeps the folder of the scene in the config of the datamanager.
    method.pipeline.datamanager.data = None
    method.pipeline.datamanager.dataparser = LLFFDataParserConfig(data=tiny_llff_scene)
    assert method.pipeline.datamanager.dataparser.ray_space == "ndc"
    assert method.pipeline.setup(device="cpu", test_mode="val").model.geometry.ray_space == "metric"


def test_pixels_are_those_of_the_images(method: Any) -> None:
    pipeline = method.pipeline.setup(device="cpu", test_mode="val")
    cameras, model = pipeline.datamanager.train_dataset.cameras, pipeline.model
    pixels = torch.stack([torch.randint(end, (50,)) for end in (3, 24, 32)], dim=-1)
    images = model.render_cameras(cameras)
    assert images.shape == (3, 24, 32)
    expected = images.map(lambda value: value[pixels[:, 0], pixels[:, 1], pixels[:, 2]])
    found: Rendering = model.render_pixels(cameras, pixels)
    for name in ("rgb", "depth", "accumulation", "distance"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
    # Distance is planar, depth along the unit ray.
    rays = cameras.generate_rays(camera_indices=pixels[:, :1], coords=pixels[:, 1:] + 0.5)
    torch.testing.assert_close(found.depth, found.distance * rays.metadata["directions_norm"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("careful", [True, False])
def test_a_run_resumes_with_another_number_of_blobs(
    careful: bool, page: ModuleType, method: Any, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not careful:

        def always_new(model: Any, state: Any) -> None:
            for name, old in model.blobs.items():
                model.blobs[name] = torch.nn.Parameter(torch.zeros_like(state[f"blobs.{name}"], device=old.device))

        monkeypatch.setattr(page.BlobModel, "resize_for", always_new)
    trainer, _ = run(method, 4)
    model, optimizer = trainer.pipeline.model, trainer.optimizers.optimizers["blobs"]
    # What a densification does: half of the blobs once more, in the model and in the optimizer's state.
    for group, (name, old) in zip(list(range(4)), list(model.blobs.items()), strict=True):
        new = torch.nn.Parameter(torch.cat([old.detach(), old.detach()[:20] + 0.01]))
        state = optimizer.state.pop(old)
        grown = {key: torch.cat([value, value[:20]]) if value.ndim else value for key, value in state.items()}
        optimizer.state[new], optimizer.param_groups[0]["params"][group] = grown, new
        model.blobs[name] = new
    # Gradients of the new parameters are checked and stepped, under their own names.
    _, losses, _ = trainer.pipeline.get_train_loss_dict(4)
    losses["rgb_loss"].backward()
    trainer.optimizers.optimizer_scaler_step_some(trainer.grad_scaler, ["blobs"])
    trainer._last_step = 4
    trainer.save_checkpoint(4)
    saved = {name: value.detach().clone() for name, value in model.blobs.items()}
    again = deepcopy(method)
    again.load_dir, again.timestamp = trainer.checkpoint_dir, "again"
    resumed, losses = run(again, 8)
    assert len(losses) == 3
    assert {len(value) for value in resumed.pipeline.model.blobs.values()} == {60}
    moved = [not torch.equal(saved[name], value) for name, value in resumed.pipeline.model.blobs.items()]
    assert all(moved)
    optimized = resumed.optimizers.optimizers["blobs"].param_groups[0]["params"]
    assert {id(value) for value in optimized} == {id(value) for value in resumed.pipeline.model.blobs.values()}
    momenta = resumed.optimizers.optimizers["blobs"].state
    assert {len(momenta[value]["exp_avg"]) for value in resumed.pipeline.model.blobs.values()} == {60}


def test_a_backbone_that_does_not_resize_refuses(
    page: ModuleType, method: Any, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = run(method, 2)
    monkeypatch.setattr(page.BlobModel, "resizes_for_checkpoints", False)
    again = deepcopy(method)
    again.load_dir, again.timestamp, again.pipeline.model.num_blobs = trainer.checkpoint_dir, "again", 41
    with pytest.raises(CheckpointMismatchError, match=r"of another shape"):
        run(again, 3)


def test_it_starts_from_points_of_the_scene(method: Any) -> None:
    from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

    parser = type(method.pipeline.datamanager.dataparser.setup())
    points = torch.rand(30, 3)
    plain = parser.get_dataparser_outputs

    def with_points(self: Any, *args: Any, **kwargs: Any) -> DataparserOutputs:
        outputs = plain(self, *args, **kwargs)
        outputs.metadata["points3D_xyz"] = points
        outputs.metadata["points3D_rgb"] = torch.full((30, 3), 128, dtype=torch.uint8)
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "get_dataparser_outputs", with_points)
        model = method.pipeline.setup(device="cpu", test_mode="val").model
    torch.testing.assert_close(model.blobs["means"].detach(), points)
    torch.testing.assert_close(model.blobs["colours"].detach().sigmoid(), torch.full((30, 3), 128 / 255))

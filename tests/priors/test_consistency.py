"""The consistency prior: right points in every ray space, what takes the gradient, depth maps, and training."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.optimizers import Optimizers
from prior_scenes import context_of, pixels_of, scene_of
from torch import Tensor

from fewshot_ns.cameras.ray_space import camera_rays, ray_parameter, to_model_rays, world_distance
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.base import CameraRequest
from fewshot_ns.priors.consistency import ConsistencyPrior, ConsistencyPriorConfig
from fewshot_ns.priors.unseen_views import UnseenViewsConfig

PLANE_Z = -4.0
"""Where the plane of all tiny scenes lies."""
MILLIMETRES = 300.0
"""Units of the files of the tiny DTU scene per unit of the others."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_pipeline(tiny_pipeline_config: Any) -> Callable[..., Any]:
    """Function (config of a dataparser, fields of the prior) -> tiny pipeline with this prior alone."""

    def make(dataparser: Any, **fields: Any) -> Any:
        config = tiny_pipeline_config(dataparser)
        config.depth.enabled = config.distortion.enabled = config.plane_smoothness.enabled = False
        views = UnseenViewsConfig(grid_size=8, pool="photographed", box_training_only=True)
        config.consistency = ConsistencyPriorConfig(**{"enabled": True, "num_views": 3, "views": views, **fields})
        return config.setup(device="cpu", test_mode="val")

    return make


def true_pixels(prior: ConsistencyPrior, cameras: Cameras, scale: float | Tensor = 1.0) -> Rendering:
    """What a field that equals the scene renders for cameras (B,); depth is scaled in the ray space.

    The way from the plane to `depth` leads through the ray parameter, as in a ray backbone.
    """
    geometry, dataset = prior.scene.geometry, prior.scene.dataset
    bundle = camera_rays(cameras, geometry)
    rays, flat = to_model_rays(bundle.flatten(), geometry), bundle.flatten()
    unit = MILLIMETRES if geometry.origin_plane_z is not None else 1.0
    to_world, scale_of_files = dataset.file_to_world, dataset.world_scale
    normal = to_world[:, 2]
    on_plane = scale_of_files * (to_world[:, :3] @ torch.tensor([0.0, 0.0, unit * PLANE_Z]) + to_world[:, 3])
    distance = ((on_plane - flat.origins) @ normal / (flat.directions @ normal))[:, None]
    points = flat.origins + distance * flat.directions
    x, y, z = ((points / scale_of_files - to_world[:, 3]) @ to_world[:, :3] / unit).unbind(-1)
    texture = torch.stack([(3 * x).sin(), (4 * y).cos(), (2 * (x + y + z)).sin()], dim=-1)
    t = ray_parameter(distance, rays, geometry) * scale
    depth = world_distance(t, rays, geometry)
    return Rendering(0.5 + 0.5 * texture, depth, torch.ones_like(depth), t).reshape(*bundle.shape)


@pytest.fixture(params=["ndc", "metric", "rgbd", "plane"])
def dataparser(request: pytest.FixtureRequest, make_dtu_scene: Callable[..., Path], tmp_path: Path) -> Any:
    """Scenes in NDC, metric ones without and with depth of known scale, and one whose rays start at a plane."""
    if request.param == "rgbd":
        return RGBDDataParserConfig(data=request.getfixturevalue("tiny_rgbd_scene"))
    if request.param == "plane":
        return DTUDataParserConfig(data=make_dtu_scene(tmp_path / "dtu", size=(36, 48)))
    return LLFFDataParserConfig(data=request.getfixturevalue("tiny_llff_scene"), ray_space=request.param)


def term(prior: ConsistencyPrior, rendering: Rendering) -> Tensor:
    losses = prior.loss_dict(0, context_of(pixels_of(torch.ones(5, 1)), rendering))
    assert set(losses) == {"view_consistency"}
    return losses["view_consistency"]


def test_the_true_scene_agrees_with_its_photos(make_pipeline: Any, dataparser: Any) -> None:
    prior = make_pipeline(dataparser, weight=1.0).priors.all["consistency"]
    request = prior.request(0)
    assert isinstance(request, CameraRequest) and request.cameras.shape == (3,)
    true = float(term(prior, true_pixels(prior, request.cameras)))
    near = float(term(prior, true_pixels(prior, request.cameras, 0.7)))
    assert true < 0.02 and near > 3 * true


def test_depth_is_found_by_the_term_alone(make_pipeline: Any, dataparser: Any) -> None:
    prior = make_pipeline(dataparser, weight=1.0, target="depth").priors.all["consistency"]
    cameras = prior.request(0).cameras
    scale = torch.tensor(0.9, requires_grad=True)
    optimizer = torch.optim.Adam([scale], lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        term(prior, true_pixels(prior, cameras, scale)).backward()
        optimizer.step()
    assert float(scale.detach()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("target, moved", [("depth", "depth"), ("colour", "rgb"), ("both", "depth rgb")])
def test_what_takes_the_gradient(target: str, moved: str, make_pipeline: Any, tiny_llff_scene: Path) -> None:
    prior = make_pipeline(LLFFDataParserConfig(data=tiny_llff_scene), target=target).priors.all["consistency"]
    plain = true_pixels(prior, prior.request(0).cameras, 0.95)
    values = {name: getattr(plain, name).clone().requires_grad_() for name in ("rgb", "depth", "accumulation")}
    term(prior, replace(plain, **values)).backward()
    assert [name for name, value in values.items() if value.grad is not None and value.grad.any()] == sorted(
        moved.split(), key=list(values).index
    )


def test_weight_fade_and_opacity_scale_the_term(make_pipeline: Any, tiny_rgbd_scene: Path) -> None:
    fields: Dict[str, Any] = {"weight": 2.0, "fade_start_step": 0, "fade_end_step": 10, "fade_ratio": 0.0}
    prior = make_pipeline(RGBDDataParserConfig(data=tiny_rgbd_scene), **fields).priors.all["consistency"]
    pixels = true_pixels(prior, prior.request(0).cameras, 0.8)
    once = float(term(prior, pixels))
    for step, factor in ((0, 1.0), (5, 0.5), (10, 0.0)):
        faded = prior.loss_dict(step, context_of(pixels_of(torch.ones(5, 1)), pixels))["view_consistency"]
        assert float(faded) == pytest.approx(factor * once)
    half = replace(pixels, accumulation=0.5 * pixels.accumulation)
    assert float(term(prior, half)) == pytest.approx(0.5 * once)


def test_depth_maps_of_known_scale_hide_what_lies_behind(make_pipeline: Any, tiny_rgbd_scene: Path) -> None:
    parser = RGBDDataParserConfig(data=tiny_rgbd_scene)
    prior = make_pipeline(parser, weight=1.0).priors.all["consistency"]
    assert prior.resolved()["photos_with_depth"] == prior.resolved()["photos"] == 3
    cameras = prior.request(0).cameras
    hidden, before = (float(term(prior, true_pixels(prior, cameras, scale))) for scale in (1.2, 0.8))
    assert hidden == 0.0 < before
    blind = make_pipeline(parser, weight=1.0, use_depth_maps=False).priors.all["consistency"]
    blind.request(0)
    assert blind.resolved()["photos_with_depth"] == 0
    assert all(limit.isinf().all() for limit in blind.farthest)
    lenient = make_pipeline(parser, weight=1.0, tolerance=0.5).priors.all["consistency"]
    for other in (blind, lenient):
        cameras = other.request(0).cameras
        assert float(term(other, true_pixels(other, cameras, 1.2))) > 0.0


def test_scenes_without_depth_of_known_scale(make_pipeline: Any, tiny_llff_scene: Path) -> None:
    """Inverse depth has no scale, and no maps at all do no harm."""
    parser = LLFFDataParserConfig(data=tiny_llff_scene)
    for _ in range(2):
        pipeline = make_pipeline(parser)
        assert pipeline.resolved()["consistency"] == {
            "poses": "box",
            "pool": 3,
            "photos": 3,
            "photos_with_depth": 0,
        }
        shutil.rmtree(tiny_llff_scene / "depth_maps", ignore_errors=True)


def test_maps_that_an_earlier_prior_brings_are_used(make_pipeline: Any, tiny_llff_scene: Path, tmp_path: Path) -> None:
    pipeline = make_pipeline(LLFFDataParserConfig(data=tiny_llff_scene))
    old, dataset = pipeline.priors.all["consistency"], pipeline.datamanager.train_dataset
    files: List[Path] = []
    for index in range(3):
        depth = np.full(dataset.size_of(index), 2.0, dtype=np.float32)
        depth[0] = 0.0
        files.append(tmp_path / f"{index}.npz")
        np.savez(files[-1], depth=depth, sigma=np.full_like(depth, 0.25))
    dataset.use_depth_maps(files, DepthEncoding("distance", "z_depth", unit=1.5))
    prior = old.config.setup(scene=old.scene, name="consistency")
    prior.prepare()
    assert prior.resolved()["photos_with_depth"] == 3
    for limit in prior.farthest:
        assert limit[0].isinf().all()
        torch.testing.assert_close(limit[1:], torch.full_like(limit[1:], 3.0 * 1.05 + 0.375))


@pytest.mark.parametrize("kind", ["ndc", "metric", "blender"])
def test_two_steps_of_training(kind: str, make_pipeline: Any, tiny_llff_scene: Path, tiny_blender_scene: Path) -> None:
    if kind == "blender":
        parser: Any = FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3)
    else:
        parser = LLFFDataParserConfig(data=tiny_llff_scene, ray_space=kind)  # type: ignore[arg-type]
    pipeline = make_pipeline(parser)
    assert pipeline.resolved()["consistency"]["poses"] == ("hemisphere" if kind == "blender" else "box")
    optimizers = Optimizers(deepcopy(sparsenerf_lite.optimizers), pipeline.get_param_groups())
    for step in range(2):
        pipeline.model.update_to_step(step)
        _, losses, _ = pipeline.get_train_loss_dict(step)
        assert losses["view_consistency"].isfinite() and losses["view_consistency"] >= 0
        optimizers.zero_grad_all()
        # The term alone reaches the field.
        losses["view_consistency"].backward()
        grads = [value.grad for group in pipeline.get_param_groups().values() for value in group]
        assert any(grad is not None and grad.any() for grad in grads)
        assert all(grad is None or grad.isfinite().all() for grad in grads)
        optimizers.optimizer_step_all()


def test_each_step_asks_for_views_of_their_own(make_pipeline: Any, tiny_blender_scene: Path) -> None:
    views = UnseenViewsConfig(grid_size=6, grid="crop", poses="interpolate", pool="photographed")
    parser = FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3)
    prior = make_pipeline(parser, views=views, num_views=5).priors.all["consistency"]
    first, second = (prior.request(step) for step in range(2))
    assert first.cameras.shape == (5,) and first.cameras.height.unique().tolist() == [6]
    poses = torch.cat([first.cameras.camera_to_worlds, second.cameras.camera_to_worlds])
    centres = torch.cat([first.cameras.cx, second.cameras.cx])
    assert len(poses.unique(dim=0)) > 5 and len(centres.unique()) > 2
    # Every fourth pixel or so is rendered with the footprint of one.
    alone = prior.views.draw()
    assert first.footprint_scale == alone.footprint_scale
    torch.testing.assert_close(first.cameras.fx, alone.cameras.fx.expand(5, 1))


def test_what_it_needs_and_refuses(make_pipeline: Any, tiny_nerfstudio_scene: Path) -> None:
    def make(**fields: Any) -> ConsistencyPrior:
        return ConsistencyPriorConfig(enabled=True, **fields).setup(scene=scene_of(), name="consistency")

    needs = make().needs
    assert set(needs.served) == {"unseen_views"} and needs.request == "cameras" and needs.single_scene
    assert make().request(0) is None and make().loss_dict(0, context_of(pixels_of(torch.ones(1, 1)))) == {}
    assert not ConsistencyPriorConfig().enabled and ConsistencyPriorConfig().scene_files() == frozenset()
    for field, value in (("num_views", 0), ("weight", -0.1), ("tolerance", -1.0)):
        with pytest.raises(ValueError, match=f"--pipeline.consistency.{field.replace('_', '-')} of at least"):
            make(**{field: value})
    path = tiny_nerfstudio_scene / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf8")), "k1": 0.1}), "utf8")
    with pytest.raises(ValueError, match="expected photos of pinhole cameras.*undistort the photos"):
        make_pipeline(FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene))

"""pixelNeRF shown one photo: what it renders is what the run's own pipeline renders of the same view and image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch

from fewshot_ns.cameras.poses import homogeneous
from fewshot_ns.cameras.turntable import ObjectCamera, turntable
from fewshot_ns.model_components.pixelnerf_draws import Draws
from fewshot_ns.models.one_photo import model_of_photos, show_photo

CAMERA = ObjectCamera(size=16, focal=16.4)


@pytest.fixture
def pipeline(tiny_pixelnerf: Callable[..., Any]) -> Any:
    torch.manual_seed(0)
    pipeline: Any = tiny_pixelnerf().setup(device="cpu", test_mode="test")
    for parameter in pipeline.model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return pipeline.eval()


@pytest.fixture
def checkpoint(pipeline: Any, tmp_path: Path) -> Path:
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"step": 1, "pipeline": pipeline.state_dict()}, path)
    return path


@torch.no_grad()
def test_it_renders_what_the_pipeline_renders(pipeline: Any, checkpoint: Path):
    provider, scene = pipeline.datamanager.provider, pipeline.datamanager.active.scene
    source, target = scene.cameras.camera_to_worlds[:2].double().numpy()
    conditioning = pipeline.datamanager.selector.load_sources(pipeline.datamanager.active, (0,))
    conditioning = replace(
        conditioning, intrinsics=torch.tensor(CAMERA.intrinsics())[None, None], near=torch.tensor([CAMERA.near])
    )
    pipeline.model.sources_from = None
    pipeline.model.condition(conditioning)
    expected = pipeline.model.get_outputs_for_camera(CAMERA.cameras(target[None])[0:1])
    assert provider.active.scene is scene and expected["accumulation"].std() > 1e-3

    model = model_of_photos(pipeline.config.model, checkpoint, CAMERA, "white", "cpu")
    (pose,) = turntable(CAMERA.radius, 25.0)
    image = conditioning.images[0, 0].numpy()
    show_photo(model, image, CAMERA, pose, "white")
    # The same two cameras in another world, in which the source stands where the photo's does.
    moved = homogeneous(pose) @ np.linalg.inv(homogeneous(source)) @ homogeneous(target)
    found = model.get_outputs_for_camera(CAMERA.cameras(moved[None, :3])[0:1])
    for name in ("rgb", "depth", "accumulation"):
        torch.testing.assert_close(found[name], expected[name], atol=2e-4, rtol=1e-3)
    assert not model.training


@torch.no_grad()
@pytest.mark.parametrize("background", ["white", "black"])
def test_the_background_is_the_one_that_is_asked_for(pipeline: Any, checkpoint: Path, background: Any):
    model: Any = model_of_photos(pipeline.config.model, checkpoint, CAMERA, background, "cpu")
    (pose,) = turntable(CAMERA.radius, 0.0)
    for network in (model.mlp_coarse, model.mlp_fine):
        network.lin_out.weight.zero_()
        network.lin_out.bias.fill_(-30.0)
    show_photo(model, np.full((16, 16, 3), 0.5, np.float32), CAMERA, pose, background)
    rgb = model.get_outputs_for_camera(CAMERA.cameras(pose[None])[0:1])["rgb"]
    torch.testing.assert_close(rgb, torch.full_like(rgb, float(background == "white")))


@torch.no_grad()
@pytest.mark.parametrize("coarse_only", [False, True])
def test_points_have_the_densities_and_colours_of_renderings(pipeline: Any, checkpoint: Path, coarse_only: bool):
    model = model_of_photos(pipeline.config.model, checkpoint, CAMERA, "white", "cpu")
    model.config = replace(model.config, eval_coarse_only=coarse_only)
    (pose,) = turntable(CAMERA.radius, 10.0)
    show_photo(model, np.random.default_rng(0).random((16, 16, 3), np.float32), CAMERA, pose, "white")
    origins = torch.from_numpy(pose[:, 3]).float().expand(5, 3)
    directions = torch.nn.functional.normalize(-origins + 0.1 * torch.randn(5, 3), dim=-1)
    near, far = torch.full((5, 1), CAMERA.near), torch.full((5, 1), CAMERA.far)
    draws = Draws.even(near, model._counts())
    level = model.levels_of(origins, directions, near, far, torch.zeros(5, dtype=torch.long), draws)[""]
    points = origins[:, None] + level["z"][..., None] * directions[:, None]
    density, rgb = model.query_points(points.flatten(0, 1), directions[:, None].expand_as(points).reshape(-1, 3))
    torch.testing.assert_close(density.view_as(level["density"]), level["density"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(rgb.view_as(level["sample_rgb"]), level["sample_rgb"], atol=1e-4, rtol=1e-3)

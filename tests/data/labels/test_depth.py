"""Measured depth of training rays: ray parameter, width and slope, in the world and in NDC, and what uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.cameras.ray_space import attach_radii, camera_rays, concatenate_rays, to_model_rays, world_distance
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.labels import depth_labels
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModelConfig

SMALL: Dict[str, Any] = dict(
    width=16, num_layers=3, skip_layer=1, num_octaves=3, proposal_width=16, num_proposal_layers=2
)


def metric_scene(scene: Path) -> LLFFDataParserConfig:
    """The tiny scene with depth of known scale in .npz maps, whose standard deviation is a fiftieth of it."""
    maps = scene / "metric_maps"
    maps.mkdir()
    for photo in sorted((scene / "images_4").iterdir()):
        height, width = cv2.imread(str(photo)).shape[:2]
        depth = np.linspace(5.0, 9.0, height * width).reshape(height, width).astype(np.float32)
        depth[0] = 0.0
        np.savez(maps / f"{photo.stem}.npz", depth=depth, sigma=depth / 50)
    return LLFFDataParserConfig(data=scene, depth_dir=maps, depth_polarity="distance", depth_unit=1.0)


@pytest.mark.parametrize("space", ["ndc", "metric"])
def test_labels(tiny_llff_scene: Path, space: Any) -> None:
    config = replace(metric_scene(tiny_llff_scene), ray_space=space)
    dataset = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    geometry = dataset.fewshot.geometry
    assert geometry.ray_space == space
    for view, label in enumerate(depth_labels(dataset)):
        depth = dataset.metric_depth(view)
        at, sigma, slope = label.unbind(-1)
        assert not at[0].any() and not sigma[0].any() and (slope[0] == 1).all()
        torch.testing.assert_close(sigma[1:], torch.as_tensor(depth.z_depth)[1:] / 50)
        bundle = dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
        rays = to_model_rays(attach_radii(bundle, geometry).flatten(), geometry)

        def distance(t: torch.Tensor) -> np.ndarray:
            found = world_distance(t.reshape(-1, 1), rays, geometry)  # noqa: B023 - called in this round of the loop
            return found.reshape(t.shape).numpy()

        np.testing.assert_allclose(distance(at)[1:], depth.ray_distance[1:], rtol=1e-4)
        # A step along the ray by the slope is a step in planar depth.
        step = 0.01 * depth.z_depth
        moved = distance(at + slope * torch.as_tensor(step))
        np.testing.assert_allclose(moved[1:], (depth.z_depth + step)[1:] * depth.norms[1:], rtol=1e-3)


def test_labels_reach_the_sampler_beside_unseen_views(tiny_llff_scene: Path, tiny_pipeline_config: Any) -> None:
    config = tiny_pipeline_config(metric_scene(tiny_llff_scene))
    config.depth.loss, config.smoothness.enabled = "cdf", True
    smooth = config.smoothness
    smooth.patch_size, smooth.num_patches, smooth.num_poses, smooth.factor = 4, 2, 5, 1.0
    config.model = DepthMipNeRFModelConfig(num_proposal_samples=(12, 8), num_samples=8, depth_guided_samples=8, **SMALL)
    config.plane_smoothness.enabled = False
    pipeline = config.setup(device="cpu", test_mode="val")
    bundle, batch = pipeline.datamanager.next_train(0)
    geometry = pipeline.model.geometry
    (patches,) = pipeline.priors.requests(0, "cameras").values()
    unseen = camera_rays(patches.cameras, geometry).flatten()
    assert len(unseen) == 32
    rays = to_model_rays(concatenate_rays(bundle, unseen), geometry)
    assert rays.measured is not None and rays.measured.shape == (96, 2)
    assert torch.equal(rays.measured[:64, :1], batch["depth"]) and not rays.measured[64:, 0].any()
    pipeline.train()
    t = pipeline.model.render_rays(rays)["t_proposal_0"]
    width = 4 * pipeline.model.log_depth_spread.exp() * rays.measured[:, 1:]
    close = ((t - rays.measured[:, :1]).abs() < width).sum(-1)
    known = rays.measured[:, 0] > 0
    assert (close[known] >= 7).all()
    _, losses, _ = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()
    gradients = [value.grad for value in pipeline.model.parameters() if value.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert pipeline.model.log_depth_spread.grad is not None

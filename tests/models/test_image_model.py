"""Backbones that render whole images: pixels of cameras, of any size, and what they refuse."""

from __future__ import annotations

from typing import Any, List

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.model_components.rendering import Rendering, RenderOptions
from fewshot_ns.models.fewshot_model import StepRenderings
from fewshot_ns.models.image_model import ImageModel, ImageModelConfig
from fewshot_ns.priors.base import CameraRequest


class Labelled(ImageModel):
    """Shows in each pixel the place of its camera, its row and its column, times a weight that learns."""

    def populate_modules(self) -> None:
        super().populate_modules()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.asked: List[int] = []

    def render_cameras(self, cameras: Cameras, options: RenderOptions = RenderOptions()) -> Rendering:  # noqa: B008
        height, width = int(cameras.height[0]), int(cameras.width[0])
        assert (cameras.height == height).all() and (cameras.width == width).all(), "images of one size"
        self.asked.append(len(cameras))
        place = cameras.camera_to_worlds[:, 0, 3]
        parts = torch.meshgrid(place, torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
        rgb = self.scale * torch.stack(parts, dim=-1).float()
        return Rendering(rgb, rgb[..., :1], torch.ones_like(rgb[..., :1]), rgb[..., 2:])


def build(geometry: SceneGeometry = SceneGeometry("metric", 2.0, 6.0)) -> Labelled:  # noqa: B008
    record = FewShotMetadata(geometry, "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    config = ImageModelConfig(_target=Labelled)
    return config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})


def cameras() -> Cameras:
    """Five views of two sizes, at x = 0, 10, 20, ..."""
    poses = torch.eye(4)[:3].repeat(5, 1, 1)
    poses[:, 0, 3] = 10.0 * torch.arange(5)
    height, width = torch.tensor([4, 6, 4, 6, 4])[:, None], torch.tensor([7, 5, 7, 5, 7])[:, None]
    return Cameras(poses, 10.0, 10.0, 3.0, 2.0, width, height)


def expected_of(pixels: Tensor) -> Tensor:
    return torch.stack([10 * pixels[:, 0], pixels[:, 1], pixels[:, 2]], dim=-1).float()


def test_pixels_come_in_the_order_asked_for() -> None:
    model = build()
    pixels = torch.tensor([[3, 5, 4], [0, 3, 6], [2, 0, 0], [1, 2, 3], [0, 0, 1], [3, 0, 0], [3, 5, 4]])
    found = model.render_pixels(cameras(), pixels)
    assert torch.equal(found.rgb, expected_of(pixels))
    assert torch.equal(found.distance, pixels[:, 2:].float()) and found.shape == (7,)
    # Each view once, those of one size together, and none that nobody asked for.
    assert sorted(model.asked) == [2, 2]


def test_a_step_renders_photos_and_views() -> None:
    model, pixels = build().train(), torch.tensor([[4, 1, 2], [0, 3, 3]])
    bundle: Any = None
    views = [CameraRequest(cameras()[1:2]), CameraRequest(cameras()[torch.tensor([0, 2])])]
    step = model(bundle, (cameras(), pixels), views)
    assert isinstance(step, StepRenderings) and torch.equal(step.photos.rgb, expected_of(pixels))
    assert [view.shape for view in step.views] == [(1, 6, 5), (2, 4, 7)]
    step.views[1].rgb.sum().backward()
    assert model.scale.grad is not None and model.scale.grad > 0


def test_images_as_nerfstudio_asks_for_them() -> None:
    outputs = build().eval().get_outputs_for_camera(cameras()[1:2])
    assert {name: value.shape for name, value in outputs.items()} == {
        "rgb": (6, 5, 3),
        "depth": (6, 5, 1),
        "accumulation": (6, 5, 1),
    }
    assert outputs["rgb"].max() == 1 and outputs["depth"].max() == 10 and not outputs["rgb"].requires_grad


def test_rays_and_ndc_are_refused() -> None:
    model = build()
    with pytest.raises(ValueError, match="Labelled renders images, not rays"):
        model.get_outputs(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Labelled .* this scene is in NDC; give the dataparser's --ray-space metric"):
        build(SceneGeometry("ndc", 0.0, 1.0, ndc_focal=(1.0, 1.0)))
    assert model.why_not("samples") == "Labelled has no samples along rays" and model.why_not("unseen_views") is None

"""What all few-shot models share: names and shapes of the outputs, world depth, annealing."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.ray_space import (
    ModelRays,
    attach_radii,
    camera_rays,
    ray_bounds,
    scene_focus,
    scene_radius,
    to_model_rays,
    world_distance,
)
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.model_components.curricula import FrequencyMaskConfig, NearFarAnnealingConfig
from fewshot_ns.model_components.rendering import Rendering, RenderOptions
from fewshot_ns.models.fewshot_model import FewShotModelConfig, StepRenderings
from fewshot_ns.models.ray_model import RayModel, RayModelConfig
from fewshot_ns.priors.base import CameraRequest


@pytest.fixture(params=["ndc", "metric", "plane"])
def outputs(request: pytest.FixtureRequest) -> Any:
    """Parsed scene in NDC, in the world, and in the world with origins moved to a plane."""
    if request.param == "plane":
        config: Any = DTUDataParserConfig(data=request.getfixturevalue("tiny_dtu_scene"))
    else:
        config = LLFFDataParserConfig(data=request.getfixturevalue("tiny_llff_scene"), ray_space=request.param)
    return config.setup().get_dataparser_outputs("train")


@pytest.fixture
def model(outputs: Any, tiny_pipeline_config: Any) -> RayModel:
    config = tiny_pipeline_config(None).model
    model = config.setup(scene_box=outputs.scene_box, num_train_data=len(outputs.cameras), metadata=outputs.metadata)
    model.set_scene(outputs.cameras)
    return model


def bundle_of(cameras: Cameras, geometry: Any, view: int = 0) -> Any:
    return attach_radii(cameras.generate_rays(camera_indices=view, keep_shape=True), geometry).flatten()


def test_training_outputs(model: RayModel, outputs: Any) -> None:
    bundle = bundle_of(outputs.cameras, model.geometry)[:50]
    torch.manual_seed(0)
    rendered = model.train().render_training_rays(bundle)
    samples = rendered.samples
    assert samples is not None and rendered.shape == (50,) and rendered.viewdirs is not None
    values = {"rgb": 3, "depth": 1, "accumulation": 1, "distance": 1, "viewdirs": 3}
    for name, channels in values.items():
        assert getattr(rendered, name).shape == (50, channels) and getattr(rendered, name).isfinite().all(), name
    assert samples.weights.shape[0] == 50 and samples.t.shape[1] == samples.weights.shape[1] + 1
    assert (rendered.depth >= 0).all() and (rendered.accumulation <= 1 + 1e-5).all()
    assert (rendered.distance >= samples.t[:, :1]).all()
    # By nerfstudio's way the same, as a dict.
    torch.manual_seed(0)
    asked = model(bundle)
    for name in ("rgb", "depth", "accumulation"):
        assert torch.equal(asked[name], getattr(rendered, name)), name


def test_what_the_scene_says_is_kept(model: RayModel, outputs: Any) -> None:
    focus = scene_focus(outputs.cameras, model.geometry)
    torch.testing.assert_close(model.focus_point, focus.float())
    torch.testing.assert_close(model.scene_radius, torch.tensor(scene_radius(outputs.cameras, focus)))
    torch.testing.assert_close(model.ray_bounds, ray_bounds(outputs.cameras, model.geometry))


def test_a_step_renders_photos_and_views_together(model: RayModel, outputs: Any) -> None:
    """Each part is what it is alone, where no random number is drawn."""
    model.config.stratified = False
    model.random_background = False  # type: ignore[assignment]
    model.train().update_to_step(7)
    # Every second pixel of each side of a view that is not there, and all of two others.
    strided = outputs.cameras[1:2]
    strided.rescale_output_resolution(0.5)
    requests = [CameraRequest(strided, 0.5), CameraRequest(outputs.cameras[torch.tensor([0, 2])])]
    pixels = torch.tensor([[0, 1, 2], [2, 5, 3], [1, 0, 0]])
    bundle = attach_radii(outputs.cameras.generate_rays(camera_indices=0, keep_shape=True), model.geometry)
    bundle = bundle.flatten()[:3]
    step = model(bundle, (outputs.cameras, pixels), requests)
    assert isinstance(step, StepRenderings) and [view.shape for view in step.views] == [
        (len(view.cameras), int(view.cameras.height[0]), int(view.cameras.width[0])) for view in requests
    ]
    close: Any = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(step.photos.rgb, model.render_training_rays(bundle).rgb, **close)
    for request, found in zip(requests, step.views, strict=True):
        rays = camera_rays(request.cameras, model.geometry, request.footprint_scale)
        alone = model.render_training_rays(rays.flatten()).reshape(*rays.shape)
        assert alone.samples is not None and found.samples is not None
        torch.testing.assert_close(found.rgb, alone.rgb, **close)
        torch.testing.assert_close(found.samples.t, alone.samples.t, **close)
    nothing = model(bundle, (outputs.cameras, pixels), ())
    assert nothing.views == [] and torch.allclose(nothing.photos.rgb, step.photos.rgb, **close)
    step.views[1].depth.sum().backward()
    assert any(value.grad is not None and value.grad.any() for value in model.parameters())


def test_cameras_in_training_are_not_annealed_and_have_a_gradient(model: RayModel, outputs: Any) -> None:
    seen, whole = [], model.train().render_rays
    assert model.annealing.steps > 1
    model.render_rays = lambda rays, stratified=None: seen.append(rays) or whole(rays, stratified)  # type: ignore
    rendering = model.render_cameras(outputs.cameras[:2], RenderOptions(stratified=False))
    sizes = int(outputs.cameras.height[0]), int(outputs.cameras.width[0])
    assert rendering.shape == (2, *sizes)
    (rays,) = seen
    # Between the scene's own near and far, whatever the step.
    expected = to_model_rays(camera_rays(outputs.cameras[:2], model.geometry).flatten(), model.geometry)
    assert torch.equal(rays.near, expected.near) and torch.equal(rays.far, expected.far)
    rendering.rgb.sum().backward()
    assert any(value.grad is not None and value.grad.any() for value in model.parameters())
    seen.clear()
    shown = model.render_as_evaluated(outputs.cameras[:1])
    assert model.training and not shown.rgb.requires_grad and shown.samples is None


@pytest.mark.parametrize("stratified", [False, True])
def test_chunks_have_the_gradient_of_the_whole(model: RayModel, outputs: Any, stratified: bool) -> None:
    """A view rendered chunk by chunk without a graph, and again when the gradient comes back."""
    found = []
    size = int(outputs.cameras.height[0]) * int(outputs.cameras.width[0])
    for chunk in (size, size // 3 + 1) if not stratified else (size, size):
        model.train().zero_grad()
        torch.manual_seed(3)
        options = RenderOptions(stratified, chunk_rays=chunk if found else None)
        rendering = model.render_cameras(outputs.cameras[:1], options)
        (rendering.rgb**2).sum().backward()
        found.append([rendering.rgb.detach(), *(v.grad for v in model.parameters() if v.grad is not None)])
    assert len(found[0]) == len(found[1]) > 3
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=2e-2, atol=2e-3 * float(whole.abs().max()))


def test_images_at_evaluation_have_one_or_three_channels(model: RayModel, outputs: Any) -> None:
    camera = outputs.cameras[0:1]
    rendered = model.eval().get_outputs_for_camera(camera)
    size = int(camera.height), int(camera.width)
    assert {name: value.shape for name, value in rendered.items()} == {
        "rgb": (*size, 3),
        "depth": (*size, 1),
        "accumulation": (*size, 1),
    }
    assert all(not value.requires_grad and value.isfinite().all() for value in rendered.values())


def test_statistics_of_depth(model: RayModel, outputs: Any, monkeypatch: Any) -> None:
    """Of a ray whose weight lies on two thin shells around its middle, 3 : 1."""
    near, far = model.geometry.near, model.geometry.far
    middle, half = near + 0.4 * (far - near), 1e-3 * (far - near)

    def shells(rays: ModelRays, stratified: Any = None) -> Dict[str, Tensor]:
        t = (middle + half * torch.tensor([-1.5, -0.5, 0.5, 1.5])).expand(len(rays.near), 4)
        weights = torch.tensor([0.6, 0.0, 0.2]).expand(len(t), 3)
        return {"weights": weights, "t": t, "sample_rgb": torch.zeros(len(t), 3, 3)}

    monkeypatch.setattr(model, "render_rays", shells)
    bundle = bundle_of(outputs.cameras, model.geometry)
    assert "depth_std" not in model.eval()(bundle) and model.render_bundle(bundle).extras == {}
    monkeypatch.setattr(model.config, "depth_statistics", True)
    rendered, rays = model(bundle), to_model_rays(bundle, model.geometry)
    ends = [world_distance(torch.full_like(rays.near, middle + s * half), rays, model.geometry) for s in (-1, 1)]
    deviation = (ends[1] - ends[0]) * 0.1875**0.5
    torch.testing.assert_close(rendered["depth_std"], deviation, rtol=0.02, atol=1e-6)
    assert (rendered["depth_median"] < rendered["depth"]).all()
    assert (rendered["depth_median"] >= ends[0]).all()


def test_colours_are_clamped_at_evaluation_only(model: RayModel, outputs: Any, monkeypatch: Any) -> None:
    def overexposed(rays: ModelRays, stratified: Any = None) -> Dict[str, Tensor]:
        count = len(rays.near)
        t = rays.near + (rays.far - rays.near) * torch.linspace(0, 1, 3)
        return {"weights": torch.full((count, 2), 0.5), "t": t, "sample_rgb": torch.full((count, 2, 3), 1.5)}

    monkeypatch.setattr(model, "render_rays", overexposed)
    bundle = bundle_of(outputs.cameras, model.geometry)
    assert model.train()(bundle)["rgb"].max() == 1.5
    assert model.eval()(bundle)["rgb"].max() == 1.0
    assert model.get_outputs_for_camera(outputs.cameras[0:1])["rgb"].max() == 1.0
    # Terms of the loss see what was rendered.
    assert model.render_bundle(bundle).rgb.max() == 1.5


def wall_renderer(model: RayModel, wall: float, sign: float, samples: int = 4096) -> Any:
    """A render_rays for a black scene with a white, opaque wall where sign * z exceeds sign * wall in the world."""

    def render(rays: ModelRays, stratified: Any = None) -> Dict[str, Tensor]:
        t = rays.near + (rays.far - rays.near) * torch.linspace(0, 1, samples + 1)
        middle = 0.5 * (t[:, 1:] + t[:, :-1])
        z = (rays.origins[:, None] + middle[..., None] * rays.directions[:, None])[..., 2]
        if model.geometry.ray_space == "ndc":
            z = 2.0 * model.geometry.ndc_near / (z - 1.0)
        behind = sign * z >= sign * wall
        first = behind & (behind.cumsum(-1) == 1)
        return {"weights": first.float(), "t": t, "sample_rgb": torch.ones(*first.shape, 3)}

    return render


def test_depth_of_a_wall_is_its_distance_from_the_camera(
    model: RayModel, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = outputs.cameras[0:1]
    forward = -camera.camera_to_worlds[0, 2, 2]
    sign = float(forward.sign())
    wall = sign * (2.0 if model.geometry.ray_space == "ndc" else 0.5 * (model.geometry.near + model.geometry.far))
    monkeypatch.setattr(model, "render_rays", wall_renderer(model, wall, sign))
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    expected = (wall - rays.origins[..., 2:]) / rays.directions[..., 2:]
    assert (expected > 0).all()
    rendered = model.eval().get_outputs_for_camera(camera)
    assert torch.allclose(rendered["accumulation"], torch.ones(1))
    assert torch.allclose(rendered["depth"], expected, rtol=3e-3)
    # The photos' middle is nearer than their corners: distance along the ray and not planar depth.
    assert expected.max() > 1.01 * expected.min()


def test_rays_that_miss_an_ndc_scene_are_empty(tiny_llff_scene: Any, tiny_pipeline_config: Any) -> None:
    parsed = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    model = tiny_pipeline_config(None).model.setup(
        scene_box=parsed.scene_box, num_train_data=3, metadata=parsed.metadata
    )
    turned = parsed.cameras[0:1]
    turned.camera_to_worlds[:, :, [0, 2]] *= -1
    rendered = model.eval().get_outputs_for_camera(turned)
    assert (rendered["accumulation"] == 0).all() and (rendered["rgb"] == 0).all()
    assert rendered["depth"].isfinite().all()


def test_background_of_the_scene_is_seen_in_training_and_at_evaluation(
    tiny_blender_scene: Any, tiny_pipeline_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for background, value in (("white", 1.0), ("black", 0.0)):
        parser = FewShotBlenderDataParserConfig(data=tiny_blender_scene, background=background).setup()  # type: ignore
        parsed = parser.get_dataparser_outputs("train")
        model = tiny_pipeline_config(None).model.setup(
            scene_box=parsed.scene_box, num_train_data=8, metadata=parsed.metadata
        )

        def empty(rays: ModelRays, stratified: Any = None) -> Dict[str, Tensor]:
            t = rays.near + (rays.far - rays.near) * torch.linspace(0, 1, 3)
            nothing = torch.zeros(len(t), 2)
            return {"weights": nothing, "t": t, "sample_rgb": torch.full((len(t), 2, 3), 0.5)}

        monkeypatch.setattr(model, "render_rays", empty)
        bundle = bundle_of(parsed.cameras, model.geometry)
        for rendered in (model.train()(bundle), model.eval()(bundle)):
            assert (rendered["rgb"] == value).all()


def seen_interval(model: RayModel, bundle: Any, monkeypatch: pytest.MonkeyPatch) -> ModelRays:
    """The rays that the model samples for a bundle."""
    seen = []
    original = model.render_rays

    def spy(rays: ModelRays, stratified: Any = None) -> Dict[str, Tensor]:
        seen.append(rays)
        return original(rays, stratified)

    with monkeypatch.context() as patch:
        patch.setattr(model, "render_rays", spy)
        model(bundle)
    return seen[0]


def test_near_and_far_are_annealed_in_training_only(
    model: RayModel, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(outputs.cameras, model.geometry)
    whole = to_model_rays(bundle, model.geometry)
    widths = []
    steps = model.annealing.steps
    assert steps == 20
    for step in (0, 5, 10, steps):
        model.update_to_step(step)
        rays = seen_interval(model.train(), bundle, monkeypatch)
        assert (rays.near >= whole.near - 1e-6).all() and (rays.far <= whole.far + 1e-6).all()
        assert (rays.near < rays.far).all()
        widths.append(float((rays.far - rays.near).mean()))
        rays = seen_interval(model.eval(), bundle, monkeypatch)
        assert torch.equal(rays.near, whole.near) and torch.equal(rays.far, whole.far)
    assert widths == sorted(widths) and widths[0] < 0.5 * widths[-1]
    assert widths[-1] == pytest.approx(float((whole.far - whole.near).mean()))


def test_annealing_opens_from_the_far_end_in_ndc_and_from_the_focus_elsewhere(
    model: RayModel, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(outputs.cameras, model.geometry)
    rays = seen_interval(model.train(), bundle, monkeypatch)
    if model.geometry.ray_space == "ndc":
        assert torch.equal(rays.far, torch.full_like(rays.far, model.geometry.far))
    else:
        focus = scene_focus(outputs.cameras, model.geometry).float()
        along = ((focus - rays.origins) * rays.directions).sum(-1, keepdim=True)
        parameter = along / (rays.directions**2).sum(-1, keepdim=True)
        whole = to_model_rays(bundle, model.geometry)
        parameter = torch.minimum(torch.maximum(parameter, whole.near), whole.far)
        assert (parameter >= rays.near - 1e-5).all() and (parameter <= rays.far + 1e-5).all()


def test_annealing_by_the_user_s_numbers(outputs: Any, tiny_pipeline_config: Any, monkeypatch: Any) -> None:
    config = tiny_pipeline_config(None).model
    config.annealing = NearFarAnnealingConfig(steps=10, init_fraction=0.5, mid_fraction=0.25)
    model = config.setup(scene_box=outputs.scene_box, num_train_data=3, metadata=outputs.metadata)
    near, far = model.geometry.near, model.geometry.far
    assert model.resolved()["annealing"] == {"steps": 10, "init_fraction": 0.5, "mid_fraction": 0.25}
    # The original's counter is 1 at the first batch.
    rays = seen_interval(model.train(), bundle_of(outputs.cameras, model.geometry), monkeypatch)
    middle = near + 0.25 * (far - near)
    start = middle + 0.5 * (near - middle), middle + 0.5 * (far - middle)
    expected = [begin + 0.1 * (end - begin) for begin, end in zip(start, (near, far), strict=True)]
    assert rays.near.tolist()[0][0] == pytest.approx(expected[0], abs=1e-6)
    assert rays.far.tolist()[0][0] == pytest.approx(expected[1], abs=1e-6)


def test_the_step_comes_from_the_trainer(model: RayModel) -> None:
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation

    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)
    for callback in model.get_training_callbacks(attributes):
        callback.run_callback_at_location(17, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
    assert model.step == 17


def test_pictures_of_a_test_view(model: RayModel, outputs: Any) -> None:
    camera = outputs.cameras[0:1]
    rendered = model.eval().get_outputs_for_camera(camera)
    height, width = rendered["rgb"].shape[:2]
    metrics, images = model.get_image_metrics_and_images(rendered, {"image": torch.rand(height, width, 3)})
    assert metrics == {}
    assert {name: image.shape for name, image in images.items()} == {
        "img": (height, 2 * width, 3),
        "accumulation": (height, width, 3),
        "depth": (height, width, 3),
    }


def test_psnr_of_a_batch(model: RayModel) -> None:
    ones = torch.ones(4, 1)
    outputs = Rendering(torch.full((4, 3), 0.5), ones, ones, ones)
    assert float(model.get_metrics_dict(outputs, {"image": torch.full((4, 3), 0.6)})["psnr"]) == pytest.approx(20.0)


def test_a_scene_without_few_shot_metadata_is_named(outputs: Any) -> None:
    with pytest.raises(ValueError, match="needs a few-shot dataparser .*llff-data.*found|holds only"):
        FewShotModelConfig().setup(scene_box=outputs.scene_box, num_train_data=3, metadata={"depth": 1})


def test_a_subclass_has_to_render(outputs: Any) -> None:
    given = dict(scene_box=outputs.scene_box, num_train_data=3, metadata=outputs.metadata)
    model = RayModelConfig().setup(**given)
    with pytest.raises(TypeError, match="RayModel has to define render_rays"):
        model(bundle_of(outputs.cameras, model.geometry))
    base = FewShotModelConfig().setup(**given)
    with pytest.raises(TypeError, match="FewShotModel has to define render_pixels"):
        base.render_pixels(outputs.cameras, torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="FewShotModel has to define render_cameras"):
        base.render_cameras(outputs.cameras)


def test_what_a_backbone_lacks_is_said(outputs: Any) -> None:
    given = dict(scene_box=outputs.scene_box, num_train_data=3, metadata=outputs.metadata)
    base, rays = FewShotModelConfig().setup(**given), RayModelConfig().setup(**given)
    assert base.why_not("unseen_views") is None and rays.why_not("samples") is None
    assert base.why_not("samples") == "FewShotModel has no samples along rays"
    assert rays.why_not("planes") == "RayModel has no feature planes"


def test_a_frequency_mask_needs_an_encoding(outputs: Any) -> None:
    given = dict(scene_box=outputs.scene_box, num_train_data=3, metadata=outputs.metadata)
    for mask in (FrequencyMaskConfig(steps=5), FrequencyMaskConfig(visible_ratio=0.5)):
        with pytest.raises(ValueError, match="--pipeline.model.frequency-mask.steps: RayModel has no encoding"):
            RayModelConfig(frequency_mask=mask).setup(**given)


def test_the_object_on_transparent_ground(model: RayModel) -> None:
    rendered = {"rgb": torch.rand(4, 5, 3), "accumulation": torch.rand(4, 5, 1)}
    expected = torch.cat([rendered["rgb"], rendered["accumulation"]], dim=-1)
    assert torch.equal(model.get_rgba_image(rendered), expected)


def test_positions_are_normalised(model: RayModel) -> None:
    direction = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5]), dim=0)
    if model.geometry.ray_space == "ndc":
        lower, upper = model.ray_bounds
        corners = torch.stack([lower, upper, 0.5 * (lower + upper)])
        expected = torch.tensor([-1.0, 1.0, 0.0])[:, None].expand(3, 3)
        assert torch.allclose(model.normalise_positions(corners), expected, atol=1e-5)
        return
    distances = torch.tensor([0.0, 0.5, 1.0, 1e6])[:, None]
    positions = model.focus_point + distances * model.scene_radius * direction
    expected = torch.tensor([0.0, 0.25, 0.5, 1.0])[:, None] * direction
    assert torch.allclose(model.normalise_positions(positions), expected, atol=1e-4)

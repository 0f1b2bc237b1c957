"""The splat model by itself: its start, its loss, what a step and what evaluation renders, and what it refuses."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import OrientedBox, SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.model_components.renderers import background_color_override_context
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.model_components.losses import structural_dissimilarity
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModel, SparseSplatfactoModelConfig
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, load_strictly

WIDTH, HEIGHT = 14, 12


def cloud_of(count: int = 60, depth: float = 3.0) -> SeedCloud:
    """Points on a plane across the view of `camera`, in random colours."""
    draw = torch.Generator().manual_seed(0)
    positions = torch.rand(count, 3, generator=draw) * torch.tensor([3.0, 3.0, 0.0]) - torch.tensor([1.5, 1.5, depth])
    colours, radii = torch.rand(count, 3, generator=draw), 0.1 + 0.2 * torch.rand(count, generator=draw)
    return SeedCloud(positions, colours, radii, torch.zeros(count).long(), torch.ones(count).bool(), "files", ("a",))


def build(cloud: Optional[SeedCloud] = None, **fields: Any) -> SparseSplatfactoModel:
    record = FewShotMetadata(
        SceneGeometry("metric", 1.0, 6.0), "indices", "train", (0,), (0,), (0,), torch.eye(4)[None, :3]
    )
    model = SparseSplatfactoModelConfig(**fields).setup(
        scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=1,
        metadata={METADATA_KEY: record},
        initial_points=cloud,
    )
    model.set_scene(camera())
    return model


def camera(count: int = 1, **fields: Any) -> Cameras:
    """Cameras that look along -z, each a little to the right of the one before."""
    poses = torch.eye(4)[:3].repeat(count, 1, 1)
    poses[:, 0, 3] = 0.3 * torch.arange(count)
    return Cameras(poses, 11.0, 12.0, 6.5, 6.0, WIDTH, HEIGHT, **fields)


def image_pixels(view: int = 0) -> Tensor:
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([torch.full_like(row, view), row, column], dim=-1).reshape(-1, 3)


def test_it_starts_on_the_points() -> None:
    cloud = cloud_of()
    model = build(cloud, initial_scale=0.6, initial_opacity=0.3, sh_degree=2)
    parameters = model.gauss_params
    assert torch.equal(parameters["means"], cloud.positions) and model.num_points == 60
    expected = (0.6 * cloud.radii)[:, None].expand(-1, 3)
    torch.testing.assert_close(parameters["scales"].exp().detach(), expected)
    torch.testing.assert_close(model.opacities.sigmoid().detach(), torch.full((60, 1), 0.3))
    torch.testing.assert_close(model.colors.detach(), cloud.colours)
    assert parameters["features_rest"].shape == (60, 8, 3) and not parameters["features_rest"].any()
    assert torch.equal(parameters["quats"].detach(), torch.tensor([1.0, 0, 0, 0]).expand(60, -1))
    groups = model.get_param_groups()
    assert list(groups) == ["means", "scales", "quats", "features_dc", "features_rest", "opacities"]
    assert all(len(group) == 1 and group[0] is parameters[name] for name, group in groups.items())
    assert model.learning_rate_scales() == {"means": pytest.approx(float(cloud.radii.median()))}
    assert build(cloud, position_unit="scene").learning_rate_scales() == {"means": model.radius}


def test_without_points_it_is_one_gaussian_until_a_checkpoint_comes() -> None:
    placeholder, trained = build(), build(cloud_of())
    assert placeholder.num_points == 1
    outputs = placeholder.eval().get_outputs_for_camera(camera())
    assert outputs["rgb"].shape == (HEIGHT, WIDTH, 3) and outputs["rgb"].isfinite().all()
    state = trained.state_dict()
    assert placeholder.make_room_for(state) and not placeholder.make_room_for(state)
    load_strictly(placeholder, state, "there")
    assert placeholder.num_points == 60 and placeholder.learning_rate_scales() == trained.learning_rate_scales()
    for name, value in placeholder.eval().get_outputs_for_camera(camera()).items():
        assert torch.equal(value, trained.eval().get_outputs_for_camera(camera())[name]), name


@pytest.mark.parametrize(
    "name, change",
    [
        ("gauss_params.scales", lambda value: value[:-1]),
        ("gauss_params.means", lambda value: value[:-1]),
        ("gauss_params.features_rest", lambda value: value.repeat(1, 2, 1)),
        ("gauss_params.means", lambda value: value[:, :2]),
        ("grad2d", lambda value: value[:-1]),
        ("gauss_params.quats", None),
        ("count", None),
    ],
)
def test_a_state_whose_tensors_disagree_is_refused(name: str, change: Any) -> None:
    state: Dict[str, Tensor] = dict(build(cloud_of()).state_dict())
    if change is None:
        del state[name]
    else:
        state[name] = change(state[name])
    for model in (build(), build(cloud_of())):
        model.make_room_for(state)
        with pytest.raises(CheckpointMismatchError, match="the checkpoint does not fit the model"):
            load_strictly(model, state, "there")


def rendering_of(rgb: Tensor) -> Rendering:
    return Rendering(rgb, rgb[:, :1], torch.ones_like(rgb[:, :1]), rgb[:, :1])


def loss_inputs() -> Tuple[Tensor, Dict[str, Any]]:
    """Five pixels of a prior and a whole image, rendered and photographed, with a mask."""
    draw = torch.Generator().manual_seed(1)
    rgb, photo = (torch.rand(5 + HEIGHT * WIDTH, 3, generator=draw) for _ in range(2))
    mask = torch.rand(len(rgb), 1, generator=draw) > 0.2
    return rgb.requires_grad_(), {"image": photo, "mask": mask, "image_size": (HEIGHT, WIDTH)}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_loss_is_l1_and_dissimilarity_of_the_image(masked: bool, weight: float) -> None:
    rgb, batch = loss_inputs()
    if not masked:
        del batch["mask"]
    losses = build(ssim_weight=weight).get_loss_dict(rendering_of(rgb), batch)
    trains = [index for index in range(len(rgb)) if not masked or batch["mask"][index]]
    absolute = sum(float((rgb[index] - batch["image"][index]).abs().sum()) for index in trains) / (3 * len(trains))
    assert float(losses["rgb_loss"]) == pytest.approx((1 - weight) * absolute, rel=1e-5)
    image, photo = (values[5:].detach().reshape(HEIGHT, WIDTH, 3).clone() for values in (rgb, batch["image"]))
    if masked:
        image[~batch["mask"][5:].reshape(HEIGHT, WIDTH)] = photo[~batch["mask"][5:].reshape(HEIGHT, WIDTH)] = 0.0
    assert ("ssim_loss" in losses) == (weight > 0)
    if weight > 0:
        expected = weight * float(structural_dissimilarity(image, photo))
        assert float(losses["ssim_loss"]) == pytest.approx(expected, rel=1e-5)
    torch.stack(list(losses.values())).sum().backward()
    assert rgb.grad is not None
    if masked:
        assert not rgb.grad[~batch["mask"][:, 0]].any()
        assert rgb.grad[batch["mask"][:, 0]].any()


def test_single_pixels_have_l1_alone() -> None:
    rgb, batch = loss_inputs()
    del batch["image_size"], batch["mask"]
    losses = build().get_loss_dict(rendering_of(rgb), batch)
    assert set(losses) == {"rgb_loss"}
    torch.testing.assert_close(losses["rgb_loss"], (rgb - batch["image"]).abs().mean())
    batch["mask"] = torch.zeros(len(rgb), 1, dtype=torch.bool)
    assert build().get_loss_dict(rendering_of(rgb), batch)["rgb_loss"] == 0.0


def test_evaluation_fades_by_what_training_leaves_out() -> None:
    model = build(cloud_of(), opacity_dropout=0.4, dropout_start_step=10, dropout_ramp_steps=20).eval()
    assert [model.dropout for step in (0, 9, 10, 20, 30, 99) if model.update_to_step(step) is None] == pytest.approx(
        [0.0, 0.0, 0.0, 0.2, 0.4, 0.4]
    )
    model.update_to_step(5)
    before = model.render_cameras(camera())
    torch.testing.assert_close(model.opacities, model.gauss_params["opacities"])
    for step, kept in ((20, 0.8), (50, 0.6)):
        model.update_to_step(step)
        faded = model.render_cameras(camera())
        # The logits that exports see render as evaluation does, in a model that has no dropout.
        other = build(cloud_of())
        with torch.no_grad():
            other.gauss_params["opacities"].copy_(model.opacities)
        torch.testing.assert_close(other.gauss_params["opacities"].sigmoid(), torch.full((60, 1), 0.5 * kept))
        torch.testing.assert_close(other.eval().render_cameras(camera()).rgb, faded.rgb, rtol=1e-5, atol=1e-6)
        assert float(faded.accumulation.mean()) < 0.95 * float(before.accumulation.mean())


def step_of(model: SparseSplatfactoModel, step: int = 0) -> Rendering:
    """A training step's forward and backward on the first photo."""
    model.train().update_to_step(step)
    bundle: Any = None
    photos, views = model(bundle, (camera(2), image_pixels()), [])
    assert views == []
    photos.rgb.square().mean().backward()
    return photos


def after_step(model: SparseSplatfactoModel, step: int, optimizers: Any = None) -> None:
    """What the trainer calls after a step."""
    nobody: Any = None
    attributes = TrainingCallbackAttributes(optimizers=optimizers, grad_scaler=nobody, pipeline=nobody, trainer=nobody)
    for callback in model.get_training_callbacks(attributes):
        callback.run_callback_at_location(step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)


class Owner:
    """What callbacks see of nerfstudio's optimizers."""

    def __init__(self, model: SparseSplatfactoModel, rate: float = 0.0) -> None:
        self.parameters: Dict[str, List[Any]] = model.get_param_groups()
        self.optimizers = {name: torch.optim.Adam(group, lr=rate) for name, group in self.parameters.items()}


def test_a_step_leaves_out_a_share_and_counts_the_others_alone() -> None:
    torch.manual_seed(0)
    model = build(cloud_of(400), opacity_dropout=0.5)
    model.run_length = 100
    step_of(model)
    after_step(model, 0, Owner(model))
    inside = build(cloud_of(400))
    inside.run_length = 100
    step_of(inside)
    after_step(inside, 0, Owner(inside))
    assert set(model.count.tolist()) == {0.0, 1.0} and 0.3 < float(model.count.sum() / inside.count.sum()) < 0.7
    # What was left out has no gradient either; what was left in has one.
    opacities = model.gauss_params["opacities"].grad
    assert opacities is not None and not opacities[:, 0][model.count == 0][inside.count[model.count == 0] > 0].any()
    assert not model.grad2d[model.count == 0].any() and model.grad2d[model.count == 1].gt(0).float().mean() > 0.5
    # Another step leaves out others.
    before = model.count.clone()
    step_of(model, 1)
    after_step(model, 1, Owner(model))
    assert set(model.count.tolist()) == {0.0, 1.0, 2.0} and not torch.equal(model.count, 2 * before)


def test_statistics_are_gradients_in_units_of_half_the_image() -> None:
    model = build(cloud_of())
    model.run_length = 100
    step_of(model)
    assert model._watched is not None
    gradient = model._watched["means2d"].grad[0] * torch.tensor([WIDTH / 2, HEIGHT / 2])
    radii = model._watched["radii"][0]
    seen = (radii if radii.dim() == 1 else radii.amin(dim=-1)) > 0
    after_step(model, 0, Owner(model))
    torch.testing.assert_close(model.grad2d, gradient.norm(dim=-1) * seen)
    assert torch.equal(model.count, seen.float()) and model.grad2d.any()
    # None are gathered once nothing is densified any more, nor at evaluation.
    step_of(model, 50)
    assert model._watched is None
    model.eval()
    bundle: Any = None
    model(bundle, (camera(2), image_pixels()), [])
    assert model._watched is None


def test_opacity_decays_from_its_step_on() -> None:
    model = build(cloud_of(), opacity_decay=0.9, decay_start_step=2, densification=DensificationConfig(enabled=False))
    for step in range(5):
        after_step(model, step)
    torch.testing.assert_close(model.opacities.sigmoid().detach(), torch.full((60, 1), 0.5 * 0.9**3))
    unchanged = build(cloud_of())
    for step in range(5):
        after_step(unchanged, step)
    assert torch.equal(unchanged.opacities, build(cloud_of()).opacities)


def test_opacity_is_never_reset() -> None:
    # gsplat 1.4 resets at step 0, and then at every multiple of 3000 steps.
    model = build(cloud_of(), densification=DensificationConfig(start_step=1, every=3, gradient=1e9, stop_fraction=1.0))
    model.run_length = 6001
    owner = Owner(model)
    for step in (0, 1, 2, 3, 2998, 2999, 3000, 3001, 5999, 6000):
        step_of(model, step)
        after_step(model, step, owner)
        torch.testing.assert_close(model.opacities.sigmoid().detach(), torch.full((model.num_points, 1), 0.5))
    assert model.num_points == 60


def test_numbers_grow_and_shrink_and_optimizers_follow() -> None:
    config = DensificationConfig(start_step=1, every=2, gradient=1e-9, size=0.05, stop_fraction=1.0)
    model = build(cloud_of(), densification=config)
    model.run_length = 100
    with torch.no_grad():
        model.gauss_params["opacities"][:7] = -9.0
    torch.manual_seed(0)
    owner = Owner(model, rate=1e-3)
    numbers = []
    for step in range(6):
        step_of(model, step)
        for optimizer in owner.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        after_step(model, step, owner)
        numbers.append(model.num_points)
        for name, parameter in model.gauss_params.items():
            (held,) = owner.optimizers[name].param_groups[0]["params"]
            assert held is parameter is owner.parameters[name][0]
            moments = owner.optimizers[name].state[parameter]
            assert moments["exp_avg"].shape == moments["exp_avg_sq"].shape == parameter.shape
        assert len(model.grad2d) == len(model.count) == model.num_points
        if step in (1, 3, 5):
            assert not model.count.any(), "the statistics begin anew"
    # Gaussians are added after every second step, and the transparent ones are gone after the first time.
    assert 60 == numbers[0] < numbers[1] == numbers[2] < numbers[3] == numbers[4] < numbers[5]
    assert float(model.opacities.sigmoid().min()) > 0.005
    assert {len(value) for value in model.state_dict().values() if value.dim() > 1} == {model.num_points}


def test_pruning_goes_on_without_growth_and_above_the_largest_number() -> None:
    for enabled, most in ((False, 500), (True, 60)):
        config = DensificationConfig(enabled, 1, 1.0, 2, gradient=1e-9, max_gaussians=most)
        model = build(cloud_of(), densification=config)
        model.run_length = 100
        with torch.no_grad():
            model.gauss_params["opacities"][:7] = -9.0
        owner = Owner(model)
        for step in range(2):
            step_of(model, step)
            after_step(model, step, owner)
        assert model.num_points == 53


def test_distance_is_planar_and_depth_euclidean() -> None:
    model = build(cloud_of(2000), initial_opacity=0.99).eval()
    seen = model.render_cameras(camera(2))
    opaque = seen.accumulation[..., 0] > 0.5
    assert opaque.float().mean() > 0.8
    torch.testing.assert_close(seen.distance[opaque], torch.full_like(seen.distance[opaque], 3.0), rtol=1e-4, atol=0)
    for view in range(2):
        norms = camera(2).generate_rays(camera_indices=view, keep_shape=True).metadata["directions_norm"]
        torch.testing.assert_close(seen.depth[view], seen.distance[view] * norms, rtol=1e-5, atol=1e-6)
    assert float((seen.depth / seen.distance.clamp(min=1e-6)).max()) > 1.2


def test_a_box_crops_one_rendering() -> None:
    model = build(cloud_of(), background="mean").eval()
    whole = model.get_outputs_for_camera(camera())
    box = OrientedBox.from_params((-0.75, 0.0, -3.0), (0.0, 0.0, 0.0), (1.5, 4.0, 1.0))
    half = model.get_outputs_for_camera(camera(), obb_box=box)
    left = cloud_of().positions[:, 0] < 0
    cloud = cloud_of().chosen(left)
    expected = build(cloud).eval().get_outputs_for_camera(camera())
    torch.testing.assert_close(half["rgb"], expected["rgb"])
    assert not torch.allclose(half["rgb"], whole["rgb"], atol=0.05)
    assert torch.equal(model.get_outputs_for_camera(camera())["rgb"], whole["rgb"]), "the box is for one rendering"


def test_commands_may_choose_what_lies_behind_a_crop() -> None:
    model = build(cloud_of(), background="mean").eval()
    plain = model.render_cameras(camera())
    with background_color_override_context(torch.tensor([0.2, 0.5, 1.0])):
        chosen = model.render_cameras(camera())
        model.train().random_background = False
        trained = model.render_cameras(camera())
    behind = (1.0 - plain.accumulation) * torch.tensor([0.2, 0.5, 1.0])
    torch.testing.assert_close(chosen.rgb, plain.rgb + behind)
    assert torch.equal(trained.rgb, plain.rgb), "training keeps its own"


def test_cameras_that_are_no_pinholes_are_refused() -> None:
    model = build(cloud_of()).eval()
    distortion = torch.tensor([[0.1, 0.0, 0.0, 0.0, 0.0, 0.0]])
    for refused in (camera(distortion_params=distortion), camera(camera_type=CameraType.FISHEYE)):
        with pytest.raises(ValueError, match="splats are projected into pinhole cameras.*`ns-fewshot prepare --images"):
            model.get_outputs_for_camera(refused)
    model.get_outputs_for_camera(camera(distortion_params=torch.zeros(1, 6)))


@pytest.mark.parametrize(
    "fields, flag",
    [
        ({"opacity_dropout": 1.0}, "--pipeline.model.opacity-dropout"),
        ({"opacity_dropout": -0.1}, "--pipeline.model.opacity-dropout"),
        ({"ssim_weight": 1.1}, "--pipeline.model.ssim-weight"),
        ({"sh_degree": 4}, "--pipeline.model.sh-degree"),
        ({"sh_degree": -1}, "--pipeline.model.sh-degree"),
        ({"initial_opacity": 1.0}, "--pipeline.model.initial-opacity"),
        ({"initial_scale": 0.0}, "--pipeline.model.initial-scale"),
        ({"opacity_decay": 0.0}, "--pipeline.model.opacity-decay"),
        ({"opacity_decay": 1.1}, "--pipeline.model.opacity-decay"),
        ({"num_downscales": -1}, "--pipeline.model.num-downscales"),
        ({"downscaled_fraction": 1.5}, "--pipeline.model.downscaled-fraction"),
        ({"densification": DensificationConfig(every=0)}, "--pipeline.model.densification.every"),
        ({"densification": DensificationConfig(stop_fraction=1.5)}, "--pipeline.model.densification.stop-fraction"),
        ({"densification": DensificationConfig(gradient=0.0)}, "--pipeline.model.densification.gradient"),
        ({"densification": DensificationConfig(size=-1.0)}, "--pipeline.model.densification.size"),
        ({"densification": DensificationConfig(prune_opacity=1.0)}, "--pipeline.model.densification.prune-opacity"),
    ],
)
def test_values_out_of_range_are_refused_with_their_flag(fields: Dict[str, Any], flag: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*{flag}"):
        build(**fields)


def test_without_kernels_gsplat_is_refused_with_the_way_out() -> None:
    model = build(cloud_of(), rasterizer="gsplat").eval()
    with pytest.raises(ValueError, match="give --pipeline.model.rasterizer torch"):
        model.get_outputs_for_camera(camera())


def test_harmonics_of_higher_degrees_wait_for_their_step() -> None:
    model = build(cloud_of(), sh_degree=1, sh_degree_interval=10)
    with torch.no_grad():
        model.gauss_params["features_rest"].normal_()
    model.train().update_to_step(9)
    plain = model.render_cameras(camera()).rgb
    model.update_to_step(10)
    coloured = model.render_cameras(camera()).rgb
    assert float((plain - coloured).abs().max()) > 0.05
    model.eval().update_to_step(0)
    assert torch.equal(model.render_cameras(camera()).rgb, coloured), "evaluation uses all of them"


@pytest.mark.parametrize("run_length, reached", [(10, 0), (11, 1), (20, 1), (21, 2)])
def test_a_run_too_short_for_its_harmonics_says_so(
    run_length: int, reached: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build(cloud_of(), sh_degree=2, sh_degree_interval=10)
    model.run_length = run_length
    for step in (0, 1):
        step_of(model, step)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("give a smaller --pipeline.model.sh-degree-interval") == (reached < 2)
    assert reached == 2 or f"trains degrees up to {reached};" in said


def test_a_run_without_gaussians_ends_with_the_reason() -> None:
    model = build(cloud_of(), densification=DensificationConfig(start_step=1, every=2, stop_fraction=1.0))
    model.run_length = 100
    with torch.no_grad():
        model.gauss_params["opacities"].fill_(-9.0)
    owner = Owner(model)
    step_of(model, 0)
    after_step(model, 0, owner)
    step_of(model, 1)
    with pytest.raises(ValueError, match="after step 1 no Gaussian is left .* --pipeline.model.opacity-decay 1"):
        after_step(model, 1, owner)


def test_rays_are_refused_with_what_to_use_instead() -> None:
    with pytest.raises(ValueError, match="SparseSplatfactoModel renders images, not rays: .* ns-export gaussian-splat"):
        build(cloud_of()).get_outputs(None)


def test_training_begins_with_smaller_photos() -> None:
    model = build(cloud_of(), num_downscales=2, downscaled_fraction=0.6, ssim_weight=0.25).train()
    model.update_to_step(0)
    assert model.downscale == 1, "the length of the run is not known"
    model.run_length = 20
    factors = [model.downscale for step in range(20) if model.update_to_step(step) is None]
    assert factors == [4] * 6 + [2] * 6 + [1] * 8
    model.eval().update_to_step(0)
    assert model.downscale == 1


def test_smaller_photos_are_those_of_a_smaller_camera_compared_with_averages() -> None:
    model = build(cloud_of(), num_downscales=1, ssim_weight=0.25).train()
    model.run_length = 20
    # 12x14 pixels, of which 2x2 each are one.
    small = Cameras(camera().camera_to_worlds, 5.5, 6.0, 3.25, 3.0, WIDTH // 2, HEIGHT // 2)
    expected = model.render_cameras(small)[0]
    found = model.render_pixels(camera(), image_pixels()).reshape(HEIGHT, WIDTH)
    for name in ("rgb", "distance", "accumulation"):
        repeated = getattr(expected, name).repeat_interleave(2, 0).repeat_interleave(2, 1)
        torch.testing.assert_close(getattr(found, name), repeated, rtol=1e-5, atol=1e-6)
    _, batch = loss_inputs()
    requested = torch.tensor([[0, 3, 4]]).expand(5, -1)
    outputs = model.render_pixels(camera(), torch.cat([requested, image_pixels()]))
    losses = model.get_loss_dict(outputs, batch)
    averages = batch["image"][5:].reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))
    # A small pixel trains where all that it is made of does.
    shown = batch["mask"][5:].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).all(3).all(1)[..., None].float()
    assert 0 < shown.mean() < 1
    absolute = ((expected.rgb - averages).abs() * shown).sum() / (3 * shown.sum())
    torch.testing.assert_close(losses["rgb_loss"], 0.75 * absolute)
    dissimilar = structural_dissimilarity(expected.rgb * shown, averages * shown)
    torch.testing.assert_close(losses["ssim_loss"], 0.25 * dissimilar)

"""sparsenerf-lite: its loss terms, its running average, its schedules, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Callable

import pytest
import torch

from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP
from fewshot_ns.cameras.ray_space import attach_radii, to_model_rays
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.records.metadata import METADATA_KEY
from fewshot_ns.model_components.curricula import FrequencyMaskConfig
from fewshot_ns.model_components.rendering import RaySamples, Rendering
from fewshot_ns.models.compact import CompactModel


@pytest.fixture
def parsed(tiny_llff_scene: Any) -> Any:
    return LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")


@pytest.fixture
def make_model(parsed: Any, tiny_pipeline_config: Any) -> Callable[..., CompactModel]:
    """Function (fields of the model's config) -> model of the tiny scene."""

    def make(**fields: Any) -> CompactModel:
        config = tiny_pipeline_config(None).model
        for name, value in fields.items():
            assert hasattr(config, name)
            setattr(config, name, value)
        torch.manual_seed(0)
        model = config.setup(scene_box=parsed.scene_box, num_train_data=3, metadata=parsed.metadata)
        model.set_scene(parsed.cameras)
        return model

    return make


@pytest.fixture
def bundle(parsed: Any, make_model: Any) -> Any:
    rays = parsed.cameras.generate_rays(camera_indices=0, keep_shape=True)
    return attach_radii(rays, make_model().geometry).flatten()


DENSE = 30.0
"""Raw density with which the field's weights leave the proposal's bound at once."""


def losses_of(model: CompactModel, bundle: Any) -> dict:
    return model.get_loss_dict(model.render_training_rays(bundle), {"image": torch.rand(len(bundle), 3)})


def samples_of(rendering: Rendering) -> RaySamples:
    assert rendering.samples is not None
    return rendering.samples


def test_one_entry_per_term(make_model: Any, bundle: Any) -> None:
    for field_type in ("triplane", "mlp"):
        losses = losses_of(make_model(field_type=field_type, density_bias=DENSE).train(), bundle)
        assert set(losses) == {"rgb_loss", "proposal_loss"}
        assert all(term.shape == () and term.isfinite() and term > 0 for term in losses.values())


def test_terms_scale_with_their_weights_and_vanish_without(make_model: Any, bundle: Any) -> None:
    def terms(**weights: float) -> dict:
        model = make_model(density_bias=DENSE, **weights).train()
        torch.manual_seed(1)
        return losses_of(model, bundle)

    once, twice, off = (terms(proposal_weight=weight) for weight in (1.0, 2.0, 0.0))
    assert float(twice["proposal_loss"]) == pytest.approx(2 * float(once["proposal_loss"]), rel=1e-5)
    assert float(twice["rgb_loss"]) == pytest.approx(float(once["rgb_loss"]))
    assert float(off["proposal_loss"]) == 0.0


def test_what_priors_look_at(make_model: Any, bundle: Any) -> None:
    """Samples of the final level in training alone; normals of the MLP where a prior asked for them."""
    model = make_model(field_type="mlp", density_bias=DENSE).train()
    assert samples_of(model.render_training_rays(bundle)).normals is None
    model.serve(frozenset({"normals"}))
    rendering = model.render_training_rays(bundle)
    samples, count = samples_of(rendering), model.config.num_samples
    rays = len(bundle)
    assert samples.weights.shape == (rays, count) and samples.t.shape == (rays, count + 1)
    assert samples.density is not None and samples.density.shape == (rays, count)
    assert samples.rgb is not None and samples.normals is not None and samples.normals.shape == samples.rgb.shape
    torch.testing.assert_close(samples.normals.norm(dim=-1), torch.ones(rays, count), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(samples.weights.sum(-1, keepdim=True), rendering.accumulation)
    assert rendering.viewdirs is not None and rendering.viewdirs.shape == (rays, 3)
    (samples.normals[..., 0] * samples.weights.detach()).sum().backward()
    assert any(value.grad is not None and value.grad.any() for value in model.networks["field"].parameters())
    assert model.eval().render_bundle(bundle).samples is None
    provided = {kind: make_model(field_type=kind).provides - model.PROVIDES for kind in ("triplane", "mlp")}
    assert provided == {"triplane": {"planes"}, "mlp": {"normals"}}
    assert [len(make_model(field_type=kind).planes) for kind in ("triplane", "mlp")] == [2, 0]


def test_pixels_of_a_view_are_those_of_its_image(make_model: Any, parsed: Any) -> None:
    """All three ways to ask: single pixels in any order, whole cameras, and nerfstudio's own."""
    model = make_model().eval()
    pixels = torch.tensor([[1, 3, 4], [0, 2, 30], [1, 23, 0], [0, 0, 0], [1, 3, 4]])
    with torch.no_grad():
        found = model.render_pixels(parsed.cameras, pixels)
        whole = model.render_cameras(parsed.cameras)
        whole_camera = model.get_outputs_for_camera(parsed.cameras[1:2])
    assert whole.shape == (3, 24, 32) and found.shape == (5,)
    for name in ("rgb", "depth", "accumulation", "distance"):
        image = getattr(whole, name)
        torch.testing.assert_close(getattr(found, name), image[tuple(pixels.unbind(-1))], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole_camera["rgb"], whole.rgb[1].clamp(0, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole_camera["depth"], whole.depth[1], rtol=1e-4, atol=1e-5)


def test_evaluation_has_the_colour_term_alone(make_model: Any, bundle: Any) -> None:
    assert set(losses_of(make_model().eval(), bundle)) == {"rgb_loss"}


@pytest.mark.parametrize("field_type", ["triplane", "mlp"])
def test_every_network_is_trained(make_model: Any, bundle: Any, field_type: str) -> None:
    model = make_model(field_type=field_type, density_bias=DENSE).train()
    sum(losses_of(model, bundle).values()).backward()  # type: ignore[union-attr]
    groups = model.get_param_groups()
    assert set(groups) == {"field", "proposal"} | ({"planes"} if field_type == "triplane" else set())
    assert all(p.grad is not None and p.grad.isfinite().all() for group in groups.values() for p in group)
    assert all(any(p.grad is not None and p.grad.abs().sum() > 0 for p in group) for group in groups.values())
    trained = {id(p) for group in groups.values() for p in group}
    # nerfstudio's models carry an empty parameter that tells their device.
    assert {id(p) for p in model.parameters() if p.requires_grad and p.numel() > 0} == trained


def test_param_groups_have_optimizers(make_model: Any) -> None:
    from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

    assert set(make_model().get_param_groups()) == set(sparsenerf_lite.optimizers) - {CAMERA_GROUP}


def test_running_average_follows_the_weights(make_model: Any) -> None:
    model = make_model(ema_decay=0.9)
    value, mean = next(iter(model.networks.parameters())), next(iter(model.average.parameters()))
    assert torch.equal(value, mean)
    with torch.no_grad():
        value += 1.0
    model.update_average(10_000)
    assert torch.allclose(value - mean, torch.full_like(value, 0.9), atol=1e-5)
    for step in range(10_001, 10_101):
        model.update_average(step)
    assert torch.allclose(value, mean, atol=1e-4)
    with torch.no_grad():
        value += 1.0
    model.update_average(0)
    # At the start the average forgets its random initialisation quickly.
    assert torch.allclose(value - mean, torch.full_like(value, 0.1), atol=1e-3)


def test_running_average_is_used_outside_training_only(make_model: Any, bundle: Any) -> None:
    model = make_model()
    with torch.no_grad():
        for parameter in model.average.parameters():
            parameter.zero_()
    torch.manual_seed(0)
    training = model.train()(bundle)["rgb"]
    evaluation = model.eval()(bundle)["rgb"]
    torch.manual_seed(0)
    assert torch.equal(model.train()(bundle)["rgb"], training)
    # Zero weights give one grey, times the accumulation.
    assert evaluation.std(dim=-1).max() < 1e-6
    assert training.std(dim=-1).max() > 1e-3


def test_average_callback_runs_after_the_iteration(make_model: Any) -> None:
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation

    model = make_model(ema_decay=0.5)
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter += 1.0
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)
    before = next(iter(model.average.parameters())).clone()
    for callback in model.get_training_callbacks(attributes):
        callback.run_callback_at_location(3, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
    assert torch.equal(next(iter(model.average.parameters())), before)
    for callback in model.get_training_callbacks(attributes):
        callback.run_callback_at_location(3, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
    assert not torch.equal(next(iter(model.average.parameters())), before)


def test_no_average_where_it_is_off(make_model: Any, bundle: Any) -> None:
    model = make_model(ema_decay=0.0)
    assert model.average is None and not any("average" in key for key in model.state_dict())
    model.update_average(3)
    assert model.eval()(bundle)["rgb"].isfinite().all()


@pytest.mark.parametrize("order", ["octave", "column"])
def test_frequency_mask_opens_step_by_step(make_model: Any, order: Any) -> None:
    model = make_model(field_type="mlp", frequency_mask=FrequencyMaskConfig(steps=40, order=order, first_step=0))
    columns = 6 * model.config.num_octaves
    visible = []
    for step in (0, 10, 39):
        model.update_to_step(step)
        mask = model.train().encoding_mask()
        assert mask.shape == (columns,) and mask[0] > 0.99
        visible.append(float(mask.sum()))
        # A view rendered half-way sees what the field was trained on.
        assert torch.equal(model.eval().encoding_mask(), mask)
    assert visible == sorted(visible) and visible[0] < columns / 2
    model.update_to_step(40)
    assert model.train().encoding_mask() is None and model.eval().encoding_mask() is None


def test_levels_open_in_training_and_at_evaluation_alike(make_model: Any, bundle: Any) -> None:
    model = make_model(coarse_steps=10, fine_steps=20).eval()
    with torch.no_grad():
        before = model(bundle)["rgb"]
        for networks in (model.networks, model.average):
            networks["field"].planes[-1].add_(torch.randn_like(networks["field"].planes[-1]))
        hidden = model(bundle)["rgb"]
        model.update_to_step(20)
        visible = model(bundle)["rgb"]
    assert torch.equal(before, hidden)
    assert not torch.allclose(before, visible, atol=1e-3)


def test_a_random_background_shows_through_in_training_alone(make_model: Any, bundle: Any) -> None:
    def colours(training: bool, **fields: Any) -> torch.Tensor:
        return make_model(density_bias=-100.0, **fields).train(training)(bundle)["rgb"]

    # An empty field shows nothing but what lies behind it.
    shown = colours(True)
    assert 0.4 < shown.mean() < 0.6 and shown.std() > 0.2
    assert colours(True, random_background=False).abs().max() < 1e-6
    assert colours(False).abs().max() < 1e-6


def test_a_random_background_is_for_opaque_photos(make_model: Any, parsed: Any) -> None:
    from dataclasses import replace

    from fewshot_ns.data.records.metadata import METADATA_KEY

    assert make_model().resolved()["random_background"] is True
    parsed.metadata[METADATA_KEY] = replace(parsed.metadata[METADATA_KEY], has_alpha=True)
    assert make_model().resolved()["random_background"] is False
    assert make_model(random_background=True).resolved()["random_background"] is True


def test_photos_with_alpha_lie_on_the_random_background(make_model: Any, bundle: Any, parsed: Any) -> None:
    """Of an empty field before a random colour, the loss is that of the opaque pixels alone."""
    from dataclasses import replace

    from fewshot_ns.data.records.metadata import METADATA_KEY

    parsed.metadata[METADATA_KEY] = replace(parsed.metadata[METADATA_KEY], has_alpha=True)
    assert make_model().labels == frozenset()
    model = make_model(density_bias=-100.0, random_background=True).train()
    assert model.labels == {"alpha"}
    rendering = model.render_training_rays(bundle)
    count = len(rendering.rgb)
    alpha = (torch.arange(count) % 2).float()[:, None]
    image = 0.25 * alpha.expand(-1, 3)
    truth = model.photo_colours(rendering, {"image": image, "alpha": alpha})
    torch.testing.assert_close(truth[::2], rendering.rgb[::2], atol=1e-6, rtol=0)
    torch.testing.assert_close(truth[1::2], image[1::2])
    expected = ((rendering.rgb[1::2] - 0.25) ** 2).sum() / count / 3.0
    loss = model.get_loss_dict(rendering, {"image": image, "alpha": alpha})["rgb_loss"]
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    # Photos that all turn out to be opaque bring no alpha.
    assert model.photo_colours(rendering, {"image": image}) is image


def test_frequency_mask_can_be_off(make_model: Any) -> None:
    assert make_model(frequency_mask=FrequencyMaskConfig(steps=0)).train().encoding_mask() is None


def test_evaluation_is_deterministic_and_training_is_not(make_model: Any, bundle: Any) -> None:
    model = make_model()
    assert torch.equal(model.eval()(bundle)["rgb"], model.eval()(bundle)["rgb"])
    drawn = [samples_of(model.train().render_training_rays(bundle)).t for _ in range(2)]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("field_type", ["triplane", "mlp"])
def test_half_precision_comes_close_to_single(make_model: Any, bundle: Any, field_type: str) -> None:
    single, half = (
        make_model(compute_dtype=name, field_type=field_type).eval()(bundle) for name in ("float32", "bfloat16")
    )
    for name in ("rgb", "depth", "accumulation"):
        assert half[name].dtype == torch.float32
        assert torch.allclose(half[name], single[name], rtol=0.05, atol=0.02), name


def test_chunks_do_not_change_the_image(make_model: Any, parsed: Any) -> None:
    camera = parsed.cameras[0:1]
    whole, pieces = (
        make_model(eval_num_rays_per_chunk=size).eval().get_outputs_for_camera(camera) for size in (10_000, 100)
    )
    for name, image in whole.items():
        assert torch.allclose(image, pieces[name], atol=1e-3), name


def test_it_learns_a_colour(make_model: Any, bundle: Any) -> None:
    model = make_model(compute_dtype="float32").train()
    groups = model.get_param_groups()
    optimizer = torch.optim.Adam(
        [{"params": groups["field"], "lr": 1e-2}, {"params": groups["proposal"], "lr": 1e-1}], eps=1e-8
    )
    batch = {"image": torch.tensor([0.8, 0.4, 0.1]).expand(len(bundle), 3)}
    errors = []
    for step in range(40):
        model.update_to_step(step)
        losses = model.get_loss_dict(model.render_training_rays(bundle), batch)
        errors.append(float(losses["rgb_loss"].detach()))
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        model.update_average(step)
    assert errors[-1] < 0.1 * errors[0]
    rendered = model.eval()(bundle)["rgb"]
    assert torch.nn.functional.mse_loss(rendered, batch["image"]) < 0.2 * errors[0]


def test_rays_count_by_their_weight(make_model: Any, bundle: Any) -> None:
    model = make_model().eval()
    outputs = model.render_bundle(bundle)
    target = torch.zeros_like(outputs.rgb)
    weights = torch.zeros(len(bundle), 1)
    weights[3] = 2.0
    error = (outputs.rgb**2).mean(-1)
    plain = model.get_loss_dict(outputs, {"image": target})["rgb_loss"]
    weighted = model.get_loss_dict(outputs, {"image": target, "loss_weight": weights})["rgb_loss"]
    assert float(plain) == pytest.approx(float(error.mean()), rel=1e-5)
    assert float(weighted) == pytest.approx(float(error[3]), rel=1e-5)


def test_planes_refuse_a_frequency_mask(make_model: Any) -> None:
    with pytest.raises(
        ValueError, match=r"frequency-mask.steps: CompactModel has no encoding .*field-type mlp has one"
    ):
        make_model(field_type="triplane", frequency_mask=FrequencyMaskConfig(steps=10))
    assert "frequency_mask" not in make_model(field_type="triplane").resolved()
    assert make_model(field_type="mlp", frequency_mask=FrequencyMaskConfig(steps=10)).resolved()["frequency_mask"]


def test_samples_reach_near_things_before_a_far_background(parsed: Any, make_model: Any) -> None:
    """Half of the proposal's samples lie nearer than the geometric mean of near and far, not one in thirty."""
    record = parsed.metadata[METADATA_KEY]
    shares, near, far = {}, 0.1, 100.0
    geometries = {"ndc": record.geometry, "long": SceneGeometry("metric", near, far)}
    for name, geometry in geometries.items():
        metadata = {**parsed.metadata, METADATA_KEY: replace(record, geometry=geometry)}
        for spacing in (None, "linear"):
            config = make_model(spacing=spacing, num_proposal_samples=64).config
            model = config.setup(scene_box=parsed.scene_box, num_train_data=3, metadata=metadata).eval()
            model.set_scene(parsed.cameras)
            rays = parsed.cameras.generate_rays(camera_indices=0, keep_shape=True)
            rays = to_model_rays(attach_radii(rays, geometry).flatten(), geometry)
            t = model.render_rays(rays)["t_proposal"]
            assert (t.diff(dim=-1) > 0).all()
            shares[name, spacing] = float((t < math.sqrt(near * far)).float().mean())
            assert model.resolved()["spacing"] == ("geometric" if (name, spacing) == ("long", None) else "linear")
    assert shares["long", None] == pytest.approx(0.5, abs=0.02) and shares["long", "linear"] < 0.05
    assert shares["ndc", None] == shares["ndc", "linear"]

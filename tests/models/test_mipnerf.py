"""The faithful mip-NeRF as a model: what it resolves by the scene, its schedules, its terms, and that it learns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable

import pytest
import torch
from torch import Tensor

from fewshot_ns.cameras.ray_space import attach_radii
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.model_components.curricula import FrequencyMaskConfig, NearFarAnnealingConfig
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.mipnerf import MipNeRFModel, MipNeRFModelConfig
from fewshot_ns.priors.occlusion import OcclusionPriorConfig


@pytest.fixture
def ndc(tiny_llff_scene: Any) -> Any:
    return LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")


@pytest.fixture
def metric(tiny_dtu_scene: Any) -> Any:
    return DTUDataParserConfig(data=tiny_dtu_scene).setup().get_dataparser_outputs("train")


@pytest.fixture
def make_model(ndc: Any) -> Callable[..., MipNeRFModel]:
    """Function (dataparser outputs or None for the LLFF scene, fields of the config) -> tiny model."""

    def make(parsed: Any = None, **fields: Any) -> MipNeRFModel:
        parsed = ndc if parsed is None else parsed
        sizes = dict(num_samples=8, num_layers=4, width=16, skip_layer=2, num_octaves=4, colour_width=8)
        torch.manual_seed(0)
        config = MipNeRFModelConfig(**{**sizes, **fields})
        return config.setup(scene_box=parsed.scene_box, num_train_data=3, metadata=parsed.metadata)

    return make


def bundle_of(parsed: Any, model: MipNeRFModel) -> Any:
    rays = parsed.cameras.generate_rays(camera_indices=0, keep_shape=True)
    return attach_radii(rays, model.geometry).flatten()[:60]


def trained(model: MipNeRFModel, parsed: Any) -> Rendering:
    """What a step renders of the first photo's rays."""
    return model.render_training_rays(bundle_of(parsed, model))


def fenceposts(rendering: Rendering) -> Tensor:
    assert rendering.samples is not None
    return rendering.samples.t


def test_default_has_the_original_size(ndc: Any) -> None:
    model = MipNeRFModelConfig().setup(scene_box=ndc.scene_box, num_train_data=3, metadata=ndc.metadata)
    (group,) = model.get_param_groups().values()
    assert sum(parameter.numel() for parameter in group) == 612740
    assert {id(p) for p in model.parameters() if p.numel() > 0} == {id(p) for p in group}


def test_open_fields_resolve_from_the_ray_space(make_model: Any, ndc: Any, metric: Any) -> None:
    given = dict(annealing=NearFarAnnealingConfig(steps=None), frequency_mask=FrequencyMaskConfig(steps=None))
    in_ndc, in_metric = (make_model(parsed, **given).resolved() for parsed in (ndc, metric))
    paper = {
        "annealing": (
            {"steps": 512, "init_fraction": 1e-4, "mid_fraction": 1.0},
            {"steps": 256, "init_fraction": 0.5, "mid_fraction": 0.5},
        ),
        "unit_viewdirs": (False, True),
        "frequency_mask": ({"steps": 62791}, {"steps": 39550}),
    }
    for name, values in paper.items():
        assert (in_ndc[name], in_metric[name]) == values, name


def test_given_fields_stay(make_model: Any, metric: Any) -> None:
    annealing, mask = NearFarAnnealingConfig(steps=3, init_fraction=0.1, mid_fraction=0.2), FrequencyMaskConfig(steps=7)
    resolved = make_model(metric, annealing=annealing, frequency_mask=mask, unit_viewdirs=False).resolved()
    assert resolved["annealing"] == {"steps": 3, "init_fraction": 0.1, "mid_fraction": 0.2}
    assert resolved["frequency_mask"] == {"steps": 7} and resolved["unit_viewdirs"] is False


def test_outputs_of_both_levels(make_model: Any, ndc: Any) -> None:
    model = make_model()
    rendering = trained(model.train(), ndc)
    assert rendering.coarse is not None and rendering.coarse.coarse is None
    for level in (rendering, rendering.coarse):
        assert level.rgb.shape == (60, 3) and level.depth.shape == (60, 1) and level.samples is not None
        assert level.samples.weights.shape == (60, 8) and level.samples.t.shape == (60, 9)
        assert (level.samples.t.diff(dim=-1) >= 0).all()
        assert level.samples.density is not None and level.samples.density.shape == (60, 8)
    assert not fenceposts(rendering).requires_grad
    assert set(model.eval()(bundle_of(ndc, model))) == {"rgb", "depth", "accumulation"}


def test_view_directions_keep_their_length_in_ndc(make_model: Any, ndc: Any) -> None:
    colours = [make_model(unit_viewdirs=unit).eval() for unit in (None, False, True)]
    rendered = [model(bundle_of(ndc, model))["rgb"] for model in colours]
    assert torch.equal(rendered[0], rendered[1]) and not torch.equal(rendered[0], rendered[2])


def test_training_is_random_and_evaluation_is_not(make_model: Any, ndc: Any) -> None:
    model = make_model()
    bundle = bundle_of(ndc, model)
    assert not torch.equal(*(fenceposts(trained(model.train(), ndc)) for _ in range(2)))
    assert torch.equal(model.eval()(bundle)["rgb"], model.eval()(bundle)["rgb"])
    fixed = make_model(stratified=False, density_noise=0.0).train()
    assert torch.equal(fixed(bundle)["rgb"], fixed(bundle)["rgb"])
    noisy = make_model(stratified=False, density_noise=1.0).train()
    assert not torch.equal(noisy(bundle)["rgb"], noisy(bundle)["rgb"])


def test_near_and_far_open(make_model: Any, ndc: Any) -> None:
    model = make_model(annealing=NearFarAnnealingConfig(steps=10, init_fraction=0.1, mid_fraction=0.5)).train()
    spans = []
    for step in (0, 5, 9):
        model.update_to_step(step)
        coarse = trained(model, ndc).coarse
        assert coarse is not None
        t = fenceposts(coarse)
        spans.append(float(t.max() - t.min()))
    assert spans[0] < spans[1] < spans[2]


def test_one_entry_per_term(make_model: Any, ndc: Any) -> None:
    model = make_model().train()
    batch = {"image": torch.rand(60, 3)}
    losses = model.get_loss_dict(trained(model, ndc), batch)
    assert set(losses) == {"rgb_loss", "rgb_loss_coarse"}
    assert all(term.shape == () and term > 0 for term in losses.values())
    evaluated = model.eval().render_bundle(bundle_of(ndc, model))
    assert set(model.get_loss_dict(evaluated, batch)) == {"rgb_loss"}


def test_occlusion_counts_background_colours_in_metric_scenes(make_model: Any, metric: Any) -> None:
    """The prior on what the model renders: densities and colours of the samples, from near to far."""

    def term(samples: int, colour: float) -> float:
        model = make_model(metric)
        with torch.no_grad():
            model.field.rgb.weight.zero_()
            model.field.rgb.bias.fill_(colour)
        torch.manual_seed(1)
        config = OcclusionPriorConfig(enabled=True, weight=1.0, num_samples=2, background_samples=samples)
        context: Any = SimpleNamespace(photos=trained(model.train(), metric))
        scene: Any = SimpleNamespace(geometry=model.geometry)
        prior = config.setup(scene=scene, name="occlusion")
        return float(prior.loss_dict(0, context)["occlusion_loss"].detach())

    assert term(6, colour=-20.0) > term(0, colour=-20.0)
    assert term(6, colour=0.0) == term(0, colour=0.0)


@pytest.mark.parametrize("order", ["column", "octave"])
@pytest.mark.parametrize("include_mean", [False, True])
def test_frequency_masks_open(make_model: Any, order: Any, include_mean: bool) -> None:
    model = make_model(frequency_mask=FrequencyMaskConfig(steps=40, order=order), include_mean=include_mean)
    visible = []
    for step in (0, 10, 38):
        model.update_to_step(step)
        mask, view_mask = model.encoding_masks()
        assert mask.shape == (model.field.encoded_columns,) and view_mask.shape == (model.field.view_columns,)
        assert mask[0] > 0.99 and view_mask[0] > 0.99
        visible.append(float(mask.sum() + view_mask.sum()))
    assert visible == sorted(visible) and visible[0] < visible[-1]
    model.update_to_step(40)
    assert model.encoding_masks() == (None, None)


def test_a_fixed_share_of_the_columns(make_model: Any) -> None:
    model = make_model(frequency_mask=FrequencyMaskConfig(visible_ratio=0.5))
    for step in (0, 10**6):
        model.update_to_step(step)
        mask, _ = model.encoding_masks()
        assert mask.sum() == model.field.encoded_columns // 2


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_it_learns_a_colour(make_model: Any, ndc: Any, compute_dtype: str) -> None:
    model = make_model(compute_dtype=compute_dtype, density_noise=0.0).train()
    optimizer = torch.optim.Adam(model.get_param_groups()["field"], lr=1e-2)
    batch = {"image": torch.tensor([0.8, 0.4, 0.1]).expand(60, 3)}
    errors = []
    for step in range(60):
        model.update_to_step(step)
        losses = model.get_loss_dict(trained(model, ndc), batch)
        errors.append(float(losses["rgb_loss"].detach()))
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert errors[-1] < 0.1 * errors[0]

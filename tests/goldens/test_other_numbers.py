"""Tests of SparseNeRF's vectors on other numbers and sizes: none fails by noise, and each by a wrong formula.

The naive code that makes such sets is itself held to the stored vectors here.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Callable, Dict

import numpy as np
import pytest
import test_sparsenerf as on_vectors
import torch
from golden_arrays import DTYPES, GoldenFile, expect_both, limits, nudged, spread
from naive_sparsenerf import clipped, drawn, even_positions, levels, network, opacity, training_losses
from other_numbers import SHAPES, arrays_of

pytestmark = pytest.mark.goldens

Load = Callable[[str], GoldenFile]


@cache
def made(name: str, seed: int) -> GoldenFile:
    golden = GoldenFile(arrays_of(name, seed))
    golden.used = set()
    return golden


def loader(seed: int) -> Load:
    return lambda name: made(name.removesuffix(".npz"), seed)


CHECKS: Dict[str, Callable[[Load, torch.dtype], None]] = {
    "fenceposts": lambda load, dtype: on_vectors.test_resampled_fenceposts(load, "t_new_pad001", 0.01, dtype),
    "fenceposts_without_padding": lambda load, dtype: on_vectors.test_resampled_fenceposts(
        load, "t_new_pad0", 0.0, dtype
    ),
    "raw_weights": on_vectors.test_samples_of_the_raw_weights,
    "random_fenceposts": on_vectors.test_randomly_resampled_fenceposts,
    "first_level": on_vectors.test_first_level_fenceposts,
    "compositing": on_vectors.test_compositing,
    "gradient_of_distance": on_vectors.test_gradient_of_the_expected_distance,
    "network": lambda load, dtype: on_vectors.test_network(load, "small", dtype),
    "levels_ndc": lambda load, dtype: on_vectors.test_both_levels(load, "small", "ndc", dtype),
    "levels_cone": lambda load, dtype: on_vectors.test_both_levels(load, "small", "cone", dtype),
    "step_llff": lambda load, dtype: on_vectors.test_training_step(load, "llff", dtype),
    "step_dtu": lambda load, dtype: on_vectors.test_training_step(load, "dtu", dtype),
}
SEEDS = (11, 20)
"""Of the second, float32 takes a unit of the network over its kink."""


@pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_set_fails_by_noise(seed: int, check: str, dtype: torch.dtype) -> None:
    CHECKS[check](loader(seed), dtype)


def scaled(factor: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A wrong formula: the right one's result times a factor."""
    return lambda right: lambda *args, **kwargs: right(*args, **kwargs) * factor


def shifted(right: Callable[..., Any]) -> Callable[..., Any]:
    """A wrong formula: weights of the segment before."""
    return lambda *args, **kwargs: right(*args, **kwargs).roll(1, -1)


WRONG = {
    "compositing": ("compositing_weights", scaled(1.001)),
    "gradient_of_distance": ("compositing_weights", shifted),
    "fenceposts": ("resample_fenceposts", scaled(1.0005)),
    "raw_weights": ("sample_piecewise_constant", scaled(1.0005)),
    "random_fenceposts": ("sample_piecewise_constant", scaled(1.0005)),
    "first_level": ("stratified_fenceposts", scaled(1.0001)),
    "levels_ndc": ("expected_distance", scaled(1.001)),
    "levels_cone": ("expected_distance_clipped", scaled(1.001)),
    "step_llff": ("sum_of", scaled(1.01)),
    "step_dtu": ("sum_of", scaled(1.01)),
}
"""What a check must not let pass, in either precision: the function that it calls, and what is made of it."""


@pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_formula_fails(monkeypatch: pytest.MonkeyPatch, check: str, dtype: torch.dtype) -> None:
    name, wrong = WRONG[check]
    monkeypatch.setattr(on_vectors, name, wrong(getattr(on_vectors, name)))
    with pytest.raises(AssertionError):
        CHECKS[check](loader(SEEDS[0]), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("layer", ["density", "view_0", "layer_3"])
def test_a_wrong_network_fails(layer: str, dtype: torch.dtype) -> None:
    """One layer's weights off by 1 %."""
    golden = GoldenFile(made("model_forward_small", SEEDS[0]))
    golden.used = set()
    golden[f"param_{layer}_kernel"] = golden[f"param_{layer}_kernel"] * np.float32(1.01)
    for check in ("network", "levels_cone"):
        with pytest.raises(AssertionError):
            CHECKS[check](lambda name, golden=golden: golden, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["mlp_density", "mlp_rgb", "cone_level1_t", "cone_level1_weights", "ndc_level0_acc"])
def test_a_hundred_spreads_fail(name: str, dtype: torch.dtype) -> None:
    golden = made("model_forward_small", SEEDS[0])
    value = torch.from_numpy(golden[f"{name}_f64"]).to(dtype)
    expect_both(golden, name, value)
    off = value.clone()
    off.view(-1)[0] += 100 * max(spread(golden, name), 1e-6)
    with pytest.raises(AssertionError, match=name):
        expect_both(golden, name, off)


def test_limits_follow_the_noise_and_are_never_less_than_the_family() -> None:
    assert limits(0.0, torch.float32) == dict(rtol=1e-5, atol=1e-6)
    assert limits(1e-4, torch.float32)["atol"] == pytest.approx(8e-4)
    assert limits(1e-4, torch.float64)["atol"] == pytest.approx(8e-4 * 2.0**-29)
    values = {"a": np.ones(1000, np.float32)}
    change = nudged(values, 0)["a"] - 1.0
    assert set(np.abs(change).round(12)) == {round(2.0**-23, 12)} and 400 < (change > 0).sum() < 600


@pytest.mark.parametrize("case", ["ndc", "cone"])
def test_naive_code_gives_the_stored_levels(sparsenerf_golden: Load, case: str) -> None:
    golden = sparsenerf_golden("model_forward_small.npz")
    double = {name: torch.from_numpy(np.array(value)).double() for name, value in golden.part("param_").items()}
    rays = {name: torch.from_numpy(golden[f"{case}_{name}"]).double() for name in on_vectors.RAY_ARRAYS}
    of = levels(double, rays, SHAPES[case], int(golden["num_samples"]), float(golden["resample_padding"]))
    for number, (level, limit) in enumerate(zip(of, (1e-12, 1e-7), strict=True)):
        for name, value in {"t": level.t, "weights": level.weights}.items():
            expected = golden[f"{case}_level{number}_{name}_f64"]
            np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=limit, err_msg=name)
    inputs = [torch.from_numpy(golden[name]).double() for name in on_vectors.MLP]
    np.testing.assert_allclose(network(double, *inputs)[0].numpy(), golden["mlp_density_f64"].squeeze(), atol=1e-12)


@pytest.mark.parametrize("dataset", ["llff", "dtu"])
def test_naive_code_gives_the_stored_step(sparsenerf_golden: Load, dataset: str) -> None:
    golden = sparsenerf_golden("train_step.npz")

    def doubles(kind: str) -> Dict[str, torch.Tensor]:
        return {n: torch.from_numpy(np.array(v)).double() for n, v in golden.part(f"{dataset}_{kind}_").items()}

    values = {name: value.requires_grad_() for name, value in doubles("param").items()}
    both = [levels(values, doubles(k), SHAPES[dataset], int(golden["num_samples"]), 0.01) for k in ("rays", "patch")]
    target = torch.from_numpy(golden[f"{dataset}_rgb_gt"]).double()
    losses = training_losses(both[0], both[1], target, dataset, float(golden[f"{dataset}_tv_weight"]))
    found = torch.autograd.grad(losses["loss"], list(values.values()))
    gradients, figures = clipped(dict(zip(values, found, strict=True)))
    for name, value in {**losses, **figures}.items():
        np.testing.assert_allclose(value.detach().numpy(), golden[f"{dataset}_{name}_f64"], rtol=1e-9, err_msg=name)
    for name, value in gradients.items():
        np.testing.assert_allclose(value.numpy(), golden[f"{dataset}_grad_{name}"], rtol=0, atol=1e-8, err_msg=name)


def test_naive_code_gives_the_stored_samples(sparsenerf_golden: Load) -> None:
    golden = sparsenerf_golden("resample.npz")
    t, weights = (torch.from_numpy(golden[name]).double() for name in ("t", "weights"))
    found = drawn(t, weights, even_positions(golden["t_pdf_only"].shape[1], t))
    np.testing.assert_allclose(found.numpy(), golden["t_pdf_only_f64"], rtol=0, atol=1e-9)
    golden = sparsenerf_golden("volumetric_rendering.npz")
    density, t, directions = (torch.from_numpy(golden[name]).double() for name in ("density", "t", "directions"))
    found = opacity(density, t, directions).weights
    np.testing.assert_allclose(found.numpy(), golden["weights_f64"], rtol=0, atol=1e-14)

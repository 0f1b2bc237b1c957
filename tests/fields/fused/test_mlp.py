"""The fused network against the same layers one after the other: values and gradients."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.fields.fused import mlp as module
from fewshot_ns.fields.fused.mlp import fused_density, fused_mlp
from fewshot_ns.fields.proposal_field import ProposalField

SKIP = 2


def inputs(rays: int = 5, samples: int = 6, dtype: torch.dtype = torch.float64, layers: int = 4) -> Dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return (0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_(True)

    columns, width, colours = 9, 8, 5
    trunk = [
        (draw(width, (columns if i == 0 else width) + (columns if i == SKIP else 0)), draw(width))
        for i in range(layers)
    ]
    return {
        "encoded": draw(rays, samples, columns),
        "view": draw(rays, colours),
        "trunk": trunk,
        "skip_layer": SKIP,
        "head": draw(colours + 1, width),
        "density_bias": draw(1),
        "rgb": (draw(3, colours), draw(3)),
    }


def layer_by_layer(
    encoded: Tensor,
    view: Tensor,
    trunk: List[Tuple[Tensor, Tensor]],
    skip_layer: int,
    head: Tensor,
    density_bias: Tensor,
    rgb: Tuple[Tensor, Tensor],
) -> Tuple[Tensor, Tensor]:
    hidden = encoded
    for i, (weight, bias) in enumerate(trunk):
        hidden = torch.cat([hidden, encoded], dim=-1) if i == skip_layer else hidden
        hidden = torch.relu(hidden @ weight.t() + bias)
    colour = torch.relu(hidden @ head[:-1].t() + view[:, None])
    return hidden @ head[-1] + density_bias, colour @ rgb[0].t() + rgb[1]


def leaves(given: Dict[str, Any]) -> List[Tensor]:
    flat = [tensor for layer in given["trunk"] for tensor in layer]
    return [given["encoded"], given["view"], given["head"], given["density_bias"], *given["rgb"], *flat]


def gradients(function: Any, given: Dict[str, Any]) -> List[Tensor]:
    density, rgb = function(**given)
    weight = torch.linspace(-1.0, 1.0, density.numel(), dtype=density.dtype).reshape(density.shape)
    loss = (weight * density).sum() + (weight[..., None] * rgb**2).sum()
    return list(torch.autograd.grad(loss, [leaf for leaf in leaves(given) if leaf.requires_grad]))


@pytest.fixture(params=[1, 12, 10**6], ids=["one ray a block", "two rays a block", "one block"])
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "BLOCK_ROWS", request.param)
    return request.param


def test_values_are_those_of_the_layers(block_rows: int) -> None:
    given = inputs()
    for actual, expected in zip(fused_mlp(**given), layer_by_layer(**given), strict=True):
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_layers(block_rows: int) -> None:
    given = inputs()
    for actual, expected in zip(gradients(fused_mlp, given), gradients(layer_by_layer, given), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    given = inputs(rays=2, samples=2, layers=3)

    def function(*tensors: Tensor) -> Tuple[Tensor, Tensor]:
        encoded, view, head, bias, rgb_weight, rgb_bias, *flat = tensors
        trunk = list(zip(flat[0::2], flat[1::2], strict=True))
        return fused_mlp(encoded, view, trunk, SKIP, head, bias, (rgb_weight, rgb_bias))

    assert torch.autograd.gradcheck(function, leaves(given))


def test_encoding_without_a_gradient() -> None:
    given = inputs()
    given["encoded"] = given["encoded"].detach()
    for actual, expected in zip(gradients(fused_mlp, given), gradients(layer_by_layer, given), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_one_output_alone_has_a_gradient() -> None:
    given = inputs()
    for index in (0, 1):
        actual, expected = (
            torch.autograd.grad(function(**given)[index].sum(), leaves(given), allow_unused=True)
            for function in (fused_mlp, layer_by_layer)
        )
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs)


def test_half_precision_comes_close_and_keeps_the_format_of_the_parameters() -> None:
    given = inputs(rays=20, dtype=torch.float32)
    half = {**given, "encoded": given["encoded"].detach().bfloat16()}
    given["encoded"] = given["encoded"].detach()
    for actual, expected in zip(fused_mlp(**half), fused_mlp(**given), strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.1)
    for actual, expected in zip(gradients(fused_mlp, half), gradients(fused_mlp, given), strict=True):
        assert actual.dtype == torch.float32
        assert (actual - expected).norm() < 0.1 * expected.norm()


def test_nothing_is_kept_without_gradients() -> None:
    given = inputs()
    with torch.no_grad():
        density, rgb = fused_mlp(**given)
    assert density.grad_fn is None and rgb.grad_fn is None
    torch.testing.assert_close(density, fused_mlp(**given)[0].detach())


def test_second_derivatives_are_refused() -> None:
    given = inputs()
    (gradient,) = torch.autograd.grad((fused_mlp(**given)[0] ** 2).sum(), given["encoded"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_not_a_number_stays_visible() -> None:
    given = inputs()
    with torch.no_grad():
        given["trunk"][0][0][0, 0] = float("nan")
    density, rgb = fused_mlp(**given)
    assert density.isnan().all() and rgb.isnan().all()


def density_inputs(rays: int = 5) -> Tuple[Tensor, List[Tuple[Tensor, Tensor]], Tuple[Tensor, Tensor]]:
    given = inputs(rays=rays)
    weight, bias = given["trunk"][SKIP]
    width = len(weight)
    trunk = [(weight[:, :width] if i == SKIP else w, b) for i, (w, b) in enumerate(given["trunk"])]
    return given["encoded"], trunk, (given["head"][-1:], given["density_bias"])


def test_density_alone(block_rows: int) -> None:
    encoded, trunk, (weight, bias) = density_inputs()
    hidden = encoded
    for w, b in trunk:
        hidden = torch.relu(hidden @ w.t() + b)
    expected = (hidden @ weight.t() + bias)[..., 0]
    actual = fused_density(encoded, trunk, (weight, bias))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    of = [encoded, weight, bias, *(tensor for layer in trunk for tensor in layer)]
    both = (torch.autograd.grad((value**2).sum(), of, retain_graph=True) for value in (actual, expected))
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_proposal_field_differentiates_by_positions_that_want_it() -> None:
    torch.manual_seed(0)
    field = ProposalField(num_layers=2, width=8, num_octaves=3).double()
    means, cov_diag = torch.rand(3, 4, 3, dtype=torch.float64), 0.01 * torch.rand(3, 4, 3, dtype=torch.float64)
    plain = field(means, cov_diag)
    assert plain.shape == (3, 4) and (plain >= 0).all()
    assert torch.autograd.gradcheck(lambda m: field(m, cov_diag), (means.requires_grad_(),))
    torch.testing.assert_close(field(means, cov_diag), plain, rtol=1e-12, atol=1e-12)

"""The proposal network: its size, that it is what the layers say, and its mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_ns.field_components.encodings import integrated_positional_encoding
from fewshot_ns.fields.proposal_field import ProposalField


def gaussians(rays: int = 5, samples: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(rays, samples, 3, generator=generator, dtype=torch.float64)
    return means, 1e-3 * torch.rand(rays, samples, 3, generator=generator, dtype=torch.float64)


def plainly(network: ProposalField, means: Tensor, cov_diag: Tensor, mask: Tensor) -> Tensor:
    hidden = integrated_positional_encoding(means, cov_diag, network.num_octaves) * mask
    for layer in network.trunk:
        hidden = torch.relu(layer(hidden))
    return torch.nn.functional.softplus(network.density(hidden)[..., 0] + network.density_bias)


def test_default_has_the_original_size() -> None:
    assert sum(value.numel() for value in ProposalField().parameters()) == 222465


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_what_the_layers_say(masked: bool) -> None:
    torch.manual_seed(0)
    network, given = ProposalField(3, 16, 4).double(), gaussians()
    mask = torch.linspace(1.0, 0.0, 24, dtype=torch.float64) if masked else torch.ones(24, dtype=torch.float64)
    found, expected = network(*given, mask if masked else None), plainly(network, *given, mask)
    torch.testing.assert_close(found, expected)
    parameters = list(network.parameters())
    ours, theirs = (torch.autograd.grad((value**2).sum(), parameters) for value in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert masked == (not torch.allclose(found, network(*given)))


def test_masked_columns_have_no_influence() -> None:
    torch.manual_seed(0)
    network, (means, cov_diag) = ProposalField(3, 16, 4).double(), gaussians()
    columns = torch.ones(2, 4, 3, dtype=torch.float64)
    columns[:, 0] = 0.0
    # A step of half a turn of the lowest octave is whole turns of all others.
    moved = means + torch.pi
    torch.testing.assert_close(network(means, cov_diag, columns.flatten()), network(moved, cov_diag, columns.flatten()))
    assert not torch.allclose(network(means, cov_diag), network(moved, cov_diag), atol=1e-3)

"""A plain depth-mipnerf in PyTorch with its losses, step by step as the text describes it; float32, nothing merged."""

from __future__ import annotations

import math
from typing import Dict, List, Tuple

import torch
from mipnerf_twin import (
    TwinNetwork,
    conical_gaussians,
    first_fenceposts,
    initialise,
    integrated_encoding,
    resample,
    weights_of,
)
from torch import Tensor, nn


class TwinProposal(nn.Module):
    """4x256 trunk and a density; 222,465 parameters."""

    def __init__(self, width: int = 256, octaves: int = 16) -> None:
        super().__init__()
        self.octaves = octaves
        self.trunk = nn.ModuleList(nn.Linear(width if layer else 6 * octaves, width) for layer in range(4))
        self.density = nn.Linear(width, 1)
        initialise(self)

    def forward(self, means: Tensor, variances: Tensor) -> Tensor:
        """(R, S) density of Gaussians (R, S, 3)."""
        hidden = integrated_encoding(means, variances, self.octaves)
        for layer in self.trunk:
            hidden = torch.relu(layer(hidden))
        return nn.functional.softplus(self.density(hidden)[..., 0] - 1.0)


class DepthTwin(nn.Module):
    """Two proposal levels of 64 samples and a final one of 32, before a white background."""

    def __init__(self) -> None:
        super().__init__()
        self.proposal, self.network = TwinProposal(), TwinNetwork()

    def forward(self, rays: Dict[str, Tensor], random: bool = True) -> Tuple[Tensor, List[Tuple[Tensor, Tensor]]]:
        """Colour (R, 3), and fenceposts and weights of each level, the final one last.

        Args:
            rays: `origins`, `directions`, `viewdirs` (R, 3), `radii`, `near`, `far` (R, 1).
            random: stratified samples, as in training.
        """
        levels: List[Tuple[Tensor, Tensor]] = []
        t = first_fenceposts(rays, 64, random)
        for following in (64, 32):
            weights = weights_of(self.proposal(*conical_gaussians(t, rays)), t, rays)
            levels.append((t, weights))
            t = resample(t, weights, following, random)
        density, rgb = self.network(*conical_gaussians(t, rays), rays["viewdirs"], None)
        weights = weights_of(density, t, rays)
        levels.append((t, weights))
        return (weights[..., None] * rgb).sum(-2) + 1.0 - weights.sum(-1, keepdim=True), levels


def proposal_loss(levels: List[Tuple[Tensor, Tensor]]) -> Tensor:
    """What the final weights exceed the proposals' by, mean over samples and levels."""
    t, weights = levels[-1][0].detach(), levels[-1][1].detach()
    losses = []
    for t_outer, w_outer in levels[:-1]:
        total = torch.cat([torch.zeros_like(w_outer[:, :1]), torch.cumsum(w_outer, dim=-1)], dim=-1)
        right = torch.searchsorted(t_outer, t, right=True)
        below, above = (right - 1).clamp(0, w_outer.shape[1]), right.clamp(0, w_outer.shape[1])
        outer = total.gather(-1, above)[:, 1:] - total.gather(-1, below)[:, :-1]
        losses.append(((weights - outer).clamp(min=0.0) ** 2 / (weights + 2.0**-10)).mean())
    return torch.stack(losses).mean()


def cdf_loss(t: Tensor, weights: Tensor, depth: Tensor, sigma: float = 0.03) -> Tensor:
    """0.1 x both bounds around the depth (R, 1) + 1.0 x weight in the empty space before it."""
    middle = 0.5 * (t[:, 1:] + t[:, :-1]).detach()
    cumulative = torch.cumsum(weights, dim=-1)
    expected = 0.5 * (1.0 + torch.erf((middle - depth) / (sigma * math.sqrt(2.0))))
    known = depth > 0
    empty = known & (middle < depth - 3 * sigma)
    before = known & (middle > depth - 3 * sigma) & (middle < depth)
    behind = known & (middle > depth) & (middle < depth + 3 * sigma)

    def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
        return (values * chosen).sum() / chosen.sum().clamp(min=1)

    near = mean_over((cumulative - expected).clamp(min=0.0) ** 2, before)
    near = near + mean_over((expected - cumulative).clamp(min=0.0) ** 2, behind)
    return 0.1 * near + 1.0 * mean_over(weights**2, empty)


def total_loss(rgb: Tensor, target: Tensor, levels: List[Tuple[Tensor, Tensor]], depth: Tensor) -> Tensor:
    """Charbonnier loss of the colour, the proposals' and the depth's."""
    colour = torch.sqrt((rgb - target) ** 2 + 1e-3).mean()
    return colour + proposal_loss(levels) + cdf_loss(*levels[-1], depth)

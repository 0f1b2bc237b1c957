"""A plain mip-NeRF in PyTorch, layer by layer as the papers describe it: what the product's speed is compared to.

Everything is float32; one level after the other, one layer after the other, no blocks, nothing merged.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn


class TwinNetwork(nn.Module):
    """8x256 trunk with a skip connection, density, bottleneck, 1x128 colour branch; 612,740 parameters."""

    def __init__(self, width: int = 256, colour_width: int = 128, octaves: int = 16, view_octaves: int = 4) -> None:
        super().__init__()
        self.octaves, self.view_octaves = octaves, view_octaves
        columns = 6 * octaves
        self.trunk = nn.ModuleList(
            nn.Linear({0: columns, 5: width + columns}.get(layer, width), width) for layer in range(8)
        )
        self.density = nn.Linear(width, 1)
        self.bottleneck = nn.Linear(width, width)
        self.colour = nn.Linear(width + 3 + 6 * view_octaves, colour_width)
        self.rgb = nn.Linear(colour_width, 3)
        initialise(self)

    def forward(
        self, means: Tensor, variances: Tensor, viewdirs: Tensor, noise: Optional[Tensor]
    ) -> Tuple[Tensor, Tensor]:
        """(R, S) density and (R, S, 3) colour of Gaussians (R, S, 3) seen along directions (R, 3)."""
        encoded = integrated_encoding(means, variances, self.octaves)
        view_scales = 2.0 ** torch.arange(self.view_octaves, device=means.device)
        view_scaled = (viewdirs[..., None, :] * view_scales[:, None]).flatten(-2)
        view = torch.cat([viewdirs, torch.sin(view_scaled), torch.cos(view_scaled)], dim=-1)
        hidden = encoded
        for index, layer in enumerate(self.trunk):
            hidden = torch.relu(layer(torch.cat([hidden, encoded], dim=-1) if index == 5 else hidden))
        raw_density = self.density(hidden)[..., 0]
        if noise is not None:
            raw_density = raw_density + noise
        view = view[:, None].expand(-1, means.shape[1], -1)
        colour = torch.relu(self.colour(torch.cat([self.bottleneck(hidden), view], dim=-1)))
        rgb = torch.sigmoid(self.rgb(colour)) * 1.002 - 0.001
        return nn.functional.softplus(raw_density - 1.0), rgb


class Twin(nn.Module):
    """Both levels of mip-NeRF on cones."""

    def __init__(self, num_samples: int = 128) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.network = TwinNetwork()

    def forward(self, rays: Dict[str, Tensor], random: bool = True) -> Dict[str, Tensor]:
        """Colour (R, 3) and distance (R,) of both levels.

        Args:
            rays: `origins`, `directions`, `viewdirs` (R, 3), `radii`, `near`, `far` (R, 1).
            random: stratified samples and density noise, as in training.
        """
        t = first_fenceposts(rays, self.num_samples, random)
        outputs: Dict[str, Tensor] = {}
        for level in ("coarse", "fine"):
            if level == "fine":
                t = resample(t, outputs["weights_coarse"], self.num_samples, random)
            means, variances = conical_gaussians(t, rays)
            noise = torch.randn_like(t[:, 1:]) if random else None
            density, rgb = self.network(means, variances, rays["viewdirs"], noise)
            weights = weights_of(density, t, rays)
            middle = 0.5 * (t[:, 1:] + t[:, :-1])
            outputs[f"weights_{level}"] = weights
            outputs[f"rgb_{level}"] = (weights[..., None] * rgb).sum(-2)
            outputs[f"distance_{level}"] = (weights * middle).sum(-1) / weights.sum(-1).clamp(min=1e-10)
        return outputs


def initialise(module: nn.Module) -> None:
    """Glorot's uniform weights, biases of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def integrated_encoding(means: Tensor, variances: Tensor, octaves: int) -> Tensor:
    """(R, S, 6 * octaves) expected sines and cosines of Gaussians (R, S, 3)."""
    scales = 2.0 ** torch.arange(octaves, device=means.device)
    scaled = (means[..., None, :] * scales[:, None]).flatten(-2)
    damping = torch.exp(-0.5 * (variances[..., None, :] * scales[:, None] ** 2).flatten(-2))
    return torch.cat([damping * torch.sin(scaled), damping * torch.cos(scaled)], dim=-1)


def first_fenceposts(rays: Dict[str, Tensor], num_samples: int, random: bool) -> Tensor:
    """(R, num_samples + 1) fenceposts, equally spaced or stratified."""
    steps = torch.linspace(0.0, 1.0, num_samples + 1, device=rays["near"].device)
    t = rays["near"] + (rays["far"] - rays["near"]) * steps
    if not random:
        return t
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    lower = torch.cat([t[:, :1], middle], dim=-1)
    upper = torch.cat([middle, t[:, -1:]], dim=-1)
    return lower + (upper - lower) * torch.rand_like(t)


def weights_of(density: Tensor, t: Tensor, rays: Dict[str, Tensor]) -> Tensor:
    """(R, S) weights of volume rendering from density (R, S) and fenceposts (R, S + 1)."""
    lengths = (t[:, 1:] - t[:, :-1]) * rays["directions"].norm(dim=-1, keepdim=True)
    alpha = 1.0 - torch.exp(-density * lengths)
    before = torch.cumsum(density * lengths, dim=-1) - density * lengths
    return alpha * torch.exp(-before)


@torch.no_grad()
def resample(t: Tensor, weights: Tensor, num_samples: int, random: bool) -> Tensor:
    """(R, num_samples + 1) new fenceposts from blurred weights (R, S) between fenceposts (R, S + 1)."""
    padded = torch.cat([weights[:, :1], weights, weights[:, -1:]], dim=-1)
    highest = torch.maximum(padded[:, :-1], padded[:, 1:])
    blurred = 0.5 * (highest[:, :-1] + highest[:, 1:]) + 0.01
    pdf = blurred / blurred.sum(-1, keepdim=True)
    cdf = torch.cat([torch.zeros_like(pdf[:, :1]), torch.cumsum(pdf, dim=-1)], dim=-1)
    count = num_samples + 1
    if random:
        u = (torch.arange(count, device=t.device) + torch.rand(len(t), count, device=t.device)) / count
    else:
        u = torch.linspace(0.0, 1.0 - 1.2e-7, count, device=t.device).expand(len(t), -1)
    above = torch.searchsorted(cdf, u.contiguous(), right=True).clamp(1, cdf.shape[-1] - 1)
    cdf0, cdf1 = cdf.gather(-1, above - 1), cdf.gather(-1, above)
    t0, t1 = t.gather(-1, above - 1), t.gather(-1, above)
    return t0 + (t1 - t0) * ((u - cdf0) / (cdf1 - cdf0).clamp(min=1e-10)).clamp(0.0, 1.0)


def conical_gaussians(t: Tensor, rays: Dict[str, Tensor]) -> Tuple[Tensor, Tensor]:
    """Means and variances (R, S, 3) of the cones between fenceposts (R, S + 1)."""
    middle, half = 0.5 * (t[:, 1:] + t[:, :-1]), 0.5 * (t[:, 1:] - t[:, :-1])
    denominator = 3.0 * middle**2 + half**2
    t_mean = middle + 2.0 * middle * half**2 / denominator
    t_var = half**2 / 3.0 - 4.0 / 15.0 * half**4 * (12.0 * middle**2 - half**2) / denominator**2
    r_var = rays["radii"] ** 2 * (middle**2 / 4.0 + 5.0 / 12.0 * half**2 - 4.0 / 15.0 * half**4 / denominator)
    directions = rays["directions"]
    squared = directions**2
    means = rays["origins"][:, None] + t_mean[..., None] * directions[:, None]
    across = 1.0 - squared / squared.sum(-1, keepdim=True)
    return means, t_var[..., None] * squared[:, None] + r_var[..., None] * across[:, None]

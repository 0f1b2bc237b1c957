"""SparseNeRF's rendering and training step, written naively from the reference vectors' README, in either precision.

It stands for the original where other numbers, sizes and scenes are wanted than those that are stored: in float32 it
takes the steps that the original takes (opacity as 1 - exp, cosines as shifted sines), so that it loses the same
digits. Nothing of the product is used. Parameters go by the original's names, `layer_0_kernel` and so on.
"""

from __future__ import annotations

import math
from typing import Dict, Mapping, NamedTuple, Tuple

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]
EPSILON = float(torch.finfo(torch.float32).eps)
PADDING = 1e-3
"""Of colours beyond [0, 1]."""
DENSITY_BIAS = -1.0
DEPTH_WEIGHTS = {"llff": (0.5, 0.01), "dtu": (0.2, 1.0)}
"""Weight of the depth term, and of continuity against ranking in it."""
COARSE_COLOUR, COARSE_SMOOTHNESS = 0.1, 0.1
MARGIN = 1e-4
CLIP_VALUE = CLIP_NORM = 0.1


class Level(NamedTuple):
    """What one level makes of R rays."""

    t: Tensor
    weights: Tensor
    rgb: Tensor
    """(R, S, 3) of the samples."""


def gaussians(t: Tensor, rays: Mapping[str, Tensor], shape: str) -> Tuple[Tensor, Tensor]:
    """Means and diagonal covariances (R, S, 3) of the segments between fenceposts."""
    middle, half = (t[:, :-1] + t[:, 1:]) / 2, (t[:, 1:] - t[:, :-1]) / 2
    radii, directions = rays["radii"], rays["directions"]
    if shape == "cone":
        below = 3 * middle**2 + half**2
        mean = middle + 2 * middle * half**2 / below
        along = half**2 / 3 - 4 / 15 * half**4 * (12 * middle**2 - half**2) / below**2
        across = radii**2 * (middle**2 / 4 + 5 / 12 * half**2 - 4 / 15 * half**4 / below)
    else:
        mean, along, across = middle, (2 * half) ** 2 / 12, (radii**2 / 4).expand_as(middle)
    squares = directions**2
    beside = 1 - squares / squares.sum(-1, keepdim=True).clamp(min=1e-10)
    means = rays["origins"][:, None] + directions[:, None] * mean[..., None]
    return means, along[..., None] * squares[:, None] + across[..., None] * beside[:, None]


def encoded(means: Tensor, cov_diag: Tensor, octaves: int) -> Tensor:
    """Integrated encoding: all sines by octave, then all cosines as shifted sines."""
    scales = 2.0 ** torch.arange(octaves, dtype=means.dtype)
    angles = (means[..., None, :] * scales[:, None]).flatten(-2)
    variances = (cov_diag[..., None, :] * scales[:, None] ** 2).flatten(-2)
    angles = torch.cat([angles, angles + 0.5 * math.pi], dim=-1)
    reduced = torch.where(angles.abs() < 100 * math.pi, angles, angles.remainder(100 * math.pi))
    return torch.exp(-0.5 * torch.cat([variances, variances], dim=-1)) * reduced.sin()


def network(parameters: Parameters, means: Tensor, cov_diag: Tensor, viewdirs: Tensor) -> Tuple[Tensor, Tensor]:
    """Density (R, S) and colour (R, S, 3)."""
    first = parameters["layer_0_kernel"]
    inputs = encoded(means, cov_diag, first.shape[0] // 6)
    hidden, layers = inputs, sum(name.startswith("layer_") for name in parameters) // 2
    for index in range(layers):
        kernel = parameters[f"layer_{index}_kernel"]
        if kernel.shape[0] != hidden.shape[-1]:
            hidden = torch.cat([hidden, inputs], dim=-1)
        hidden = torch.relu(hidden @ kernel + parameters[f"layer_{index}_bias"])
    raw = hidden @ parameters["density_kernel"] + parameters["density_bias"]
    bottleneck = hidden @ parameters["bottleneck_kernel"] + parameters["bottleneck_bias"]
    octaves = (parameters["view_0_kernel"].shape[0] - bottleneck.shape[-1] - 3) // 6
    directions = torch.cat([viewdirs, encoded(viewdirs, torch.zeros_like(viewdirs), octaves)], dim=-1)
    shown = torch.cat([bottleneck, directions[:, None].expand(-1, means.shape[1], -1)], dim=-1)
    colour = torch.relu(shown @ parameters["view_0_kernel"] + parameters["view_0_bias"])
    colour = torch.sigmoid(colour @ parameters["rgb_kernel"] + parameters["rgb_bias"])
    density = torch.nn.functional.softplus(raw[..., 0] + DENSITY_BIAS)
    return density, colour * (1 + 2 * PADDING) - PADDING


def normals(parameters: Parameters, means: Tensor, cov_diag: Tensor, viewdirs: Tensor) -> Tensor:
    """(R, S, 3) negative unit gradient of the density by the means."""
    means = means.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(parameters, means, cov_diag, viewdirs)[0].sum(), means)
    return -gradient / (gradient**2).sum(-1, keepdim=True).clamp(min=EPSILON).sqrt()


class Opacity(NamedTuple):
    """Of the segments along rays."""

    lengths: Tensor
    alpha: Tensor
    transmittance: Tensor
    weights: Tensor


def opacity(density: Tensor, t: Tensor, directions: Tensor) -> Opacity:
    """As the original takes it: 1 - exp, which loses digits where there is little density."""
    lengths = (t[:, 1:] - t[:, :-1]) * directions.norm(dim=-1, keepdim=True)
    optical = density * lengths
    before = torch.cat([torch.zeros_like(optical[:, :1]), optical[:, :-1].cumsum(-1)], dim=-1)
    alpha, transmittance = 1 - torch.exp(-optical), torch.exp(-before)
    return Opacity(lengths, alpha, transmittance, alpha * transmittance)


def mean_distance(weights: Tensor, t: Tensor, least: float = 0.0) -> Tensor:
    """(R,) between the first and the last fencepost; the first of an empty ray."""
    middle = (t[:, 1:] + t[:, :-1]) / 2
    total = weights.sum(-1)
    mean = torch.where(total > 0, (weights * middle).sum(-1) / total.clamp(min=max(least, 1e-30)), t[:, 0])
    return mean.maximum(t[:, 0]).minimum(t[:, -1])


def percentile(weights: Tensor, t: Tensor, share: float) -> Tensor:
    """(R,) distance at which a share of the weight is reached, by linear interpolation of the mid-points."""
    middle, reached, found = (t[:, 1:] + t[:, :-1]) / 2, weights.cumsum(-1), []
    for row, at in zip(middle, reached, strict=True):
        target = share * at[-1]
        above = min(max(int((at <= target).sum()), 1), len(at) - 1)
        gap = at[above] - at[above - 1]
        part = ((target - at[above - 1]) / gap).clamp(0, 1) if gap > 0 else torch.zeros_like(gap)
        found.append(row[above - 1] + part * (row[above] - row[above - 1]))
    return torch.stack(found)


def distortion(weights: Tensor, t: Tensor) -> Tensor:
    """(R,) as a double sum."""
    middle, length = (t[:, 1:] + t[:, :-1]) / 2, t[:, 1:] - t[:, :-1]
    apart = (middle[:, :, None] - middle[:, None]).abs()
    return (weights[:, :, None] * weights[:, None] * apart).sum((1, 2)) + (weights**2 * length).sum(-1) / 3


def drawn(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Positions of a piecewise constant density by its inverse."""
    total = weights.sum(-1, keepdim=True)
    missing = (1e-5 - total).clamp(min=0)
    weights, total = weights + missing / weights.shape[-1], total + missing
    inner = (weights / total)[:, :-1].cumsum(-1).clamp(max=1)
    cdf = torch.cat([torch.zeros_like(total), inner, torch.ones_like(total)], dim=-1)
    below = u[:, None, :] >= cdf[:, :, None]

    def ends(x: Tensor) -> Tuple[Tensor, Tensor]:
        low = torch.where(below, x[:, :, None], x[:, :1, None]).amax(1)
        return low, torch.where(~below, x[:, :, None], x[:, -1:, None]).amin(1)

    (low, high), (first, last) = ends(cdf), ends(t)
    return first + ((u - low) / (high - low)).nan_to_num(0.0).clamp(0, 1) * (last - first)


def blurred(weights: Tensor, padding: float) -> Tensor:
    """Mean of the larger of each weight and its neighbours, plus padding."""
    padded = torch.cat([weights[:, :1], weights, weights[:, -1:]], dim=-1)
    larger = padded[:, :-1].maximum(padded[:, 1:])
    return (larger[:, :-1] + larger[:, 1:]) / 2 + padding


def even_positions(count: int, like: Tensor) -> Tensor:
    """(R, count) in [0, 1 - eps], both ends included."""
    return torch.linspace(0.0, 1.0 - EPSILON, count, dtype=like.dtype).expand(len(like), -1)


def first_fenceposts(near: Tensor, far: Tensor, samples: int) -> Tensor:
    """(R, samples + 1) equally spaced."""
    share = torch.linspace(0.0, 1.0, samples + 1, dtype=near.dtype)
    return near * (1 - share) + far * share


def levels(parameters: Parameters, rays: Mapping[str, Tensor], shape: str, samples: int, padding: float) -> list[Level]:
    """Both levels, of the same network."""
    t = first_fenceposts(rays["near"], rays["far"], samples)
    found = []
    for _ in range(2):
        density, rgb = network(parameters, *gaussians(t, rays, shape), rays["viewdirs"])
        found.append(Level(t, opacity(density, t, rays["directions"]).weights, rgb))
        t = drawn(t, blurred(found[-1].weights, padding), even_positions(samples + 1, t)).detach()
    return found


def training_losses(
    seen: list[Level], patches: list[Level], target: Tensor, dataset: str, tv_weight: float
) -> Dict[str, Tensor]:
    """`losses`, `all_depth_loss` and `losses_georeg`, each (coarse, fine), and their `loss`."""
    colours = [(level.weights[..., None] * level.rgb).sum(1) for level in seen]
    colour = [((rgb - target) ** 2).sum(-1).mean() for rgb in colours]
    factor, continuity = DEPTH_WEIGHTS[dataset]
    depth = []
    for level in seen:
        p0, p1, n0, n1 = mean_distance(level.weights, level.t).reshape(-1, 4).unbind(-1)
        ranking = (p0 - p1 + MARGIN).clamp(min=0).mean()
        apart = ((p0 - n0).abs() - MARGIN).clamp(min=0) + ((p1 - n1).abs() - MARGIN).clamp(min=0)
        depth.append(ranking + continuity * apart.mean())
    smooth = []
    for level in patches:
        distance = mean_distance(level.weights, level.t, EPSILON).reshape(-1, 8, 8)
        acc = level.weights.sum(-1).reshape(-1, 8, 8).detach()
        here = distance[:, :-1, :-1]
        steps = (here - distance[:, :-1, 1:]) ** 2 + (here - distance[:, 1:, :-1]) ** 2
        smooth.append((acc[:, :-1, :-1] * steps).mean() * (dataset == "dtu"))
    total = colour[1] + COARSE_COLOUR * colour[0] + factor * depth[1]
    total = total + tv_weight * smooth[1] + COARSE_SMOOTHNESS * smooth[0]
    pairs = {"losses": colour, "all_depth_loss": depth, "losses_georeg": smooth}
    return {**{name: torch.stack(pair) for name, pair in pairs.items()}, "loss": total}


def clipped(gradients: Dict[str, Tensor]) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
    """Gradients clipped by element, then by their norm; and the norms and largest elements before and after."""

    def of(values: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
        flat = torch.cat([value.flatten() for value in values.values()])
        return {f"{prefix}grad_norm": flat.norm(), f"{prefix}grad_abs_max": flat.abs().max()}

    figures = of(gradients, "raw_")
    gradients = {name: value.clamp(-CLIP_VALUE, CLIP_VALUE) for name, value in gradients.items()}
    figures |= of(gradients, "")
    factor = (CLIP_NORM / (EPSILON + figures["grad_norm"])).clamp(max=1.0)
    gradients = {name: factor * value for name, value in gradients.items()}
    return gradients, {**figures, "grad_norm_clipped": of(gradients, "")["grad_norm"]}

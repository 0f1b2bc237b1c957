"""Splats the slow way: every Gaussian at every pixel, in the words of the paper."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import torch
from gsplat.cuda import _torch_impl as gsplat_torch
from torch import Tensor


def composite_naively(
    means: Tensor, conics: Tensor, opacities: Tensor, radii: Tensor, features: Tensor, width: int, height: int
) -> Tuple[Tensor, Tensor]:
    """Features (H, W, D) and opacity (H, W) of Gaussians that come from near to far, in tiles of 16 pixels."""
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=means.dtype) + 0.5, torch.arange(width, dtype=means.dtype) + 0.5, indexing="ij"
    )
    image = means.new_zeros(height, width, features.shape[1])
    through = means.new_ones(height, width)
    done = torch.zeros(height, width, dtype=torch.bool)
    for index in range(len(means)):
        if radii[index] <= 0:
            continue
        (x, y), (xx, xy, yy), radius = means[index], conics[index], radii[index]
        across, down = columns - x, rows - y
        power = 0.5 * (xx * across**2 + yy * down**2) + xy * across * down
        alpha = (opacities[index] * torch.exp(-power)).clamp(max=0.999)
        counts = (alpha >= 1.0 / 255.0) & ~done
        for centre, places in ((x, columns), (y, rows)):
            first, behind = ((centre - radius) / 16).floor() * 16, ((centre + radius) / 16).ceil() * 16
            counts &= (places > first) & (places < behind)
        left = through * (1.0 - alpha)
        stops = counts & (left <= 1e-4)
        done = done | stops
        counts = counts & ~stops
        weight = torch.where(counts, alpha * through, torch.zeros_like(alpha))
        image = image + weight[..., None] * features[index]
        through = torch.where(counts, left, through)
    return image, 1.0 - through


def rasterize_naively(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    **options: Any,
) -> Tuple[Tensor, Tensor]:
    """Colours and planar depth (C, H, W, D + 1) weighted by opacity, and opacity (C, H, W), before any background."""
    degree, antialiased = options.get("sh_degree"), options.get("rasterize_mode") == "antialiased"
    quats = quats / quats.norm(dim=-1, keepdim=True)
    covariances, _ = gsplat_torch._quat_scale_to_covar_preci(quats, scales, True, False)
    assert covariances is not None
    images, alphas = [], []
    for view, matrix in zip(viewmats, intrinsics, strict=True):
        rotation, offset = view[:3, :3], view[:3, 3]
        found: Dict[int, Tuple[Tensor, ...]] = {}
        for index in range(len(means)):
            centre = rotation @ means[index] + offset
            x, y, z = centre
            if not 0.01 < z:
                continue
            fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
            # Slopes beyond the image by more than 30 % are those at its border (Zwicker et al.'s linearisation fails).
            limits = [
                (-(c / f + 0.15 * side / f), (side - c) / f + 0.15 * side / f)
                for side, f, c in ((width, fx, cx), (height, fy, cy))
            ]
            slopes = [torch.minimum(torch.maximum(v / z, lo), hi) for v, (lo, hi) in zip((x, y), limits, strict=True)]
            zero = torch.zeros_like(z)
            jacobian = torch.stack(
                [torch.stack([fx / z, zero, -fx * slopes[0] / z]), torch.stack([zero, fy / z, -fy * slopes[1] / z])]
            )
            sharp = jacobian @ rotation @ covariances[index] @ rotation.T @ jacobian.T
            blurred = sharp + 0.3 * torch.eye(2, dtype=means.dtype)
            opacity = opacities[index]
            if antialiased:
                opacity = opacity * (torch.det(sharp).clamp(min=0.0) / torch.det(blurred)).sqrt()
            larger = torch.linalg.eigvalsh(blurred.detach())[1]
            colour = colors[index]
            if degree is not None:
                direction = means[index] + rotation.T @ offset
                direction = direction / direction.norm()
                colour = 0.28209479177387814 * colour[0]
                if degree > 0:
                    bands = 0.4886025119029199 * torch.stack([-direction[1], direction[2], -direction[0]])
                    colour = colour + bands @ colors[index][1:4]
                colour = (colour + 0.5).clamp(min=0.0)
            inverse = torch.linalg.inv(blurred)
            place = torch.stack([fx * x / z + cx, fy * y / z + cy])
            conic = torch.stack([inverse[0, 0], inverse[0, 1], inverse[1, 1]])
            radius = (3.0 * larger.sqrt()).ceil()
            found[index] = place, conic, opacity, radius, torch.cat([colour, z[None]]), z
        order = sorted(found, key=lambda index: float(found[index][-1]))
        parts = [torch.stack([found[index][part] for index in order]) for part in range(5)]
        image, alpha = composite_naively(*parts, width, height)  # type: ignore[arg-type]
        images.append(image)
        alphas.append(alpha)
    return torch.stack(images), torch.stack(alphas)

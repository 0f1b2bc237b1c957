"""World points in the images of source views, and the features of these images at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.records.scene import Conditioning

PIXEL_CENTRE = 0.5
"""Position of the first pixel's centre by nerfstudio's convention; it is at 0 in pixelNeRF's."""

Padding = Literal["border", "zeros"]
Interpolation = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class SourceCameras:
    """Cameras of source views, B scenes of V views each, as pixelNeRF projects: OpenGL axes, integer pixels."""

    rotations: Tensor
    """(B, V, 3, 3) from world axes to camera axes."""
    translations: Tensor
    """(B, V, 3) of the world's origin, camera axes."""
    focal: Tensor
    """(B, V, 2) fx, fy, pixels."""
    centre: Tensor
    """(B, V, 2) principal point, pixels; the first pixel is at 0."""

    @classmethod
    def of(cls, conditioning: Conditioning) -> SourceCameras:
        """Cameras of the source views of a conditioning, whose pixel centres are at +0.5."""
        rotations = conditioning.camera_to_worlds[..., :3, :3].mT
        translations = -(rotations @ conditioning.camera_to_worlds[..., :3, 3:])[..., 0]
        focal, centre = conditioning.intrinsics.split(2, dim=-1)
        return cls(rotations, translations, focal, centre - PIXEL_CENTRE)

    def rotated(self, vectors: Tensor, scenes: Tensor) -> Tensor:
        """(V, R, 3) world vectors (R, 3) of scenes (R,) in the axes of each view's camera; nothing is moved."""
        return torch.einsum("rvij,rj->vri", self.rotations[scenes], vectors)

    def moved(self, rotated: Tensor, scenes: Tensor) -> Tensor:
        """(V, R, S, 3) points, from those that `rotated` gave, relative to each view's camera."""
        return rotated + self.translations[scenes].transpose(0, 1)[:, :, None]

    def project(self, rotated: Tensor, scenes: Tensor) -> Tensor:
        """Image points of world points.

        A point behind a camera gets its mirror image, as in pixelNeRF; one in the camera's own plane on 0.

        Args:
            rotated: (V, R, S, 3) points of R rays in camera axes, by `rotated`.
            scenes: (R,) scene of each ray.

        Returns:
            (V, R, S, 2) column and row in pixels; the first pixel is at 0.
        """
        x, y, z = self.moved(rotated, scenes).unbind(-1)
        focal, centre = (part[scenes].permute(1, 0, 2)[:, :, None] for part in (self.focal, self.centre))
        return torch.stack([-x / z, y / z], dim=-1) * focal + centre


def lookup_taps(
    uv: Tensor,
    image_size: Tuple[float, float],
    map_size: Tuple[int, int],
    padding: Padding = "border",
    interpolation: Interpolation = "bilinear",
) -> Tuple[Tensor, Tensor]:
    """Which pixels of a feature map make up the features at image points, and by how much.

    A point in column u lies in column u w / W of the map: the map's first pixel on the image's first.

    Args:
        uv: (..., 2) column and row in the image, pixels.
        image_size: (width, height) of the image.
        map_size: (width, height) of the map.
        padding: whether points outside see the map's border or zeros.
        interpolation: 'nearest' takes the nearest pixel alone, and no gradient flows to the points.

    Returns:
        (..., T) row-major pixel of the map and (..., T) its weight, T = 4 or 1; weights are differentiable by `uv`.
    """
    lower, upper, weight = [], [], []
    for axis in (0, 1):
        size = map_size[axis]
        position = torch.nan_to_num(uv[..., axis] * (size / image_size[axis]))
        if padding == "border":
            position = position.clamp(0, size - 1)
        else:
            # Two pixels beyond the border all taps are outside; further away integers would overflow.
            position = position.clamp(-2, size + 1)
        first = (position.detach().round() if interpolation == "nearest" else position.detach().floor()).long()
        lower.append(first)
        upper.append(first + 1)
        weight.append(position - first)
    (x0, y0), (x1, y1), (fx, fy) = lower, upper, weight
    if interpolation == "nearest":
        columns, rows, parts = [x0], [y0], [torch.ones_like(fx)]
    else:
        columns, rows = [x0, x1, x0, x1], [y0, y0, y1, y1]
        parts = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]
    width, height = map_size
    column, row, share = torch.stack(columns, dim=-1), torch.stack(rows, dim=-1), torch.stack(parts, dim=-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return pixel, share * inside


def look_up(features: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of features; differentiable by features and weights.

    Args:
        features: (P, C) features of all pixels of all maps.
        pixels: (..., T) rows to sum.
        weights: (..., T) their weights.

    Returns:
        (..., C) in the number format of `features`.
    """
    flat = _LookUp.apply(features, pixels.reshape(-1, pixels.shape[-1]), weights.reshape(-1, weights.shape[-1]))
    return flat.view(*pixels.shape[:-1], features.shape[-1])  # type: ignore[union-attr]


_ROWS_AT_ONCE = 1024
"""Points whose taps' features are held at once in the backward pass."""


class _LookUp(torch.autograd.Function):
    """Sums by bags of embeddings, which read whole rows, forward and (by the transposed bags) backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(features, pixels, weights)
        shares = weights.to(features.dtype)
        return torch.nn.functional.embedding_bag(pixels, features, per_sample_weights=shares, mode="sum")

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Optional[Tensor], None, Optional[Tensor]]:
        features, pixels, weights = ctx.saved_tensors
        of_features = of_weights = None
        if ctx.needs_input_grad[0]:
            ordered, order = pixels.flatten().sort()
            starts = torch.searchsorted(ordered, torch.arange(len(features), device=features.device))
            of_features = torch.nn.functional.embedding_bag(
                order // pixels.shape[1],
                gradient.contiguous(),
                starts,
                per_sample_weights=weights.flatten()[order].to(gradient.dtype),
                mode="sum",
            )
        if ctx.needs_input_grad[2]:
            parts = [
                torch.einsum("ptc,pc->pt", features[pixels[start:end]], gradient[start:end])
                for start in range(0, len(pixels), _ROWS_AT_ONCE)
                for end in (min(start + _ROWS_AT_ONCE, len(pixels)),)
            ]
            of_weights = torch.cat(parts).to(weights.dtype) if parts else torch.zeros_like(weights)
        return of_features, None, of_weights

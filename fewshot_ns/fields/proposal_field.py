"""The proposal network: mip-NeRF's trunk without skip, density alone."""

from __future__ import annotations

from typing import List, Literal, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import integrated_positional_encoding
from fewshot_ns.fields.fused_mlp import BLOCK_ROWS
from fewshot_ns.fields.radiance_head import initialise_layers


class ProposalField(nn.Module):
    """Density of Gaussians along rays, for finding where to sample.

    No gradient flows into the samples' positions. With the defaults it has 222,465 parameters.

    Args:
        num_layers: ReLU layers.
        width: their width.
        num_octaves: octaves 2^0, 2^1, .. of the integrated encoding.
        density_bias: added to the raw density before the softplus.
        compute_dtype: number format of the matrix products; 'float32' stands for the format of the parameters.
    """

    def __init__(
        self,
        num_layers: int = 4,
        width: int = 256,
        num_octaves: int = 16,
        density_bias: float = -1.0,
        compute_dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        self.num_octaves, self.density_bias, self.compute_dtype = num_octaves, density_bias, compute_dtype
        inputs = [6 * num_octaves] + [width] * (num_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.density = nn.Linear(width, 1)
        initialise_layers(self)

    def forward(self, means: Tensor, cov_diag: Tensor) -> Tensor:
        """(R, S) density >= 0 of Gaussians with means (R, S, 3) and covariance diagonals (R, S, 3)."""
        # Blocks of rays, so that a block's activations stay in a CPU's cache between the layers.
        rays = max(BLOCK_ROWS // means.shape[1], 1) if means.device.type == "cpu" else max(len(means), 1)
        dtype = torch.bfloat16 if self.compute_dtype == "bfloat16" else self.density.weight.dtype
        layers: List[Tuple[Tensor, Tensor]] = [
            (layer.weight.to(dtype), layer.bias.to(dtype))  # type: ignore[operator, union-attr]
            for layer in (*self.trunk, self.density)
        ]
        parts = []
        for block_means, block_cov in zip(means.detach().split(rays), cov_diag.detach().split(rays), strict=True):
            x = integrated_positional_encoding(block_means, block_cov, self.num_octaves).to(dtype)
            for weight, bias in layers[:-1]:
                x = nn.functional.relu(nn.functional.linear(x, weight, bias))
            parts.append(nn.functional.linear(x, *layers[-1])[..., 0].to(means.dtype))
        return nn.functional.softplus(torch.cat(parts) + self.density_bias)

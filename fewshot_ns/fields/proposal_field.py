"""The proposal network: mip-NeRF's trunk without skip, density alone."""

from __future__ import annotations

from typing import Literal, Optional

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import integrated_positional_encoding
from fewshot_ns.fields.fused.mlp import encode_in_blocks, fused_density
from fewshot_ns.fields.radiance_head import initialise_layers


class ProposalField(nn.Module):
    """Density of Gaussians along rays, for finding where to sample.

    With the defaults it has 222,465 parameters.

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

    def forward(self, means: Tensor, cov_diag: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """(R, S) density >= 0 of Gaussians with means (R, S, 3) and covariance diagonals (R, S, 3).

        Args:
            means: Gaussian means, ray space.
            cov_diag: their covariance diagonals.
            mask: (6 * num_octaves,) visibility of the encoding's columns, or None.
        """

        def encode(m: Tensor, c: Tensor) -> Tensor:
            encoded = integrated_positional_encoding(m, c, self.num_octaves)
            return encoded if mask is None else encoded * mask

        dtype = torch.bfloat16 if self.compute_dtype == "bfloat16" else self.density.weight.dtype
        encoded = encode_in_blocks(
            encode,
            means,
            cov_diag,
            6 * self.num_octaves,
            dtype,
        )
        raw_density = fused_density(
            encoded,
            [(layer.weight, layer.bias) for layer in self.trunk],  # type: ignore[misc]
            (self.density.weight, self.density.bias),
        )
        return nn.functional.softplus(raw_density + self.density_bias)

"""pixelNeRF's network: a residual MLP that sees features of source views and averages over the views midway."""

from __future__ import annotations

from typing import List, Literal

import torch
from torch import Tensor, nn

from fewshot_ns.fields.fused.resnet import Layer, fused_resnet


class ResidualBlock(nn.Module):
    """x + W1 relu(W0 relu(x) + b0) + b1; it starts as the identity.

    Args:
        width: columns of x and of the hidden layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_0 = nn.Linear(width, width)
        self.fc_1 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) of (..., width)."""
        return x + self.fc_1(torch.relu(self.fc_0(torch.relu(x))))


class PixelNeRFField(nn.Module):
    """Raw colour and density of points from what V source views show at them.

    Parameters have the names of the original's. Weights start by He's normal rule, biases at zero, the second layer of
    each block at zero.

    Args:
        in_columns: columns of the encoded position and direction.
        latent_columns: columns of the features.
        width: of the residual stream.
        num_blocks: residual blocks.
        pool_before: block before which the views are pooled; earlier ones see the features.
        pooling: how.
        spade: whether the stream is multiplied by a second projection of the features before the first is added.
        compute_dtype: number format of the matrix products; 'float32' stands for the format of the parameters.
    """

    def __init__(
        self,
        in_columns: int = 42,
        latent_columns: int = 512,
        width: int = 512,
        num_blocks: int = 5,
        pool_before: int = 3,
        pooling: Literal["average", "max"] = "average",
        spade: bool = False,
        compute_dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        if not 0 < pool_before <= num_blocks:
            raise ValueError(f"expected views to be pooled before a block from 1 to {num_blocks}, got {pool_before}")
        self.width, self.pool_before, self.pooling, self.spade = width, pool_before, pooling, spade
        self.compute_dtype = compute_dtype
        self.lin_in = nn.Linear(in_columns, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(num_blocks))
        self.lin_z = nn.ModuleList(nn.Linear(latent_columns, width) for _ in range(pool_before))
        if spade:
            self.scale_z = nn.ModuleList(nn.Linear(latent_columns, width) for _ in range(pool_before))
        self.lin_out = nn.Linear(width, 4)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
                nn.init.zeros_(layer.bias)
        for block in self.blocks:
            nn.init.zeros_(block.fc_1.weight)  # type: ignore[arg-type,union-attr]

    @property
    def format(self) -> torch.dtype:
        """Number format of the matrix products."""
        return torch.bfloat16 if self.compute_dtype == "bfloat16" else self.lin_in.weight.dtype

    def project(self, latents: Tensor) -> Tensor:
        """What the blocks see of features, without biases.

        The map is linear, so that features may be looked up before or after it: with few pixels and many points it is
        cheaper to project the pixels.

        Args:
            latents: (..., latent_columns).

        Returns:
            (..., P * width): of each block before the pooling the shift, then, with `spade`, of each the factor.
        """
        layers: List[nn.Linear] = [*self.lin_z, *(self.scale_z if self.spade else [])]  # type: ignore[list-item]
        weight = torch.cat([layer.weight for layer in layers])
        return nn.functional.linear(latents.to(self.format), weight.to(self.format))

    def forward(self, inputs: Tensor, projected: Tensor) -> Tensor:
        """Evaluates the network.

        Args:
            inputs: (V, N, in_columns) encoded position and direction of N points in the axes of each view.
            projected: (V, N, P * width) features at these points, through `project`.

        Returns:
            (N, 4) red, green, blue and density before their activations, in the format of `inputs`.
        """
        if self.spade or self.pooling != "average":
            return self._layers(inputs, projected)
        return fused_resnet(
            inputs.to(self.format),
            projected,
            _parts(self.lin_in),
            [(_parts(block.fc_0), _parts(block.fc_1)) for block in self.blocks],  # type: ignore[arg-type]
            [layer.bias for layer in self.lin_z],  # type: ignore[misc]
            _parts(self.lin_out),
        )

    def _layers(self, inputs: Tensor, projected: Tensor) -> Tensor:
        """The layers one after the other."""
        reduced = self.compute_dtype == "bfloat16"
        parts = projected.unflatten(-1, (-1, self.width)).unbind(-2)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=reduced):
            x = self.lin_in(inputs)
            for index, block in enumerate(self.blocks):
                if index == self.pool_before:
                    x = self._pooled(x)
                elif index < self.pool_before:
                    if self.spade:
                        x = x * (parts[self.pool_before + index] + _parts(self.scale_z[index])[1])
                    x = x + (parts[index] + _parts(self.lin_z[index])[1])
                x = block(x)
            if self.pool_before == len(self.blocks):
                x = self._pooled(x)
            return self.lin_out(torch.relu(x)).to(inputs.dtype)

    def _pooled(self, x: Tensor) -> Tensor:
        return x.mean(dim=0) if self.pooling == "average" else x.amax(dim=0)


def _parts(layer: nn.Module) -> Layer:
    return layer.weight, layer.bias  # type: ignore[return-value]

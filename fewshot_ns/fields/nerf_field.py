"""NeRF's own network: a positional encoding of points in, raw density and colour out."""

from __future__ import annotations

from typing import List, Literal, Optional, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.fields.fused.mlp import encode_in_blocks, fused_radiance


class NeRFField(nn.Module):
    """Density and colour of points along rays.

    Hidden layers start by Glorot's uniform rule times the gain of their ReLU, biases at zero.

    Args:
        num_layers: ReLU layers of the trunk.
        width: their width, and that of the bottleneck.
        skip_layer: layer whose input is [encoding, activations].
        num_octaves: octaves 2^0, 2^1, .. of the encoding, which also has the position itself.
        view_octaves: octaves of the direction encoding; None: colour does not depend on the direction, and density and
            colour come from one layer.
        colour_width: width of the colour branch.
        density_activation: activation of the raw density.
        compute_dtype: number format of the matrix products; 'float32' stands for the format of the parameters.
    """

    def __init__(
        self,
        num_layers: int = 8,
        width: int = 256,
        skip_layer: int = 5,
        num_octaves: int = 10,
        view_octaves: Optional[int] = 4,
        colour_width: int = 128,
        density_activation: Literal["relu", "softplus"] = "relu",
        compute_dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        if not 0 < skip_layer < num_layers:
            raise ValueError(f"expected a skip layer between 1 and {num_layers - 1}, got {skip_layer}")
        self.num_octaves, self.view_octaves, self.skip_layer = num_octaves, view_octaves, skip_layer
        self.density_activation, self.compute_dtype = density_activation, compute_dtype
        inputs = [self.encoded_columns] + [width] * (num_layers - 1)
        inputs[skip_layer] += self.encoded_columns
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        relu_layers: List[nn.Module] = list(self.trunk)
        if view_octaves is None:
            self.output = nn.Linear(width, 4)
        else:
            self.density = nn.Linear(width, 1)
            self.bottleneck = nn.Linear(width, width)
            self.colour = nn.Linear(width + 3 + 6 * view_octaves, colour_width)
            self.rgb = nn.Linear(colour_width, 3)
            relu_layers.append(self.colour)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                relu = any(layer is each for each in relu_layers)
                nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain("relu" if relu else "linear"))
                nn.init.zeros_(layer.bias)

    @property
    def encoded_columns(self) -> int:
        """Columns of the position encoding."""
        return 3 + 6 * self.num_octaves

    def forward(
        self,
        positions: Tensor,
        viewdirs: Tensor,
        noise: Optional[Tensor] = None,
        mask: Optional[Tensor] = None,
        view_mask: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """Evaluates the field.

        Args:
            positions: (R, S, 3) points, ray space.
            viewdirs: (R, 3) unit directions, one per ray.
            noise: (R, S) added to the raw density, or None.
            mask: (encoded_columns,) visibility of the encoding's columns, or None.
            view_mask: the same of the direction encoding's, where colour depends on the direction.

        Returns:
            (R, S) density >= 0 and (R, S, 3) colour in [0, 1].
        """
        raw_density, raw_rgb = self.raw(positions, viewdirs, mask, view_mask)
        raw_density = raw_density if noise is None else raw_density + noise
        relu = self.density_activation == "relu"
        return torch.relu(raw_density) if relu else nn.functional.softplus(raw_density), torch.sigmoid(raw_rgb)

    def raw(
        self,
        positions: Tensor,
        viewdirs: Tensor,
        mask: Optional[Tensor] = None,
        view_mask: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """(R, S) density and (R, S, 3) colour before their activations; arguments as those of `forward`."""
        reduced = self.compute_dtype == "bfloat16"
        encoded = encode_in_blocks(
            lambda points, _: self._encode(points, mask),
            positions,
            positions,
            self.encoded_columns,
            torch.bfloat16 if reduced else positions.dtype,
        )
        if self.view_octaves is None:
            with torch.autocast(positions.device.type, dtype=torch.bfloat16, enabled=reduced):
                x = encoded
                for index, layer in enumerate(self.trunk):
                    x = torch.relu(layer(torch.cat([encoded, x], dim=-1) if index == self.skip_layer else x))
                raw = self.output(x).to(positions.dtype)
            return raw[..., 3], raw[..., :3]
        view = positional_encoding(viewdirs, self.view_octaves, by_octave=True)
        return fused_radiance(
            encoded,
            view if view_mask is None else view * view_mask,
            [self._layer(index) for index in range(len(self.trunk))],
            self.skip_layer,
            self.density,
            self.bottleneck,
            self.colour,
            self.rgb,
        )

    def trainable_normals(self, positions: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """(R, S, 3) unit normals in ray space: against the gradient of the density by the points; see `forward`.

        They are differentiable by the parameters, so the layers run one after the other, in full precision.
        """
        points = positions.detach().requires_grad_(True)
        with torch.enable_grad():
            x = encoded = self._encode(points, mask)
            for index, layer in enumerate(self.trunk):
                x = torch.relu(layer(torch.cat([encoded, x], dim=-1) if index == self.skip_layer else x))
            density = self.output(x)[..., 3] if self.view_octaves is None else self.density(x)[..., 0]
            (gradient,) = torch.autograd.grad(density.sum(), points, create_graph=True)
        return -nn.functional.normalize(gradient, dim=-1, eps=1e-6)

    def _encode(self, points: Tensor, mask: Optional[Tensor]) -> Tensor:
        encoded = positional_encoding(points, self.num_octaves, by_octave=True)
        return encoded if mask is None else encoded * mask

    def _layer(self, index: int) -> Tuple[Tensor, Tensor]:
        """Weight and bias of a layer of the trunk, whose inputs are [activations, encoding] where it sees both."""
        layer: nn.Linear = self.trunk[index]  # type: ignore[assignment]
        if index != self.skip_layer:
            return layer.weight, layer.bias
        columns = self.encoded_columns
        return torch.cat([layer.weight[:, columns:], layer.weight[:, :columns]], dim=1), layer.bias

"""mip-NeRF's network as RegNeRF and SparseNeRF use it: integrated encoding in, density and colour by direction out."""

from __future__ import annotations

from typing import Literal, Optional, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import integrated_positional_encoding, positional_encoding
from fewshot_ns.fields.fused.mlp import encode_in_blocks, fused_radiance
from fewshot_ns.fields.radiance_head import initialise_layers


class MipNeRFField(nn.Module):
    """Density and colour of Gaussians along rays; one network for all levels.

    With the defaults it has the 612,740 parameters of the original.

    Args:
        num_layers: ReLU layers of the trunk.
        width: their width, and that of the bottleneck.
        skip_layer: layer whose input is [activations, encoding].
        num_octaves: octaves 2^0, 2^1, .. of the integrated encoding.
        view_octaves: octaves of the direction encoding, which also has the direction itself.
        colour_width: width of the colour branch.
        density_bias: added to the raw density before the softplus.
        rgb_padding: colours are scaled to [-padding, 1 + padding].
        include_mean: whether the encoding begins with the mean itself (FreeNeRF).
        embedding_columns: size of a vector per ray that the colour branch sees along with the direction.
        compute_dtype: number format of the matrix products; 'float32' stands for the format of the parameters.
    """

    def __init__(
        self,
        num_layers: int = 8,
        width: int = 256,
        skip_layer: int = 5,
        num_octaves: int = 16,
        view_octaves: int = 4,
        colour_width: int = 128,
        density_bias: float = -1.0,
        rgb_padding: float = 0.001,
        include_mean: bool = False,
        embedding_columns: int = 0,
        compute_dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        if not 0 < skip_layer < num_layers:
            raise ValueError(f"expected a skip layer between 1 and {num_layers - 1}, got {skip_layer}")
        self.num_octaves, self.view_octaves, self.include_mean = num_octaves, view_octaves, include_mean
        self.skip_layer, self.density_bias, self.rgb_padding = skip_layer, density_bias, rgb_padding
        self.compute_dtype, self.embedding_columns = compute_dtype, embedding_columns
        inputs = [self.encoded_columns] + [width] * (num_layers - 1)
        inputs[skip_layer] += self.encoded_columns
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.density = nn.Linear(width, 1)
        self.bottleneck = nn.Linear(width, width)
        self.colour = nn.Linear(width + self.view_columns + embedding_columns, colour_width)
        self.rgb = nn.Linear(colour_width, 3)
        initialise_layers(self)

    @property
    def encoded_columns(self) -> int:
        """Columns of the position encoding."""
        return 6 * self.num_octaves + (3 if self.include_mean else 0)

    @property
    def view_columns(self) -> int:
        """Columns of the direction encoding."""
        return 6 * self.view_octaves + 3

    def forward(
        self,
        means: Tensor,
        cov_diag: Tensor,
        viewdirs: Tensor,
        mask: Optional[Tensor] = None,
        view_mask: Optional[Tensor] = None,
        noise: Optional[Tensor] = None,
        embedding: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """Evaluates the field.

        Args:
            means: (R, S, 3) Gaussian means, ray space.
            cov_diag: (R, S, 3) their covariance diagonals.
            viewdirs: (R, 3) directions, one per ray.
            mask: (encoded_columns,) visibility of the encoding's columns, or None.
            view_mask: (view_columns,) the same for the directions.
            noise: (R, S) added to the raw density, or None.
            embedding: (R, embedding_columns) of each ray's camera, or None for zeros.

        Returns:
            (R, S) density >= 0 and (R, S, 3) colour.
        """
        view = positional_encoding(viewdirs, self.view_octaves)
        view = view if view_mask is None else view * view_mask
        if self.embedding_columns > 0:
            zeros = view.new_zeros(len(view), self.embedding_columns)
            view = torch.cat([view, zeros if embedding is None else embedding], dim=-1)
        raw_density, raw_rgb = fused_radiance(
            self._encode(means, cov_diag, mask),
            view,
            [(layer.weight, layer.bias) for layer in self.trunk],  # type: ignore[misc]
            self.skip_layer,
            self.density,
            self.bottleneck,
            self.colour,
            self.rgb,
        )
        raw_density = raw_density if noise is None else raw_density + noise
        density = nn.functional.softplus(raw_density + self.density_bias)
        rgb = torch.sigmoid(raw_rgb) * (1 + 2 * self.rgb_padding) - self.rgb_padding
        return density, rgb

    def trainable_normals(self, means: Tensor, cov_diag: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """(R, S, 3) unit normals: against the gradient of the density with respect to the means; see `forward`.

        They are differentiable by the parameters, so the layers run one after the other, in full precision.
        """
        means = means.detach().requires_grad_(True)
        with torch.enable_grad():
            encoded = self._encode_block(means, cov_diag, mask)
            x = encoded
            for index, layer in enumerate(self.trunk):
                x = nn.functional.relu(layer(torch.cat([x, encoded], dim=-1) if index == self.skip_layer else x))
            (gradient,) = torch.autograd.grad(self.density(x).sum(), means, create_graph=True)
        return -nn.functional.normalize(gradient, dim=-1, eps=1e-6)

    def _encode(self, means: Tensor, cov_diag: Tensor, mask: Optional[Tensor]) -> Tensor:
        """(R, S, encoded_columns) in the format of the matrix products."""
        dtype = torch.bfloat16 if self.compute_dtype == "bfloat16" else self.density.weight.dtype
        return encode_in_blocks(
            lambda m, c: self._encode_block(m, c, mask), means, cov_diag, self.encoded_columns, dtype
        )

    def _encode_block(self, means: Tensor, cov_diag: Tensor, mask: Optional[Tensor]) -> Tensor:
        encoded = integrated_positional_encoding(means, cov_diag, self.num_octaves)
        encoded = torch.cat([means, encoded], dim=-1) if self.include_mean else encoded
        return encoded if mask is None else encoded * mask

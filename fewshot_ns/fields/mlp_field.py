"""A small mip-NeRF style MLP: integrated encoding in, density and view-dependent colour out."""

from __future__ import annotations

from typing import Literal, Optional, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import encode_directions, integrated_positional_encoding

ComputeDtype = Literal["float32", "bfloat16"]


class MLPField(nn.Module):
    """Density and colour of Gaussians along rays.

    Args:
        num_layers: hidden layers of the trunk.
        width: their width.
        skip_layer: layer whose input gets the encoding once more.
        num_octaves: octaves of the integrated encoding.
        view_octaves: octaves of the direction encoding; None: colour does not depend on the direction.
        colour_width: width of the colour branch.
        density_bias: added to the raw density before the softplus.
        rgb_padding: colours are scaled to [-padding, 1 + padding] (mip-NeRF, supplement).
        compute_dtype: dtype of the matrix products.
    """

    def __init__(
        self,
        num_layers: int,
        width: int,
        skip_layer: int,
        num_octaves: int,
        view_octaves: Optional[int],
        colour_width: int,
        density_bias: float,
        rgb_padding: float,
        compute_dtype: ComputeDtype,
    ) -> None:
        super().__init__()
        self.num_octaves, self.view_octaves, self.skip_layer = num_octaves, view_octaves, skip_layer
        self.density_bias, self.rgb_padding = density_bias, rgb_padding
        self.dtype = torch.bfloat16 if compute_dtype == "bfloat16" else torch.float32
        encoded = 6 * num_octaves
        inputs = [encoded] + [width + (encoded if i == skip_layer else 0) for i in range(1, num_layers)]
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.density = nn.Linear(width, 1)
        self.colour = nn.Linear(width + (0 if view_octaves is None else 3 + 6 * view_octaves), colour_width)
        self.rgb = nn.Linear(colour_width, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, means: Tensor, cov_diag: Tensor, viewdirs: Tensor, mask: Optional[Tensor] = None
    ) -> Tuple[Tensor, Tensor]:
        """Evaluates the field.

        Args:
            means: (R, S, 3) Gaussian means, ray space.
            cov_diag: (R, S, 3) their covariance diagonals.
            viewdirs: (R, 3) unit directions.
            mask: (6 * num_octaves,) visibility of the encoding's columns, or None.

        Returns:
            (R, S) density and (R, S, 3) colour, float32.
        """
        encoded = integrated_positional_encoding(means, cov_diag, self.num_octaves)
        encoded = encoded if mask is None else encoded * mask
        view = encode_directions(viewdirs, self.view_octaves)[:, None].expand(-1, means.shape[1], -1)
        # Torch 2.1 checks the dtype also where autocast is off, and takes no float32 on a CPU.
        with torch.autocast(means.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            encoded = encoded.to(self.dtype)
            hidden = encoded
            for index, layer in enumerate(self.trunk):
                if index > 0 and index == self.skip_layer:
                    hidden = torch.cat([hidden, encoded], dim=-1)
                hidden = torch.relu(layer(hidden))
            raw_density = self.density(hidden)[..., 0]
            colour = torch.cat([hidden, view.to(self.dtype)], dim=-1)
            raw_rgb = self.rgb(torch.relu(self.colour(colour)))
        density = nn.functional.softplus(raw_density.float() + self.density_bias)
        rgb = torch.sigmoid(raw_rgb.float()) * (1 + 2 * self.rgb_padding) - self.rgb_padding
        return density, rgb

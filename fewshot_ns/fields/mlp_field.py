"""A small mip-NeRF style MLP: integrated encoding in, density and view-dependent colour out."""

from __future__ import annotations

from typing import Literal, Optional, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import integrated_positional_encoding
from fewshot_ns.fields.radiance_head import RadianceHead, initialise_layers

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
        self.num_octaves, self.skip_layer = num_octaves, skip_layer
        self.dtype = torch.bfloat16 if compute_dtype == "bfloat16" else torch.float32
        encoded = 6 * num_octaves
        inputs = [encoded] + [width + (encoded if i == skip_layer else 0) for i in range(1, num_layers)]
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.head = RadianceHead(width, view_octaves, colour_width, density_bias, rgb_padding)
        initialise_layers(self)

    def trainable_normals(self, means: Tensor, cov_diag: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """(R, S, 3) unit normals in ray space: against the gradient of the density by the means; see `forward`.

        They are differentiable by the parameters, so the layers run in full precision.
        """
        points = means.detach().requires_grad_(True)
        with torch.enable_grad():
            density = self.head.density(self._trunk(self._encode(points, cov_diag, mask)))
            (gradient,) = torch.autograd.grad(density.sum(), points, create_graph=True)
        return -nn.functional.normalize(gradient, dim=-1, eps=1e-6)

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
        encoded = self._encode(means, cov_diag, mask)
        # Torch 2.1 checks the dtype also where autocast is off, and takes no float32 on a CPU.
        with torch.autocast(means.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.head(self._trunk(encoded.to(self.dtype)), viewdirs)

    def _encode(self, means: Tensor, cov_diag: Tensor, mask: Optional[Tensor]) -> Tensor:
        encoded = integrated_positional_encoding(means, cov_diag, self.num_octaves)
        return encoded if mask is None else encoded * mask

    def _trunk(self, encoded: Tensor) -> Tensor:
        hidden = encoded
        for index, layer in enumerate(self.trunk):
            if index > 0 and index == self.skip_layer:
                hidden = torch.cat([hidden, encoded], dim=-1)
            hidden = torch.relu(layer(hidden))
        return hidden

"""Features on three axis-aligned planes at several resolutions, read by a small MLP: fast, and sharp in few steps."""

from __future__ import annotations

from typing import List, Literal, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import encode_directions

_AXES = ((0, 1), (0, 2), (1, 2))
_INITIAL_DEVIATION = 0.1


class TriPlaneField(nn.Module):
    """Density and colour from features of the planes xy, xz and yz (EG3D, section 4.1), summed over the planes.

    Args:
        resolutions: texels per side of the planes of each level, coarse to fine.
        channels: features per level.
        num_layers: hidden layers of the trunk.
        width: their width.
        view_octaves: octaves of the direction encoding; None: colour does not depend on the direction.
        colour_width: width of the colour branch.
        density_bias: added to the raw density before the softplus.
        rgb_padding: colours are scaled to [-padding, 1 + padding] (mip-NeRF, supplement).
        compute_dtype: dtype of the matrix products.
    """

    def __init__(
        self,
        resolutions: Sequence[int],
        channels: int,
        num_layers: int,
        width: int,
        view_octaves: Optional[int],
        colour_width: int,
        density_bias: float,
        rgb_padding: float,
        compute_dtype: Literal["float32", "bfloat16"],
    ) -> None:
        super().__init__()
        self.view_octaves, self.density_bias, self.rgb_padding = view_octaves, density_bias, rgb_padding
        self.dtype = torch.bfloat16 if compute_dtype == "bfloat16" else torch.float32
        self.planes = nn.ParameterList(
            nn.Parameter(_INITIAL_DEVIATION * torch.randn(len(_AXES), channels, side, side)) for side in resolutions
        )
        inputs = [channels * len(resolutions)] + [width] * (num_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.density = nn.Linear(width, 1)
        self.colour = nn.Linear(width + (0 if view_octaves is None else 3 + 6 * view_octaves), colour_width)
        self.rgb = nn.Linear(colour_width, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, positions: Tensor, viewdirs: Tensor, visibility: Tensor) -> Tuple[Tensor, Tensor]:
        """Evaluates the field.

        Args:
            positions: (R, S, 3) in [-1, 1]; outside, the planes go on with the features of their border.
            viewdirs: (R, 3) unit directions.
            visibility: (L,) factor on the features of each level, 0 hides it.

        Returns:
            (R, S) density and (R, S, 3) colour, float32.
        """
        features = self.features(positions, visibility)
        view = encode_directions(viewdirs, self.view_octaves)[:, None].expand(-1, positions.shape[1], -1)
        # Torch 2.1 checks the dtype also where autocast is off, and takes no float32 on a CPU.
        with torch.autocast(positions.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = features.to(self.dtype)
            for layer in self.trunk:
                hidden = torch.relu(layer(hidden))
            raw_density = self.density(hidden)[..., 0]
            colour = torch.cat([hidden, view.to(self.dtype)], dim=-1)
            raw_rgb = self.rgb(torch.relu(self.colour(colour)))
        density = nn.functional.softplus(raw_density.float() + self.density_bias)
        rgb = torch.sigmoid(raw_rgb.float()) * (1 + 2 * self.rgb_padding) - self.rgb_padding
        return density, rgb

    def features(self, positions: Tensor, visibility: Tensor) -> Tensor:
        """(R, S, L * channels) bilinear features at positions (R, S, 3), each level times its visibility (L,)."""
        rays, samples, _ = positions.shape
        grid = torch.stack([positions[..., axes] for axes in _AXES]).view(len(_AXES), 1, rays * samples, 2)
        levels: List[Tensor] = []
        for planes, factor in zip(self.planes, visibility, strict=True):
            read = nn.functional.grid_sample(planes, grid, align_corners=True, padding_mode="border")
            levels.append(read[:, :, 0].sum(0) * factor)
        return torch.cat(levels).t().reshape(rays, samples, -1)

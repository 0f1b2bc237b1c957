"""Features on three axis-aligned planes at several resolutions, read by a small MLP: fast, and sharp in few steps."""

from __future__ import annotations

from typing import List, Literal, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.fields.fused.planes import AXES, plane_features
from fewshot_ns.fields.radiance_head import RadianceHead, initialise_layers

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
        self.dtype = torch.bfloat16 if compute_dtype == "bfloat16" else torch.float32
        self.planes = nn.ParameterList(
            nn.Parameter(_texels_in_rows(_INITIAL_DEVIATION * torch.randn(len(AXES), channels, side, side)))
            for side in resolutions
        )
        inputs = [channels * len(resolutions)] + [width] * (num_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.head = RadianceHead(width, view_octaves, colour_width, density_bias, rgb_padding)
        initialise_layers(self)

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
        # Torch 2.1 checks the dtype also where autocast is off, and takes no float32 on a CPU.
        with torch.autocast(positions.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = features
            for layer in self.trunk:
                hidden = torch.relu(layer(hidden))
            return self.head(hidden, viewdirs)

    def features(self, positions: Tensor, visibility: Tensor) -> Tensor:
        """(R, S, L * channels) bilinear features at positions (R, S, 3), each level times its visibility (L,).

        In the number format of the matrix products.
        """
        rays, samples, _ = positions.shape
        if self._reads_rows(positions):
            flat = positions.reshape(-1, 3).to(self.planes[0].dtype)
            read = plane_features(flat, visibility.tolist(), list(self.planes), self.dtype)
            return read.view(rays, samples, -1)
        grid = torch.stack([positions[..., axes] for axes in AXES]).view(len(AXES), 1, rays * samples, 2)
        levels: List[Tensor] = []
        for planes, factor in zip(self.planes, visibility, strict=True):
            read = nn.functional.grid_sample(planes, grid, align_corners=True, padding_mode="border")
            levels.append(read[:, :, 0].sum(0) * factor)
        return torch.cat(levels).t().reshape(rays, samples, -1).to(self.dtype)

    def _reads_rows(self, positions: Tensor) -> bool:
        """Whether features are read row by row: on a CPU, from planes that have a cell."""
        return positions.device.type == "cpu" and min(len(level[0, 0]) for level in self.planes) > 1


def _texels_in_rows(planes: Tensor) -> Tensor:
    """Planes (3, C, H, W) whose memory holds the features of a texel side by side."""
    return planes.contiguous(memory_format=torch.channels_last)

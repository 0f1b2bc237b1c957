"""What the small fields share: from a trunk's output to density and colour, and how layers start."""

from __future__ import annotations

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.encodings import encode_directions


def initialise_layers(module: nn.Module) -> None:
    """Draws the weights of all linear layers by Glorot's uniform rule, as JAX does; biases start at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class RadianceHead(nn.Module):
    """Density by one layer, colour by a branch of one hidden layer that may see the direction.

    Args:
        width: size of the trunk's output.
        view_octaves: octaves of the direction encoding; None: colour does not depend on the direction.
        colour_width: width of the colour branch.
        density_bias: added to the raw density before the softplus.
        rgb_padding: colours are scaled to [-padding, 1 + padding] (mip-NeRF, supplement).
    """

    def __init__(
        self, width: int, view_octaves: Optional[int], colour_width: int, density_bias: float, rgb_padding: float
    ) -> None:
        super().__init__()
        self.view_octaves, self.density_bias, self.rgb_padding = view_octaves, density_bias, rgb_padding
        self.density = nn.Linear(width, 1)
        self.colour = nn.Linear(width + (0 if view_octaves is None else 3 + 6 * view_octaves), colour_width)
        self.rgb = nn.Linear(colour_width, 3)

    def forward(self, hidden: Tensor, viewdirs: Tensor) -> Tuple[Tensor, Tensor]:
        """(R, S) density and (R, S, 3) colour, float32, of a trunk's output (R, S, W) and directions (R, 3)."""
        seen = hidden
        if self.view_octaves is not None:
            view = encode_directions(viewdirs, self.view_octaves)[:, None].expand(-1, hidden.shape[1], -1)
            seen = torch.cat([hidden, view.to(hidden.dtype)], dim=-1)
        raw_density = self.density(hidden)[..., 0].float()
        raw_rgb = self.rgb(torch.relu(self.colour(seen))).float()
        density = nn.functional.softplus(raw_density + self.density_bias)
        return density, torch.sigmoid(raw_rgb) * (1 + 2 * self.rgb_padding) - self.rgb_padding

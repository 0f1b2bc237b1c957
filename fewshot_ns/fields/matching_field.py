"""ID-NeRF's and MatchNeRF's decoder: a small radiance field that is told how well the source views agree at a point."""

from __future__ import annotations

from typing import Literal, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.field_components.attention import MultiHeadAttention
from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.fields.latent_inference import LATENT_CHANNELS, LATENT_SIZE

Refinement = Literal["off", "per-view", "scrambled"]
"""How features of the views and the latent of the target meet. per-view: attention over one token per view and one of
the latent. scrambled: ID-NeRF's released code, whose tokens mix columns of all of them. off: not at all (MatchNeRF)."""
_TOKEN = 8
_HEADS, _HEAD_WIDTH = 4, 4
_DENSITY_COLUMNS = 16
_COLOUR_COLUMNS = 64
_MIN_SEEN = 2
_FIRST_DENSITY = 0.01
"""Largest weight and bias of the density's last layer at the start."""


class MatchingField(nn.Module):
    """Density and colour of points of rays; parameters have the names of the original's.

    Every layer of the trunk is multiplied by a vector that says what the source views show at the point. Density is
    decided along the whole ray, by attention over its samples. 141,335 parameters in ID-NeRF's size.

    Args:
        matching_columns: columns of similarity, colours and masks: of P similarities and V views P + 4 V.
        view_columns: columns of what one view shows; not used with refinement 'off'.
        num_views: V.
        refinement: how views and latent are refined.
        attention_passes: how often both attentions attend.
        position_octaves: of the encoding of positions.
        direction_octaves: of the encoding of directions; 0: the direction alone.
        width: of the trunk.
        num_layers: of the trunk.
        skip_layers: layers after which the encoded position is concatenated again.
        compute_dtype: number format of the matrix products.
    """

    def __init__(
        self,
        matching_columns: int = 22,
        view_columns: int = 516,
        num_views: int = 3,
        refinement: Refinement = "per-view",
        attention_passes: int = 1,
        position_octaves: int = 10,
        direction_octaves: int = 0,
        width: int = 128,
        num_layers: int = 6,
        skip_layers: Sequence[int] = (4,),
        compute_dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        self.refinement: Refinement = refinement
        self.position_octaves, self.direction_octaves = position_octaves, direction_octaves
        self.skip_layers = tuple(skip_layers)
        self.compute_dtype = compute_dtype
        position, direction = (3 + 6 * octaves for octaves in (position_octaves, direction_octaves))
        attention = dict(num_heads=_HEADS, head_width=_HEAD_WIDTH, passes=attention_passes)
        if refinement == "off":
            self.pts_bias = nn.Linear(matching_columns, width)
        else:
            self.guidance_module = MultiHeadAttention(_TOKEN, **attention)
            self.cond_fc = nn.Linear(_TOKEN * (num_views + 1) + matching_columns, width)
            self.cond_feat_fc = nn.Sequential(nn.Linear(view_columns, _TOKEN), nn.ReLU())
            self.latent_layer1 = nn.Sequential(
                nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 3, 2, 1),
                nn.BatchNorm2d(LATENT_CHANNELS),
                nn.LeakyReLU(),
                nn.Conv2d(LATENT_CHANNELS, 1, 3, 2, 1),
                nn.BatchNorm2d(1),
                nn.LeakyReLU(),
            )
            self.latent_layer2 = nn.Linear((LATENT_SIZE // 4) ** 2, _TOKEN)
        joined = [position * (layer - 1 in self.skip_layers) for layer in range(num_layers)]
        self.pts_linears = nn.ModuleList(
            nn.Linear((width if layer else position) + joined[layer], width) for layer in range(num_layers)
        )
        self.alpha_linear = nn.Sequential(nn.Linear(width, _DENSITY_COLUMNS), nn.ReLU())
        self.ray_attention = MultiHeadAttention(_DENSITY_COLUMNS, **attention)
        self.out_alpha_linear = nn.Sequential(
            nn.Linear(_DENSITY_COLUMNS, _DENSITY_COLUMNS), nn.ReLU(), nn.Linear(_DENSITY_COLUMNS, 1), nn.ReLU()
        )
        self.feature_linear = nn.Linear(width, width)
        self.views_linears = nn.ModuleList([nn.Linear(width + direction, _COLOUR_COLUMNS)])
        self.rgb_linear = nn.Linear(_COLOUR_COLUMNS, 3)
        # With torch's own start about every third network has no density anywhere, and a ReLU then never learns any.
        nn.init.uniform_(self.out_alpha_linear[2].weight, 0.0, _FIRST_DENSITY)  # type: ignore[arg-type]
        nn.init.constant_(self.out_alpha_linear[2].bias, _FIRST_DENSITY)  # type: ignore[arg-type]

    def latent_vector(self, latent: Tensor) -> Tensor:
        """(B, 8) what the refinement sees of latents (B, 4, 64, 64)."""
        return self.latent_layer2(self.latent_layer1(latent).flatten(1))

    @property
    def view_matrix(self) -> Optional[Tensor]:
        """(8, view_columns) matrix through which the refinement sees what each view shows; None without refinement.

        Being linear, it may be applied to feature maps before they are looked up, as `MatchingSources` does.
        """
        return None if self.refinement == "off" else self.cond_feat_fc[0].weight  # type: ignore[return-value]

    def tokens(self, view_features: Tensor, latent_vectors: Tensor) -> Tensor:
        """(R * S, V + 1, 8) what the refinement attends to.

        Args:
            view_features: (V, R, S, 8) what each view shows, through `view_matrix`.
            latent_vectors: (R, 8) by `latent_vector`, of each ray's target view.
        """
        views = torch.relu(view_features + self.cond_feat_fc[0].bias)  # type: ignore[operator]
        latents = latent_vectors.to(views)[None, :, None].expand_as(views[:1])
        joined = torch.cat([views, latents]).movedim(0, 2).flatten(0, 1)
        if self.refinement == "per-view":
            return joined
        # The original reshapes V + 1 tokens of 8 columns to 8 of V + 1 and turns them around.
        return joined.flatten(1).unflatten(1, (_TOKEN, -1)).transpose(1, 2)

    def condition(
        self, matching: Tensor, view_features: Optional[Tensor] = None, latent_vectors: Optional[Tensor] = None
    ) -> Tensor:
        """(R, S, width) factor on the layers of the trunk.

        Args:
            matching: (R, S, matching_columns).
            view_features: (V, R, S, 8) as in `tokens`; with refinement.
            latent_vectors: (R, 8) as in `tokens`; with refinement.

        Raises:
            ValueError: the refinement lacks one of them.
        """
        if self.refinement == "off":
            return self.pts_bias(matching)
        if view_features is None or latent_vectors is None:
            raise ValueError("the refinement needs what the views show and a latent, got none")
        attended = self.guidance_module(self.tokens(view_features, latent_vectors))
        refined = attended.flatten(1).unflatten(0, matching.shape[:2])
        return self.cond_fc(torch.cat([refined, matching.to(refined)], dim=-1))

    def forward(
        self,
        positions: Tensor,
        directions: Tensor,
        matching: Tensor,
        in_image: Tensor,
        view_features: Optional[Tensor] = None,
        latent_vectors: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """Evaluates the field at S samples of each of R rays.

        Args:
            positions: (R, S, 3) in the normalised coordinates of the first source view.
            directions: (R, S, 3) unit directions in the axes of the first source view.
            matching: (R, S, matching_columns) similarities, colours and masks.
            in_image: (R, S, V) whether each view sees the sample. A sample that fewer than two see attends to all
                samples of its ray alike.
            view_features: (V, R, S, 8) what each view shows, through `view_matrix`; with refinement.
            latent_vectors: (R, 8) what the refinement sees of the latent of each ray's target view; with refinement.

        Returns:
            (R, S) densities, at least 0, and (R, S, 3) colours in [0, 1], in the format of `positions`.
        """
        reduced = self.compute_dtype == "bfloat16"
        with torch.autocast(positions.device.type, dtype=torch.bfloat16, enabled=reduced):
            factor = self.condition(matching, view_features, latent_vectors)
            hidden = self._trunk(positional_encoding(positions, self.position_octaves), factor)
            seen = in_image.sum(-1, keepdim=True) >= _MIN_SEEN
            along = self.ray_attention(self.alpha_linear(hidden), seen)
            density = self.out_alpha_linear(along)[..., 0]
            encoded = positional_encoding(directions, self.direction_octaves)
            colour = torch.cat([self.feature_linear(hidden), encoded.to(hidden)], dim=-1)
            rgb = torch.sigmoid(self.rgb_linear(torch.relu(self.views_linears[0](colour))))
        return density.to(positions), rgb.to(positions)

    def _trunk(self, encoded: Tensor, factor: Tensor) -> Tensor:
        """(R, S, width) of encoded positions (R, S, P) and factors (R, S, width)."""
        hidden = encoded
        for index, layer in enumerate(self.pts_linears):
            # In place, since a product's gradient does not need its value.
            hidden = torch.relu_(layer(hidden) * factor)
            if index in self.skip_layers:
                hidden = torch.cat([encoded.to(hidden), hidden], dim=-1)
        return hidden

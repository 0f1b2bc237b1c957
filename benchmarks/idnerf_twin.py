"""A plain ID-NeRF and MatchNeRF in PyTorch, step by step as the papers describe them: what the speed is compared to.

Everything is float32: features looked up by `grid_sample` for every point, view by view, nothing merged or reordered.
Features of the source views and the latent come from outside, since they are made once. Parameters have the names of
the product's decoder (`MatchingField`).
"""

from __future__ import annotations

from itertools import combinations
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = (2, 8)


class TwinAttention(nn.Module):
    """Multi-head attention with a residual and a layer norm after it."""

    def __init__(self, width: int, heads: int = 4, head_width: int = 4) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.w_qs, self.w_ks, self.w_vs = (nn.Linear(width, heads * head_width, bias=False) for _ in range(3))
        self.fc = nn.Linear(heads * head_width, width, bias=False)
        self.layer_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """(N, L, width) of a sequence of that shape; rows with mask (N, L) False look at all alike."""
        layers = (self.w_qs, self.w_ks, self.w_vs)
        q, k, v = (layer(x).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for layer in layers)
        scores = q @ k.transpose(2, 3) / self.head_width**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :, None], -1e9)
        out = (functional.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2)
        return self.layer_norm(self.fc(out) + x)


class Twin(nn.Module):
    """Look-ups, decoder and compositing.

    Args:
        refined: ID-NeRF, with refinement by attention; else MatchNeRF.
        window: look-ups are means over windows of 3x3.
        views: source views.
        width: of the trunk.
        layers: of the trunk.
    """

    def __init__(
        self, refined: bool = True, window: bool = True, views: int = 3, width: int = 128, layers: int = 6
    ) -> None:
        super().__init__()
        self.refined, self.window = refined, window
        matching, shown = sum(GROUPS) + 4 * views, 256 * (views - 1) + 4
        if refined:
            self.guidance_module = TwinAttention(8)
            self.cond_feat_fc = nn.Sequential(nn.Linear(shown, 8), nn.ReLU())
            self.cond_fc = nn.Linear(8 * (views + 1) + matching, width)
        else:
            self.pts_bias = nn.Linear(matching, width)
        columns = [63, *(width,) * 4, width + 63, *(width,) * layers]
        self.pts_linears = nn.ModuleList(nn.Linear(columns[layer], width) for layer in range(layers))
        self.alpha_linear = nn.Sequential(nn.Linear(width, 16), nn.ReLU())
        self.ray_attention = TwinAttention(16)
        self.out_alpha_linear = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1), nn.ReLU())
        self.feature_linear = nn.Linear(width, width)
        self.views_linears = nn.ModuleList([nn.Linear(width + 3, 64)])
        self.rgb_linear = nn.Linear(64, 3)

    def forward(self, rays: Dict[str, Tensor], views: Dict[str, Tensor], features: List[Tensor]) -> Tensor:
        """(R, 3) colours on black.

        Args:
            rays: `origins` and `directions` (R, 3), the latter of planar depth 1 and unit length by `length` (R, 1);
                `z` (R, S) planar depths.
            views: `images` (V, 3, H, W); `rotations` (V, 3, 3), `translations` (V, 3) from the world to cameras of
                OpenGL axes; `focal`, `centre` (V, 2) in pixels, the first at 0; `near`, `far`; `latent` (8,).
            features: of 1/8 and 1/4, (V, (V - 1) * 128, h, w).
        """
        points = rays["origins"][:, None] + rays["z"][..., None] * rays["directions"][:, None]
        places, depths, seen = self.project(points, views)
        looked_up = [self.look_up(each, places, window=self.window) for each in features]
        colours = self.look_up(views["images"], places, window=False)
        masks = seen.movedim(0, -1).float()
        alike = [self.similarity(each, groups) for each, groups in zip(looked_up, GROUPS, strict=True)]
        matching = torch.cat([*alike, colours.movedim(0, 2).flatten(2), masks], dim=-1)
        if self.refined:
            shown = torch.cat([*looked_up, colours, seen[..., None].float()], dim=-1)
            latents = views["latent"].expand(1, *points.shape[:2], -1)
            tokens = torch.cat([self.cond_feat_fc(shown), latents]).movedim(0, 2)
            refined = self.guidance_module(tokens.flatten(0, 1)).flatten(1).unflatten(0, points.shape[:2])
            factor = self.cond_fc(torch.cat([refined, matching], dim=-1))
        else:
            factor = self.pts_bias(matching)
        position = torch.cat([places[0], depths[0][..., None]], dim=-1)
        directions = (rays["directions"] / rays["length"]) @ views["rotations"][0].T * torch.tensor([1, -1, -1])
        density, rgb = self.decode(position, directions, factor, masks.sum(-1) > 1)
        alpha = 1.0 - torch.exp(-density)
        passed = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1.0 - alpha], dim=-1), dim=-1)[:, :-1]
        return ((alpha * passed)[..., None] * rgb).sum(1)

    @staticmethod
    def project(points: Tensor, views: Dict[str, Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        """(V, R, S, 2) places in [0, 1], (V, R, S) depths in [0, 1], (V, R, S) whether the view sees them."""
        x, y, z = (
            torch.einsum("vij,rsj->vrsi", views["rotations"], points) + views["translations"][:, None, None]
        ).unbind(-1)
        size = torch.tensor(views["images"].shape[:1:-1])
        uv = (
            torch.stack([x, -y], dim=-1) / -z[..., None] * views["focal"][:, None, None]
            + views["centre"][:, None, None]
        )
        places = uv / (size - 1)
        seen = ((places > 0) & (places < 1)).all(-1) & (z < 0)
        return places, (-z - views["near"]) / (views["far"] - views["near"]), seen

    @staticmethod
    def look_up(maps: Tensor, places: Tensor, window: bool) -> Tensor:
        """(V, R, S, C) of maps (V, C, h, w), bilinear; with a window the mean of 3x3 look-ups a pixel apart."""
        last = places.new_tensor([maps.shape[-1] - 1, maps.shape[-2] - 1])

        def looked_up(column: int, row: int) -> Tensor:
            grid = 2 * (places + places.new_tensor([column, row]) / last) - 1
            return functional.grid_sample(maps, grid, padding_mode="border", align_corners=True)

        total = looked_up(0, 0)
        if window:
            for place in [(c, r) for r in (-1, 0, 1) for c in (-1, 0, 1) if (c, r) != (0, 0)]:
                total += looked_up(*place)
            total /= 9
        return total.movedim(1, -1)

    @staticmethod
    def similarity(features: Tensor, groups: int) -> Tensor:
        """(R, S, groups) cosine similarity of what each two views have for each other, mean over the pairs."""
        views = len(features)
        parts = features.unflatten(-1, (views - 1, groups, -1))
        return torch.stack(
            [
                functional.cosine_similarity(parts[first, :, :, second - 1], parts[second, :, :, first], dim=-1)
                for first, second in combinations(range(views), 2)
            ]
        ).mean(0)

    def decode(self, position: Tensor, directions: Tensor, factor: Tensor, attends: Tensor) -> Tuple[Tensor, Tensor]:
        """(R, S) densities and (R, S, 3) colours."""
        scaled = (position[..., None, :] * 2 ** torch.arange(10)[:, None]).flatten(-2)
        encoded = torch.cat([position, torch.sin(scaled), torch.cos(scaled)], dim=-1)
        hidden = encoded
        for index, layer in enumerate(self.pts_linears):
            hidden = torch.relu(layer(hidden) * factor)
            if index == 4:
                hidden = torch.cat([encoded, hidden], dim=-1)
        density = self.out_alpha_linear(self.ray_attention(self.alpha_linear(hidden), attends))[..., 0]
        along = directions[:, None].expand(-1, position.shape[1], -1)
        colour = self.views_linears[0](torch.cat([self.feature_linear(hidden), along], dim=-1))
        return density, torch.sigmoid(self.rgb_linear(torch.relu(colour)))

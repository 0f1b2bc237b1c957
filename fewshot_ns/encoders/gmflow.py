"""Matching encoder of MatchNeRF and ID-NeRF: features of source views that each pair of them has agreed on.

Sources: GMFlow (Xu et al., CVPR 2022) for backbone and transformer, MatchNeRF (Chen et al. 2023) for the pairs and the
upsampler.
"""

from __future__ import annotations

from itertools import combinations
from typing import List, Literal

import torch
from torch import Tensor, nn

from fewshot_ns.encoders.feature_upsampler import FeatureUpsampler
from fewshot_ns.encoders.gmflow_backbone import FEATURES, MatchingBackbone
from fewshot_ns.encoders.gmflow_transformer import MatchingTransformer, add_positions
from fewshot_ns.pretrained.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD

SIZE_MULTIPLE = 32
"""Height and width that are encoded are multiples of this: an eighth of them in two windows, shifted by half of one."""
COARSE_SPLITS = 2
"""Windows along each axis of the map at 1/8."""


class MatchingEncoder(nn.Module):
    """Features of V views at 1/8 and at 1/4 of the images' size, V - 1 times 128 columns per view.

    Columns j * 128 to (j + 1) * 128 of view i are what it has in common with the j-th of the other views, in their
    order: the transformer is run on every unordered pair, and both views keep their part.

    With one scale the map at 1/4 is upsampled from the one at 1/8, as in MatchNeRF; with two it comes from the backbone
    itself, as in GMFlow's refined version, and goes through the same transformer. Parameters have the names of the
    released checkpoints of GMFlow and, below `feat_enc.`, of MatchNeRF and ID-NeRF.

    Args:
        num_scales: 1 or 2.
        num_layers: blocks of the transformer.
        fine_splits: of two scales, windows along each axis of the map at 1/4 for the transformer; 0: the backbone's map
            as it is, the same for every pair. GMFlow's own 8 expects that the coarse flow has been taken away, which
            is not what points in space need; with 2 a window sees as much of the image as at 1/8, at 16 times the cost.
    """

    def __init__(self, num_scales: Literal[1, 2] = 1, num_layers: int = 6, fine_splits: int = 2) -> None:
        super().__init__()
        self.num_scales, self.fine_splits = num_scales, fine_splits
        self.backbone = MatchingBackbone(num_scales)
        self.transformer = MatchingTransformer(FEATURES, num_layers)
        self.featup_net = FeatureUpsampler(FEATURES) if num_scales == 1 else None

    def forward(self, images: Tensor) -> List[Tensor]:
        """Encodes sets of views.

        Args:
            images: (B, V, H, W, 3) colours in [0, 1]. A size that is no multiple of 32 is enlarged to the next.

        Returns:
            (B, V, h, w, (V - 1) * 128) at 1/8 and (B, V, 2 h, 2 w, (V - 1) * 128) at 1/4. The centres of the corner
            pixels of a map lie on those of the images.

        Raises:
            ValueError: one view alone.
        """
        batch, views = images.shape[:2]
        if views < 2:
            raise ValueError(f"matching features need at least 2 source views, got {views}")
        maps = [each.unflatten(0, (batch, views)) for each in self.view_maps(images.flatten(0, 1))]
        return [each.movedim(2, 4).flatten(4) for each in self.matched(maps)]

    def view_maps(self, images: Tensor) -> List[Tensor]:
        """Per scale of the backbone (N, C, h, w): what it makes of each of N images (N, H, W, 3) by itself."""
        return self.backbone(normalized_input(images))

    def matched(self, maps: List[Tensor]) -> List[Tensor]:
        """(B, V, V - 1, h, w, C) at 1/8 and at 1/4: what each view has in common with each of the others.

        Args:
            maps: per scale of the backbone (B, V, C, h, w).
        """
        coarse = self.match(maps[0], COARSE_SPLITS)
        if self.featup_net is None:
            return [coarse, self.match(maps[1], self.fine_splits)]
        fine = self.featup_net(coarse.flatten(0, 2).movedim(-1, 1)).movedim(1, -1)
        return [coarse, fine.unflatten(0, coarse.shape[:3])]

    def match(self, maps: Tensor, splits: int) -> Tensor:
        """(B, V, V - 1, h, w, C): what each view has in common with each of the others, of maps (B, V, C, h, w).

        Args:
            maps: of the backbone.
            splits: windows along each axis; 0: nothing is matched, and the maps are repeated.
        """
        batch, views = maps.shape[:2]
        maps = maps.movedim(2, 4)
        if splits == 0:
            return maps[:, :, None].expand(-1, -1, views - 1, -1, -1, -1)
        maps = add_positions(maps.flatten(0, 1), splits).unflatten(0, (batch, views))
        first, second = (list(each) for each in zip(*combinations(range(views), 2), strict=True))
        both = self.transformer(maps[:, first].flatten(0, 1), maps[:, second].flatten(0, 1), splits)
        parts = torch.cat([each.unflatten(0, (batch, -1)) for each in both], dim=1)
        ordered = [*zip(first, second, strict=True), *zip(second, first, strict=True)]
        place = {pair: index for index, pair in enumerate(ordered)}
        order = [place[view, other] for view in range(views) for other in range(views) if other != view]
        return parts[:, order].unflatten(1, (views, views - 1))


def normalized_input(images: Tensor) -> Tensor:
    """(N, 3, H', W') of images (N, H, W, 3) in [0, 1], as the backbone takes them: sizes in multiples of 32."""
    mean, std = (images.new_tensor(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x = ((images - mean) / std).movedim(-1, 1)
    wanted = [-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in x.shape[-2:]]
    if list(x.shape[-2:]) == wanted:
        return x
    # Corner on corner, because that is how points are looked up in the maps.
    return nn.functional.interpolate(x, size=wanted, mode="bilinear", align_corners=True)

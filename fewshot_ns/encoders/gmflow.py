"""Matching encoder of MatchNeRF and ID-NeRF: features of source views after attention within each pair of views.

Sources: GMFlow (Xu et al., CVPR 2022) for backbone and transformer, MatchNeRF (Chen et al. 2023) for the pairs and the
upsampler.
"""

from __future__ import annotations

from itertools import combinations
from typing import List, Literal

import torch
from torch import Tensor, nn

from fewshot_ns.encoders.gmflow_transformer import MatchingTransformer, add_positions
from fewshot_ns.pretrained.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD

FEATURES = 128
"""Channels of every map."""


SIZE_MULTIPLE = 32
"""Images are encoded at multiples of this size: maps at 1/8 in two windows per axis, shifted by half a window."""
COARSE_SPLITS = 2
"""Windows along each axis of the map at 1/8."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norms and a skip connection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(out_channels)
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            # A Sequential of one layer, for the parameter names of released checkpoints.
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', ceil(h / stride), ceil(w / stride))."""
        y = torch.relu(self.norm(self.conv1(x)))
        y = torch.relu(self.norm(self.conv2(y)))
        skip = x if self.downsample is None else self.norm(self.downsample(x))
        return torch.relu(skip + y)


class MatchingBackbone(nn.Module):
    """GMFlow's convolutional network, with the parameter names of its released checkpoints.

    With one scale it gives a map at 1/8. With two it stops at 1/4, and one convolution, applied with stride 2 and with
    stride 1, gives maps at 1/8 and at 1/4.

    Args:
        num_scales: 1 or 2.
    """

    def __init__(self, num_scales: Literal[1, 2] = 1) -> None:
        super().__init__()
        self.num_scales = num_scales
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.norm1 = nn.InstanceNorm2d(64)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96, 1))
        last_stride = 2 if num_scales == 1 else 1
        self.layer3 = nn.Sequential(ResidualBlock(96, FEATURES, last_stride), ResidualBlock(FEATURES, FEATURES, 1))
        self.conv2 = nn.Conv2d(FEATURES, FEATURES, 1)
        if num_scales == 2:
            self.trident_conv = nn.Conv2d(FEATURES, FEATURES, 3, padding=1, bias=False)

    def forward(self, images: Tensor) -> List[Tensor]:
        """Maps of normalised images.

        Args:
            images: (N, 3, H, W), H and W multiples of 8.

        Returns:
            One per scale, coarse first: (N, 128, H / 8, W / 8), and with two scales (N, 128, H / 4, W / 4).
        """
        x = torch.relu(self.norm1(self.conv1(images)))
        x = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        if self.num_scales == 1:
            return [x]
        shared = self.trident_conv.weight
        return [nn.functional.conv2d(x, shared, stride=stride, padding=1) for stride in (2, 1)]


class FeatureUpsampler(nn.Module):
    """Upsampler of the matching encoder: two branches, one convolved before and one after upsampling.

    The names of the parameters are those of MatchNeRF's released checkpoints.

    Args:
        width: channels, in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_ls = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1)])
        self.conv_l2rs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, 2 h, 2 w)."""
        before, after = self.conv_l2rs
        enlarged = nn.functional.interpolate(before(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return enlarged + after(nn.functional.leaky_relu(self.conv_ls[0](x), 0.2))


class MatchingEncoder(nn.Module):
    """Features of V views at 1/8 and at 1/4 of the images' size, with (V - 1) * 128 channels per view.

    Channels j * 128 to (j + 1) * 128 of view i are its features after attention to the j-th of the other views, in
    their order: the transformer runs on every unordered pair and gives features of both views.

    With one scale the map at 1/4 is upsampled from the one at 1/8, as in MatchNeRF; with two it comes from the backbone
    itself, as in GMFlow's refined version, and goes through the same transformer. Parameters have the names of the
    released checkpoints of GMFlow and, below `feat_enc.`, of MatchNeRF and ID-NeRF.

    Args:
        num_scales: 1 or 2.
        num_layers: blocks of the transformer.
        fine_splits: with two scales, attention windows along each axis of the map at 1/4; 0: the backbone's map, the
            same for every pair. GMFlow's own 8 assumes that the coarse flow has been removed by warping, which points
            in space do not need; with 2 a window covers as much of the image as at 1/8, at 16 times the cost.
    """

    def __init__(self, num_scales: Literal[1, 2] = 1, num_layers: int = 6, fine_splits: int = 2) -> None:
        super().__init__()
        self.num_scales, self.fine_splits = num_scales, fine_splits
        self.backbone = MatchingBackbone(num_scales)
        self.transformer = MatchingTransformer(FEATURES, num_layers)
        self.featup_net = FeatureUpsampler(FEATURES) if num_scales == 1 else None

    def forward(self, images: Tensor) -> List[Tensor]:
        """Encodes groups of views.

        Args:
            images: (B, V, H, W, 3) colours in [0, 1]; resized to the next multiple of 32.

        Returns:
            (B, V, h, w, (V - 1) * 128) at 1/8 and (B, V, 2 h, 2 w, (V - 1) * 128) at 1/4. Maps and images are aligned
            at the centres of their corner pixels.

        Raises:
            ValueError: fewer than two views.
        """
        batch, views = images.shape[:2]
        if views < 2:
            raise ValueError(f"matching features need at least 2 source views, got {views}")
        maps = [each.unflatten(0, (batch, views)) for each in self.view_maps(images.flatten(0, 1))]
        return [each.movedim(2, 4).flatten(4) for each in self.matched(maps)]

    def view_maps(self, images: Tensor) -> List[Tensor]:
        """Maps (N, C, h, w) of the backbone, one per scale, of images (N, H, W, 3), each on its own."""
        return self.backbone(normalized_input(images))

    def matched(self, maps: List[Tensor]) -> List[Tensor]:
        """(B, V, V - 1, h, w, C) at 1/8 and at 1/4: features of each view after attention to each of the others.

        Args:
            maps: (B, V, C, h, w) of the backbone, one per scale.
        """
        coarse = self.match(maps[0], COARSE_SPLITS)
        if self.featup_net is None:
            return [coarse, self.match(maps[1], self.fine_splits)]
        fine = self.featup_net(coarse.flatten(0, 2).movedim(-1, 1)).movedim(1, -1)
        return [coarse, fine.unflatten(0, coarse.shape[:3])]

    def match(self, maps: Tensor, splits: int) -> Tensor:
        """(B, V, V - 1, h, w, C): features of each view after attention to each of the others.

        Args:
            maps: (B, V, C, h, w) of the backbone.
            splits: attention windows along each axis; 0: no attention, the maps are repeated.
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
        position = {pair: index for index, pair in enumerate(ordered)}
        order = [position[view, other] for view in range(views) for other in range(views) if other != view]
        return parts[:, order].unflatten(1, (views, views - 1))


def normalized_input(images: Tensor) -> Tensor:
    """Input (N, 3, H', W') of the backbone, of images (N, H, W, 3) in [0, 1]; H' and W' are multiples of 32."""
    mean, std = (images.new_tensor(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x = ((images - mean) / std).movedim(-1, 1)
    wanted = [-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in x.shape[-2:]]
    if list(x.shape[-2:]) == wanted:
        return x
    # Corners aligned, as in the lookup of points in the maps.
    return nn.functional.interpolate(x, size=wanted, mode="bilinear", align_corners=True)

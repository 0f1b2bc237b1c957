"""Pixel-aligned features of a residual network, on which pixelNeRF conditions its field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, Optional

import torch
from torch import Tensor, nn
from torchvision import models

from fewshot_ns.model_components.source_views import Interpolation, Padding
from fewshot_ns.pretrained.weights import WeightsSpec, load_weights, resolve_weights
from fewshot_ns.utils.checkpoints import load_strictly

Backbone = Literal["resnet18", "resnet34"]
Norm = Literal["batch", "instance", "group", "none"]

_NORMS: Dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "group": partial(nn.GroupNorm, 32),
    "none": lambda _: nn.Identity(),
}
_COLUMNS = (64, 64, 128, 256, 512)
"""Channels of the first convolution and of the four stages."""


class ResNetEncoder(nn.Module):
    """Maps of the first convolution and of the stages after it, resized to the first and concatenated.

    The network is torchvision's without its classifier; its parameters have torchvision's names below `model.`, as in
    pixelNeRF's released checkpoints. In training, batch norms use the statistics of all images that are encoded
    together, otherwise the running ones; a frozen encoder always uses the running ones.

    Args:
        backbone: torchvision's name; both have stages of 64, 128, 256 and 512 channels.
        num_layers: maps that are concatenated: the first convolution's and those of `num_layers` - 1 stages.
        first_pool: whether the max pooling before the first stage is there.
        norm: normalisation layers; only 'batch' has published weights.
        feature_scale: images are resized by this factor before they are encoded.
        frozen: parameters and batch statistics never change.
        keep_unused: keep the parameters of unused stages, as the released checkpoints do.
    """

    model: models.ResNet

    def __init__(
        self,
        backbone: Backbone = "resnet34",
        num_layers: int = 4,
        first_pool: bool = True,
        norm: Norm = "batch",
        feature_scale: float = 1.0,
        frozen: bool = False,
        keep_unused: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= num_layers <= len(_COLUMNS):
            raise ValueError(f"expected 1 to {len(_COLUMNS)} layers of the encoder, got {num_layers}")
        self.backbone, self.num_layers, self.first_pool = backbone, num_layers, first_pool
        self.norm, self.feature_scale, self.frozen = norm, feature_scale, frozen
        model: Any = models.get_model(backbone, weights=None, norm_layer=_NORMS[norm])
        model.fc = nn.Sequential()
        model.avgpool = nn.Sequential()
        for index in range(num_layers, len(_COLUMNS)):
            # Unused, hence without gradients; optimizer and DDP need to know.
            if keep_unused:
                getattr(model, f"layer{index}").requires_grad_(False)
            else:
                setattr(model, f"layer{index}", nn.Sequential())
        self.model = model
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def columns(self) -> int:
        """Channels of the output."""
        return sum(_COLUMNS[: self.num_layers])

    def train(self, mode: bool = True) -> ResNetEncoder:
        """As for any module, but a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images.

        Args:
            images: (N, H, W, 3) colours in [0, 1].

        Returns:
            (N, C, ceil(H / 2), ceil(W / 2)) of the images at `feature_scale`.
        """
        x = images.movedim(-1, 1) * 2.0 - 1.0
        if self.feature_scale > 1.0:
            x = nn.functional.interpolate(x, scale_factor=self.feature_scale, mode="bilinear", align_corners=True)
        elif self.feature_scale < 1.0:
            x = nn.functional.interpolate(x, scale_factor=self.feature_scale, mode="area")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self._maps(x)
        size = maps[0].shape[-2:]
        resized = [nn.functional.interpolate(each, size, mode="bilinear", align_corners=True) for each in maps[1:]]
        return torch.cat([maps[0], *resized], dim=1)

    def _maps(self, x: Tensor) -> List[Tensor]:
        x = self.model.relu(self.model.bn1(self.model.conv1(x)))
        maps = [x]
        for index in range(1, self.num_layers):
            if index == 1 and self.first_pool:
                x = self.model.maxpool(x)
            x = getattr(self.model, f"layer{index}")(x)
            maps.append(x)
        return maps

    def load_imagenet(self, weights: Optional[Path], download: bool, flag: str) -> None:
        """Loads torchvision's ImageNet weights.

        Args:
            weights: the user's own file, or a folder with it; None: the usual order of search.
            download: whether it may be downloaded.
            flag: command line flag that takes the path, for the message.

        Raises:
            WeightsNotFoundError: the weights were not found.
            ValueError: there are no weights for this norm.
            CheckpointMismatchError: a file of another network.
        """
        if self.norm != "batch":
            raise ValueError(f"ImageNet weights are those of batch norms, not of norm {self.norm!r}")
        published = models.get_model_weights(self.backbone).DEFAULT  # type: ignore[attr-defined]
        cached = published.url.rpartition("/")[2]
        spec = WeightsSpec(
            name=f"torchvision {self.backbone}",
            filenames=(cached, f"{self.backbone}.pth", f"{self.backbone}.pt"),
            flag=flag,
            cache_filenames=(cached,),
            url=published.url,
            sha256=cached.rpartition("-")[2].partition(".")[0],
        )
        path = resolve_weights(spec, weights, download)
        state = load_weights(path)
        state = state.get("state_dict", state)
        wanted = self.model.state_dict()
        unused = tuple(f"layer{i}." for i in range(1, 5) if not any(name.startswith(f"layer{i}.") for name in wanted))
        known = {name: value for name, value in state.items() if not name.startswith(("fc.", *unused))}
        # Old files lack these counters; torch's own loading fills them in as well.
        counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
        load_strictly(self.model, {**counters, **known}, path)


@dataclass
class ResNetEncoderConfig:
    """The image encoder and the source of its weights."""

    backbone: Backbone = "resnet34"
    """Network, by torchvision's name."""
    num_layers: int = 4
    """Maps that are concatenated: the first convolution's and those of the stages after it."""
    first_pool: bool = True
    """Whether max pooling precedes the first stage; the published 64x64 settings omit it."""
    norm: Norm = "batch"
    """Normalisation layers; only batch norms have ImageNet weights."""
    feature_scale: float = 1.0
    """Images are resized by this factor before they are encoded."""
    padding: Padding = "border"
    """Feature of points that project outside a source image: the nearest one, or zeros."""
    interpolation: Interpolation = "bilinear"
    """Interpolation of features between the pixels of their map."""
    frozen: bool = False
    """Whether weights and batch statistics are not trained."""
    keep_unused: bool = True
    """Whether unused stages are kept, as in the released checkpoints."""
    pretrained: bool = True
    """Whether training starts from ImageNet weights; False: from a random initialisation."""
    weights: Optional[Path] = None
    """File with the ImageNet weights, or a folder with it. None: FEWSHOT_WEIGHTS, torch's cache, a download."""
    download: bool = True
    """Whether weights that are not on this disk may be downloaded."""

    def setup(self) -> ResNetEncoder:
        """Builds the encoder, with random weights."""
        return ResNetEncoder(
            backbone=self.backbone,
            num_layers=self.num_layers,
            first_pool=self.first_pool,
            norm=self.norm,
            feature_scale=self.feature_scale,
            frozen=self.frozen,
            keep_unused=self.keep_unused,
        )

    def load(self, encoder: ResNetEncoder, flag: str) -> None:
        """Loads the ImageNet weights, if `pretrained`.

        Args:
            encoder: made by `setup`.
            flag: command line flag of `weights`, for the message.

        Raises:
            WeightsNotFoundError: they were not found.
        """
        if self.pretrained:
            encoder.load_imagenet(self.weights, self.download, flag)

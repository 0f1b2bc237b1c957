"""LPIPS with a VGG16 or AlexNet backbone, whose weights are searched offline first and loaded at the first call.

The network and its linear heads are torchmetrics'; only the backbone's ImageNet weights come from elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Literal, Optional, Union

import rich
import torch
from rich.text import Text
from torch import Tensor

from fewshot_ns.pretrained.weights import WeightsNotFoundError, WeightsSpec, load_weights, resolve_weights

Backbone = Literal["vgg", "alex"]

BACKBONE_WEIGHTS: Dict[str, WeightsSpec] = {
    "vgg": WeightsSpec(
        name="ImageNet VGG16, the backbone of LPIPS",
        filenames=("vgg16_features_torchvision.pt",),
        flag="--pipeline.evaluation.lpips-weights",
        cache_filenames=("vgg16-397923af.pth",),
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af",
    ),
    "alex": WeightsSpec(
        name="ImageNet AlexNet, the backbone of LPIPS",
        filenames=("alexnet_features_torchvision.pt",),
        flag="--pipeline.evaluation.lpips-alex-weights",
        cache_filenames=("alexnet-owt-7be5be79.pth",),
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
    ),
}
"""The two backbones; a file may hold the convolution layers alone ("0.weight") or torchvision's whole network."""

SMALLEST_IMAGE: Dict[str, int] = {"vgg": 16, "alex": 31}
"""Pixels per side below which the backbone's poolings leave nothing."""


class Lpips:
    """Learned perceptual distance between two images, smaller is better.

    The constructor neither builds nor reads nor downloads anything. The first call does; where the weights are not
    found it prints the reason, and this and every later call returns None.

    Args:
        backbone: "vgg" (what papers report) or "alex".
        weights: file with the backbone's weights or a folder holding it; None searches (see `pretrained.weights`).
        device: where the network runs.
        download: whether weights that are not on this disk may be downloaded.

    Raises:
        WeightsNotFoundError: `weights` is given and holds no weights.
        ValueError: unknown backbone.
    """

    def __init__(
        self,
        backbone: Backbone = "vgg",
        weights: Optional[Path] = None,
        device: Union[str, torch.device] = "cpu",
        download: bool = True,
    ) -> None:
        if backbone not in BACKBONE_WEIGHTS:
            raise ValueError(f"LPIPS backbone: expected one of {', '.join(BACKBONE_WEIGHTS)}, got {backbone!r}")
        self.backbone: Backbone = backbone
        self.device = torch.device(device)
        # A wrong path is reported before a training run, not at its first evaluation.
        self.weights = None if weights is None else resolve_weights(BACKBONE_WEIGHTS[backbone], weights)
        self.download = download
        self.unavailable: Optional[str] = None
        self._network: Optional[torch.nn.Module] = None
        self._said_too_small = False

    @torch.no_grad()
    def __call__(self, pred: Tensor, truth: Tensor, unscaled: bool = False) -> Optional[float]:
        """Distance of two images (H, W, 3) in [0, 1], or None without weights, or of images too small.

        Args:
            pred: predicted image (H, W, 3) in [0, 1].
            truth: true image (H, W, 3) in [0, 1].
            unscaled: feed [0, 1] where the network expects [-1, 1], as the evaluation code of SparseNeRF did. For
                comparison with numbers obtained that way only.

        Raises:
            ValueError: the shapes differ or are not (H, W, 3), or the weights file does not fit the backbone.
        """
        if pred.shape != truth.shape or pred.ndim != 3 or pred.shape[-1] != 3:
            raise ValueError(
                f"expected two images of one shape (height, width, 3), got {tuple(pred.shape)} and {tuple(truth.shape)}"
            )
        if not self.fits((pred.shape[0], pred.shape[1])):
            return None
        network = self._get_network()
        if network is None:
            return None
        first, second = (
            image.to(device=self.device, dtype=torch.float32).permute(2, 0, 1)[None] for image in (pred, truth)
        )
        return float(network(first, second, normalize=not unscaled))

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether images of (height, width) are large enough; says it once where they are not."""
        if min(size) >= SMALLEST_IMAGE[self.backbone]:
            return True
        self._say_too_small(size)
        return False

    def check_named(self) -> None:
        """Reads the weights that a user named; others are looked for, or downloaded, at the first image.

        Raises:
            ValueError: they are damaged, or do not fit the backbone.
        """
        if self.weights is not None:
            self._get_network()

    def _get_network(self) -> Optional[torch.nn.Module]:
        """The network, built at the first call; None when its weights are not found."""
        if self._network is None and self.unavailable is None:
            spec = BACKBONE_WEIGHTS[self.backbone]
            try:
                path = self.weights or resolve_weights(spec, download=self.download)
            except WeightsNotFoundError as error:
                self.unavailable = str(error)
                _say(f"LPIPS ({self.backbone}) is reported as n/a. {error}")
                return None
            self._network = build_network(self.backbone, path).to(self.device)
        return self._network

    def _say_too_small(self, size: tuple[int, ...]) -> None:
        if not self._said_too_small:
            self._said_too_small = True
            smallest = SMALLEST_IMAGE[self.backbone]
            _say(
                f"LPIPS ({self.backbone}) is reported as n/a for images of {size[0]}x{size[1]} pixels:"
                f" it needs at least {smallest}x{smallest}."
            )


def build_network(backbone: Backbone, weights: Path) -> torch.nn.Module:
    """torchmetrics' LPIPS network with its own linear heads and the backbone's weights from a file, frozen.

    Args:
        backbone: "vgg" or "alex".
        weights: file with the convolution layers ("0.weight") or torchvision's whole network ("features.0.weight").

    Raises:
        ValueError: the file cannot be read or does not fit the backbone.
    """
    state = load_weights(weights)
    # After the file, whose faults need not wait for it.
    from torchmetrics.functional.image.lpips import _LPIPS

    features = {key[len("features.") :]: value for key, value in state.items() if key.startswith("features.")} or state
    # The random initialisation that the loaded weights replace must not move the random state of a training run.
    with torch.random.fork_rng(devices=[]):
        network = _LPIPS(pretrained=True, net=backbone, pnet_rand=True)
    # The network keeps torchvision's layers in slices but under torchvision's numbers: "slice2.5.weight" is "5.weight".
    expected = network.net.state_dict()
    renamed = {key: features.get(key.split(".", 1)[1]) for key in expected}
    wrong = [
        f"{key.split('.', 1)[1]} ({'missing' if value is None else f'shape {tuple(value.shape)}'},"
        f" expected {tuple(expected[key].shape)})"
        for key, value in renamed.items()
        if value is None or value.shape != expected[key].shape
    ]
    if wrong:
        raise ValueError(
            f"{weights}: expected the layers of {BACKBONE_WEIGHTS[backbone].name}, found {'; '.join(wrong)}"
        )
    network.net.load_state_dict(renamed)
    return network.eval().requires_grad_(False)


def _say(text: str) -> None:
    # As Text, because brackets in a path would be read as markup.
    rich.get_console().print(Text(text), soft_wrap=True)

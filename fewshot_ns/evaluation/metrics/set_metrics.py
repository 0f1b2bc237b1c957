"""FID and KID: how far the renders of all test views together lie from the photos of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_ns.evaluation.metrics.config import SET_METRICS
from fewshot_ns.evaluation.metrics.image_features import FeatureNetwork, encoder_name, load_features, suffix_of
from fewshot_ns.evaluation.records.ledger import MetricSummary
from fewshot_ns.utils.npz_cache import read_npz, write_npz

if TYPE_CHECKING:
    from fewshot_ns.evaluation.metrics.config import EvaluationConfig

MOST_IN_A_SUBSET = 1000
"""Images of a subset of KID where none are asked for, as published."""
_SUBSETS_SEED = 0


@dataclass
class ViewFeatures:
    """Features of photos and renders, view by view."""

    key: str = ""
    """Of the network that gave them."""
    views: Dict[int, Tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Features (C,) of photo and render, by the place of the view in the test split."""

    def save(self, path: Path) -> None:
        """Writes all as .npz, whole or not at all."""
        places = sorted(self.views)
        arrays = {
            name: np.stack([self.views[place][side].numpy() for place in places])
            for side, name in enumerate(("photo", "render"))
        }
        write_npz(path, {"key": self.key, "places": places, **arrays})

    @classmethod
    def load(cls, path: Path, key: Optional[str] = None) -> ViewFeatures:
        """What a file holds; nothing where there is none, it is damaged, or of another network than `key` names."""
        arrays = read_npz(path, "key", "places", "photo", "render")
        if arrays is None or key not in (None, str(arrays["key"])):
            return cls(key or "")
        pairs = zip(torch.from_numpy(arrays["photo"]), torch.from_numpy(arrays["render"]), strict=True)
        return cls(str(arrays["key"]), dict(zip(arrays["places"].tolist(), pairs, strict=True)))


class SetMetrics:
    """Measures the set of all evaluated images by the metrics `fid` and `kid` of a config.

    Args:
        config: names of metrics, network and weights.
        device: where the network runs.

    Raises:
        ValueError: an unknown network, or a size that makes no sense.
    """

    def __init__(self, config: EvaluationConfig, device: Union[str, torch.device] = "cpu") -> None:
        self.config, self.device = config, device
        self.names = tuple(name for name in config.metrics if name in SET_METRICS)
        encoder_name(config.fid_encoder)  # a wrong one is said at once
        self.suffix = suffix_of(config.fid_encoder)
        self._network: Optional[FeatureNetwork] = None
        sizes = {"kid-subsets": config.kid_subsets, "kid-subset-size": config.kid_subset_size}
        for name, value in sizes.items():
            least = 1 if name == "kid-subsets" else 2
            if value is not None and value < least:
                raise ValueError(f"--pipeline.evaluation.{name}: expected at least {least}, got {value}")

    @property
    def network(self) -> FeatureNetwork:
        """The network, loaded at first use.

        Raises:
            WeightsNotFoundError: its weights are nowhere to be had.
            ValueError, ImportError: see `load_features`.
        """
        if self._network is None:
            config = self.config
            self._network = load_features(config.fid_encoder, config.fid_weights, self.device, config.download_weights)
        return self._network

    def prepare(self) -> None:
        """Loads the network, where a metric needs it: what is missing is said before the first view is rendered."""
        if self.names:
            _ = self.network

    def settings(self) -> Dict[str, Any]:
        """Fields of the config by which features that are there are compared again; plain data."""
        config = self.config
        sizes = {"kid_subset_size": config.kid_subset_size, "kid_subsets": config.kid_subsets}
        return {"metrics": list(self.names), "fid_encoder": config.fid_encoder, **sizes}

    def features(self, pred: Tensor, truth: Tensor) -> Tuple[Tensor, Tensor]:
        """Features (C,) of a photo and of its render, on the CPU.

        Args:
            pred: render (H, W, 3); clamped to [0, 1].
            truth: photo (H, W, 3) in [0, 1].
        """
        both = self.network(torch.stack([truth.float(), pred.float().clamp(0.0, 1.0).to(truth.device)])).cpu()
        return both[0], both[1]

    def compute(self, pairs: Sequence[Tuple[Tensor, Tensor]]) -> Dict[str, MetricSummary]:
        """The metrics of a set, by names that say which network they are of.

        Args:
            pairs: features (C,) of photo and render of each image.

        Returns:
            Values, and by `<name>_images` of how many images; the deviation of KID is that over its subsets. None for
            less than two images.
        """
        found = {}
        for name in self.names:
            mean, std = (None, None) if len(pairs) < 2 else getattr(self, f"_{name}")(pairs)
            count = len(pairs)
            found[name + self.suffix] = MetricSummary(mean, std, 0 if mean is None else count)
            found[f"{name}{self.suffix}_images"] = MetricSummary(float(count), None, count)
        return found

    def _fid(self, pairs: Sequence[Tuple[Tensor, Tensor]]) -> Tuple[float, Optional[float]]:
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(_Given(len(pairs[0][0])))
        return float(_updated(metric, pairs).compute()), None

    def _kid(self, pairs: Sequence[Tuple[Tensor, Tensor]]) -> Tuple[float, Optional[float]]:
        from torchmetrics.image.kid import KernelInceptionDistance

        size = min(len(pairs), self.config.kid_subset_size or MOST_IN_A_SUBSET)
        # All subsets as large as the set are the set.
        subsets = self.config.kid_subsets if size < len(pairs) else 1
        metric = KernelInceptionDistance(_Given(len(pairs[0][0])), subsets=subsets, subset_size=size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SUBSETS_SEED)
            mean, std = _updated(metric, pairs).compute()
        return float(mean), float(std) if subsets > 1 else None


def _updated(metric: Any, pairs: Sequence[Tuple[Tensor, Tensor]]) -> Any:
    for side, real in ((0, True), (1, False)):
        metric.update(torch.stack([pair[side] for pair in pairs]), real=real)
    return metric


class _Given(nn.Module):
    """The network that torchmetrics asks for, which hands on features that are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C) as they are; zeros for the image by which older torchmetrics finds out C."""
        return features if features.ndim == 2 else torch.zeros(len(features), self.num_features)

"""FID and KID: distance between the renders of all test views together and the true images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_ns.evaluation.metrics.config import SET_METRICS, EvaluationConfig
from fewshot_ns.evaluation.metrics.image_features import FeatureNetwork, encoder_config, load_features, name_suffix
from fewshot_ns.evaluation.records.ledger import MetricSummary
from fewshot_ns.utils.cache import read_npz, write_npz

FeaturePairs = Sequence[Tuple[Tensor, Tensor]]
"""Features (C,) of true image and render of each view."""
Metric = Callable[[FeaturePairs], Tuple[float, Optional[float]]]
"""A metric of all images together: value, and deviation where it has one."""

MAX_SUBSET_SIZE = 1000
"""Images of a subset of KID where no number is configured, as published."""
_SUBSETS_SEED = 0


@dataclass
class ViewFeatures:
    """Image features of true images and renders, view by view."""

    key: str = ""
    """Identifies the network that they are of."""
    views: Dict[int, Tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Features (C,) of true image and render, by split index."""

    def save(self, path: Path) -> None:
        """Writes all as .npz, whole or not at all."""
        indices = sorted(self.views)
        arrays = {
            name: np.stack([self.views[index][side].numpy() for index in indices])
            for side, name in enumerate(("photo", "render"))
        }
        write_npz(path, {"key": self.key, "places": indices, **arrays})

    @classmethod
    def load(cls, path: Path, key: Optional[str] = None) -> ViewFeatures:
        """What a file holds; nothing where there is none, it is damaged, or of another network than `key` names."""
        arrays = read_npz(path, "key", "places", "photo", "render")
        if arrays is None or key not in (None, str(arrays["key"])):
            return cls(key or "")
        pairs = zip(torch.from_numpy(arrays["photo"]), torch.from_numpy(arrays["render"]), strict=True)
        return cls(str(arrays["key"]), dict(zip(arrays["places"].tolist(), pairs, strict=True)))


class SetMetrics:
    """The metrics of all evaluated images together, `fid` and `kid`, of a config.

    Args:
        config: names of metrics, network and weights.
        device: where the network runs.

    Raises:
        ValueError: an unknown network, or a size that makes no sense.
    """

    def __init__(self, config: EvaluationConfig, device: Union[str, torch.device] = "cpu") -> None:
        self.config, self.device = config, device
        self.names = tuple(name for name in config.metrics if name in SET_METRICS)
        encoder_config(config.fid_encoder)  # raises at once where the name is wrong
        self.suffix = name_suffix(config.fid_encoder)
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
            WeightsNotFoundError: its weights were not found.
            ValueError, ImportError: see `load_features`.
        """
        if self._network is None:
            config = self.config
            self._network = load_features(config.fid_encoder, config.fid_weights, self.device, config.download_weights)
        return self._network

    def prepare(self) -> None:
        """Loads the network, where a metric needs it, so that errors come before the first view is rendered."""
        if self.names:
            _ = self.network

    def settings(self) -> Dict[str, Any]:
        """Fields of the config that stored features are compared by again, as plain data."""
        config = self.config
        sizes = {"kid_subset_size": config.kid_subset_size, "kid_subsets": config.kid_subsets}
        return {"metrics": list(self.names), "fid_encoder": config.fid_encoder, **sizes}

    def features(self, pred: Tensor, truth: Tensor) -> Tuple[Tensor, Tensor]:
        """Features (C,) of a true image and of its render, on the CPU.

        Args:
            pred: render (H, W, 3); clamped to [0, 1].
            truth: true image (H, W, 3) in [0, 1].
        """
        both = self.network(torch.stack([truth.float(), pred.float().clamp(0.0, 1.0).to(truth.device)])).cpu()
        return both[0], both[1]

    def compute(self, pairs: FeaturePairs) -> Dict[str, MetricSummary]:
        """The metrics, by names that say which network they are of.

        Args:
            pairs: features (C,) of true image and render of each view.

        Returns:
            Values, and by `<name>_images` of how many images; the deviation of KID is that over its subsets. None for
            less than two images.
        """
        metrics: Dict[str, Metric] = {"fid": self._fid, "kid": self._kid}
        found = {}
        for name in self.names:
            mean, std = (None, None) if len(pairs) < 2 else metrics[name](pairs)
            count = len(pairs)
            found[name + self.suffix] = MetricSummary(mean, std, 0 if mean is None else count)
            found[f"{name}{self.suffix}_images"] = MetricSummary(float(count), None, count)
        return found

    def _fid(self, pairs: FeaturePairs) -> Tuple[float, Optional[float]]:
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(_PrecomputedFeatures(len(pairs[0][0])))
        return float(_updated(metric, pairs).compute()), None

    def _kid(self, pairs: FeaturePairs) -> Tuple[float, Optional[float]]:
        from torchmetrics.image.kid import KernelInceptionDistance

        size = min(len(pairs), self.config.kid_subset_size or MAX_SUBSET_SIZE)
        # Subsets as large as the whole are all the same.
        subsets = self.config.kid_subsets if size < len(pairs) else 1
        metric = KernelInceptionDistance(_PrecomputedFeatures(len(pairs[0][0])), subsets=subsets, subset_size=size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SUBSETS_SEED)
            mean, std = _updated(metric, pairs).compute()
        return float(mean), float(std) if subsets > 1 else None


def _updated(metric: Any, pairs: FeaturePairs) -> Any:
    for side, real in ((0, True), (1, False)):
        metric.update(torch.stack([pair[side] for pair in pairs]), real=real)
    return metric


class _PrecomputedFeatures(nn.Module):
    """Stands for the network that torchmetrics asks for, and passes on features that are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C) as they are; zeros for the image by which older torchmetrics finds out C."""
        return features if features.ndim == 2 else torch.zeros(len(features), self.num_features)

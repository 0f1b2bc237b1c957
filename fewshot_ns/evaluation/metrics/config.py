"""Which metrics there are, which are computed, and where their weights are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Literal, Optional, Tuple

from fewshot_ns.evaluation.metrics.regions import MASKED_PREFIX, Region

KNOWN_METRICS: Dict[str, str] = {
    "psnr": "peak signal-to-noise ratio in dB",
    "ssim": "structural similarity, uniform 7x7 window (scikit-image's default)",
    "ssim_gaussian": "structural similarity, Gaussian 11x11 window",
    "lpips": "LPIPS with the VGG16 backbone, as papers report it",
    "lpips_alex": "LPIPS with the AlexNet backbone",
    "lpips_unscaled": "LPIPS (VGG16) fed with [0, 1] instead of [-1, 1], as SparseNeRF's evaluation did",
    "avg_error": "geometric mean of MSE, sqrt(1 - SSIM) and LPIPS (VGG16)",
    "census_error": "fraction of neighbour comparisons that point the opposite way",
}
"""Every metric by name, with what it is."""


HIGHER_IS_BETTER: Tuple[str, ...] = ("psnr", "ssim", "ssim_gaussian")
"""Metrics of which a larger value is better; of the others a smaller one is."""


SET_METRICS: Dict[str, str] = {
    "fid": "Frechet distance of two normal distributions fitted to the features of true images and of renders",
    "kid": "squared distance of the two sets of features under a cubic kernel, without the bias of small sets",
}
"""Metrics of all images together, by name."""


EvaluatedSplit = Literal["held-out", "train"]


@dataclass
class EvaluationConfig:
    """What is measured on each test view."""

    split: EvaluatedSplit = "held-out"
    """Which views ns-eval and the evaluation while training measure: held-out ones, or those trained on (train), whose
    figures say how well they are fitted and nothing of new views."""
    metrics: Tuple[str, ...] = ("psnr", "ssim", "ssim_gaussian", "lpips", "lpips_alex", "avg_error")
    """Metrics by name: psnr, ssim (7x7 window), ssim_gaussian (11x11), lpips (VGG), lpips_alex, lpips_unscaled (VGG fed
    with [0, 1]), avg_error, census_error. Where a view has an object mask, each is added as masked_<name>. Of all views
    together: fid, kid."""
    region: Region = "whole"
    """Region in which each metric is computed a second time. centre: without a tenth on each side, as centre_<name>;
    true-depth: where the true depth is known (MVSNet-DTU), as true_depth_<name>; auto: true-depth where it is known,
    else centre, as MatchNeRF and ID-NeRF do; whole: in none."""
    lpips_weights: Optional[Path] = None
    """VGG16 weights for lpips: a file or a folder. None: FEWSHOT_WEIGHTS, torch's cache, then a download."""
    lpips_alex_weights: Optional[Path] = None
    """AlexNet weights for lpips_alex: a file or a folder. None: FEWSHOT_WEIGHTS, torch's cache, then a download."""
    download_weights: bool = True
    """Whether weights of LPIPS, fid and kid that are not on this disk may be downloaded; those of LPIPS at the first
    evaluation, never before."""
    fid_encoder: str = "inception"
    """Network whose features fid and kid compare: inception, as published, or any LIBRARY/MODEL of open_clip, timm and
    torchvision (torchvision/vgg16); the metric is then named after it (fid_torchvision_vgg16)."""
    fid_weights: Optional[Path] = None
    """Weights of that network: a file or a folder. None: FEWSHOT_WEIGHTS, the libraries' caches, then a download."""
    kid_subset_size: Optional[int] = None
    """Images of each subset that kid is averaged over; None: all images, at most 1000."""
    kid_subsets: int = 100
    """Number of subsets that kid is averaged over, where they are smaller than the test split."""


def check_metric_names(names: Tuple[str, ...], allow_set_metrics: bool = False) -> None:
    """Checks that every name is a known metric, `masked_` before it or not.

    Args:
        names: the names.
        allow_set_metrics: whether metrics of all images together may be among them.

    Raises:
        ValueError: one is not; the message lists the known.
    """
    sets = tuple(SET_METRICS) if allow_set_metrics else ()
    unknown = [name for name in names if name.removeprefix(MASKED_PREFIX) not in KNOWN_METRICS and name not in sets]
    if unknown:
        raise ValueError(
            f"unknown metric {', '.join(map(repr, unknown))}; expected any of {', '.join(KNOWN_METRICS)}"
            f" (each also as {MASKED_PREFIX}<name>, added by itself where a view has an object mask)"
            f"{' or, of all views together, ' + ', '.join(sets) if sets else ''}"
        )

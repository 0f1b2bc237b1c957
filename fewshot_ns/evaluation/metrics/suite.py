"""The metrics of one evaluation image, chosen by name."""

from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple, Union

import rich
import torch
from torch import Tensor

from fewshot_ns.evaluation.metrics import image as metrics
from fewshot_ns.evaluation.metrics.config import HIGHER_IS_BETTER, SET_METRICS, EvaluationConfig, check_metric_names
from fewshot_ns.evaluation.metrics.lpips import Lpips
from fewshot_ns.evaluation.metrics.regions import (
    MASKED_PREFIX,
    REGION_PREFIXES,
    black_outside,
    central_crop,
    plain_name,
    resolve_region,
)
from fewshot_ns.evaluation.metrics.set_metrics import SetMetrics

_WINDOWS = {"ssim": metrics.SSIM_WINDOW, "ssim_gaussian": metrics.GAUSSIAN_WINDOW}
"""Sides of the windows of metrics of windows, pixels."""
_PARTS_OF_AVG_ERROR = ("psnr", "ssim", "lpips")


class MetricSuite:
    """Measures images one by one by the metrics of a config.

    Building it is cheap: LPIPS networks are read at the first image, and only when a metric needs them. Keep one suite
    per run, so that missing LPIPS weights are reported once.

    Args:
        config: which metrics, and where the weights are.
        device: where the metrics are computed.

    Raises:
        ValueError: the config names an unknown metric or network.
        WeightsNotFoundError: a weights path of the config does not exist.
    """

    def __init__(self, config: EvaluationConfig, device: Union[str, torch.device] = "cpu") -> None:
        check_metric_names(config.metrics, allow_set_metrics=True)
        self.config = config
        self.set_metrics = SetMetrics(config, device)
        self.device = torch.device(device)
        self._said_too_small: Set[str] = set()
        self._lpips = Lpips("vgg", config.lpips_weights, device, config.download_weights)
        self._lpips_alex = Lpips("alex", config.lpips_alex_weights, device, config.download_weights)

    def __call__(
        self,
        pred: Tensor,
        truth: Tensor,
        mask: Optional[Tensor] = None,
        known_depth: Optional[Tensor] = None,
        only: Optional[Tuple[str, ...]] = None,
    ) -> Dict[str, Optional[float]]:
        """All metrics of one image; None where a metric cannot be computed (LPIPS without weights, an
        image smaller than a metric's window).

        Args:
            pred: predicted image (H, W, 3); clamped to [0, 1], as it is when it is saved as a picture.
            truth: true image (H, W, 3) in [0, 1], or uint8.
            mask: object mask (H, W, 1) or (H, W, 3) in [0, 1], None where the view has none.
            known_depth: (H, W, 1) bool, which pixels have a true depth; None where the view has none.
            only: names of metrics instead of the config's.

        Returns:
            Values by name, `masked_<name>` included where there is a mask, and those of the config's region.

        Raises:
            ValueError: shapes do not fit, a value is not finite, or the mask holds no pixel of the object.
        """
        pred, truth = (as_float(image).to(self.device) for image in (pred, truth))
        pred = pred.clamp(0.0, 1.0)
        values: Dict[str, Optional[float]] = {}
        names = [name for name in (self.config.metrics if only is None else only) if name not in SET_METRICS]
        whole = [name for name in names if not name.startswith(MASKED_PREFIX)]
        values.update(self._measure(whole, pred, truth, lambda: metrics.psnr(pred, truth)))
        values.update(self._measure_region(whole, pred, truth, known_depth))

        masked = list(dict.fromkeys(name.removeprefix(MASKED_PREFIX) for name in names))
        if mask is not None:
            mask = as_float(mask).to(self.device)
            found = self._measure(
                masked,
                metrics.composite_on_white(pred, mask),
                metrics.composite_on_white(truth, mask),
                lambda: metrics.masked_psnr(pred, truth, mask),
            )
            values.update({MASKED_PREFIX + name: value for name, value in found.items()})
        # A masked metric that is named in the config has a column also where a view has no mask.
        values.update({name: None for name in names if name not in values})
        return values

    def _measure_region(
        self, names: List[str], pred: Tensor, truth: Tensor, known_depth: Optional[Tensor]
    ) -> Dict[str, Optional[float]]:
        """The named metrics in the config's region, under the names that it gives them; None where a view lacks it."""
        region = resolve_region(self.config.region, known_depth)
        if region is None:
            return {}
        if region == "centre":
            inner_pred, inner_truth = central_crop(pred), central_crop(truth)
            found = self._measure(names, inner_pred, inner_truth, lambda: metrics.psnr(inner_pred, inner_truth))
        elif known_depth is None or not bool(known_depth.any()):
            found = dict.fromkeys(names)
        else:
            known = known_depth.to(self.device, torch.float32)
            black = (black_outside(pred, known), black_outside(truth, known))
            found = self._measure(names, black[0], black[1], lambda: metrics.masked_psnr(pred, truth, known))
        return {REGION_PREFIXES[region] + name: value for name, value in found.items()}

    @torch.no_grad()
    def _measure(
        self, names: List[str], pred: Tensor, truth: Tensor, psnr: Callable[[], Tensor]
    ) -> Dict[str, Optional[float]]:
        """The named metrics of two images; PSNR has its own rule under a mask, so it is handed in."""
        cache: Dict[str, Optional[float]] = {}

        def value_of(name: str) -> Optional[float]:
            if name not in cache:
                cache[name] = compute[name]()
            return cache[name]

        def avg_error() -> Optional[float]:
            psnr_db, similarity, distance = (value_of(name) for name in _PARTS_OF_AVG_ERROR)
            if psnr_db is None or similarity is None or distance is None:
                return None
            return float(metrics.avg_error(torch.tensor(psnr_db, dtype=torch.float64), similarity, distance))

        compute: Dict[str, Callable[[], Optional[float]]] = {
            "psnr": lambda: float(psnr()),
            "ssim": lambda: self._in_windows("ssim", metrics.ssim, metrics.SSIM_WINDOW, pred, truth),
            "ssim_gaussian": lambda: self._in_windows(
                "ssim_gaussian", metrics.ssim_gaussian, metrics.GAUSSIAN_WINDOW, pred, truth
            ),
            "lpips": lambda: self._lpips(pred, truth),
            "lpips_alex": lambda: self._lpips_alex(pred, truth),
            "lpips_unscaled": lambda: self._lpips(pred, truth, unscaled=True),
            "avg_error": avg_error,
            "census_error": lambda: float(metrics.census_error(pred, truth)),
        }
        return {name: value_of(name) for name in names}

    def prepare_for(self, sizes: Iterable[Tuple[int, int]]) -> None:
        """Does before training what would otherwise come at the first evaluation: says which metrics images are too
        small for, and reads weights of LPIPS that the config names.

        Args:
            sizes: (height, width) of images that will be measured.

        Raises:
            ValueError: such weights are damaged, or of something else.
        """
        names = {name.removeprefix(MASKED_PREFIX) for name in self.config.metrics}
        wanted = names | (set(_PARTS_OF_AVG_ERROR) if "avg_error" in names else set())
        for size in dict.fromkeys(sizes):
            for name, window in _WINDOWS.items():
                if name in wanted:
                    self._fits(name, window, size)
            if wanted & {"lpips", "lpips_unscaled"}:
                self._lpips.fits(size)
            if "lpips_alex" in wanted:
                self._lpips_alex.fits(size)
        if wanted & {"lpips", "lpips_unscaled"}:
            self._lpips.check_named()
        if "lpips_alex" in wanted:
            self._lpips_alex.check_named()

    def _in_windows(
        self, name: str, metric: Callable[[Tensor, Tensor], Tensor], window: int, pred: Tensor, truth: Tensor
    ) -> Optional[float]:
        """A metric of windows of pixels; None of images smaller than one, which is said once."""
        return float(metric(pred, truth)) if self._fits(name, window, (pred.shape[0], pred.shape[1])) else None

    def _fits(self, name: str, window: int, size: Tuple[int, int]) -> bool:
        """Whether images of (height, width) are as large as a metric's window; says it once where they are not."""
        height, width = size
        if min(height, width) >= window:
            return True
        if name not in self._said_too_small:
            self._said_too_small.add(name)
            text = (
                f"{name} is reported as n/a for images of {height}x{width} pixels: it needs at least {window}x{window}."
            )
            rich.get_console().print(text, highlight=False, soft_wrap=True)
        return False


def higher_is_better(name: str) -> bool:
    """Whether a larger value of the metric (masked, in a region, or of whole images) is the better one."""
    return plain_name(name) in HIGHER_IS_BETTER


def as_float(image: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1], bool ones as 0 and 1, floating ones as they are."""
    if image.dtype == torch.uint8:
        return image.float() / 255.0
    return image.float() if image.dtype == torch.bool else image

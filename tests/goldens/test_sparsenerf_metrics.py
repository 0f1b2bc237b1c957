"""The image metrics against values of SparseNeRF's evaluation code (metrics.npz)."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import numpy as np
import pytest
import torch

from fewshot_ns.evaluation import metrics
from fewshot_ns.evaluation.suite import EvaluationConfig, MetricSuite

pytestmark = pytest.mark.goldens

RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-5}


@pytest.fixture(scope="module")
def golden(goldens_dir: Path) -> Dict[str, np.ndarray]:
    path = goldens_dir / "sparsenerf" / "metrics.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def tensors(golden: Dict[str, np.ndarray], dtype: torch.dtype, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(golden[name]).to(dtype) for name in names]


def expect(golden: Dict[str, np.ndarray], name: str, dtype: torch.dtype, value: torch.Tensor) -> None:
    expected = golden[f"{name}_f64" if dtype == torch.float64 else name]
    assert value.dtype == dtype
    # The census figure was stored in float32 in both precisions; it is a count, so 1e-6 leaves no room for an error.
    relative = max(RELATIVE[dtype], 1e-6) if name == "census_err" else RELATIVE[dtype]
    assert float(value) == pytest.approx(float(expected), rel=relative)


def test_metrics_of_the_whole_image(golden, dtype) -> None:
    pred, truth, lpips = tensors(golden, dtype, "pred", "gt", "lpips")
    expect(golden, "psnr", dtype, metrics.psnr(pred, truth))
    expect(golden, "ssim", dtype, metrics.ssim(pred, truth))
    expect(golden, "ssim_data_range2", dtype, metrics.ssim(pred, truth, data_range=2.0))
    expect(golden, "census_err", dtype, metrics.census_error(pred, truth))
    error = metrics.avg_error(metrics.psnr(pred, truth), metrics.ssim(pred, truth), lpips)
    expect(golden, "avg_err", dtype, error)


@pytest.mark.parametrize("mask_name, suffix", [("mask", ""), ("mask_fractional", "_fractional")])
def test_metrics_of_the_object(golden, dtype, mask_name, suffix) -> None:
    pred, truth, mask, lpips = tensors(golden, dtype, "pred", "gt", mask_name, "lpips_masked")
    psnr, ssim = metrics.masked_psnr(pred, truth, mask), metrics.masked_ssim(pred, truth, mask)
    expect(golden, f"psnr_masked{suffix}", dtype, psnr)
    expect(golden, f"ssim_masked{suffix}", dtype, ssim)
    expect(golden, f"avg_err_masked{suffix}", dtype, metrics.avg_error(psnr, ssim, lpips))


def test_metrics_by_name(golden) -> None:
    pred, truth, mask = tensors(golden, torch.float32, "pred", "gt", "mask_fractional")
    # The dataparsers give masks with one channel; the stored one repeats itself three times.
    assert bool((mask == mask[..., :1]).all())
    values = MetricSuite(EvaluationConfig(metrics=("psnr", "ssim", "census_error")))(pred, truth, mask[..., :1])
    for ours, theirs in {
        "psnr": "psnr",
        "ssim": "ssim",
        "census_error": "census_err",
        "masked_psnr": "psnr_masked_fractional",
        "masked_ssim": "ssim_masked_fractional",
    }.items():
        assert values[ours] == pytest.approx(float(golden[theirs]), rel=1e-5), ours

"""Image metrics against naive numpy, scikit-image and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from fewshot_ns.evaluation.metrics import image as metrics


def images(height: int = 24, width: int = 30, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(height, width, 3, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(height, width, 3, generator=generator, dtype=torch.float64)
    return (truth + noise).clamp(0, 1).to(dtype), truth.to(dtype)


def naive_ssim(pred: np.ndarray, truth: np.ndarray, data_range: float = 1.0) -> float:
    """SSIM by its formula, one 7x7 window after the other, sample covariance."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for channel in range(3):
        for row in range(pred.shape[0] - 6):
            for column in range(pred.shape[1] - 6):
                x = pred[row : row + 7, column : column + 7, channel].ravel()
                y = truth[row : row + 7, column : column + 7, channel].ravel()
                covariance = np.cov(x, y)
                mean_x, mean_y = x.mean(), y.mean()
                numerator = (2 * mean_x * mean_y + c1) * (2 * covariance[0, 1] + c2)
                denominator = (mean_x**2 + mean_y**2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
                values.append(numerator / denominator)
    return float(np.mean(values))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.float16, 1e-6)])
def test_psnr_is_skimages(dtype: torch.dtype, tolerance: float) -> None:
    pred, truth = images(dtype=dtype)
    expected = peak_signal_noise_ratio(truth.double().numpy(), pred.double().numpy(), data_range=1.0)
    value = metrics.psnr(pred, truth)
    assert value.shape == ()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(value) == pytest.approx(expected, rel=tolerance)


def test_psnr_of_identical_images_is_the_ceiling() -> None:
    image, _ = images()
    assert float(metrics.psnr(image, image)) == metrics.PSNR_CEILING
    assert math.isfinite(float(metrics.psnr(image, image)))


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_is_the_windowed_formula(data_range: float) -> None:
    pred, truth = images(14, 17)
    value = metrics.ssim(pred, truth, data_range=data_range)
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(naive_ssim(pred.numpy(), truth.numpy(), data_range), rel=1e-10)


def test_ssim_gaussian_is_skimages_gaussian() -> None:
    pred, truth = images()
    expected = structural_similarity(
        truth.numpy(),
        pred.numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    assert float(metrics.ssim_gaussian(pred, truth)) == pytest.approx(float(np.asarray(expected)), rel=1e-6)


def test_ssims_differ_and_identical_images_give_one() -> None:
    pred, truth = images()
    assert abs(float(metrics.ssim(pred, truth)) - float(metrics.ssim_gaussian(pred, truth))) > 1e-4
    assert float(metrics.ssim(truth, truth)) == pytest.approx(1.0)
    assert float(metrics.ssim_gaussian(truth, truth)) == pytest.approx(1.0)


def test_avg_error_is_the_geometric_mean() -> None:
    expected = (10 ** (-2.0) * math.sqrt(1 - 0.75) * 0.3) ** (1 / 3)
    value = metrics.avg_error(torch.tensor(20.0, dtype=torch.float64), 0.75, 0.3)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    assert float(metrics.avg_error(100.0, 1.0 + 1e-7, 0.0)) == 0.0


def test_census_error_by_hand() -> None:
    truth = torch.zeros(3, 3, 3, dtype=torch.float64)
    truth[1, 1] = 0.5
    pred = 0.5 - truth
    # Opposite sign wherever the centre takes part: its own eight comparisons and one for each neighbour, of 9 x 8.
    assert float(metrics.census_error(pred, truth)) == pytest.approx(16 / 72)
    assert float(metrics.census_error(truth, truth)) == 0.0
    assert float(metrics.census_error(0.5 * truth + 0.1, truth)) == 0.0
    # Alike in one image, brighter in the other: no error.
    assert float(metrics.census_error(torch.zeros_like(truth), truth)) == 0.0


@pytest.mark.parametrize("channels", [1, 3])
def test_masked_psnr_counts_only_full_mask(channels: int) -> None:
    pred, truth = images()
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    picks = torch.randint(0, 5, (24, 30, channels), generator=torch.Generator().manual_seed(0))
    mask = levels[picks]
    squared = ((pred - truth) ** 2).numpy()[np.broadcast_to(mask.numpy() == 1.0, (24, 30, 3))]
    assert float(metrics.masked_psnr(pred, truth, mask)) == pytest.approx(-10 * np.log10(squared.mean()), rel=1e-12)


def test_images_are_composited_on_white_with_the_fractional_mask() -> None:
    pred, truth = images()
    mask = torch.rand(24, 30, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    white_pred = pred.numpy() * mask.numpy() + 1 - mask.numpy()
    white_truth = truth.numpy() * mask.numpy() + 1 - mask.numpy()
    found = metrics.composite_on_white(pred, mask), metrics.composite_on_white(truth, mask)
    np.testing.assert_allclose(found[0].numpy(), white_pred, atol=1e-15)
    assert float(metrics.ssim(*found)) == pytest.approx(naive_ssim(white_pred, white_truth), rel=1e-9)
    assert bool((metrics.composite_on_white(pred, torch.zeros(24, 30, 1)) == 1.0).all())


ALL = [metrics.psnr, metrics.ssim, metrics.ssim_gaussian, metrics.census_error]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    "pred, truth, message",
    [
        (torch.zeros(12, 12, 3), torch.zeros(12, 13, 3), r"one shape, got \(12, 12, 3\) and \(12, 13, 3\)"),
        (torch.zeros(3, 12, 12), torch.zeros(3, 12, 12), r"expected shape \(height, width, 3\), got \(3, 12, 12\)"),
        (torch.zeros(1, 12, 12, 3), torch.zeros(1, 12, 12, 3), r"expected shape \(height, width, 3\)"),
        (torch.zeros(12, 12, 3, dtype=torch.uint8), torch.zeros(12, 12, 3), "floating point.*torch.uint8"),
        (torch.full((12, 12, 3), float("nan")), torch.zeros(12, 12, 3), "predicted image.*432 of 432"),
        (torch.zeros(12, 12, 3), torch.full((12, 12, 3), float("inf")), "true image: expected finite"),
    ],
)
def test_bad_images_are_named(metric, pred: torch.Tensor, truth: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(pred, truth)


@pytest.mark.parametrize("metric, smallest", [(metrics.ssim, 7), (metrics.ssim_gaussian, 11)])
def test_images_smaller_than_the_window(metric, smallest: int) -> None:
    assert float(metric(torch.zeros(smallest, 12, 3), torch.zeros(smallest, 12, 3))) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest} pixels"):
        metric(torch.zeros(smallest - 1, 12, 3), torch.zeros(smallest - 1, 12, 3))


def test_bad_masks_are_named() -> None:
    pred, truth = images()
    with pytest.raises(ValueError, match="at least one element equal to 1"):
        metrics.masked_psnr(pred, truth, torch.full((24, 30, 1), 0.75))
    with pytest.raises(ValueError, match=r"mask: expected shape \(24, 30, 1\).*got \(30, 24, 1\)"):
        metrics.masked_psnr(pred, truth, torch.ones(30, 24, 1))
    with pytest.raises(ValueError, match=r"mask: expected shape \(24, 30, 1\).*got \(24, 30\)"):
        metrics.composite_on_white(pred, torch.ones(24, 30))

"""The metric suite: names, masks, missing weights."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import tyro

from fewshot_ns.evaluation.metrics import image as metrics
from fewshot_ns.evaluation.metrics.config import KNOWN_METRICS, EvaluationConfig, check_metric_names
from fewshot_ns.evaluation.metrics.regions import black_outside, central_crop
from fewshot_ns.evaluation.metrics.suite import MetricSuite, higher_is_better
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError

NO_LPIPS = ("psnr", "ssim", "ssim_gaussian", "census_error")


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)


def views() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    truth = torch.rand(32, 40, 3, generator=generator)
    pred = (truth + 0.1 * torch.randn(32, 40, 3, generator=generator)).clamp(0, 1)
    mask = torch.zeros(32, 40, 1)
    mask[8:24, 10:30] = 1.0
    mask[7] = 0.5
    return pred, truth, mask


def vgg_file(folder: Path) -> Path:
    """A VGG16 backbone with random weights: the real network, untrained."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.save(make_layers(cfgs["D"]).state_dict(), folder / "vgg16_features_torchvision.pt")
    return folder / "vgg16_features_torchvision.pt"


def test_values_come_under_their_names() -> None:
    pred, truth, mask = views()
    white = metrics.composite_on_white(pred, mask), metrics.composite_on_white(truth, mask)
    values = MetricSuite(EvaluationConfig(metrics=NO_LPIPS))(pred, truth, mask)
    assert values == {
        "psnr": float(metrics.psnr(pred, truth)),
        "ssim": float(metrics.ssim(pred, truth)),
        "ssim_gaussian": float(metrics.ssim_gaussian(pred, truth)),
        "census_error": float(metrics.census_error(pred, truth)),
        "masked_psnr": float(metrics.masked_psnr(pred, truth, mask)),
        "masked_ssim": float(metrics.ssim(*white)),
        "masked_ssim_gaussian": float(metrics.ssim_gaussian(*white)),
        "masked_census_error": float(metrics.census_error(*white)),
    }
    assert all(type(value) is float for value in values.values())


def test_without_a_mask_there_are_no_masked_columns() -> None:
    pred, truth, mask = views()
    assert list(MetricSuite(EvaluationConfig(metrics=("ssim", "psnr")))(pred, truth)) == ["ssim", "psnr"]
    only_masked = MetricSuite(EvaluationConfig(metrics=("masked_psnr",)))
    assert only_masked(pred, truth) == {"masked_psnr": None}
    assert only_masked(pred, truth, mask) == {"masked_psnr": float(metrics.masked_psnr(pred, truth, mask))}


def test_lpips_and_avg_error_with_and_without_mask(tmp_path: Path) -> None:
    pred, truth, mask = views()
    config = EvaluationConfig(metrics=("lpips", "lpips_unscaled", "avg_error"), lpips_weights=vgg_file(tmp_path))
    suite = MetricSuite(config)
    values = suite(pred, truth, mask)
    expected = {"lpips", "lpips_unscaled", "avg_error", "masked_lpips", "masked_lpips_unscaled", "masked_avg_error"}
    assert set(values) == expected
    lpips, masked_lpips = values["lpips"], values["masked_lpips"]
    assert lpips is not None and masked_lpips is not None and lpips != values["lpips_unscaled"]
    psnr, ssim = float(metrics.psnr(pred, truth)), float(metrics.ssim(pred, truth))
    assert values["avg_error"] == pytest.approx((10 ** (-psnr / 10) * math.sqrt(1 - ssim) * lpips) ** (1 / 3), rel=1e-6)
    white = metrics.composite_on_white(pred, mask), metrics.composite_on_white(truth, mask)
    psnr, ssim = float(metrics.masked_psnr(pred, truth, mask)), float(metrics.ssim(*white))
    product = 10 ** (-psnr / 10) * math.sqrt(1 - ssim) * masked_lpips
    assert values["masked_avg_error"] == pytest.approx(product ** (1 / 3), rel=1e-6)
    # Outside the mask nothing counts.
    altered = torch.where(mask > 0, pred, 1 - pred)
    assert suite(altered, truth, mask)["masked_avg_error"] == values["masked_avg_error"]


def test_missing_weights_give_none_and_are_said_once_per_run(capsys: pytest.CaptureFixture[str]) -> None:
    pred, truth, mask = views()
    suite = MetricSuite(EvaluationConfig(download_weights=False))
    for _ in range(3):
        values = suite(pred, truth, mask)
    missing = {name for name, value in values.items() if value is None}
    assert missing == {
        *("lpips", "lpips_alex", "avg_error", "masked_lpips", "masked_lpips_alex", "masked_avg_error"),
    }
    said = capsys.readouterr().out
    assert said.count("LPIPS (vgg) is reported as n/a") == 1
    assert said.count("LPIPS (alex) is reported as n/a") == 1


def test_windows_that_do_not_fit_give_none_and_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    suite = MetricSuite(EvaluationConfig(metrics=("psnr", "ssim", "ssim_gaussian", "avg_error")))
    image = torch.rand(10, 6, 3)
    for _ in range(2):
        values = suite(image, 0.5 * image)
        assert values["psnr"] is not None
        assert [values[name] for name in ("ssim", "ssim_gaussian", "avg_error")] == [None] * 3
    shown = capsys.readouterr().out
    assert shown.count("ssim is reported as n/a for images of 10x6 pixels: it needs at least 7x7") == 1
    assert shown.count("ssim_gaussian is reported as n/a for images of 10x6 pixels: it needs at least 11x11") == 1
    values = suite(image[:, :, :].repeat(1, 2, 1), image.repeat(1, 2, 1))
    assert values["ssim"] is not None and values["ssim_gaussian"] is None


def test_metrics_without_lpips_never_look_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise RuntimeError("no weights are needed here")

    monkeypatch.setattr("fewshot_ns.evaluation.metrics.lpips.resolve_weights", forbidden)
    pred, truth, mask = views()
    MetricSuite(EvaluationConfig(metrics=NO_LPIPS))(pred, truth, mask)


def test_prediction_is_clamped_and_bytes_are_scaled() -> None:
    pred, truth, mask = views()
    suite = MetricSuite(EvaluationConfig(metrics=("psnr",)))
    truth_bytes = (truth * 255).round().to(torch.uint8)
    assert suite(pred, truth_bytes) == suite(pred, truth_bytes.float() / 255)
    outside = torch.where(pred == 1.0, torch.full_like(pred, 1.001), pred)
    assert suite(outside, truth) == suite(pred, truth)
    assert suite(pred, truth, (mask == 1)) == suite(pred, truth, (mask == 1).float())


def test_unknown_names_are_listed_with_the_known() -> None:
    with pytest.raises(ValueError) as caught:
        MetricSuite(EvaluationConfig(metrics=("psnr", "ssmi", "masked_foo")))
    for part in ("'ssmi', 'masked_foo'", *KNOWN_METRICS):
        assert part in str(caught.value)
    check_metric_names(tuple(KNOWN_METRICS) + tuple(f"masked_{name}" for name in KNOWN_METRICS))


def test_wrong_weights_path_fails_before_the_first_image(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="lpips-weights"):
        MetricSuite(EvaluationConfig(lpips_weights=tmp_path / "absent.pt"))


def test_better_direction() -> None:
    better = {name for name in KNOWN_METRICS if higher_is_better(name)}
    assert better == {"psnr", "ssim", "ssim_gaussian"}
    assert higher_is_better("masked_psnr") and not higher_is_better("masked_lpips")


def test_config_is_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parsed = tyro.cli(EvaluationConfig, args=["--metrics", "psnr", "lpips", "--lpips-weights", "w.pt"])
    assert parsed == EvaluationConfig(metrics=("psnr", "lpips"), lpips_weights=Path("w.pt"))
    with pytest.raises(SystemExit):
        tyro.cli(EvaluationConfig, args=["--help"])
    shown = capsys.readouterr().out
    for field in fields(EvaluationConfig):
        assert field.name.replace("_", "-") in shown
    assert "Metrics by name" in shown


def test_import_is_light() -> None:
    program = (
        "import sys, fewshot_ns.evaluation.metrics.suite, fewshot_ns.evaluation.records.ledger\n"
        "import fewshot_ns.pretrained.weights\n"
        "from fewshot_ns.evaluation.metrics.suite import EvaluationConfig, MetricSuite\n"
        "MetricSuite(EvaluationConfig())\n"
        "heavy = {'torchmetrics', 'transformers', 'skimage', 'torchvision', 'matplotlib', 'nerfstudio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_middle_is_measured_beside_the_whole() -> None:
    pred, truth, _ = views()
    values = MetricSuite(EvaluationConfig(metrics=("psnr", "ssim"), region="centre"))(pred, truth)
    inside = central_crop(pred), central_crop(truth)
    assert values == {
        **{"psnr": float(metrics.psnr(pred, truth)), "ssim": float(metrics.ssim(pred, truth))},
        **{"centre_psnr": float(metrics.psnr(*inside)), "centre_ssim": float(metrics.ssim(*inside))},
    }
    assert values["psnr"] != values["centre_psnr"]


@pytest.mark.parametrize("region", ["true-depth", "auto"])
def test_pixels_with_a_true_depth(region: str) -> None:
    """PSNR over these pixels, SSIM of images that are black elsewhere."""
    pred, truth, mask = views()
    known = mask == 1.0
    suite = MetricSuite(EvaluationConfig(metrics=("psnr", "ssim"), region=region))  # type: ignore[arg-type]
    values = suite(pred, truth, None, known)
    error = ((pred - truth) ** 2)[known[..., 0]].mean()
    assert values["true_depth_psnr"] == pytest.approx(float(-10 * torch.log10(error)), abs=1e-4)
    black = black_outside(pred, known), black_outside(truth, known)
    assert values["true_depth_ssim"] == float(metrics.ssim(*black)) != values["ssim"]
    assert not any(name.startswith("centre") for name in values)


def test_views_without_a_true_depth() -> None:
    pred, truth, mask = views()
    for known in (None, torch.zeros_like(mask) > 0):
        suite = MetricSuite(EvaluationConfig(metrics=("psnr",), region="true-depth"))
        assert suite(pred, truth, None, known)["true_depth_psnr"] is None
        values = MetricSuite(EvaluationConfig(metrics=("psnr",), region="auto"))(pred, truth, None, known)
        assert values["centre_psnr"] == float(metrics.psnr(central_crop(pred), central_crop(truth)))


def test_which_is_better_whatever_the_region() -> None:
    assert all(higher_is_better(f"{prefix}psnr") for prefix in ("", "masked_", "centre_", "true_depth_"))
    assert not any(higher_is_better(f"{prefix}lpips") for prefix in ("", "masked_", "centre_", "true_depth_"))


def test_what_images_are_too_small_for_is_said_before_they_are_measured(capsys):
    suite = MetricSuite(EvaluationConfig(metrics=("psnr", "avg_error", "lpips_alex")))
    suite.prepare_for([(40, 40)])
    assert capsys.readouterr().out == ""
    suite.prepare_for([(6, 40), (6, 40), (40, 6)])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("ssim is reported as n/a for images of 6x40 pixels: it needs at least 7x7.") == 1
    assert "LPIPS (vgg) is reported as n/a for images of 6x40" in said and "LPIPS (alex) is reported as n/a" in said
    assert "ssim_gaussian" not in said, "it is not asked for"
    suite.prepare_for([(6, 40)])
    assert capsys.readouterr().out == ""

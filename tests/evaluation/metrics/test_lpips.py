"""LPIPS: offline loading, values against torchmetrics' own, and what happens where no weights can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
import torch

from fewshot_ns.evaluation.metrics.lpips import BACKBONE_WEIGHTS, SMALLEST_IMAGE, Lpips, build_network
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError, load_weights

BACKBONES = ["vgg", "alex"]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights on this machine and no network: an empty torch cache, and every connection refused at once."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    return tmp_path / "torch_home" / "hub" / "checkpoints"


def images(size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    truth = torch.rand(6, 6, 3, generator=generator).repeat_interleave(size // 6, 0).repeat_interleave(size // 6, 1)
    pred = (truth + 0.2 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    return pred, truth


def random_features(backbone: str, seed: int = 0) -> Dict[str, torch.Tensor]:
    """The layers of a torchvision backbone with random values: the real network, untrained."""
    from torchvision.models import AlexNet
    from torchvision.models.vgg import cfgs, make_layers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = make_layers(cfgs["D"]) if backbone == "vgg" else AlexNet().features
        return features.state_dict()


def torchmetrics_own(backbone: str, features: Dict[str, torch.Tensor], pred, truth) -> tuple[float, float]:
    """torchmetrics' metric class, the weights put in where torchvision loads them: on [-1, 1] and on [0, 1] images."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    from torchvision import models

    name = {"vgg": "vgg16", "alex": "alexnet"}[backbone]
    original = getattr(models, name)

    def loaded(**_: object) -> torch.nn.Module:
        network = original(weights=None)
        network.features.load_state_dict(features)
        return network

    setattr(models, name, loaded)
    try:
        metric = LearnedPerceptualImagePatchSimilarity(net_type=backbone, normalize=True)  # type: ignore[arg-type]
    finally:
        setattr(models, name, original)
    pair = pred.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None]
    scaled = float(metric(*pair))
    metric.normalize = False
    return scaled, float(metric(*pair))


@pytest.mark.weights
@pytest.mark.parametrize("backbone", BACKBONES)
def test_value_with_real_weights_is_torchmetrics_own(backbone: str, weights_dir: Path) -> None:
    pred, truth = images()
    metric = Lpips(backbone, weights_dir)  # type: ignore[arg-type]
    features = load_weights(weights_dir / BACKBONE_WEIGHTS[backbone].filenames[0])
    expected, expected_unscaled = torchmetrics_own(backbone, features, pred, truth)
    value = metric(pred, truth)
    assert value == pytest.approx(expected, rel=1e-5)
    assert metric(pred, truth, unscaled=True) == pytest.approx(expected_unscaled, rel=1e-5)
    assert abs(expected - expected_unscaled) > 1e-3
    assert metric(truth, truth) == 0.0
    assert metric(truth, pred) == pytest.approx(value, rel=1e-5)
    assert metric(pred.double(), truth.double()) == pytest.approx(value, rel=1e-5)


@pytest.mark.weights
def test_distance_grows_with_noise(weights_dir: Path) -> None:
    _, truth = images()
    metric = Lpips("vgg", weights_dir)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    distances = [metric((truth + level * noise).clamp(0, 1), truth) for level in (0.02, 0.1, 0.4)]
    assert None not in distances and distances == sorted(distances)  # type: ignore[type-var]


@pytest.mark.parametrize(
    "backbone, layout", [("alex", "features"), ("alex", "whole network"), ("vgg", "whole network")]
)
def test_both_file_layouts_are_found_offline(backbone: str, layout: str, offline: Path, monkeypatch, tmp_path) -> None:
    spec = BACKBONE_WEIGHTS[backbone]
    features = random_features(backbone)
    if layout == "features":
        monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path))
        torch.save(features, tmp_path / spec.filenames[0])
    else:
        offline.mkdir(parents=True)
        whole = {f"features.{key}": value for key, value in features.items()} | {"classifier.0.weight": torch.ones(1)}
        torch.save(whole, offline / spec.cache_filenames[0])
    pred, truth = images()
    expected, _ = torchmetrics_own(backbone, features, pred, truth)
    assert Lpips(backbone)(pred, truth) == pytest.approx(expected, rel=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_building_leaves_the_random_state_alone(backbone: str, tmp_path: Path) -> None:
    torch.save(random_features(backbone), tmp_path / "backbone.pt")
    before = torch.get_rng_state()
    network = build_network(backbone, tmp_path / "backbone.pt")  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_without_weights_the_value_is_none_and_the_reason_is_said_once(offline: Path, capsys) -> None:
    pred, truth = images()
    metric = Lpips("vgg")
    assert capsys.readouterr().out == ""
    assert [metric(pred, truth) for _ in range(3)] == [None, None, None]
    said = capsys.readouterr().out
    assert said.count("is reported as n/a") == 1
    for part in (
        "vgg16_features_torchvision.pt",
        "vgg16-397923af.pth",
        str(offline),
        "https://download.pytorch.org/models/vgg16-397923af.pth cannot be reached",
        "--pipeline.evaluation.lpips-weights PATH",
        "FEWSHOT_WEIGHTS=FOLDER",
    ):
        assert part in said, part
    assert metric.unavailable is not None and metric.unavailable in said
    # Another object has a state of its own, so a second run in one process says it again.
    assert Lpips("vgg", download=False)(pred, truth) is None
    assert "download: switched off" in capsys.readouterr().out


def test_constructor_reads_and_fetches_nothing(offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise RuntimeError("the constructor must not come here")

    (tmp_path / "backbone.pt").write_bytes(b"not a checkpoint")
    with monkeypatch.context() as patched:
        patched.setattr("urllib.request.OpenerDirector.open", forbidden)
        patched.setattr(torch, "load", forbidden)
        metric = Lpips("vgg", tmp_path / "backbone.pt")
        Lpips("alex")
    with pytest.raises(ValueError, match="backbone.pt: expected a weights-only torch checkpoint"):
        metric(*images())


def test_wrong_explicit_path_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsNotFoundError, match="--pipeline.evaluation.lpips-alex-weights .*absent.pt: does not exist"
    ):
        Lpips("alex", tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="expected one of vgg, alex, got 'squeeze'"):
        Lpips("squeeze")  # type: ignore[arg-type]


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    torch.save(random_features("alex"), tmp_path / "alex.pt")
    metric = Lpips("vgg", tmp_path / "alex.pt")
    with pytest.raises(
        ValueError, match=r"alex.pt: expected the layers of ImageNet VGG16.*0.weight \(shape \(64, 3, 11"
    ):
        metric(*images())
    features = random_features("alex")
    del features["10.bias"]
    torch.save(features, tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"10.bias \(missing, expected \(256,\)\)"):
        Lpips("alex", tmp_path / "short.pt")(*images())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_too_small_images_are_none_and_said_once(backbone: str, tmp_path: Path, capsys) -> None:
    torch.save(random_features(backbone), tmp_path / "backbone.pt")
    metric = Lpips(backbone, tmp_path / "backbone.pt")  # type: ignore[arg-type]
    smallest = SMALLEST_IMAGE[backbone]
    small = torch.rand(smallest - 1, 64, 3)
    assert [metric(small, small) for _ in range(2)] == [None, None]
    assert capsys.readouterr().out.count(f"needs at least {smallest}x{smallest}") == 1
    fits = torch.rand(smallest, 64, 3)
    assert metric(fits, fits) == 0.0


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"one shape \(height, width, 3\), got \(48, 48, 3\) and \(48, 47, 3\)"):
        Lpips("vgg")(torch.zeros(48, 48, 3), torch.zeros(48, 47, 3))

"""The residual encoder: its maps, what freezing means, and where its ImageNet weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from fewshot_ns.encoders.resnet import ResNetEncoder, ResNetEncoderConfig
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


def build(**fields) -> ResNetEncoder:
    torch.manual_seed(0)
    return ResNetEncoder(**{"backbone": "resnet18", "num_layers": 3, **fields})


def statistics(encoder: ResNetEncoder) -> List[Tensor]:
    return [value.clone() for name, value in encoder.named_buffers() if "running" in name]


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("first_pool", [True, False])
def test_maps_are_those_of_the_stages(num_layers: int, first_pool: bool):
    encoder = build(num_layers=num_layers, first_pool=first_pool).eval()
    images = torch.rand(2, 31, 26, 3)
    net = encoder.model
    x = net.relu(net.bn1(net.conv1(images.permute(0, 3, 1, 2) * 2 - 1)))
    maps = [x]
    for index in range(1, num_layers):
        x = net.maxpool(x) if index == 1 and first_pool else x
        x = getattr(net, f"layer{index}")(x)
        maps.append(nn.functional.interpolate(x, (16, 13), mode="bilinear", align_corners=True))
    expected = torch.cat(maps, dim=1)
    assert expected.shape == (2, encoder.columns, 16, 13)
    torch.testing.assert_close(encoder(images), expected)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_images_are_resized_before(factor: float):
    images = torch.rand(1, 32, 24, 3)
    maps = build(feature_scale=factor)(images)
    assert maps.shape[-2:] == (16 * factor, 12 * factor)


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
def test_other_norms_have_no_running_statistics(norm):
    encoder = build(norm=norm)
    assert not statistics(encoder)
    assert encoder(torch.rand(1, 16, 16, 3)).isfinite().all()
    with pytest.raises(ValueError, match=f"not of norm '{norm}'"):
        encoder.load_imagenet(None, False, "--flag")


def test_batch_statistics_move_in_training_alone():
    encoder, images = build(), torch.rand(3, 16, 16, 3)
    before = statistics(encoder)
    encoder.eval()(images)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(encoder), strict=True))
    encoder.train()(images)
    assert not any(torch.equal(a, b) for a, b in zip(before[:2], statistics(encoder)[:2], strict=True))


def test_a_frozen_encoder_stays_as_it_is():
    whole = nn.Sequential(build(frozen=True))
    encoder: ResNetEncoder = whole[0]  # type: ignore[assignment]
    before = statistics(encoder)
    # What nerfstudio does to the model before every training step.
    whole.train()
    assert not any(module.training for module in encoder.modules())
    images = torch.rand(3, 16, 16, 3, requires_grad=True)
    features = encoder(images)
    assert not features.requires_grad and not any(value.requires_grad for value in encoder.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(encoder), strict=True))
    assert torch.equal(features, encoder(images))


def test_stages_that_are_not_joined():
    with_all, without = build(num_layers=4), build(num_layers=4, keep_unused=False)
    names = {name for name in with_all.state_dict() if name.startswith("model.layer4.")}
    assert names and set(with_all.state_dict()) - set(without.state_dict()) == names
    frozen = {name for name, value in with_all.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, _ in with_all.named_parameters() if name in names}
    with pytest.raises(ValueError, match="1 to 5 layers"):
        build(num_layers=6)


@pytest.mark.parametrize("counters", [True, False])
def test_imagenet_weights(counters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = models.resnet18(weights=None)
    state = {name: v for name, v in source.state_dict().items() if counters or "num_batches_tracked" not in name}
    path = tmp_path / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save(state, path)
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path))
    for weights in (path, tmp_path, None):
        config = ResNetEncoderConfig(backbone="resnet18", keep_unused=False, weights=weights, download=False)
        encoder = config.setup()
        config.load(encoder, "--pipeline.model.encoder.weights")
        last = "layer3.0.conv1.weight"
        assert torch.equal(encoder.model.state_dict()[last], source.state_dict()[last])
    with pytest.raises(CheckpointMismatchError, match="layer1.2"):
        ResNetEncoderConfig(weights=path).load(ResNetEncoder(), "--flag")


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)
    config = ResNetEncoderConfig(download=False)
    with pytest.raises(WeightsNotFoundError, match=r"resnet34.*\.pth(.|\n)*--pipeline.model.encoder.weights PATH"):
        config.load(config.setup(), "--pipeline.model.encoder.weights")
    # Random weights where they are asked for, and only there.
    ResNetEncoderConfig(pretrained=False, download=False).load(build(), "--flag")

"""Files of released layouts into the matching encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from gmflow_flow import GMFlow
from torch import Tensor

from fewshot_ns.encoders.convert_gmflow import MatchingEncoderConfig, find_gmflow, load_encoder, released_parts
from fewshot_ns.encoders.gmflow import MatchingEncoder
from fewshot_ns.pretrained.weights import WeightsNotFoundError, load_weights
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


@pytest.fixture(scope="module")
def gmflow_state() -> Dict[str, Tensor]:
    """Parameters of a whole one-scale GMFlow."""
    torch.manual_seed(1)
    return GMFlow(1).state_dict()


@pytest.fixture(scope="module")
def matchnerf_state() -> Dict[str, Tensor]:
    """Parameters of a whole matching encoder beside a piece of a decoder and of a latent network."""
    torch.manual_seed(2)
    encoder = {f"feat_enc.{name}": value for name, value in MatchingEncoder().state_dict().items()}
    return {**encoder, "nerf_dec.rgb_linear.bias": torch.ones(3), "latent_inference.final_layer.bias": torch.ones(4)}


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("layout", ["model", "bare", "parallel"])
def test_one_scale_file_of_gmflow(tmp_path: Path, gmflow_state, layout: str):
    state = {f"module.{name}": value for name, value in gmflow_state.items()} if layout == "parallel" else gmflow_state
    path = saved(tmp_path / "gmflow.pth", state if layout == "bare" else {"model": state, "step": 3})
    encoder = MatchingEncoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert not load_encoder(encoder, path)
    for name, value in encoder.state_dict().items():
        expected = before[name] if name.startswith("featup_net.") else gmflow_state[name]
        assert torch.equal(value, expected), name


def test_file_of_matchnerf(tmp_path: Path, matchnerf_state):
    path = saved(tmp_path / "matchnerf.pth", {"model": matchnerf_state, "epoch": 3})
    encoder = MatchingEncoder()
    assert load_encoder(encoder, path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, matchnerf_state[f"feat_enc.{name}"]), name
    parts = released_parts(path)
    assert list(parts.decoder) == ["rgb_linear.bias"]
    assert list(parts.latent) == ["final_layer.bias"]


def test_missing_and_other_parameters_are_refused(tmp_path: Path, gmflow_state, matchnerf_state):
    short = dict(gmflow_state)
    del short["backbone.conv2.bias"]
    with pytest.raises(CheckpointMismatchError, match=r"missing \(1\):\n    backbone.conv2.bias"):
        load_encoder(MatchingEncoder(), saved(tmp_path / "short.pth", {"model": short}))
    half = {name: value for name, value in matchnerf_state.items() if "conv_l2rs.1" not in name}
    with pytest.raises(CheckpointMismatchError, match="featup_net.conv_l2rs.1.weight"):
        load_encoder(MatchingEncoder(), saved(tmp_path / "half.pth", {"model": half}))
    with pytest.raises(ValueError, match=r"expected weights of GMFlow .* found head.weight"):
        load_encoder(MatchingEncoder(), saved(tmp_path / "other.pth", {"model": {**gmflow_state, "head.weight": 1}}))
    with pytest.raises(ValueError, match="found nothing"):
        load_encoder(MatchingEncoder(), saved(tmp_path / "empty.pth", {}))
    decoder = {name: value for name, value in matchnerf_state.items() if name.startswith("nerf_dec.")}
    with pytest.raises(ValueError, match="found a decoder alone"):
        load_encoder(MatchingEncoder(), saved(tmp_path / "decoder.pth", decoder))
    with pytest.raises(FileNotFoundError, match="absent.pth"):
        load_encoder(MatchingEncoder(), tmp_path / "absent.pth")


def test_number_of_scales_has_to_fit(tmp_path: Path, gmflow_state):
    path = saved(tmp_path / "two.pth", GMFlow(2).state_dict())
    with pytest.raises(ValueError, match=r"of 1 scale\(s\) \(--pipeline.model.encoder.num-scales\), found 2"):
        load_encoder(MatchingEncoder(), path)
    with pytest.raises(ValueError, match=r"of 2 scale\(s\) .*, found 1"):
        load_encoder(MatchingEncoder(2), saved(tmp_path / "one.pth", gmflow_state))
    assert load_encoder(MatchingEncoder(2), path)


def test_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gmflow_state):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path / "weights"))
    flag = "--pipeline.model.encoder.weights"
    for scales, name in ((1, "gmflow_sintel-0c07dcb3.pth"), (2, "gmflow_with_refine_scale2.pth")):
        with pytest.raises(WeightsNotFoundError, match=f"{flag} PATH") as error:
            find_gmflow(scales, None, False, flag)
        assert name in str(error.value).splitlines()[0] and str(error.value).splitlines()[0].count(name) == 1
        place = {1: "https://huggingface.co/donydchen/matchnerf", 2: "README of https://github.com/haofeixu/gmflow"}
        assert f"{place[scales]}, then pass it" in str(error.value)
    (tmp_path / "weights").mkdir()
    path = saved(tmp_path / "weights" / "gmflow_sintel-0c07dcb3.pth", {"model": gmflow_state})
    assert find_gmflow(1, None, False, flag) == path
    config = MatchingEncoderConfig(download=False, frozen=True)
    encoder = config.setup()
    config.load(encoder, flag)
    assert torch.equal(encoder.backbone.conv1.weight, gmflow_state["backbone.conv1.weight"])
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert find_gmflow(2, path, False, flag) == path


def test_random_start_reads_no_file(tmp_path: Path):
    config = MatchingEncoderConfig(pretrained=False, weights=tmp_path / "absent.pth")
    config.load(config.setup(), "--weights")


@pytest.mark.weights
def test_real_two_scale_file(weights_dir: Path):
    path = find_gmflow(2, weights_dir, False, "--weights")
    state = load_weights(path)
    whole = GMFlow(2)
    assert set(whole.state_dict()) == set(state)
    whole.load_state_dict(state)
    encoder = MatchingEncoder(2)
    assert load_encoder(encoder, path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[name]), name

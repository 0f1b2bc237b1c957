"""Monocular depth: tiny random networks of the real classes, saved and loaded by the product's own way; the cache."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from PIL import Image

transformers = pytest.importorskip("transformers", reason="needs the extra 'priors'")

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig  # noqa: E402
from fewshot_ns.data.depth.maps import read_depth_map  # noqa: E402
from fewshot_ns.pretrained import monocular_depth as monocular  # noqa: E402
from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig, model_polarity, monocular_depths  # noqa: E402
from fewshot_ns.pretrained.weights import (  # noqa: E402
    WEIGHTS_ENV,
    FolderSpec,
    WeightsNotFoundError,
    resolve_weights,
)

BACKBONE = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)


def save_dpt(folder: Path, seed: int = 0) -> Path:
    """A random DPT of 30,000 parameters."""
    torch.manual_seed(seed)
    config = transformers.DPTConfig(
        **BACKBONE,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
        is_hybrid=False,
    )
    model = transformers.DPTForDepthEstimation(config)
    torch.nn.init.constant_(model.head.head[-2].bias, 2.0)
    model.save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_depth_anything(folder: Path, metric: bool) -> Path:
    """A random Depth Anything; the metric kind gives depth."""
    torch.manual_seed(1)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.Dinov2Config(
        **BACKBONE, image_size=28, patch_size=14, out_features=stages, reshape_hidden_states=False
    )
    kind = dict(depth_estimation_type="metric", max_depth=20) if metric else {}
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        patch_size=14,
        **kind,
    )
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(
        size={"height": 28, "width": 28}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dpt(tmp_path_factory) -> Path:
    return save_dpt(tmp_path_factory.mktemp("models") / "tiny-dpt")


@pytest.fixture
def photos(tmp_path) -> list:
    """Four photos, the last one of another size and half transparent."""
    generator = np.random.default_rng(0)
    files = []
    for number, shape in enumerate([(20, 30, 3)] * 3 + [(24, 24, 4)]):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, shape, dtype=np.uint8)).save(path)
        files.append(path)
    return files


@pytest.fixture
def calls(monkeypatch) -> list:
    """Sizes of the batches that networks are asked for."""
    seen: list = []
    real = monocular._Network.__call__

    def counted(self: Any, images: list) -> list:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(monocular._Network, "__call__", counted)
    return seen


@pytest.fixture
def config(dpt, tmp_path) -> Callable[..., MonocularDepthConfig]:
    return lambda **flags: MonocularDepthConfig(
        **{**dict(model=str(dpt), cache_dir=tmp_path / "cache", device="cpu"), **flags}
    )


def test_maps_are_those_of_the_network(dpt, photos, config):
    depths = monocular_depths(config(), photos[:1], "black", "--weights")
    assert depths.encoding.polarity == "inverse_depth"
    prior = read_depth_map(depths.files[0], depths.encoding.polarity, (20, 30))
    assert prior.valid.all()
    model = transformers.AutoModelForDepthEstimation.from_pretrained(dpt)
    processor = transformers.AutoImageProcessor.from_pretrained(dpt)
    with torch.no_grad():
        raw = model(**processor(images=Image.open(photos[0]), return_tensors="pt")).predicted_depth
    expected = torch.nn.functional.interpolate(raw[:, None], (20, 30), mode="bicubic", align_corners=False)[0, 0]
    assert float(expected.std()) > 0
    # Up to the shift that keeps every pixel above zero.
    shift = prior.values - expected.numpy()
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-4 * float(expected.abs().max()))


def test_batches_of_equal_size_give_what_single_photos_give(photos, config, calls, tmp_path):
    together = monocular_depths(config(batch_size=2), photos, "black", "--weights")
    assert calls == [2, 1, 1]
    alone = monocular_depths(config(batch_size=1, cache_dir=tmp_path / "other"), photos, "black", "--weights")
    assert calls == [2, 1, 1] + [1] * 4
    for first, second in zip(together.files, alone.files, strict=True):
        assert first.name == second.name
        np.testing.assert_allclose(np.load(first)["depth"], np.load(second)["depth"], rtol=1e-3, atol=1e-4)
    assert np.load(together.files[3])["depth"].shape == (24, 24)


def test_the_cache_goes_by_content(photos, config, calls, tmp_path, dpt):
    first = monocular_depths(config(), photos[:2], "black", "--weights").files
    assert monocular_depths(config(), photos[:2], "black", "--weights").files == first and calls == [2]
    copy = tmp_path / "renamed.png"
    copy.write_bytes(photos[0].read_bytes())
    assert monocular_depths(config(), [copy], "black", "--weights").files[0] == first[0] and calls == [2]
    os.utime(photos[0])
    Image.fromarray(255 - np.array(Image.open(photos[0]))).save(photos[0])
    assert monocular_depths(config(), photos[:1], "black", "--weights").files[0] != first[0] and calls == [2, 1]
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_other_weights_or_another_version_make_other_entries(photos, config, tmp_path, monkeypatch):
    first = monocular_depths(config(), photos[:1], "black", "--weights").files[0]
    other = save_dpt(tmp_path / "tiny-dpt", seed=5)
    assert monocular_depths(config(model=str(other)), photos[:1], "black", "--weights").files[0] != first
    assert monocular_depths(config(polarity="distance"), photos[:1], "black", "--weights").files[0] != first
    assert monocular_depths(config(), photos[:1], "white", "--weights").files[0] != first
    monkeypatch.setattr(monocular, "PREPROCESSING_VERSION", 99)
    assert monocular_depths(config(), photos[:1], "black", "--weights").files[0] != first


@pytest.mark.parametrize("damage", ["cut", "nonsense", "empty", "other key", "wrong size", "hole"])
def test_damaged_entries_are_computed_again(photos, config, calls, damage):
    path = monocular_depths(config(), photos[:1], "black", "--weights").files[0]
    whole = np.load(path)
    depth, key = whole["depth"], whole["key"]
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage in ("nonsense", "empty"):
        path.write_bytes(b"nonsense" if damage == "nonsense" else b"")
    elif damage == "other key":
        np.savez(path, depth=depth, key=np.array("0" * 64))
    elif damage == "wrong size":
        np.savez(path, depth=depth[:-1], key=key)
    else:
        np.savez(path, depth=np.where(depth == depth.max(), np.nan, depth), key=key)
    monocular_depths(config(), photos[:1], "black", "--weights")
    assert calls == [1, 1]
    np.testing.assert_allclose(np.load(path)["depth"], depth, rtol=1e-6)


@pytest.mark.parametrize("metric", [False, True])
def test_depth_anything_says_what_it_gives(tmp_path, photos, config, metric):
    folder = save_depth_anything(tmp_path / "anything", metric)
    depths = monocular_depths(config(model=str(folder)), photos[:2], "black", "--weights")
    assert depths.encoding.polarity == ("distance" if metric else "inverse_depth")
    assert all(read_depth_map(path, depths.encoding.polarity, (20, 30)).valid.all() for path in depths.files)


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"model_type": "zoedepth"}', "distance"),
        ('{"model_type": "glpn"}', "distance"),
        ('{"model_type": "dpt", "backbone_config": {"model_type": "dinov2"}}', "distance"),
        ('{"model_type": "dpt", "backbone_config": {"model_type": "bit"}}', "inverse_depth"),
        ('{"model_type": "dpt"}', "inverse_depth"),
    ],
)
def test_kinds_of_networks(tmp_path, text, expected):
    (tmp_path / "config.json").write_text(text)
    assert model_polarity(tmp_path) == expected


def test_an_unknown_kind_asks_for_the_polarity(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"config\.json: expected a known kind of depth model .*found 'bert'"):
        model_polarity(tmp_path)


def test_places_in_their_order(dpt, tmp_path, monkeypatch):
    """Explicit path, FEWSHOT_WEIGHTS, the hub's cache."""
    hub = tmp_path / "hub" / "models--some--net"
    snapshot = hub / "snapshots" / "abc"
    save_dpt(snapshot)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)

    def found(explicit=None):
        return resolve_weights(FolderSpec("some/net", "--weights"), explicit, download=False)

    assert os.path.samefile(found(), snapshot)
    in_folder = save_dpt(tmp_path / "weights" / "some--net")
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path / "weights"))
    assert found() == in_folder
    assert found(dpt) == dpt


def test_weights_that_are_nowhere_are_one_clear_error(tmp_path, monkeypatch, photos, config):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path))
    with pytest.raises(WeightsNotFoundError) as caught:
        monocular_depths(config(model="some/net"), photos[:1], "black", "--pipeline.depth.mono.weights")
    text = str(caught.value)
    for part in ("some/net", f"{WEIGHTS_ENV}={tmp_path}", "hub cache:", "download:", "https://huggingface.co/some/net"):
        assert part in text
    assert "--pipeline.depth.mono.weights PATH" in text
    with pytest.raises(WeightsNotFoundError, match=r"nowhere: does not exist"):
        monocular_depths(config(weights=tmp_path / "nowhere"), photos[:1], "black", "--weights")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    with pytest.raises(WeightsNotFoundError, match=r"half: has no weights"):
        monocular_depths(config(weights=tmp_path / "half"), photos[:1], "black", "--weights")


def test_a_folder_that_is_no_depth_model(tmp_path, dpt, photos, config):
    folder = save_dpt(tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"broken: expected a depth model of transformers, could not load it"):
        monocular_depths(config(model=str(folder)), photos[:1], "black", "--weights")
    text = json.loads((dpt / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**text, "model_type": "vit"}))
    with pytest.raises(ValueError, match="found 'vit'"):
        monocular_depths(config(model=str(folder)), photos[:1], "black", "--weights")


def test_training_computes_what_is_missing(tiny_llff_scene, tiny_pipeline_config, dpt, tmp_path, calls):
    import shutil

    shutil.rmtree(tiny_llff_scene / "depth_maps")
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    config.depth.source = "mono"
    config.depth.mono = MonocularDepthConfig(model=str(dpt), cache_dir=tmp_path / "cache", device="cpu")
    pipeline = config.setup(device="cpu", test_mode="val")
    assert calls == [3] and pipeline.priors.all["depth"].quads is not None
    record = pipeline.datamanager.fewshot_metadata
    assert record.depth_encoding.polarity == "inverse_depth"
    assert all(path.is_file() and tmp_path / "cache" in path.parents for path in record.depth_prior_filenames)
    assert "depth_ranking" in pipeline.get_train_loss_dict(0)[1]
    config.setup(device="cpu", test_mode="val")
    assert calls == [3]

"""Messages of what a prior lacks name ways out: flags as a user types them, with which training starts."""

from __future__ import annotations

import re
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Tuple, Type

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
import tyro

from fewshot_ns import registry
from fewshot_ns.configs.idnerf import idnerf
from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError
from fewshot_ns.scripts.cli import main

DEPTH_OFF = "--pipeline.depth.enabled False"
STEREO, MVS, MONO = (f"--pipeline.depth.source {source}" for source in ("stereo", "mvs", "mono"))


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, empty caches, and a hub that is switched off."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def config(make_llff_scene: Callable[..., Path], tiny_pipeline_config: Any, tmp_path: Path) -> Any:
    """A tiny pipeline on photos that can be matched, without depth maps."""
    scene = make_llff_scene(tmp_path / "scene", size=(48, 64), detailed=True)
    shutil.rmtree(scene / "depth_maps")
    return tiny_pipeline_config(LLFFDataParserConfig(data=scene))


def with_flags(config: Any, flags: str) -> Any:
    """The pipeline's config after `ns-train METHOD FLAGS`."""
    trainer = replace(sparsenerf_lite, pipeline=deepcopy(config))
    # As nerfstudio's command reads its flags.
    kind: Any = tyro.conf.FlagConversionOff[type(trainer)]
    return tyro.cli(kind, default=trainer, args=flags.split()).pipeline


def message_of(config: Any, error: Type[Exception]) -> str:
    """What a training that cannot start says."""
    with pytest.raises(error) as caught:
        config.setup(device="cpu", test_mode="val")
    return str(caught.value)


def ways_of(message: str) -> str:
    """The one list of ways out in a message."""
    assert message.count("Ways out: ") == 1, message
    return message.partition("Ways out: ")[2]


def losses_of(config: Any) -> set:
    """Terms of the first step."""
    return set(config.setup(device="cpu", test_mode="val").get_train_loss_dict(0)[1])


def test_without_depth_maps(config: Any):
    config.depth.source = "files"
    ways = ways_of(message_of(config, ValueError))
    for way in (STEREO, MVS, MONO, "`ns-fewshot depth`", "--depth-dir", DEPTH_OFF):
        assert way in ways
    assert "depth_ranking" in losses_of(with_flags(config, STEREO))
    assert "depth_ranking" not in losses_of(with_flags(config, DEPTH_OFF))


def test_without_scale(config: Any, make_llff_scene: Callable[..., Path], tmp_path: Path):
    make_llff_scene(config.datamanager.dataparser.data, size=(48, 64), detailed=True)  # with maps of order alone
    config.depth.source, config.depth.loss = "files", "cdf"
    message = message_of(config, ValueError)
    assert "--pipeline.depth.loss cdf: the maps in" in message and "depth_maps have no known scale" in message
    ways = ways_of(message)
    ranking = "--pipeline.depth.loss ranking"
    for way in (STEREO, MVS, ranking, "`ns-fewshot depth --align colmap` (or sensor, or near-far)", DEPTH_OFF):
        assert way in ways
    assert MONO not in ways and "--depth-polarity distance --depth-unit UNIT" in ways
    assert "depth_ranking" in losses_of(with_flags(config, ranking))
    assert {"depth_ranking", "rgb_loss"} & losses_of(with_flags(config, STEREO)) == {"rgb_loss"}
    assert "rgb_loss" in losses_of(with_flags(config, DEPTH_OFF))


@pytest.mark.parametrize(("source", "others"), [("mono", (STEREO, MVS)), ("mvs", (STEREO, MONO))])
def test_without_a_network_of_depth(config: Any, source: str, others: Tuple[str, ...]):
    config.depth.source = source
    message = message_of(config, WeightsNotFoundError)
    assert f"--pipeline.depth.{source}.weights" in message
    ways = ways_of(message)
    for way in (*others, "`ns-fewshot depth`", DEPTH_OFF):
        assert way in ways
    assert f"--pipeline.depth.source {source}" not in ways
    assert "depth_ranking" in losses_of(with_flags(config, STEREO))


def test_without_a_network_that_fills(config: Any):
    config.depth.source, config.depth.fill = "stereo", "mono"
    ways = ways_of(message_of(config, WeightsNotFoundError))
    assert "--pipeline.depth.fill none" in ways
    assert "depth_ranking" in losses_of(with_flags(config, "--pipeline.depth.fill none"))


def test_without_a_network_the_command_names_one_that_needs_none(config: Any, capsys: pytest.CaptureFixture):
    scene = str(config.datamanager.dataparser.data)
    for source, way in (("mono", "--source stereo"), ("mvs", "--source stereo")):
        assert main(["depth", "--data", scene, "--source", source, "llff-data"]) == 1
        assert way in ways_of(capsys.readouterr().err)
    flags = ["--source", "stereo", "--fill", "mono"]
    assert main(["depth", "--data", scene, *flags, "llff-data"]) == 1
    assert "--fill none" in ways_of(capsys.readouterr().err)
    assert main(["depth", "--data", scene, "--source", "stereo", "--fill", "none", "llff-data"]) == 0


def test_without_clip(config: Any, no_weights: Path):
    from torchvision.models import vgg16

    config.depth.enabled = False
    config.semantic.enabled, config.semantic.views.grid_size = True, 12
    message = message_of(config, WeightsNotFoundError)
    assert "open_clip ViT-B-32-quickgelu" in message
    ways = ways_of(message)
    found = re.match(r"((?:--pipeline\.semantic\.encoder\.\S+ \S+ ?)+)\(VGG16", ways)
    assert found is not None and "--pipeline.semantic.encoder.weights PATH" in ways
    assert "vgg16_features_torchvision.pt" in ways and WEIGHTS_ENV in ways
    off = "--pipeline.semantic.enabled False"
    assert off in ways and "semantic" not in losses_of(with_flags(config, off))
    torch.save(vgg16(weights=None).features.state_dict(), no_weights / "vgg16_features_torchvision.pt")
    other = with_flags(config, found[1])
    other.semantic.interval = 1
    assert "semantic" in losses_of(other)
    # Where VGG16 itself is missing, it is no way out.
    (no_weights / "vgg16_features_torchvision.pt").unlink()
    other.semantic.encoder.download = False
    ways = ways_of(message_of(other, WeightsNotFoundError))
    assert "vgg16" not in ways and off in ways


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folder of a tiny diffusion model, `sd`."""
    pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    from tiny_diffusion import save_diffusion

    save_diffusion(tmp_path / "models" / "sd")
    return tmp_path / "models"


def test_without_a_diffusion_model(config: Any, models: Path):
    config.depth.enabled = False
    prior = config.diffusion
    prior.enabled, prior.views.grid_size, prior.interval = True, 12, 1
    off = "--pipeline.diffusion.enabled False"
    ways = ways_of(message_of(config, WeightsNotFoundError))
    assert off in ways and "matchnerf" not in ways
    assert "diffusion" not in losses_of(with_flags(config, off))
    # There is one, but no CLIP that makes tokens of photos.
    prior.weights = models / "sd"
    message = message_of(config, WeightsNotFoundError)
    assert "--pipeline.diffusion.image-encoder-weights" in message
    text = "--pipeline.diffusion.prompt text --pipeline.diffusion.text TEXT"
    assert text in ways_of(message) and off in ways_of(message)
    assert "diffusion" in losses_of(with_flags(config, text))


def test_idnerf_without_a_diffusion_model(tiny_solids: Path):
    pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    config: Any = deepcopy(idnerf.pipeline)
    manager, model = config.datamanager, config.model
    manager.dataparser, manager.data = SRNDataParserConfig(data=tiny_solids), tiny_solids
    manager.num_sources, manager.sources.count, manager.rays_per_scene = (2,), 2, 8
    manager.train_source_mode = "nearby"
    model.num_views, model.num_samples, model.width, model.encoder.pretrained = 2, 6, 16, False
    config.evaluation.metrics = ("psnr",)
    ways = ways_of(message_of(config, WeightsNotFoundError))
    for method in ("matchnerf", "idnerf-lite"):
        assert f"`ns-train {method}`" in ways
        specification: Any = registry.method_specification(method.replace("-", "_")).config
        assert not specification.pipeline.diffusion.enabled
    assert "--pipeline.diffusion.enabled False" in ways
    config.diffusion.enabled = False
    config.setup(device="cpu", test_mode="val")

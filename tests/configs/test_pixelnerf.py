"""pixelnerf's presets: the original's numbers, and steps of each on a generated set with a tiny network."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch

from fewshot_ns import registry
from fewshot_ns.configs.paper_results import METRICS
from fewshot_ns.data.dataparsers.multi.nmr import NMRDataParserConfig
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.views.sources import SourceViewsConfig, TargetViewsConfig
from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

NAMES = (
    "pixelnerf",
    "pixelnerf_srn",
    "pixelnerf_sn64",
    "pixelnerf_sn64_unseen",
    "pixelnerf_dtu",
    "pixelnerf_multi_object",
    "pixelnerf_lite",
)


def config_of(name: str) -> Any:
    return deepcopy(registry.method_specification(name).config)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated set in the layout of SRN."""
    folder = tmp_path_factory.mktemp("solids") / "set"
    write_solids(folder, SolidsConfig(objects=6, views=5, size=16, supersample=1, val_share=0.2, test_share=0.2))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_the_original(name: str) -> None:
    config = config_of(name)
    manager, model = config.pipeline.datamanager, config.pipeline.model
    assert config.method_name == name.replace("_", "-")
    assert manager.dataparser.many_scenes
    assert (manager.scenes_per_batch, manager.rays_per_scene) == (4, 128)
    if name.endswith("lite"):
        assert not model.encoder.pretrained and model.width < 512
        return
    group = config.optimizers["field"]
    assert group["optimizer"].lr == group["scheduler"].lr_final == 1e-4
    assert (model.num_samples, model.num_importance_samples, model.num_depth_samples) == (64, 16, 16)
    assert (model.depth_deviation, model.frequency, model.num_octaves) == (0.01, 1.5, 6)
    assert (model.width, model.num_blocks, model.pool_before, model.pooling) == (512, 5, 3, "average")
    assert (model.density_activation, model.eval_samples, model.min_eval_samples) == ("relu", "random", 64)
    encoder = model.encoder
    assert (encoder.backbone, encoder.num_layers, encoder.norm, encoder.padding) == ("resnet34", 4, "batch", "border")
    assert encoder.first_pool == ("sn64" not in name) and encoder.pretrained
    dtu = name == "pixelnerf_dtu"
    assert manager.no_box_step == (0 if dtu else 100000) and manager.colour_jitter == (0.1 if dtu else 0.0)
    assert manager.targets.exclude_dtu_bad == dtu
    lists = {"pixelnerf_sn64": "softras_", "pixelnerf_sn64_unseen": "gen_"}
    own = manager.dataparser.settings_for(NMRDataParserConfig)
    assert getattr(own, "list_prefix", None) == lists.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_steps_on_generated_objects(name: str, objects: Path) -> None:
    config = config_of(name)
    manager, model = config.pipeline.datamanager, config.pipeline.model
    manager.dataparser = SRNDataParserConfig(data=objects, sampling_range="cars")
    manager.scenes_per_batch, manager.rays_per_scene = 2, 8
    manager.sources, manager.targets = SourceViewsConfig(mode="random", count=2), TargetViewsConfig()
    model.encoder.backbone, model.encoder.keep_unused, model.encoder.pretrained = "resnet18", False, False
    model.width, model.num_samples, model.num_octaves = 16, 6, 2
    # Under relu so small a network may start with no density anywhere.
    model.density_activation = "softplus"
    config.pipeline.evaluation.metrics = ("psnr",)
    torch.manual_seed(0)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    parameters = pipeline.get_param_groups()["field"]
    optimizer = config.optimizers["field"]["optimizer"].setup(parameters)
    config.optimizers["field"]["scheduler"].setup().get_scheduler(optimizer, 1e-4)
    before = [parameter.detach().clone() for parameter in parameters]
    for step in range(2):
        _, losses, metrics = pipeline.get_train_loss_dict(step)
        assert set(losses) == {"rgb_loss", "rgb_loss_coarse"} and metrics["psnr"].isfinite()
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in parameters)
    assert any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))


def test_plain_pixelnerf_measures_scenes_of_few_views(objects: Path, capsys: pytest.CaptureFixture) -> None:
    config = config_of("pixelnerf")
    manager, model = config.pipeline.datamanager, config.pipeline.model
    manager.dataparser = SRNDataParserConfig(data=objects, sampling_range="cars")
    model.encoder.backbone, model.encoder.keep_unused, model.encoder.pretrained = "resnet18", False, False
    model.width, model.num_samples, model.min_eval_samples, model.num_octaves = 16, 6, 6, 2
    config.pipeline.evaluation.metrics = ("psnr",)
    pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    results = pipeline.get_average_eval_image_metrics(0)
    # Of five views 4 and 3 stand for 64 and 104.
    assert results["psnr"] > 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the nearest are taken: 4 and 3. This is not the published protocol" in said


def test_published_figures() -> None:
    results = registry.paper_results("pixelnerf")
    keys = [(result.dataset, result.num_views, result.metric, result.table) for result in results]
    assert len(set(keys)) == len(keys) and {result.metric for result in results} <= set(METRICS)
    assert all(len(text) > 10 for r in results for text in (r.table, r.conditions, r.citation))
    assert not registry.paper_results("pixelnerf_lite")
    # The printed total of 13 categories is the mean over objects, which lies within what the categories span.
    for metric in ("psnr", "ssim", "lpips"):
        categories = [r.value for r in results if r.dataset.startswith("sn64/") and r.metric == metric]
        (total,) = [r.value for r in results if r.dataset == "sn64" and r.metric == metric]
        assert len(categories) == 13
        assert abs(sum(categories) / 13 - total) < 0.2 * (max(categories) - min(categories))

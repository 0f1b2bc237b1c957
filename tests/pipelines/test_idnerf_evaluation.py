"""ID-NeRF's evaluation: protocol of DTU, true depth, the middle elsewhere, one scene and many."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch

from fewshot_ns.configs.idnerf import idnerf_lite
from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.depth.true_depth import known_depth
from fewshot_ns.evaluation.metrics import image as metrics
from fewshot_ns.evaluation.records.ledger import Ledger
from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig, SceneEvaluator

TARGETS, SOURCES = (2, 3), (0, 1, 4, 5)


@pytest.fixture
def build() -> Callable[..., Any]:
    """Function (dataparser, test mode, scenes) -> tiny pipeline of idnerf-lite."""

    def pipeline(parser: Any, mode: str = "test", scenes: Tuple[str, ...] = ()) -> Any:
        config: Any = deepcopy(idnerf_lite.pipeline)
        manager, model = config.datamanager, config.model
        manager.dataparser, manager.scenes, manager.rays_per_scene = parser, scenes or None, 8
        model.num_samples, model.width, model.encoder.pretrained = 6, 16, False
        config.evaluation.metrics = ("psnr",)
        torch.manual_seed(0)
        return config.setup(device="cpu", test_mode=mode).eval()

    return pipeline


def dtu(data: Path) -> MVSNetDTUDataParserConfig:
    return MVSNetDTUDataParserConfig(
        data=data, num_views=6, train_lights=(2, 3), test_targets=TARGETS, test_sources=SOURCES
    )


def test_rays_of_an_export_are_seen_from_their_own_source_views(build: Callable[..., Any], tiny_mvsnet: Path):
    """As ns-export asks for them: the batch, then the model alone, which has a latent of that view."""
    pipeline = build(dtu(tiny_mvsnet))
    manager = pipeline.datamanager
    manager.train_pixel_sampler.num_rays_per_batch = 12
    latents = []
    for _ in range(3):
        rays, batch = manager.next_train(0)
        view = int(batch["indices"][0, 0])
        outputs = pipeline.model(rays)
        assert outputs["rgb"].shape == (12, 3) and outputs["rgb"].isfinite().all()
        assert pipeline.model.conditioned_on[1] == manager.selector.sources_for(
            manager.active, manager.active.scene.cameras.camera_to_worlds[view]
        )
        latents.append((view, pipeline.model.targets.latents))
    assert all(torch.equal(a, b) == (i == j) for i, a in latents for j, b in latents)


def test_many_scans(build: Callable[..., Any], tiny_mvsnet: Path, tmp_path: Path):
    pipeline = build(dtu(tiny_mvsnet))
    evaluator = SceneEvaluator(pipeline, pipeline.suite, SceneEvaluationConfig(), 0, with_baselines=True)
    rows = evaluator.rows(Ledger(tmp_path / "eval.json"))
    assert [(row.scene, row.view_index) for row in rows] == [(s, v) for s in ("scan3", "scan4") for v in TARGETS]
    # Nearest by the sum of the centre's coordinates, of the views that may be looked at.
    assert {row.view_index: row.sources for row in rows} == {2: (1, 0, 4), 3: (4, 5, 1)}
    active = pipeline.datamanager.selector.open(pipeline.datamanager.eval_table()[0])
    known = known_depth(active.scene, 2)
    assert known is not None and known.shape == (32, 40, 1)
    assert not known[:, :9].any() and known[:, 11:].all()
    truth = pipeline.datamanager.library.images.image(active.scene, 2)
    rendered = pipeline.render(active, active.scene.cameras[2:3])["rgb"]
    found = rows[0].metrics
    assert found["true_depth_psnr"] == pytest.approx(float(metrics.masked_psnr(rendered, truth, known.float())))
    assert found["baseline_nearest_view_true_depth_psnr"] is not None and "centre_psnr" not in found
    assert json.loads((tmp_path / "eval.json").read_text())["region"] == "auto"


def test_one_scan(build: Callable[..., Any], tiny_mvsnet: Path):
    pipeline = build(dtu(tiny_mvsnet), scenes=("scan3",))
    results = pipeline.get_average_eval_image_metrics()
    assert results["true_depth_psnr"] != results["psnr"] and "num_scenes" not in results
    assert [int(batch["image_idx"]) for _, batch in pipeline.datamanager.fixed_indices_eval_dataloader] == [0, 1]


def test_while_training(build: Callable[..., Any], tiny_mvsnet: Path):
    """One image is of a training scan, all images are those of the tests."""
    pipeline = build(dtu(tiny_mvsnet), "val")
    values, images = pipeline.get_eval_image_metrics_and_images(3)
    assert {"psnr", "true_depth_psnr"} <= set(values) and "panel" in images
    assert [entry.scene_id for entry in pipeline.datamanager.eval_table()] == ["scan1", "scan2"]
    assert pipeline.get_average_eval_image_metrics(step=3)["num_views"] == 4
    assert [entry.scene_id for entry in pipeline.datamanager.eval_table(True)] == ["scan3", "scan4"]


OTHERS = {
    "llff": lambda data: LLFFDataParserConfig(data=data, ray_space="metric", num_views=0),
    "blender": lambda data: FewShotBlenderDataParserConfig(data=data, num_views=0, background="white"),
    "nerfstudio": lambda data: FewShotNerfstudioDataParserConfig(data=data, num_views=0, near=1.0, far=6.0),
}
"""Dataparsers of single scenes by the name in their fixture."""


@pytest.mark.parametrize("name", OTHERS)
def test_other_data_is_measured_in_the_middle(name: str, build: Callable[..., Any], request: pytest.FixtureRequest):
    """From the nearest views of those that do not test, between the scene's own planar depths."""
    parser = OTHERS[name](request.getfixturevalue(f"tiny_{name}_scene"))
    pipeline = build(parser)
    results = pipeline.get_average_eval_image_metrics()
    assert results["centre_psnr"] is not None and "true_depth_psnr" not in results
    manager = pipeline.datamanager
    geometry = parser.setup().get_dataparser_outputs("test").metadata["fewshot"].geometry
    given = pipeline.model.sources.conditioning
    assert (float(given.near), float(given.far)) == pytest.approx((geometry.near, geometry.far))
    tested = set(manager.selector.targets_of(manager.active))
    for view in tested:
        pose = manager.active.scene.cameras.camera_to_worlds[view]
        sources = manager.selector.sources_for(manager.active, pose)
        assert len(sources) == 3 and not tested & set(sources)

"""Rows, files and averages of all ways to evaluate, against a plain loop over the views, bit for bit."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_ns.evaluation.baselines.sources import SourceBaselines
from fewshot_ns.evaluation.baselines.trivial import trivial_baselines
from fewshot_ns.evaluation.metrics import image as metrics
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.regions import central_crop
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.ledger import Ledger
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator
from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig, SceneEvaluator
from fewshot_ns.evaluation.runners.views import dataset_views
from fewshot_ns.presentation.view_pictures import ScenePictures

TIMES = ("num_rays_per_sec", "fps")
Row = Dict[str, Any]


def read(path: Path) -> List[Row]:
    """Rows as they stand in the file, keys in order, without the hash of the photos; times, which no two runs share,
    must be positive."""
    rows = [json.loads(line) for line in path.read_text("utf8").splitlines()]
    for row in rows:
        assert all(row[name] > 0 for name in TIMES)
        row.update(dict.fromkeys(TIMES))
        row.pop("measured_on", None)
    return rows


def expect(found: Sequence[Row], expected: Sequence[Row]) -> None:
    assert [list(row.items()) for row in found] == [list(row.items()) for row in expected]


def expect_averages(results: Row, rows: Sequence[Row], names: Sequence[str]) -> None:
    for name in names:
        values = [row[name] for row in rows]
        assert results[name] == statistics.fmean(values)
        assert results[f"{name}_std"] == statistics.stdev(values)


@pytest.fixture
def dtu(tiny_dtu_scene: Path, tiny_pipeline_config: Any, tmp_path: Path) -> Any:
    """An untrained pipeline on three test views with object masks."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig

    config = tiny_pipeline_config(DTUDataParserConfig(data=tiny_dtu_scene, test_indices=(1, 9, 2)))
    config.depth.enabled, config.run_dir = False, tmp_path / "run"
    config.evaluation = EvaluationConfig(metrics=("psnr", "ssim"), region="centre")
    torch.manual_seed(0)
    return config.setup(device="cpu", test_mode="test").eval()


def plain_rows(pipeline: Any, indices: Sequence[int], baselines: Any = None) -> List[Row]:
    dataset, rows = pipeline.datamanager.eval_dataset, []
    for index in indices:
        data = dataset.get_data(index)
        render = pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1])["rgb"].clamp(0.0, 1.0)
        truth, mask = data["image"], data["object_mask"]
        inner = central_crop(render), central_crop(truth)
        white = metrics.composite_on_white(render, mask), metrics.composite_on_white(truth, mask)
        row: Row = {
            "file_name": dataset.image_filenames[index].name,
            "view_index": dataset.fewshot.image_indices[index],
            "split_index": index,
            "step": 7,
            "num_rays_per_sec": None,
            "psnr": float(metrics.psnr(render, truth)),
            "ssim": float(metrics.ssim(render, truth)),
            "centre_psnr": float(metrics.psnr(*inner)),
            "centre_ssim": float(metrics.ssim(*inner)),
            "masked_psnr": float(metrics.masked_psnr(render, truth, mask)),
            "masked_ssim": float(metrics.ssim(*white)),
        }
        for name, image in {} if baselines is None else baselines.predict(dataset.cameras[index], (12, 16)).items():
            row[f"baseline_{name}_psnr"] = float(metrics.psnr(image, truth))
            row[f"baseline_{name}_centre_psnr"] = float(metrics.psnr(central_crop(image), central_crop(truth)))
            row[f"baseline_{name}_masked_psnr"] = float(metrics.masked_psnr(image, truth, mask))
        rows.append({**row, "fps": None})
    return rows


def test_ns_eval(dtu: Any, tmp_path: Path):
    results = dtu.get_average_eval_image_metrics(step=7, output_path=tmp_path / "png", get_std=True)
    expected = plain_rows(dtu.eval(), [0, 1, 2])
    expect(read(tmp_path / "run/eval/step-000000007.jsonl"), expected)
    names = ("psnr", "ssim", "centre_psnr", "centre_ssim", "masked_psnr", "masked_ssim")
    expect_averages(results, expected, names)
    keys = [key for name in (*names, "fps", "num_rays_per_sec") for key in (name, f"{name}_std")]
    assert list(results) == keys
    assert [path.name for path in (tmp_path / "run/eval").iterdir()] == ["step-000000007.jsonl"]
    camera, batch = next(iter(dtu.datamanager.fixed_indices_eval_dataloader))
    _, images = dtu.model.get_image_metrics_and_images(dtu.model.get_outputs_for_camera(camera), batch)
    for name, image in images.items():
        shown = np.asarray(Image.open(tmp_path / f"png/eval_0000_{name}.png"))
        assert np.abs(shown / 255.0 - image.numpy()).max() <= 0.5 / 255.0 + 1e-6


def test_ns_fewshot_eval(dtu: Any, tmp_path: Path):
    """Views in any order; the file is in that of the test views."""
    baselines = trivial_baselines(dtu.datamanager.train_dataset)
    scene = EvaluatedScene(
        dtu.model.get_outputs_for_camera, dataset_views(dtu.datamanager.eval_dataset, [2, 0, 1]), baselines
    )
    evaluator = ViewEvaluator(dtu.suite, dtu.device, 7, Ledger(tmp_path / "eval.json"))
    rows = evaluator.evaluate_and_record(scene, "key", {"about": 1})
    assert [row.split_index for row in rows] == [2, 0, 1]
    expected = plain_rows(dtu, [0, 1, 2], baselines)
    expect(read(tmp_path / "eval.jsonl"), expected)
    written = json.loads((tmp_path / "eval.json").read_text())
    assert list(written) == ["about", "key", "complete", "results"] and written["complete"] is True
    expect_averages(written["results"], expected, [name for name in expected[0] if "psnr" in name or "ssim" in name])


def test_many_scenes(tiny_pixelnerf: Callable[..., Any], tmp_path: Path):
    config = tiny_pixelnerf()
    config.datamanager.sources.count = 2
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="test")
    manager = pipeline.datamanager
    evaluator = SceneEvaluator(
        pipeline,
        MetricSuite(EvaluationConfig(metrics=("psnr", "ssim"))),
        SceneEvaluationConfig(max_views=2, masks=True),
        5,
        ScenePictures(tmp_path / "png"),
        with_baselines=True,
    )
    results = evaluator.evaluate(Ledger(tmp_path / "eval.json"))
    pipeline.eval()
    expected: List[Row] = []
    for entry in manager.eval_table():
        active = manager.selector.open(entry)
        targets = manager.selector.targets_of(active)
        for view in (targets[0], targets[-1]):
            camera = active.scene.cameras[view : view + 1]
            render = pipeline.render(active, camera)["rgb"].clamp(0.0, 1.0)
            truth = manager.library.images.image(active.scene, view)
            mask = manager.library.images.mask(active.scene, view)[..., None]
            white = metrics.composite_on_white(render, mask), metrics.composite_on_white(truth, mask)
            row: Row = {
                "scene": entry.scene_id,
                "category": entry.category,
                "sources": list(active.sources),
                "file_name": active.scene.image_filenames[view].name,
                "view_index": view,
                "split_index": view,
                "step": 5,
                "num_rays_per_sec": None,
                "psnr": float(metrics.psnr(render, truth)),
                "ssim": float(metrics.ssim(render, truth)),
                "masked_psnr": float(metrics.masked_psnr(render, truth, mask)),
                "masked_ssim": float(metrics.ssim(*white)),
            }
            # The baselines are measured on whole images alone.
            for name, image in SourceBaselines(manager.selector, active).predict(camera, (16, 16)).items():
                row[f"baseline_{name}_psnr"] = float(metrics.psnr(image, truth))
            expected.append({**row, "fps": None})
            shown_png = np.asarray(Image.open(tmp_path / f"png/{entry.scene_id}/{view:06d}.png"))
            assert np.array_equal(shown_png, (render * 255.0).round().byte().numpy())
    found = read(tmp_path / "eval.jsonl")
    expect(found, expected)
    scenes = {row["scene"] for row in expected}
    assert len(scenes) == 2 and results["num_scenes"] == 2 and results["num_views"] == 4
    means = [
        {name: statistics.fmean([row[name] for row in expected if row["scene"] == scene]) for name in ("psnr", "ssim")}
        for scene in sorted(scenes)
    ]
    expect_averages(results, means, ("psnr", "ssim"))
    written = json.loads((tmp_path / "eval.json").read_text())
    assert written["complete"] is True and written["results"] == results
    assert written["metrics"] == ["psnr", "ssim"] and written["masks"] is True and written["step"] == 5

"""Evaluation view by view: rows at once, nothing twice, chosen views, sizes and masks, kept pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_ns.data.datasets.fewshot_dataset import OBJECT_MASK_KEY
from fewshot_ns.evaluation.baselines.trivial import trivial_baselines
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow, read_rows, summarize
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator, read_summary
from fewshot_ns.evaluation.runners.views import choose_views, dataset_views
from fewshot_ns.presentation.pictures import save_png
from fewshot_ns.presentation.view_pictures import RunPictures
from fewshot_ns.scripts.eval import EvalCommand


@pytest.fixture
def pipeline(tiny_dtu_scene, tiny_pipeline_config):
    """An untrained pipeline on a DTU scene with masks."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig

    config = tiny_pipeline_config(DTUDataParserConfig(data=tiny_dtu_scene))
    config.depth.enabled = False
    torch.manual_seed(0)
    return config.setup(device="cpu", test_mode="test").eval()


def evaluate(
    pipeline: Any,
    indices: Sequence[int],
    path: Path,
    key: str = "key",
    about: Optional[Dict[str, Any]] = None,
    dataset: Any = None,
    use_masks: bool = True,
    **options: Any,
) -> List[LedgerRow]:
    """Rows of test views, by PSNR alone, with baselines."""
    dataset = dataset or pipeline.datamanager.eval_dataset
    suite = MetricSuite(EvaluationConfig(metrics=("psnr",)))
    scene = EvaluatedScene(
        pipeline.model.get_outputs_for_camera,
        dataset_views(dataset, indices, use_masks),
        trivial_baselines(pipeline.datamanager.train_dataset),
    )
    evaluator = ViewEvaluator(suite, pipeline.device, 7, Ledger(path), **options)
    return evaluator.evaluate_and_record(scene, key, about or {})


def test_rows_are_those_of_ns_eval_and_hold_the_baselines(pipeline, tmp_path):
    rows = evaluate(pipeline, [0, 3], tmp_path / "eval.json", about={"about": 1})
    assert read_rows(tmp_path / "eval.jsonl") == rows
    pipeline.config.run_dir = tmp_path / "run"
    pipeline.get_average_eval_image_metrics()
    theirs = read_rows(next((tmp_path / "run/eval").glob("*.jsonl")))
    for row in rows:
        other = theirs[row.split_index]
        assert (row.file_name, row.view_index) == (other.file_name, other.view_index) and row.step == 7
        for name in ("psnr", "masked_psnr"):
            assert row.metrics[name] == pytest.approx(other.metrics[name], abs=1e-5)
            for baseline in ("mean_colour", "nearest_view"):
                assert 0.0 < (row.metrics[f"baseline_{baseline}_{name}"] or 0.0) < 60.0
    written = json.loads((tmp_path / "eval.json").read_text())
    assert written["complete"] and written["about"] == 1
    assert written["results"]["psnr"] == pytest.approx(summarize(rows)["psnr"].mean)


def test_what_is_done_is_not_done_again_and_other_keys_begin_anew(pipeline, tmp_path):
    path, seen = tmp_path / "eval.json", []

    def stop_after_two(row):
        seen.append(row.split_index)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(pipeline, [0, 1, 2, 3], path, on_row=stop_after_two)
    assert json.loads((tmp_path / "eval.json").read_text())["complete"] is False
    rows = evaluate(pipeline, [0, 1, 2, 3], path, on_row=lambda row: seen.append(row.split_index))
    assert seen == [0, 1, 2, 3] and [row.split_index for row in rows] == [0, 1, 2, 3]
    # Fewer views need no new work and are averaged alone.
    (row,) = evaluate(pipeline, [2], path, on_row=lambda row: seen.append(-1))
    assert -1 not in seen and json.loads((tmp_path / "eval.json").read_text())["results"]["psnr"] == row.metrics["psnr"]
    assert read_summary(tmp_path / "eval.json")["psnr"].count == 4
    assert read_summary(tmp_path / "eval.json", [row.view_index])["psnr"].mean == row.metrics["psnr"]
    with pytest.raises(ValueError, match="no row of the views \\[5\\]"):
        read_summary(tmp_path / "eval.json", [5])
    evaluate(pipeline, [1], path, "other")
    assert [row.split_index for row in read_rows(tmp_path / "eval.jsonl")] == [1]


def test_masks_can_be_left_out(pipeline, tmp_path):
    (row,) = evaluate(pipeline, [0], tmp_path / "e.json", use_masks=False)
    assert "psnr" in row.metrics and not any("masked" in name for name in row.metrics)


def test_pictures_of_some_views_are_kept(pipeline, tmp_path):
    first = evaluate(pipeline, [0, 1], tmp_path / "eval.json")
    seen, pictures = [], RunPictures(tmp_path / "views", [1])
    again = evaluate(pipeline, [0, 1], tmp_path / "eval.json", pictures=pictures, on_row=seen.append)
    # Rendered again, because its picture was not there; what was measured stays.
    assert seen == first[1:] and again == first == read_rows(tmp_path / "eval.jsonl")
    names = sorted(path.name for path in (tmp_path / "views").iterdir())
    assert names == ["view-0001-render.png", "view-0001-truth.png", "view-0001.npz"]
    truth = np.asarray(Image.open(tmp_path / "views/view-0001-truth.png")) / 255.0
    assert np.abs(truth - pipeline.datamanager.eval_dataset.get_image_float32(1).numpy()).max() < 0.01
    with np.load(tmp_path / "views/view-0001.npz") as arrays:
        assert arrays["depth"].shape == arrays["accumulation"].shape == truth.shape[:2]


def test_views_are_chosen_by_index_and_number():
    scene = (4, 8, 12, 16, 20)
    assert choose_views(scene, None, None) == [0, 1, 2, 3, 4]
    assert choose_views(scene, None, 3) == [0, 2, 4] and choose_views(scene, None, 9) == [0, 1, 2, 3, 4]
    assert choose_views(scene, (20, 8), None) == [4, 1] and choose_views(scene, (4, 8, 12), 1) == [0]
    with pytest.raises(ValueError, match="expected test views of the run \\(4, 8, 12, 16, 20\\), got \\[5\\]"):
        choose_views(scene, (5,), None)


def test_smaller_views_show_the_same_scene(pipeline, tmp_path):
    whole = pipeline.datamanager.eval_dataset
    assert whole.size_of(0) == (12, 16)
    assert EvalCommand(tmp_path, max_side=99)._dataset(pipeline) is whole  # Never enlarged.
    small: Any = EvalCommand(tmp_path, max_side=8)._dataset(pipeline)
    assert small.size_of(0) == (6, 8)
    pictures = RunPictures(tmp_path / "v", [0])
    (row,) = evaluate(pipeline, [0], tmp_path / "e.json", dataset=small, pictures=pictures)
    assert row.metrics["masked_psnr"] is not None
    assert Image.open(tmp_path / "v/view-0000-render.png").size == (8, 6)


def test_masks_may_come_from_another_folder(pipeline, tmp_path):
    dataset = pipeline.datamanager.eval_dataset
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[:, :8] = 255
    for place, (index, file) in enumerate(zip(dataset.fewshot.image_indices, dataset.image_filenames, strict=True)):
        # By the photo's name or by the view's index.
        save_png(mask, tmp_path / (f"{file.stem}.png" if place % 2 else f"{index:03d}.png"))
    command = EvalCommand(tmp_path, mask_dir=tmp_path)
    masked: Any = command._dataset(pipeline)
    for place in (0, 1):
        assert torch.equal(masked.get_data(place)[OBJECT_MASK_KEY][..., 0], torch.from_numpy(mask / 255.0).float())
    (tmp_path / f"{dataset.fewshot.image_indices[4]:03d}.png").unlink()
    with pytest.raises(FileNotFoundError, match="expected rect_.*_r5000.png or .* found none"):
        command._dataset(pipeline)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_side": 4}, "--max-side: expected at least 16, got 4"),
        ({"max_views": 0}, "--max-views: expected at least 1"),
        ({"output_path": Path("e.csv")}, "expected a file name ending in .json"),
        ({"masks": "none", "mask_dir": Path("m")}, "leave one of them out"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        EvalCommand(tmp_path, **flags).main()


def brighten(path: Path) -> None:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.int64)
    Image.fromarray((pixels // 2 + 90).astype(np.uint8)).save(path)


def test_a_photo_that_was_replaced_is_measured_again(pipeline, tmp_path, capsys):
    path, seen = tmp_path / "eval.json", []
    options: Dict[str, Any] = {"pictures": RunPictures(tmp_path / "views", [0, 1])}
    first = evaluate(pipeline, [0, 1], path, **options)
    assert all(row.measured_on for row in first) and first[0].measured_on != first[1].measured_on
    dataset = pipeline.datamanager.eval_dataset
    photo = Path(dataset.image_filenames[1])
    before = (tmp_path / "views/view-0001-truth.png").read_bytes()
    brighten(photo)
    fresh = type(dataset)(dataset._dataparser_outputs, dataset.scale_factor)
    again = evaluate(pipeline, [0, 1], path, dataset=fresh, on_row=lambda row: seen.append(row.split_index), **options)
    assert seen == [1] and again[0] == first[0] and again[1].metrics["psnr"] != first[1].metrics["psnr"]
    assert read_rows(tmp_path / "eval.jsonl") == again and "measured again" in capsys.readouterr().out
    assert (tmp_path / "views/view-0001-truth.png").read_bytes() != before
    assert evaluate(pipeline, [0, 1], path, dataset=fresh, on_row=lambda row: seen.append(-1)) == again and seen == [1]


def test_rows_of_earlier_versions_are_measured_again_and_that_is_said_once(pipeline, tmp_path, capsys):
    path, seen = tmp_path / "eval.json", []
    evaluate(pipeline, [0, 1], path)
    rows = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    for row in rows:
        del row["measured_on"]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.measured_on for row in read_rows(tmp_path / "eval.jsonl")] == [None, None]
    evaluate(pipeline, [0, 1], path, on_row=lambda row: seen.append(row.split_index))
    assert seen == [0, 1] and capsys.readouterr().out.count("of an earlier version") == 1

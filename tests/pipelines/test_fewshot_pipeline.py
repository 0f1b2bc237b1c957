"""The pipeline: loss terms of the prior, rows and averages of an evaluation, strict loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import cv2
import pytest
import torch

from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.engine.checks import NonFiniteLossError
from fewshot_ns.evaluation.records.ledger import ledger_path, read_rows
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipeline
from fewshot_ns.pretrained.weights import WEIGHTS_ENV
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No LPIPS weights anywhere, and random numbers that repeat."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)
    torch.manual_seed(0)


@pytest.fixture
def make_config(tiny_llff_scene: Path, tiny_pipeline_config: Any) -> Callable[..., Any]:
    """Function () -> tiny pipeline config on the tiny LLFF scene."""
    return lambda: tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))


@pytest.fixture
def pipeline(make_config: Any) -> FewShotPipeline:
    return make_config().setup(device="cpu", test_mode="val")


TERMS = {"rgb_loss", "proposal_loss", "occlusion_loss", "distortion_loss", "plane_smoothness_loss"}
DEPTH_TERMS = {"depth_ranking", "depth_continuity"}
PRIORS = (
    "occlusion",
    "distortion",
    "normals",
    "plane_smoothness",
    "depth",
    "smoothness",
    "semantic",
    "diffusion",
    "consistency",
    "edge_smoothness",
    "silhouette",
)
"""Names of the pipeline's priors in their order, in which they draw random numbers and their terms appear."""


def test_a_step_gives_one_entry_per_term(make_config: Any) -> None:
    config = make_config()
    config.occlusion.enabled = True
    assert config.distortion.enabled and config.plane_smoothness.enabled
    pipeline = config.setup(device="cpu", test_mode="val")
    outputs, losses, metrics = pipeline.get_train_loss_dict(0)
    assert set(losses) == TERMS | DEPTH_TERMS
    assert all(term.shape == () and term.isfinite() and term >= 0 for term in losses.values())
    assert outputs.rgb.shape == (64, 3) and metrics["psnr"].isfinite()
    # The backbone's own terms, then those of the priors in the order of the fields.
    own = [name for name in losses if name in ("rgb_loss", "proposal_loss")]
    of_priors = ["occlusion_loss", "distortion_loss", "plane_smoothness_loss", "depth_ranking", "depth_continuity"]
    assert list(losses) == [*own, *of_priors]
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for group in pipeline.get_param_groups().values() for p in group)


def test_depth_terms_between_start_and_stop(make_config: Any) -> None:
    config = make_config()
    config.depth.start_step, config.depth.stop_step = 3, 5
    pipeline = config.setup(device="cpu", test_mode="val")
    active = [DEPTH_TERMS <= set(pipeline.get_train_loss_dict(step)[1]) for step in range(7)]
    assert active == [False, False, False, True, True, False, False]


def test_resolved_values_name_every_prior_and_those_that_are_off_say_nothing(pipeline: FewShotPipeline) -> None:
    resolved = pipeline.resolved()
    assert list(resolved) == ["model", "batch", *PRIORS] and resolved["batch"] == {"rays": 64}
    assert resolved["depth"]["num_quads"] == 8
    off = set(PRIORS) - {"distortion", "plane_smoothness", "depth"}
    assert all(resolved[name] == {} for name in off)


def test_quads_stay_in_the_batch_where_the_terms_do_not_count(make_config: Any) -> None:
    """Their pixels serve the colour loss from the first step to the last, so batches do not depend on the schedule."""
    batches = []
    for start in (0, 5):
        config = make_config()
        config.depth.start_step = start
        torch.manual_seed(0)
        pipeline = config.setup(device="cpu", test_mode="val")
        torch.manual_seed(1)
        requests = pipeline.priors.requests(0, "pixels")
        assert list(requests) == ["depth"] and requests["depth"].pixels.shape == (32, 3)
        batch = pipeline.datamanager.next_train(0, list(requests.values()))[1]
        assert torch.equal(batch["indices"][:32], requests["depth"].pixels)
        batches.append(batch["indices"])
    assert torch.equal(*batches)


def test_without_the_prior_no_quads_are_drawn(make_config: Any, tiny_llff_scene: Path) -> None:
    shutil.rmtree(tiny_llff_scene / "depth_maps")
    config = make_config()
    config.depth.enabled = False
    pipeline = config.setup(device="cpu", test_mode="val")
    depth: Any = pipeline.priors.all["depth"]
    assert depth.quads is None and pipeline.priors.requests(0, "pixels") == {}
    assert not DEPTH_TERMS & set(pipeline.get_train_loss_dict(0)[1])


def test_prior_without_depth_maps_fails_before_training(make_config: Any, tiny_llff_scene: Path) -> None:
    shutil.rmtree(tiny_llff_scene / "depth_maps")
    config = make_config()
    config.depth.source = "files"
    with pytest.raises(ValueError, match="the depth prior is on, but .* has no depth maps") as caught:
        config.setup(device="cpu", test_mode="val")
    ways = ("--pipeline.depth.source stereo", "--pipeline.depth.source mvs", "--pipeline.depth.source mono")
    for way in (*ways, "ns-fewshot depth", "--depth-dir", "--pipeline.depth.enabled False"):
        assert way in str(caught.value)


def test_evaluation_of_a_trained_run_needs_no_depth_maps(make_config: Any, tiny_llff_scene: Path) -> None:
    shutil.rmtree(tiny_llff_scene / "depth_maps")
    assert make_config().setup(device="cpu", test_mode="test").priors.all["depth"].quads is None


def test_damaged_photo_fails_before_training(make_config: Any, tiny_llff_scene: Path) -> None:
    photo = tiny_llff_scene / "images_4" / "image000.png"
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(ValueError, match="image000.png"):
        make_config().setup(device="cpu", test_mode="val")


def test_a_term_that_is_not_finite_stops_the_step(pipeline: FewShotPipeline) -> None:
    with torch.no_grad():
        next(iter(pipeline.model.networks["field"].parameters())).fill_(float("nan"))  # type: ignore[index, union-attr]
    with pytest.raises(NonFiniteLossError, match="step 7.*rgb_loss"):
        pipeline.get_train_loss_dict(7)


def test_model_knows_where_the_cameras_look(pipeline: FewShotPipeline) -> None:
    model: Any = pipeline.model
    lower, upper = model.ray_bounds
    assert (lower < upper).all() and not torch.equal(lower, -torch.ones(3))
    assert model.focus_point.abs().max() > 0


def test_one_row_per_test_view(make_config: Any, tmp_path: Path) -> None:
    config = make_config()
    config.run_dir = tmp_path / "run"
    config.evaluation.metrics = ("psnr", "ssim")
    pipeline = config.setup(device="cpu", test_mode="test")
    averages = pipeline.get_average_eval_image_metrics(step=120, get_std=True)
    rows = read_rows(ledger_path(tmp_path / "run", 120))
    assert [path.name for path in (tmp_path / "run" / "eval").iterdir()] == ["step-000000120.jsonl"]
    # LLFF's rule: every eighth of twelve photos.
    assert [(row.file_name, row.view_index, row.split_index) for row in rows] == [
        ("image000.png", 0, 0),
        ("image008.png", 8, 1),
    ]
    assert all(row.step == 120 and row.num_rays_per_sec and row.num_rays_per_sec > 0 for row in rows)
    for name in ("psnr", "ssim"):
        values = [value for row in rows if (value := row.metrics[name]) is not None]
        assert len(values) == 2
        assert averages[name] == pytest.approx(sum(values) / 2)
        assert averages[f"{name}_std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    # The figures are those of the rendered image and the photo.
    camera, batch = next(iter(pipeline.datamanager.fixed_indices_eval_dataloader))
    rendered = pipeline.eval().model.get_outputs_for_camera(camera)["rgb"]
    error = torch.nn.functional.mse_loss(rendered, batch["image"])
    assert rows[0].metrics["psnr"] == pytest.approx(float(-10 * torch.log10(error)), rel=1e-4)


def test_masked_metrics_where_the_scene_has_masks(
    tiny_pipeline_config: Any, tiny_dtu_scene: Path, tmp_path: Path
) -> None:
    parser = DTUDataParserConfig(data=tiny_dtu_scene, depth_polarity="distance", test_indices=(1, 2))
    config = tiny_pipeline_config(parser)
    config.run_dir = tmp_path
    pipeline = config.setup(device="cpu", test_mode="test")
    averages = pipeline.get_average_eval_image_metrics(step=3)
    assert {"psnr", "masked_psnr"} <= set(averages)
    rows = read_rows(ledger_path(tmp_path, 3))
    assert [row.view_index for row in rows] == [1, 2]
    assert [row.file_name for row in rows] == ["rect_002_3_r5000.png", "rect_003_3_r5000.png"]


def test_metrics_without_weights_are_null_in_the_file_and_absent_while_training(
    make_config: Any, tmp_path: Path
) -> None:
    config = make_config()
    config.run_dir = tmp_path
    config.evaluation.metrics, config.evaluation.download_weights = ("psnr", "lpips"), False
    pipeline = config.setup(device="cpu", test_mode="val")
    # While training (a step is given) TensorBoard gets the averages, and cannot take a metric that is not there.
    assert "lpips" not in pipeline.get_average_eval_image_metrics(step=5)
    rows = [json.loads(line) for line in ledger_path(tmp_path, 5).read_text().splitlines()]
    assert all(row["lpips"] is None and row["psnr"] > 0 for row in rows)
    # ns-eval gives no step and writes JSON.
    averages = pipeline.get_average_eval_image_metrics()
    assert averages["lpips"] is None and averages["psnr"] > 0
    json.dumps(averages, allow_nan=False)
    metrics, images = pipeline.get_eval_image_metrics_and_images(step=5)
    assert "lpips" not in metrics and metrics["psnr"] > 0 and metrics["num_rays"] == 24 * 32
    assert set(images) == {"img", "accumulation", "depth"}


def test_evaluation_leaves_training_mode_on(pipeline: FewShotPipeline) -> None:
    pipeline.train()
    pipeline.get_average_eval_image_metrics(step=1)
    assert pipeline.model.training
    pipeline.get_eval_image_metrics_and_images(step=1)
    assert pipeline.model.training


def test_pictures_of_an_evaluation(pipeline: FewShotPipeline, tmp_path: Path) -> None:
    pipeline.get_average_eval_image_metrics(step=1, output_path=tmp_path / "pictures")
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len(names) == 2 * 3 and "eval_0001_img.png" in names, names
    assert cv2.imread(str(tmp_path / "pictures" / "eval_0000_img.png")).shape == (24, 64, 3)


def test_without_a_run_folder_nothing_is_written(pipeline: FewShotPipeline, tiny_llff_scene: Path) -> None:
    before = sorted(tiny_llff_scene.parent.rglob("*.jsonl"))
    assert pipeline.get_average_eval_image_metrics(step=1)["psnr"] > 0
    assert sorted(tiny_llff_scene.parent.rglob("*.jsonl")) == before


def test_a_checkpoint_comes_back(make_config: Any, tmp_path: Path) -> None:
    config = make_config()
    first = config.setup(device="cpu", test_mode="val")
    config = make_config()
    config.run_dir = tmp_path
    second = config.setup(device="cpu", test_mode="test")
    # Names as DistributedDataParallel saves them are accepted.
    second.load_pipeline({f"module.{key}": value for key, value in first.state_dict().items()}, step=77)
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
    assert second.model.step == 77 and second.loaded_step == 77
    # ns-eval names no step: the rows go to the step of the checkpoint.
    second.get_average_eval_image_metrics()
    assert ledger_path(tmp_path, 77).is_file()


def test_a_checkpoint_that_does_not_fit_is_refused(pipeline: FewShotPipeline) -> None:
    state = dict(pipeline.state_dict())
    key = "_model.networks.field.head.density.weight"
    assert key in state
    misshaped = {**state, key: torch.zeros(1, 3)}
    missing = {name: value for name, value in state.items() if name != key}
    for bad in (misshaped, missing, {**state, "_model.more": torch.zeros(1)}):
        with pytest.raises(CheckpointMismatchError, match="step 9"):
            pipeline.load_pipeline(bad, step=9)


def test_inference_mode_builds_no_test_set(make_config: Any) -> None:
    pipeline = make_config().setup(device="cpu", test_mode="inference")
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    assert pipeline.eval().model.get_outputs_for_camera(camera)["rgb"].shape == (24, 32, 3)

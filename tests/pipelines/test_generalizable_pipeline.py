"""The pipeline of generalizable models on a real, tiny pixelNeRF and a generated set."""

import json
import math
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.records.scene import SceneError


def trained_step(pipeline: Any, step: int = 0) -> float:
    pipeline.train()
    _, losses, metrics = pipeline.get_train_loss_dict(step)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert all(math.isfinite(float(value)) for value in (*losses.values(), *metrics.values()))
    return float(total)


def test_a_step_reaches_encoder_and_networks(tiny_pixelnerf: Callable[..., Any]):
    pipeline = tiny_pixelnerf().setup(device="cpu", test_mode="val")
    trained_step(pipeline)
    without = {name for name, value in pipeline.model.named_parameters() if value.requires_grad and value.grad is None}
    assert without == {"device_indicator_param"}


def test_evaluation_sees_the_active_scene_not_the_last_batch(tiny_pixelnerf: Callable[..., Any]):
    pipeline = tiny_pixelnerf().setup(device="cpu", test_mode="val")
    camera = pipeline.datamanager.eval_dataset.cameras[:1]
    pipeline.eval()
    before = pipeline.model.get_outputs_for_camera(camera)["rgb"]
    pipeline.train()
    with torch.no_grad():
        pipeline.get_train_loss_dict(0)
    # What the viewer does in between training steps; batch statistics have moved, weights have not.
    pipeline.model.eval()
    given = pipeline.model.sources.conditioning.images
    pipeline.model.get_outputs_for_camera(camera)
    active = pipeline.model.sources.conditioning.images
    assert given.shape[0] == 2 and active.shape[0] == 1
    expected = pipeline.datamanager.train_dataset.get_image_float32(0)
    torch.testing.assert_close(active[0, 0], expected)
    assert before.shape == (16, 16, 3)


@pytest.mark.parametrize("test_mode", ["test", "inference", "val"])
def test_a_loaded_pipeline_renders_its_scene(test_mode: str, tiny_pixelnerf: Callable[..., Any]):
    config = tiny_pixelnerf()
    trained = config.setup(device="cpu", test_mode="test")
    state = {
        name: value.clone() + 0.01 * torch.rand_like(value.float())
        for name, value in trained.state_dict().items()
        if value.is_floating_point()
    }
    state = {**trained.state_dict(), **state}
    trained.load_state_dict(state)
    pipeline = config.setup(device="cpu", test_mode=test_mode)
    pipeline.eval()
    pipeline.load_pipeline(state, 7)
    active = pipeline.datamanager.active
    trained.eval()
    trained.render_scene(active)
    camera = active.scene.cameras[1:2]
    torch.testing.assert_close(*(each.model.get_outputs_for_camera(camera)["rgb"] for each in (pipeline, trained)))


def test_copies_of_a_model_leave_the_data_where_it_is(tiny_pixelnerf: Callable[..., Any]):
    """A deep copy asks the same datamanager for source views; a pickled model has none, a state dict neither."""
    pipeline = tiny_pixelnerf().setup(device="cpu", test_mode="test").eval()
    provider, camera = pipeline.datamanager.provider, pipeline.datamanager.provider.camera(1)
    assert pipeline.model.sources_from is provider
    copied = deepcopy(pipeline.model)
    assert copied.sources_from is provider and copied.kwargs["metadata"] is not pipeline.model.kwargs["metadata"]
    for model in (pipeline.model, copied):
        torch.manual_seed(0)
        model.rendered = model.get_outputs_for_camera(camera)["rgb"]
    assert torch.equal(pipeline.model.rendered, copied.rendered)
    loaded = pickle.loads(pickle.dumps(pipeline.model))
    assert loaded.sources_from is None and loaded.kwargs["metadata"]["source_provider"] is None
    assert loaded.state_dict().keys() == pipeline.model.state_dict().keys()
    assert not any("source" in name for name in loaded.state_dict())


def test_nearest_sources_follow_the_camera(tiny_pixelnerf: Callable[..., Any]):
    config = tiny_pixelnerf()
    config.datamanager.sources.mode, config.datamanager.sources.count = "nearest", 2
    pipeline = config.setup(device="cpu", test_mode="test")
    pipeline.eval()
    scene, seen = pipeline.datamanager.active.scene, set()
    for view in range(5):
        pipeline.model.get_outputs_for_camera(scene.cameras[view : view + 1])
        name, sources = pipeline.model.conditioned_on
        assert view not in sources and len(sources) == 2
        poses = pipeline.model.sources.conditioning.camera_to_worlds[0]
        torch.testing.assert_close(poses, scene.cameras.camera_to_worlds[list(sources)])
        seen.add(sources)
    assert len(seen) > 1


def test_evaluation_over_scenes_is_taken_up_again(tiny_pixelnerf: Callable[..., Any], tmp_path: Path):
    config = tiny_pixelnerf()
    config.run_dir = tmp_path
    pipeline = config.setup(device="cpu", test_mode="test")
    rendered = []
    original = pipeline.render
    pipeline.render = lambda active, camera: rendered.append(active.scene.entry.scene_id) or original(active, camera)
    results = pipeline.get_average_eval_image_metrics(output_path=tmp_path / "png", get_std=True)
    record = tmp_path / "eval" / "scenes-step-000000000.json"
    rows = [json.loads(line) for line in record.with_suffix(".jsonl").read_text().splitlines()]
    assert results["num_scenes"] == 2 and results["num_views"] == len(rows) == 8 and len(rendered) == 8
    # Each object counts the same, whatever the number of its views.
    by_object = {name: [row["psnr"] for row in rows if row["scene"] == name] for name in {row["scene"] for row in rows}}
    means = [sum(values) / len(values) for values in by_object.values()]
    assert results["psnr"] == pytest.approx(sum(means) / 2)
    assert json.loads(record.read_text())["complete"] and "psnr:" in record.with_suffix(".txt").read_text()
    names = {path.relative_to(tmp_path / "png").as_posix() for path in (tmp_path / "png").rglob("*.png")}
    assert {f"{row['scene']}/{row['view_index']:06d}.png" for row in rows} <= names
    assert all(row["view_index"] not in row["sources"] for row in rows)

    # Interrupted in the middle of a line.
    lines = record.with_suffix(".jsonl").read_text().splitlines(keepends=True)
    record.with_suffix(".jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    rendered.clear()
    again = pipeline.get_average_eval_image_metrics(get_std=True)
    assert len(rendered) == 3 and again["psnr"] == pytest.approx(results["psnr"])

    # Other weights: nothing of it counts.
    rendered.clear()
    with torch.no_grad():
        next(pipeline.model.mlp_fine.parameters()).add_(0.5)
    pipeline.get_average_eval_image_metrics()
    assert len(rendered) == 8


def test_fewer_scenes_and_views(tiny_pixelnerf: Callable[..., Any]):
    config = tiny_pixelnerf()
    config.scene_evaluation.max_views = 2
    pipeline = config.setup(device="cpu", test_mode="test")
    assert pipeline.get_average_eval_image_metrics()["num_views"] == 4
    config.scene_evaluation.approximate = True
    assert pipeline.get_average_eval_image_metrics()["num_views"] == 2
    config.scene_evaluation.max_scenes = 1
    assert pipeline.get_average_eval_image_metrics()["num_scenes"] == 1


def test_a_bad_scene_in_an_evaluation(tiny_pixelnerf: Callable[..., Any], tiny_solids: Path, tmp_path: Path):
    config = tiny_pixelnerf(copy_to=tmp_path / "set")
    folder = sorted((tmp_path / "set" / "solids_test").glob("*_*/"))[1]
    (folder / "rgb" / "000003.png").write_bytes(b"no image")
    pipeline = config.setup(device="cpu", test_mode="test")
    with pytest.raises(SceneError, match=rf"scene {folder.name}: .*000003\.png"):
        pipeline.get_average_eval_image_metrics()
    pipeline.datamanager.bad_scenes.policy = "skip"
    results = pipeline.get_average_eval_image_metrics()
    assert results["num_scenes"] == 1 and list(pipeline.datamanager.bad_scenes.reasons) == [folder.name]


def cut(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-40])


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_will_be_evaluated_is_read_before_training(
    split: str, tiny_pixelnerf: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture
):
    """What is not found then would end the run hours later, at an evaluation or after the last step."""
    config = tiny_pixelnerf(copy_to=tmp_path / "set")
    config.datamanager.sources.mode, config.datamanager.sources.views = "views", (0,)
    folders = sorted((tmp_path / "set" / f"solids_{split}").glob("*_*/"))
    photo = folders[-1] / "rgb" / "000003.png"
    cut(photo)
    with pytest.raises(SceneError, match=rf"scene {folders[-1].name}: .*000003\.png"):
        config.setup(device="cpu", test_mode="val")
    # Evaluations of single views, which are of validation scenes, do not heed how many all together take.
    config.scene_evaluation.max_views = 2
    if split == "test":
        config.setup(device="cpu", test_mode="val")
    else:
        with pytest.raises(SceneError, match=r"000003\.png"):
            config.setup(device="cpu", test_mode="val")
    config.scene_evaluation.max_views = None
    config.setup(device="cpu", test_mode="test")
    config.scene_evaluation.check_files = False
    config.setup(device="cpu", test_mode="val")
    config.scene_evaluation.check_files = True
    config.datamanager.on_bad_scene = "skip"
    if len(folders) > 1:
        pipeline = config.setup(device="cpu", test_mode="val")
        # It is named, and left out by evaluations, not by the training that may know it too.
        assert "evaluations will leave it out" in " ".join(capsys.readouterr().out.split())
        assert not pipeline.datamanager.bad_scenes.reasons
        trained_step(pipeline)
    for folder in folders:
        cut(folder / "rgb" / "000004.png")
    with pytest.raises(
        SceneError, match=rf"expected a usable scene to evaluate, found none of {len(folders)}; .*00000"
    ):
        config.setup(device="cpu", test_mode="val")


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_views_of_a_single_scene_are_read_before_training(
    split: str, tiny_pixelnerf: Callable[..., Any], make_blender_scene: Any, tmp_path: Path
):
    make_blender_scene(tmp_path / "lego")
    config = tiny_pixelnerf()
    config.datamanager.data = tmp_path / "lego"
    config.datamanager.dataparser = FewShotBlenderDataParserConfig(data=tmp_path / "lego", testskip=1)
    config.datamanager.scenes_per_batch = 1
    trained_step(config.setup(device="cpu", test_mode="val"))
    photo = sorted((tmp_path / "lego" / split).glob("*.png"))[-1]
    cut(photo)
    with pytest.raises(SceneError, match=f"scene lego: .*{split}/{photo.name}"):
        config.setup(device="cpu", test_mode="val")


@pytest.mark.parametrize("damaged", ["pose/000002.txt", "rgb/000000.png"])
def test_a_bad_active_scene(damaged: str, tiny_pixelnerf: Callable[..., Any], tmp_path: Path):
    """Where bad scenes are skipped, the next one takes its place, but never that of a scene that was named."""
    config = tiny_pixelnerf(copy_to=tmp_path / "set")
    config.datamanager.sources.mode, config.datamanager.sources.views = "views", (0,)
    first, second = sorted(path.name for path in (tmp_path / "set" / "solids_test").glob("*_*/"))
    (tmp_path / "set" / "solids_test" / first / damaged).write_bytes(b"no")
    with pytest.raises(SceneError, match=rf"scene {first}: .*{Path(damaged).name}.*on-bad-scene skip"):
        config.setup(device="cpu", test_mode="test")
    config.datamanager.on_bad_scene = "skip"
    pipeline = config.setup(device="cpu", test_mode="test")
    assert pipeline.datamanager.active.scene.entry.scene_id == second
    bad = pipeline.datamanager.bad_scenes
    assert list(bad.reasons) == [first]
    bad.record_in(tmp_path / "bad_scenes.json")
    assert json.loads((tmp_path / "bad_scenes.json").read_text()) == {"count": 1, "reasons": bad.reasons}
    config.datamanager.dataparser.scene = first
    with pytest.raises(SceneError, match=Path(damaged).name):
        config.setup(device="cpu", test_mode="test")
    config.datamanager.dataparser.scene = None
    (tmp_path / "set" / "solids_test" / second / damaged).write_bytes(b"no")
    with pytest.raises(SceneError, match=r"expected a usable scene, found none of 2; the first: "):
        config.setup(device="cpu", test_mode="test")


def test_panel_of_an_evaluated_view(tiny_pixelnerf: Callable[..., Any]):
    config = tiny_pixelnerf()
    config.datamanager.sources.count = 2
    pipeline = config.setup(device="cpu", test_mode="val")
    metrics, images = pipeline.get_eval_image_metrics_and_images(3)
    assert math.isfinite(metrics["psnr"]) and metrics["num_rays"] == 256
    assert images["panel"].shape == (2 * 16, 6 * 16, 3) and pipeline.training


def test_activating_a_scene_leaves_all_as_it_was_where_it_fails(tiny_pixelnerf: Callable[..., Any], tmp_path: Path):
    config = tiny_pixelnerf(copy_to=tmp_path / "set")
    pipeline = config.setup(device="cpu", test_mode="test")
    pipeline.eval()
    manager = pipeline.datamanager
    before = manager.active
    other = next(name for name in manager.scene_names() if name != before.scene.entry.scene_id)
    active = manager.selector.open(manager.library.find(other, "test"))
    image = active.scene.image_filenames[active.sources[0]]
    content = image.read_bytes()
    image.write_bytes(b"no image")
    with pytest.raises(SceneError, match=image.name):
        pipeline.activate(active)
    assert manager.active is before
    image.write_bytes(content)
    pipeline.activate(active)
    assert manager.train_dataset.image_filenames == [image] and len(manager.fixed_indices_eval_dataloader) == 4


def test_priors_of_single_scenes_are_refused(tiny_pixelnerf: Callable[..., Any]):
    config = tiny_pixelnerf()
    config.depth.enabled = True
    with pytest.raises(ValueError, match="pipeline.depth.enabled"):
        config.setup(device="cpu", test_mode="val")
    config.depth.enabled, config.semantic.enabled = False, True
    with pytest.raises(ValueError, match=r"one scene to train on, found \d"):
        config.setup(device="cpu", test_mode="val")


def test_one_scene_of_a_single_scene_parser(tiny_pixelnerf: Callable[..., Any], tiny_llff_scene: Path):
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig

    config = tiny_pixelnerf()
    manager = config.datamanager
    manager.data, manager.dataparser = None, LLFFDataParserConfig(data=tiny_llff_scene, ray_space="metric")
    manager.num_sources = (2,)
    pipeline = config.setup(device="cpu", test_mode="val")
    trained_step(pipeline)
    batch = pipeline.datamanager.next_train(1)[1]
    scene = pipeline.datamanager.active.scene
    trained = {scene.view_indices[int(view)] for view in batch["indices"][:, 0]}
    # The protocol's test views are neither trained on nor looked at.
    record = pipeline.datamanager.train_dataset.fewshot
    assert trained <= set(record.train_indices)
    assert not trained & set(record.test_indices)
    results = pipeline.get_average_eval_image_metrics()
    assert math.isfinite(results["psnr"]) and "num_scenes" not in results


def test_ndc_is_refused_with_the_way_out(tiny_pixelnerf: Callable[..., Any], tiny_llff_scene: Path):
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig

    config = tiny_pixelnerf()
    config.datamanager.data, config.datamanager.dataparser = None, LLFFDataParserConfig(data=tiny_llff_scene)
    with pytest.raises(SceneError, match="--ray-space metric"):
        config.setup(device="cpu", test_mode="val")


def test_semantic_term_on_one_scene(
    tiny_pixelnerf: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """DietPixelNeRF: fine-tuning from generic weights, unseen views of the scene look like its photos."""
    from torchvision import models

    from fewshot_ns.pretrained.encoders.config import EncoderConfig

    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    config = tiny_pixelnerf()
    generic = config.setup(device="cpu", test_mode="test")
    torch.save({"step": 3, "pipeline": generic.state_dict()}, tmp_path / "generic.ckpt")
    weights = tmp_path / "squeezenet1_1.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), weights)
    config.initial_weights = tmp_path / "generic.ckpt"
    config.datamanager.scenes, config.datamanager.train_on_sources_only = ("chair_0006",), True
    config.datamanager.sources.mode, config.datamanager.sources.views = "views", (0, 2, 3)
    config.semantic.enabled, config.semantic.interval, config.semantic.views.grid_size = True, 2, 6
    config.semantic.encoder = EncoderConfig("torchvision", "squeezenet1_1", weights=weights, output="projected")
    pipeline = config.setup(device="cpu", test_mode="val")
    for name, value in generic.model.mlp_fine.state_dict().items():
        assert torch.equal(value, pipeline.model.mlp_fine.state_dict()[name]), name
    pipeline.train()
    _, without, _ = pipeline.get_train_loss_dict(0)
    _, losses, _ = pipeline.get_train_loss_dict(1)
    assert set(losses) - set(without) == {"semantic", "semantic_coarse"}
    (losses["semantic"] + losses["semantic_coarse"]).backward()
    gradients = [value.grad for value in pipeline.model.encoder.parameters() if value.grad is not None]
    assert gradients and any(float(gradient.abs().max()) > 0 for gradient in gradients)
    assert set(pipeline.datamanager.next_train(2)[1]["indices"][:, 0].tolist()) <= {0, 2, 3}

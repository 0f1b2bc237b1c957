"""Points that a backbone starts from: which source is taken, what is refused, what the run and its results say."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from documented_code import page_module
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.data.stereo.estimate import StereoConfig
from fewshot_ns.evaluation.records.initial_points import initial_points_words, read_initial_points
from fewshot_ns.pipelines import fewshot_pipeline
from fewshot_ns.pipelines.initial_points import InitialPointsConfig, make_initial_points
from fewshot_ns.scripts.eval import EvalCommand
from fewshot_ns.utils.cache import CACHE_ENV

FLAG = "--pipeline.initial-points"
PLANE = -4.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))


@pytest.fixture
def photos(make_llff_scene: Any, tmp_path: Path) -> Path:
    """Folder of a scene of 64x48 photos that can be matched, without depth maps."""
    folder = make_llff_scene(tmp_path / "scene", size=(48, 64), detailed=True)
    shutil.rmtree(folder / "depth_maps")
    return folder


def dataset_of(scene: Path, **flags: Any) -> FewShotDataset:
    parser = LLFFDataParserConfig(data=scene, ray_space="metric", **flags).setup()
    return FewShotDataset(parser.get_dataparser_outputs("train"))


def made(dataset: FewShotDataset, scene: Path, **fields: Any) -> SeedCloud:
    config = InitialPointsConfig(**{"stereo": StereoConfig(device="cpu"), **fields})
    return make_initial_points(config, dataset, scene, FLAG, 0)


def off_plane(dataset: FewShotDataset, cloud: SeedCloud) -> torch.Tensor:
    """(P,) distance to the plane that the photos show, as a fraction of the cameras' distance to it."""
    transform = dataset.file_to_world
    points = (cloud.positions / dataset.world_scale - transform[:, 3]) @ transform[:, :3]
    return (points[:, 2] - PLANE).abs() / -PLANE


def test_auto_takes_the_scenes_own_maps(tiny_rgbd_scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = RGBDDataParserConfig(data=tiny_rgbd_scene).setup()
    dataset = FewShotDataset(parser.get_dataparser_outputs("train"))
    cloud = made(dataset, tiny_rgbd_scene)
    assert cloud.kind == "files" and off_plane(dataset, cloud).max() < 1e-3 and cloud.confirmed.all()
    said = " ".join(capsys.readouterr().out.split())
    assert f"initial points: files: {len(cloud)} points from views" in said and "100% measured" in said


def test_maps_without_depth_where_photos_train_are_no_start(
    tiny_rgbd_scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = FewShotDataset(RGBDDataParserConfig(data=tiny_rgbd_scene).setup().get_dataparser_outputs("train"))
    real = dataset.metric_depth

    def emptied(view: int) -> Any:
        found = real(view)
        return replace(found, valid=np.zeros_like(found.valid))

    monkeypatch.setattr(dataset, "metric_depth", emptied)
    with pytest.raises(ValueError, match=f"{FLAG}.source files: the scene's depth maps have no depth .* Ways out: "):
        made(dataset, tiny_rgbd_scene, source="files")
    cloud = made(dataset, tiny_rgbd_scene)
    assert cloud.kind != "files" and len(cloud) > 0
    assert "the scene's depth maps have no depth where the photos train" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("field", ["stride", "num_random", "max_points"])
def test_numbers_below_one_are_refused_with_their_flag(field: str, photos: Path) -> None:
    with pytest.raises(ValueError, match=f"{FLAG}.{field.replace('_', '-')}: expected at least 1, got 0"):
        made(dataset_of(photos), photos, **{field: 0})


def test_auto_takes_the_photos_depth_else(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = dataset_of(photos)
    cloud = made(dataset, photos)
    assert cloud.kind == "stereo" and len(cloud) > 500
    assert off_plane(dataset, cloud).median() < 0.01
    assert "the scene has no depth maps, so the photos' own depth is taken" in " ".join(capsys.readouterr().out.split())
    # Relative maps of unknown scale are no depth to start from.
    assert dataset.fewshot.depth_prior_filenames is None
    filled = made(dataset, photos, unconfirmed="fill")
    assert len(filled) > len(cloud) and filled.confirmed.sum() == len(cloud)
    coarse = made(dataset, photos, stride=2, max_points=100)
    assert len(coarse) == 100


def test_auto_draws_points_where_the_photos_say_nothing(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart = dataset_of(photos)
    for view, angle in enumerate(torch.tensor([0.0, 2.1, 4.2])):  # no two look at the same things
        turn = torch.tensor([[angle.cos(), 0.0, angle.sin()], [0.0, 1.0, 0.0], [-angle.sin(), 0.0, angle.cos()]])
        apart.cameras.camera_to_worlds[view, :, :3] = turn
    cloud = made(apart, photos, num_random=50)
    assert (cloud.kind, len(cloud)) == ("random", 50)
    assert "Points are drawn at random where the cameras look" in " ".join(capsys.readouterr().out.split())
    dataset = dataset_of(photos)
    strict = StereoConfig(device="cpu", max_cost=0.0)
    assert made(dataset, photos, num_random=50, stereo=strict).kind == "random"
    said = " ".join(capsys.readouterr().out.split())
    assert "the photos say too little of it: 0 points, 0.0% of the pixels have a depth" in said
    # Asked for by name, nothing else is taken.
    with pytest.raises(ValueError, match=rf"{FLAG}.source stereo: found no depth .* {FLAG}.source random"):
        made(dataset, photos, source="stereo", stereo=strict)
    with pytest.raises(ValueError, match=rf"{FLAG}.source stereo: .*Ways out: {FLAG}.source random"):
        made(apart, photos, source="stereo")


def test_files_need_a_scale(tiny_llff_scene: Path, photos: Path) -> None:
    with pytest.raises(ValueError, match=rf"source files: the maps in .*have no known scale. Ways out: {FLAG}.source"):
        made(dataset_of(tiny_llff_scene), tiny_llff_scene, source="files")
    with pytest.raises(ValueError, match="source files: the scene has no depth maps"):
        made(dataset_of(photos), photos, source="files")
    with pytest.raises(ValueError, match=rf"{FLAG}.max-points: expected at least 1, got 0"):
        made(dataset_of(photos), photos, max_points=0)


def write_points(scene: Path) -> np.ndarray:
    """points3D.bin alone, as LLFF keeps it, in the frame of poses_bounds.npy."""
    points = np.random.default_rng(0).uniform([-0.3, -0.3, -4.4], [0.3, 0.3, -3.6], (40, 3))
    entries = {
        number + 1: colmap.Point3D(
            number + 1, point, np.array([255, 0, 51]), np.array(0.5), np.arange(1, 13), np.zeros(12, dtype=int)
        )
        for number, point in enumerate(points)
    }
    (scene / "sparse" / "0").mkdir(parents=True)
    colmap.write_points3D_binary(entries, str(scene / "sparse" / "0" / "points3D.bin"))
    return points


def test_a_cloud_of_all_views_is_refused(photos: Path) -> None:
    with pytest.raises(ValueError, match=rf"expected COLMAP's points3D with images .*{FLAG}.colmap-dir.*found none"):
        made(dataset_of(photos), photos, source="colmap")
    points = write_points(photos)
    dataset = dataset_of(photos)
    words = "made from all views of the scene, also those that it is tested on"
    with pytest.raises(ValueError, match=rf"points3D.bin: 40 points.*{words}.*{FLAG}.allow-all-views True"):
        made(dataset, photos, source="colmap")
    cloud = made(dataset, photos, source="colmap", allow_all_views=True)
    assert cloud.source == f"colmap: 40 points {words}" and cloud.views == ()
    transform = dataset.file_to_world.double().numpy()
    world = dataset.world_scale * (points @ transform[:, :3].T + transform[:, 3])
    np.testing.assert_allclose(cloud.positions, world, atol=1e-5)
    torch.testing.assert_close(cloud.colours[0], torch.tensor([1.0, 0.0, 0.2]))
    assert (cloud.radii > 0).all() and cloud.radii.isfinite().all() and (cloud.view >= 0).any()


# ---- through the trainer


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ModuleType]:
    with page_module("add_a_method.md", tmp_path) as module:
        yield module


@pytest.fixture
def method(page: ModuleType, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The blobs of the page as a method that starts from points, one blob each."""

    class BlobsOnPoints(page.BlobModel):
        wants_initial_points = True

        def populate_modules(self) -> None:
            cloud = self.kwargs["initial_points"]
            if cloud is None:
                self.kwargs["seed_points"] = (torch.zeros(1, 3), torch.zeros(1, 3))
            else:
                self.kwargs["seed_points"] = (cloud.positions, 255.0 * cloud.colours)
            super().populate_modules()

    config: Any = deepcopy(page.blobs)
    config.pipeline.model._target = BlobsOnPoints
    pipeline = config.pipeline
    pipeline.datamanager.dataparser = LLFFDataParserConfig(data=photos, ray_space="metric")
    pipeline.datamanager.whole_images, pipeline.model.size, pipeline.evaluation.metrics = True, 0.05, ("psnr",)
    pipeline.initial_points.max_points, pipeline.initial_points.stereo.device = 60, "cpu"
    config.output_dir, config.experiment_name, config.timestamp = tmp_path / "runs", "tiny", "run"
    config.vis, config.machine.device_type, config.max_num_iterations = "tensorboard", "cpu", 2
    return config


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> List[SeedCloud]:
    """Clouds that pipelines have made."""
    found: List[SeedCloud] = []
    real = fewshot_pipeline.make_initial_points

    def recorded(*arguments: Any) -> SeedCloud:
        found.append(real(*arguments))
        return found[-1]

    monkeypatch.setattr(fewshot_pipeline, "make_initial_points", recorded)
    return found


def train(config: Any) -> Any:
    torch.manual_seed(0)
    trainer = config.setup()
    trainer.setup()
    trainer.train()
    return trainer


def test_a_run_starts_from_points_and_says_so(method: Any, asked: List[SeedCloud], photos: Path) -> None:
    method.pipeline.depth.enabled, method.pipeline.depth.source, method.pipeline.depth.loss = True, "stereo", "l2"
    method.pipeline.depth.stereo.device = "cpu"
    trainer = train(method)
    (cloud,) = asked
    assert len(cloud) == 60 == len(trainer.pipeline.model.blobs["means"])
    assert type(trainer.pipeline.config.model) is type(method.pipeline.model)
    record = json.loads((trainer.base_dir / "resolved.json").read_text())["initial_points"]
    names = [path.name for path in trainer.pipeline.datamanager.train_dataset.image_filenames]
    assert record["source"] == f"stereo: 60 points from views {', '.join(names)}" and record["views"] == names
    assert record["points"] == 60 and record["confirmed"] == 1.0 and record["cpu_seconds"] >= 0
    assert initial_points_words(trainer.base_dir) == {"initial_points": record["source"]}

    # What renders from the checkpoint makes none.
    method.load_dir = trainer.checkpoint_dir
    for mode in ("test", "inference"):
        pipeline = method.pipeline.setup(device="cpu", test_mode=mode)
        assert pipeline.model.kwargs["initial_points"] is None and len(asked) == 1
    # A resumed run neither, but keeps the record, also in another folder.
    again = deepcopy(method)
    again.timestamp, again.max_num_iterations = "again", 4
    resumed = train(again)
    assert len(asked) == 1 and len(resumed.pipeline.model.blobs["means"]) == 60
    assert read_initial_points(resumed.base_dir) == record


def test_initial_weights_bring_their_record(method: Any, asked: List[SeedCloud], tmp_path: Path) -> None:
    method.pipeline.initial_points.source = "random"
    first = train(method)
    (weights,) = first.checkpoint_dir.glob("*.ckpt")
    second = deepcopy(method)
    second.timestamp, second.pipeline.initial_weights = "second", weights
    second.pipeline.initial_points.source, second.pipeline.initial_points.max_points = "stereo", 60
    found = train(second)
    assert len(asked) == 1 and len(found.pipeline.model.blobs["means"]) == 60
    assert read_initial_points(found.base_dir) == read_initial_points(first.base_dir)
    # Alone in a folder nothing says where they come from, and the result says that.
    alone = tmp_path / "alone" / "models" / weights.name
    alone.parent.mkdir(parents=True)
    shutil.copy(weights, alone)
    second.timestamp, second.pipeline.initial_weights = "third", alone
    said = initial_points_words(train(second).base_dir)["initial_points"]
    assert said.startswith("unknown: ") and weights.name in said and len(asked) == 1


def test_the_same_run_has_the_same_points(method: Any, asked: List[SeedCloud]) -> None:
    method.pipeline.initial_points.source = "random"
    for _ in range(2):
        torch.manual_seed(3)
        method.pipeline.setup(device="cpu", test_mode="val")
    torch.manual_seed(4)
    method.pipeline.setup(device="cpu", test_mode="val")
    first, again, other = (cloud.positions for cloud in asked)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_others_have_none(method: Any, page: ModuleType, asked: List[SeedCloud]) -> None:
    method.pipeline.model._target = page.BlobModel
    pipeline = method.pipeline.setup(device="cpu", test_mode="val")
    assert not asked and "initial_points" not in pipeline.model.kwargs and "initial_points" not in pipeline.resolved()


def test_an_evaluation_says_what_the_run_started_from(
    method: Any, page: ModuleType, asked: List[SeedCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = train(method)
    # What config.yml names has to be importable, and nerfstudio looks the method up.
    monkeypatch.setitem(nerfstudio.configs.method_configs.all_methods, "blobs", method)
    monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", f"blobs={page.__name__}:blobs")
    target = method.pipeline.model._target
    target.__module__ = page.__name__
    target.__name__ = target.__qualname__ = "BlobModel"
    monkeypatch.setattr(page, "BlobModel", target)
    method.save_config()
    output = trainer.base_dir / "eval.json"
    EvalCommand(trainer.base_dir / "config.yml", output).main()
    assert json.loads(output.read_text())["initial_points"] == asked[0].source and len(asked) == 1

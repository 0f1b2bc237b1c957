"""Splats through the real pipeline and trainer: what a scene decides, resuming, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from colmap_models import Lens, write_spheres
from torch import Tensor

from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot
from fewshot_ns.configs.sparse_splatfacto import sparse_splatfacto
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.utils.cache import CACHE_ENV
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, DamagedCheckpointError

STEPS = 14


@pytest.fixture
def method(tiny_rgbd_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """sparse-splatfacto on a tiny capture, with densification after 4, 8 and 12 steps, dropout and decay."""
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    config: Any = deepcopy(sparse_splatfacto)
    pipeline = config.pipeline
    pipeline.datamanager.dataparser = RGBDDataParserConfig(data=tiny_rgbd_scene)
    pipeline.initial_points.stride, pipeline.evaluation.metrics = 4, ("psnr",)
    pipeline.model.sh_degree_interval = 3
    pipeline.model.dropout_start_step, pipeline.model.dropout_ramp_steps = 1, 4
    pipeline.model.decay_start_step = 2
    pipeline.model.densification = DensificationConfig(start_step=3, every=4, gradient=1e-5, stop_fraction=1.0)
    config.output_dir, config.experiment_name, config.timestamp = tmp_path / "runs", "tiny", "run"
    config.vis, config.machine.device_type, config.max_num_iterations = "tensorboard", "cpu", STEPS
    config.steps_per_eval_image = config.steps_per_eval_batch = 0
    return config


def trained(config: Any) -> Any:
    torch.manual_seed(0)
    trainer = config.setup()
    trainer.setup()
    trainer.train()
    return trainer


def tensors_of(state: Any, name: str = "") -> Dict[str, Tensor]:
    """All tensors of nested state, by their paths."""
    if isinstance(state, Tensor):
        return {name: state}
    items = enumerate(state) if isinstance(state, list) else state.items() if isinstance(state, dict) else ()
    return {path: value for key, part in items for path, value in tensors_of(part, f"{name}/{key}").items()}


@pytest.mark.parametrize("prior", [None, "depth"])
def test_a_resumed_run_is_bit_equal(prior: Any, method: Any) -> None:
    method.steps_per_save, method.save_only_latest_checkpoint = 1, False
    if prior is not None:
        # Pixels of all views besides the image.
        method.pipeline.depth.enabled, method.pipeline.depth.loss = True, "ranking"
        method.pipeline.depth.num_quads = 16
    whole = trained(deepcopy(method))
    expected = torch.load(whole.checkpoint_dir / f"step-{STEPS - 1:09d}.ckpt", weights_only=True)
    number = len(expected["pipeline"]["_model.gauss_params.means"])
    assert number > json.loads((whole.base_dir / "resolved.json").read_text())["model"]["gaussians"]
    # Right before and after a densification, and in the middle between two.
    for step in (2, 5, 6, 7):
        saved = torch.load(whole.checkpoint_dir / f"step-{step:09d}.ckpt", weights_only=True)
        counted = saved["pipeline"]["_model.count"]
        assert len(counted) == len(saved["pipeline"]["_model.gauss_params.means"])
        assert bool(counted.any()) == (step != 7)
        again = deepcopy(method)
        again.load_dir, again.load_step, again.timestamp = whole.checkpoint_dir, step, f"from-{step}"
        again.steps_per_save = 100
        resumed = trained(again)
        found = torch.load(resumed.checkpoint_dir / f"step-{STEPS - 1:09d}.ckpt", weights_only=True)
        first, second = tensors_of(expected), tensors_of(found)
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
        assert expected["schedulers"] == found["schedulers"]


def test_a_resumed_run_keeps_the_unit_of_its_positions_with_new_schedules(method: Any) -> None:
    method.pipeline.model.position_unit, method.optimizers["means"]["optimizer"].lr = "pixel", 0.1
    method.max_num_iterations = 3
    first = trained(deepcopy(method))
    unit = float(first.pipeline.model.pixel_size)
    assert 0 < unit < 0.5 and first.optimizers.schedulers["means"].base_lrs == [pytest.approx(0.1 * unit)]
    for keeps in (True, False):
        again = deepcopy(method)
        again.load_dir, again.timestamp, again.load_scheduler = first.checkpoint_dir, f"again-{keeps}", keeps
        again.max_num_iterations = 5
        resumed = trained(again)
        assert resumed.optimizers.schedulers["means"].base_lrs == [pytest.approx(0.1 * unit)]
        steps = 5 if keeps else 2
        assert resumed.optimizers.optimizers["means"].param_groups[0]["lr"] == pytest.approx(
            0.1 * unit * 0.01 ** (steps / 5)
        )


def test_checkpoints_of_any_number_load_and_damaged_ones_do_not(method: Any) -> None:
    trainer = trained(deepcopy(method))
    (path,) = trainer.checkpoint_dir.iterdir()
    pipeline = deepcopy(method.pipeline).setup(device="cpu", test_mode="inference")
    assert pipeline.model.num_points == 1
    state = torch.load(path, weights_only=True)
    pipeline.load_pipeline(state["pipeline"], state["step"])
    assert pipeline.model.num_points == trainer.pipeline.model.num_points > 1
    camera, _ = trainer.pipeline.datamanager.next_eval_image(0)
    expected = trainer.pipeline.eval().model.get_outputs_for_camera(camera)
    for name, value in pipeline.eval().model.get_outputs_for_camera(camera).items():
        assert torch.equal(value, expected[name]), name
    # The tensors of a state have to agree with each other, not with the model alone.
    for name in ("gauss_params.scales", "gauss_params.opacities", "count"):
        broken = dict(state["pipeline"])
        broken[f"_model.{name}"] = broken[f"_model.{name}"][:-1]
        with pytest.raises(CheckpointMismatchError, match=f"of another shape.*\n.*_model.{name}"):
            deepcopy(method.pipeline).setup(device="cpu", test_mode="inference").load_pipeline(broken, 1)
    again = deepcopy(method)
    again.load_checkpoint, again.timestamp = path, "again"
    again.pipeline.model.sh_degree = 2
    with pytest.raises(CheckpointMismatchError, match=r"features_rest: expected \(\d+, 8, 3\), found \(\d+, 3, 3\)"):
        trained(again)
    path.write_bytes(path.read_bytes()[:-3000])
    again.pipeline.model.sh_degree = 1
    with pytest.raises(DamagedCheckpointError, match=path.name):
        trained(again)


def blender(folder: Path) -> Any:
    return FewShotBlenderDataParserConfig(data=folder)


def llff(folder: Path) -> Any:
    return LLFFDataParserConfig(data=folder, ray_space="metric")


def photos_of(pipeline: Any) -> Tensor:
    dataset = pipeline.datamanager.train_dataset
    return torch.cat([dataset.get_image_float32(index).reshape(-1, 3) for index in range(len(dataset))])


@pytest.mark.parametrize("kind", ["auto", "mean", "random", "scene"])
@pytest.mark.parametrize("alpha", [False, True])
def test_backgrounds(kind: str, alpha: bool, method: Any, tiny_llff_scene: Path, tiny_blender_scene: Path) -> None:
    config = method.pipeline
    config.datamanager.dataparser = blender(tiny_blender_scene) if alpha else llff(tiny_llff_scene)
    config.initial_points.source, config.initial_points.num_random, config.model.background = "random", 20, kind
    pipeline = config.setup(device="cpu", test_mode="val")
    model, mean = pipeline.model, photos_of(pipeline).mean(dim=0)
    scene = torch.full((3,), float(pipeline.datamanager.train_dataset.fewshot.geometry.background == "white"))
    expected = scene if kind == "scene" or (alpha and kind in ("auto", "random")) else mean
    assert alpha == bool(scene.any()) and not torch.allclose(mean, scene)
    torch.testing.assert_close(model.background_colour, expected)
    assert model.resolved()["background"] == pytest.approx(expected.tolist(), abs=1e-4)
    with torch.no_grad():
        model.gauss_params["opacities"].fill_(-20.0)
    camera = pipeline.datamanager.train_dataset.cameras[:1]
    seen = [model.render_cameras(camera).rgb[0, 0, 0] for _ in range(2)]
    at_random = kind == "random" or (kind == "auto" and not alpha)
    assert torch.equal(*seen) != at_random and model.resolved()["random_background"] == at_random
    torch.testing.assert_close(model.eval().get_outputs_for_camera(camera)["rgb"][0, 0], expected)
    assert model.labels == ({"alpha"} if alpha and kind == "random" else set())


def test_photos_with_alpha_lie_on_the_random_background(method: Any, tiny_blender_scene: Path) -> None:
    """Where nothing is rendered, transparent pixels have no loss before any colour, and opaque ones have."""
    config = method.pipeline
    config.datamanager.dataparser = blender(tiny_blender_scene)
    config.initial_points.source, config.initial_points.num_random, config.model.background = "random", 20, "random"
    pipeline = config.setup(device="cpu", test_mode="val")
    model, manager = pipeline.model, pipeline.datamanager
    with torch.no_grad():
        model.gauss_params["opacities"].fill_(-20.0)
    ray_bundle, batch = manager.next_train(0)
    rendering = model(ray_bundle, (manager.train_dataset.cameras, batch["indices"])).photos
    truth, alpha = model.photo_colours(rendering, batch), batch["alpha"][:, 0]
    assert (alpha == 0).any() and (alpha == 1).any() and rendering.rgb[0].std() > 0.01
    torch.testing.assert_close(truth[alpha == 0], rendering.rgb[alpha == 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(truth[alpha == 1], batch["image"][alpha == 1])
    # At evaluation, before the scene's own colour, photos stay as they are.
    seen = model.eval()(ray_bundle, (manager.train_dataset.cameras, batch["indices"])).photos
    assert torch.equal(model.photo_colours(seen, batch), batch["image"]) and seen.extras == {}


def test_forward_facing_scenes_are_taken_as_metric_ones(
    method: Any, tiny_llff_scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "--ray-space metric is taken for ndc"
    method.pipeline.initial_points.source = "random"
    parser = method.pipeline.datamanager.dataparser = LLFFDataParserConfig(data=tiny_llff_scene, ray_space="ndc")
    pipeline = method.pipeline.setup(device="cpu", test_mode="val")
    assert pipeline.model.geometry.ray_space == parser.ray_space == "metric"
    assert said in " ".join(capsys.readouterr().out.split())
    pipeline.get_train_loss_dict(0)
    # Nothing is changed, nor said, where it is metric already, nor for backbones of rays.
    deepcopy(method.pipeline).setup(device="cpu", test_mode="val")
    assert said not in " ".join(capsys.readouterr().out.split())
    rays: Any = deepcopy(mipnerf_fewshot.pipeline)
    rays.datamanager.dataparser = LLFFDataParserConfig(data=tiny_llff_scene, ray_space="ndc")
    rays.evaluation.metrics = ("psnr",)
    assert rays.setup(device="cpu", test_mode="val").model.geometry.ray_space == "ndc"
    assert said not in " ".join(capsys.readouterr().out.split())


SCENES: Dict[str, Callable[[Path], Any]] = {
    "tiny_llff_scene": llff,
    "tiny_blender_scene": blender,
    "tiny_nerfstudio_scene": lambda folder: FewShotNerfstudioDataParserConfig(data=folder),
    "tiny_dtu_scene": lambda folder: DTUDataParserConfig(data=folder, depth_polarity="distance"),
}


@pytest.mark.parametrize("scene", SCENES)
def test_it_trains_on_every_kind_of_scene(scene: str, method: Any, request: pytest.FixtureRequest) -> None:
    method.pipeline.datamanager.dataparser = SCENES[scene](request.getfixturevalue(scene))
    method.pipeline.initial_points.source, method.pipeline.initial_points.num_random = "random", 200
    method.pipeline.model.opacity_decay = 1.0
    trainer = trained(method)
    resolved = json.loads((trainer.base_dir / "resolved.json").read_text())
    assert resolved["silhouette"] == {"photos_with_alpha": scene == "tiny_blender_scene"}
    assert resolved["initial_points"]["points"] == 200
    losses = trainer.pipeline.get_train_loss_dict(STEPS)[1]
    silhouette = {"silhouette_loss"} if scene == "tiny_blender_scene" else set()
    assert losses.keys() == {"rgb_loss", "ssim_loss"} | silhouette
    assert trainer.pipeline.get_average_eval_image_metrics()["psnr"] > 5


@pytest.mark.parametrize("prior", ["pearson", "inverse-l1", "edge_smoothness"])
def test_depth_of_a_whole_photo_reaches_the_gaussians(prior: str, method: Any) -> None:
    pipeline = method.pipeline
    if prior == "edge_smoothness":
        pipeline.edge_smoothness.weight, name = 1.0, "edge_smoothness"
    else:
        pipeline.depth.enabled, pipeline.depth.loss = True, prior
        name = f"depth_{prior.replace('-', '_')}"
    built = pipeline.setup(device="cpu", test_mode="val")
    for step in range(3):
        built.model.zero_grad()
        losses = built.get_train_loss_dict(step)[1]
        assert losses.keys() == {"rgb_loss", "ssim_loss", name} and 0 < losses[name] < 1
        losses[name].backward()
        gradient = built.model.gauss_params["means"].grad
        assert gradient.isfinite().all() and gradient.any()
        # Nothing colours the Gaussians.
        assert not built.model.gauss_params["features_dc"].grad.any()


def test_masked_pixels_teach_nothing(method: Any, tiny_nerfstudio_scene: Path) -> None:
    transforms = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())
    (tiny_nerfstudio_scene / "masks").mkdir()
    for index, frame in enumerate(transforms["frames"]):
        mask = np.full((24, 32), 255, dtype=np.uint8)
        mask[:, 16:] = 0
        frame["mask_path"] = f"masks/{index}.png"
        cv2.imwrite(str(tiny_nerfstudio_scene / frame["mask_path"]), mask)
    (tiny_nerfstudio_scene / "transforms.json").write_text(json.dumps(transforms))
    method.pipeline.datamanager.dataparser = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene)
    method.pipeline.initial_points.source, method.pipeline.initial_points.num_random = "random", 200
    method.pipeline.model.background, method.pipeline.edge_smoothness.enabled = "mean", False
    pipeline = method.pipeline.setup(device="cpu", test_mode="val")
    photos = pipeline.datamanager.train_images.pixels.reshape(-1, 24, 32, 3)
    terms = []
    for _ in range(2):
        pipeline.datamanager.whole.forget()
        terms.append({name: float(term.detach()) for name, term in pipeline.get_train_loss_dict(0)[1].items()})
        photos[:, :, 16:] = 1.0 - photos[:, :, 16:]
    assert terms[0] == terms[1] and terms[0]["ssim_loss"] > 0
    photos[:, :, :16] = 1.0 - photos[:, :, :16]
    pipeline.datamanager.whole.forget()
    assert float(pipeline.get_train_loss_dict(0)[1]["rgb_loss"].detach()) != terms[0]["rgb_loss"]


def test_photos_that_cannot_be_straightened_are_refused_before_anything_is_made_of_them(
    method: Any, tiny_nerfstudio_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny_nerfstudio_scene / "transforms.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "k4": 0.1}))
    method.pipeline.datamanager.dataparser = SCENES["tiny_nerfstudio_scene"](tiny_nerfstudio_scene)
    asked: list[str] = []
    monkeypatch.setattr(
        "fewshot_ns.pipelines.fewshot_pipeline.make_initial_points", lambda *args: asked.append("points")
    )
    with pytest.raises(ValueError, match="to straighten the photo, found k4 0.1"):
        method.pipeline.setup(device="cpu", test_mode="val")
    assert not asked


@pytest.mark.parametrize("source", ["stereo", "colmap"])
def test_photos_of_a_bent_lens_are_straightened(source: Any, method: Any, tmp_path: Path) -> None:
    write_spheres(tmp_path / "spheres", (Lens("OPENCV"),))
    method.pipeline.datamanager.dataparser = FewShotColmapDataParserConfig(data=tmp_path / "spheres")
    method.pipeline.initial_points.source, method.max_num_iterations = source, 2
    # Depth of the photos is matched in them as they are, and is straightened with them.
    method.pipeline.depth.enabled, method.pipeline.depth.loss, method.pipeline.depth.source = True, "pearson", "stereo"
    trainer = trained(method)
    manager = trainer.pipeline.datamanager
    for dataset in (manager.train_dataset, manager.eval_dataset):
        assert dataset.fewshot.lenses is not None and dataset.cameras.distortion_params is None
    figures = trainer.pipeline.get_average_eval_image_metrics(step=1)
    assert figures["psnr"] > 5
    stored = json.loads((trainer.base_dir / "scene.json").read_text())
    assert stored["splits"]["test"]["cameras"]["distortion_params"] is None
    assert stored["splits"]["test"]["cameras"]["width"][0][0] == int(manager.eval_dataset.cameras.width[0])


def test_fisheye_photos_are_refused_with_the_way_out(method: Any, tmp_path: Path) -> None:
    write_spheres(tmp_path / "spheres", (Lens("OPENCV_FISHEYE"),))
    method.pipeline.datamanager.dataparser = FewShotColmapDataParserConfig(data=tmp_path / "spheres")
    with pytest.raises(ValueError, match="found OPENCV_FISHEYE.*`ns-fewshot prepare --poses"):
        trained(method)

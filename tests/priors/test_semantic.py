"""The semantic prior: its term, when it counts, its views, its memory-saving gradient and its cache."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import torch
from prior_scenes import context_of, pixels_of, scene_of
from tiny_clip import save_image_encoder
from torch import Tensor

from fewshot_ns import registry
from fewshot_ns.cameras.ray_space import RADII_KEY, attach_radii, camera_rays
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.models.nerf import NeRFModelConfig
from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.priors.semantic import SemanticPriorConfig
from fewshot_ns.priors.semantic_targets import target_embeddings
from fewshot_ns.priors.unseen_views import UnseenViews, UnseenViewsConfig
from fewshot_ns.utils.cache import CACHE_ENV


class Averages:
    """An encoder that gives the mean colour of each quarter of an image."""

    key = "averages"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        return torch.nn.functional.adaptive_avg_pool2d(images.permute(0, 3, 1, 2), 2).flatten(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    torch.manual_seed(0)


@pytest.fixture
def encoder_weights(tmp_path: Path) -> Path:
    """Folder of a tiny CLIP with random weights."""
    return save_image_encoder(tmp_path / "clip")


@pytest.fixture
def make_pipeline(tiny_pipeline_config: Any, tiny_blender_scene: Path, encoder_weights: Path) -> Callable[..., Any]:
    """Function (model config or None, fields of the prior) -> pipeline of a tiny Blender scene with the prior on."""

    def make(model: Any = None, data: Any = None, **fields: Any) -> Any:
        config = tiny_pipeline_config(data or FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3))
        config.depth.enabled = False
        if model is not None:
            config.model, config.plane_smoothness.enabled = model, False
        config.model.compute_dtype = "float32"
        encoder = EncoderConfig(weights=encoder_weights)
        views = UnseenViewsConfig(grid_size=6)
        chosen = {"enabled": True, "encoder": encoder, "views": views, "interval": 1, "chunk_rays": 10, **fields}
        config.semantic = SemanticPriorConfig(**chosen)
        torch.manual_seed(0)
        return config.setup(device="cpu", test_mode="val")

    return make


def small_nerf(**fields: Any) -> Any:
    small: Dict[str, Any] = {"width": 16, "num_layers": 3, "skip_layer": 1, "num_octaves": 3, "colour_width": 8}
    small |= {"num_samples": 6, "num_importance_samples": 5, "density_activation": "softplus"}
    return NeRFModelConfig(**{**small, **fields})


def dataset_of(config: Any) -> FewShotDataset:
    return FewShotDataset(config.setup().get_dataparser_outputs("train"))


def terms(pipeline: Any, step: int = 0) -> Dict[str, Tensor]:
    """Terms of the prior alone, in a step whose photos do not matter."""
    context = context_of(pixels_of(torch.ones(4, 1)), render=pipeline.model.render_cameras, model=pipeline.model)
    return pipeline.priors.all["semantic"].loss_dict(step, context)


def gradients(pipeline: Any, losses: Dict[str, Tensor]) -> List[Tensor]:
    parameters = [value for group in pipeline.get_param_groups().values() for value in group]
    found = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)  # type: ignore[arg-type]
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("backbone", ["lite", "nerf", "simple"])
def test_rendering_in_chunks_has_the_plain_gradient(backbone, make_pipeline):
    model = {"lite": None, "nerf": small_nerf(), "simple": small_nerf(num_importance_samples=0, view_dependent=False)}
    results = []
    for chunk_rays in (None, 7, 36, 1000):
        pipeline = make_pipeline(model[backbone], chunk_rays=chunk_rays)
        # Fixed samples: random numbers fall otherwise with other chunks. They are the subject of the next test.
        pipeline.priors.all["semantic"].config.stratified = False
        pipeline.model.eval() if backbone == "lite" else pipeline.model.train()
        if backbone == "lite":
            pipeline.model.average = None
        torch.manual_seed(1)
        losses = terms(pipeline)
        assert set(losses) == ({"semantic", "semantic_coarse"} if backbone == "nerf" else {"semantic"})
        results.append((losses, gradients(pipeline, losses)))
    plain_losses, plain = results[0]
    assert any(value.abs().max() > 0 for value in plain)
    for losses, found in results[1:]:
        for name in losses:
            torch.testing.assert_close(losses[name], plain_losses[name])
        for ours, expected in zip(found, plain, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max() + 1e-9))


def test_random_samples_are_drawn_again_alike(make_pipeline):
    pipeline = make_pipeline(small_nerf())
    prior, results = pipeline.priors.all["semantic"], []
    view = prior.views.draw()

    def levels() -> List[Tensor]:
        rendering = pipeline.model.render_cameras(view.cameras, prior.options(view.footprint_scale))
        return [rendering.rgb, rendering.coarse.rgb]

    found = []
    for chunk_rays in (None, 36):
        prior.config.chunk_rays = chunk_rays
        torch.manual_seed(3)
        found = levels()
        results.append(gradients(pipeline, {str(index): (value**2).sum() for index, value in enumerate(found)}))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6 * float(plain.abs().max() + 1e-9))
    torch.manual_seed(4)
    assert found[0].shape == (1, 6, 6, 3) and not torch.allclose(levels()[0], found[0])
    prior.config.stratified = False
    assert all(torch.equal(first, second) for first, second in zip(levels(), levels(), strict=True))
    assert pipeline.model.config.stratified


def test_rendering_is_that_of_the_model(make_pipeline):
    pipeline = make_pipeline(small_nerf())
    pipeline.model.eval()
    prior = pipeline.priors.all["semantic"]
    view = prior.views.draw()
    rendering = pipeline.model.render_cameras(view.cameras, prior.options(view.footprint_scale))
    bundle = camera_rays(view.cameras, pipeline.model.geometry, view.footprint_scale).flatten()
    torch.testing.assert_close(rendering.rgb.reshape(-1, 3), pipeline.model.get_outputs(bundle)["rgb"])


def test_the_term_is_the_negative_cosine(make_pipeline):
    pipeline = make_pipeline(small_nerf(), fine_weight=0.3, coarse_weight=0.2)
    prior = pipeline.priors.all["semantic"]
    prior.encoder = Averages()
    prior.targets = torch.rand(3, 12)
    torch.manual_seed(5)
    losses = terms(pipeline)
    torch.manual_seed(5)
    grid = prior.views.draw_grid()
    view = prior.views.view(prior.views.draw_pose(), grid)
    rendering = pipeline.model.render_cameras(view.cameras, prior.options(view.footprint_scale))
    target = prior.targets[prior.target_of(0)]
    levels = {"semantic": (rendering.rgb, 0.3), "semantic_coarse": (rendering.coarse.rgb, 0.2)}
    for name, (image, weight) in levels.items():
        embedding = Averages()(image.reshape(1, 6, 6, 3))[0]
        cosine = (embedding @ target) / embedding.norm() / target.norm()
        torch.testing.assert_close(losses[name], -weight * cosine)


def test_weights_fade(make_pipeline):
    pipeline = make_pipeline(small_nerf(), fade_end_step=10, fade_ratio=0.25)
    found = []
    for step in (0, 10):
        torch.manual_seed(6)
        found.append(terms(pipeline, step))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], 0.25 * value)


def test_learning_moves_the_renderings_towards_the_photos(make_pipeline):
    pipeline = make_pipeline(small_nerf(), views=UnseenViewsConfig(poses="training", pool="photographed", grid_size=8))
    optimizer = torch.optim.Adam(pipeline.get_param_groups()["field"], lr=5e-3)
    values = []
    for step in range(40):
        losses = terms(pipeline, step)
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        values.append(float(losses["semantic"].detach()))
    assert np.mean(values[-10:]) < np.mean(values[:10])


def test_steps_at_which_the_term_counts(make_pipeline):
    pipeline = make_pipeline(small_nerf(), interval=3, start_step=4, stop_step=12)
    active = [step for step in range(20) if "semantic" in pipeline.get_train_loss_dict(step)[1]]
    assert active == [5, 8, 11]


def test_coarse_network_alone(make_pipeline):
    pipeline = make_pipeline(small_nerf(), fine_weight=0.0)
    losses = terms(pipeline)
    assert set(losses) == {"semantic_coarse"}
    losses["semantic_coarse"].backward()
    assert all(parameter.grad is None for parameter in pipeline.model.fine.parameters())
    assert any(parameter.grad is not None for parameter in pipeline.model.coarse.parameters())


def test_targets_in_turn(make_pipeline):
    prior = make_pipeline(small_nerf(), interval=2, target_order="cycle").priors.all["semantic"]
    order = [prior.target_of(step) for step in range(1, 24, 2)]
    rounds = [order[start : start + 3] for start in range(0, 12, 3)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds) and len({tuple(each) for each in rounds}) > 1


@pytest.mark.parametrize("name", ["sparsenerf", "freenerf", "depth_mipnerf"])
def test_on_other_backbones_in_ndc(name, make_pipeline, tiny_llff_scene):
    model: Any = deepcopy(registry.method_specification(name).config.pipeline.model)
    model.width, model.num_layers, model.skip_layer, model.num_octaves, model.num_samples = 16, 3, 1, 4, 8
    pipeline = make_pipeline(model, LLFFDataParserConfig(data=tiny_llff_scene))
    assert pipeline.resolved()["semantic"]["poses"] == "box"
    _, losses, _ = pipeline.get_train_loss_dict(0)
    assert ("semantic_coarse" in losses) == (name != "depth_mipnerf") and losses["semantic"].isfinite()
    assert any(gradient.abs().max() > 0 for gradient in gradients(pipeline, {"semantic": losses["semantic"]}))


def test_a_run_is_not_moved_where_the_prior_is_off(make_pipeline):
    states = []
    for fields in ({"enabled": False}, {"enabled": True, "start_step": 5}):
        pipeline = make_pipeline(small_nerf(), **fields)
        torch.manual_seed(7)
        pipeline.get_train_loss_dict(0)
        states.append(torch.random.get_rng_state())
        assert not any("encoder" in name or "semantic" in name for name in pipeline.state_dict())
    assert torch.equal(*states)


def views_of(dataset: FewShotDataset, **fields: Any) -> UnseenViews:
    return UnseenViews(UnseenViewsConfig(**{"grid_size": 4, **fields}), dataset, torch.device("cpu"))


def test_hemisphere(tiny_blender_scene):
    dataset = dataset_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3))
    views = views_of(dataset, poses="hemisphere", centre=(0.0, 0.0, 1.0))
    poses = np.stack([views.draw_pose() for _ in range(200)])
    offset = poses[..., 3] - np.array([0.0, 0.0, 1.0])
    radius = np.linalg.norm(offset, axis=-1)
    assert radius.min() >= 3.5 and radius.max() <= 4.5 and radius.std() > 0.2 and (offset[:, 2] >= 0).all()
    np.testing.assert_allclose(poses[:, :, 2], offset / radius[:, None], atol=1e-9)
    one = np.stack([views_of(dataset, one_draw=True).draw_pose() for _ in range(20)])
    radius = np.linalg.norm(one[..., 3], axis=-1)
    height = np.degrees(np.arcsin(one[:, 2, 3] / radius))
    np.testing.assert_allclose(height / 90.0, radius - 3.5, atol=1e-9)


def test_usual_places(tiny_blender_scene, tiny_llff_scene, tiny_dtu_scene):
    blender = dataset_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3))
    assert views_of(blender).kind == "hemisphere" and views_of(blender, radius=(20.0, 30.0)).kind == "box"
    assert views_of(blender, centre=(0.0, 0.0, 2.0)).kind == "box"
    assert views_of(dataset_of(LLFFDataParserConfig(data=tiny_llff_scene))).kind == "box"
    dtu = dataset_of(DTUDataParserConfig(data=tiny_dtu_scene, depth_polarity="distance"))
    # The cameras stand around the origin of the world, and look elsewhere.
    assert views_of(dtu).kind == "box"
    poses = np.stack([views_of(dtu).draw_pose() for _ in range(20)])
    assert np.isfinite(poses).all() and len(np.unique(poses[:, 0, 3])) == 20


def test_poses_of_the_pool(tiny_blender_scene):
    dataset = dataset_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3))
    all_poses = dataset.fewshot.scene_camera_to_worlds.double().numpy()
    for pool, chosen in (("candidates", range(10)), ("photographed", dataset.fewshot.train_indices)):
        views = views_of(dataset, poses="training", pool=pool)
        drawn = np.stack([views.draw_pose() for _ in range(100)])
        nearest = {int(np.abs(all_poses - pose).sum((1, 2)).argmin()) for pose in drawn}
        assert nearest == set(chosen)
        between = np.stack([views_of(dataset, poses="interpolate", pool=pool).draw_pose() for _ in range(50)])
        corners = all_poses[list(chosen), :, 3]
        assert (between[..., 3] >= corners.min(0) - 1e-9).all() and (between[..., 3] <= corners.max(0) + 1e-9).all()
    jittered = np.stack([views_of(dataset, poses="training", jitter=0.5).draw_pose() for _ in range(100)])
    distance = np.linalg.norm(jittered[:, None, :, 3] - all_poses[None, :10, :, 3], axis=-1).min(1)
    assert 0.1 < distance.mean() < 1.5


def test_given_poses_are_moved_with_the_scene(tiny_llff_scene, tmp_path):
    dataset = dataset_of(LLFFDataParserConfig(data=tiny_llff_scene))
    to_world, scale = dataset.file_to_world.double().numpy(), dataset.world_scale
    pose = np.eye(4)
    pose[:3, 3] = 1.0, 2.0, 3.0
    expected = np.concatenate(
        [to_world[:, :3], scale * (to_world[:, :3] @ pose[:3, 3] + to_world[:, 3])[:, None]], axis=1
    )
    np.save(tmp_path / "poses.npy", pose[None, :3])
    frames = [{"file_path": "none.png", "transform_matrix": pose.tolist()}]
    (tmp_path / "poses.json").write_text(json.dumps({"frames": frames}))
    for name in ("poses.npy", "poses.json"):
        views = views_of(dataset, poses="given", poses_file=tmp_path / name)
        np.testing.assert_allclose(views.draw_pose(), expected, atol=1e-6)
    np.save(tmp_path / "poses.npy", np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"poses.npy: expected camera poses \(N, 3 or 4, 4\), found \(2, 5\)"):
        views_of(dataset, poses="given", poses_file=tmp_path / "poses.npy")
    with pytest.raises(FileNotFoundError, match="nothing.npy"):
        views_of(dataset, poses="given", poses_file=tmp_path / "nothing.npy")
    with pytest.raises(ValueError, match="needs --pipeline.semantic.views.poses-file"):
        views_of(dataset, poses="given")


@pytest.mark.parametrize("space", ["metric", "ndc"])
@pytest.mark.parametrize("grid, size", [("full", 3), ("strided", 5)])
def test_rays_are_those_of_the_training_camera(grid, size, space, request):
    """Their footprints too, which do not become those of a coarse grid: its steps differ between rows and columns."""
    if space == "metric":
        scene: Any = DTUDataParserConfig(data=request.getfixturevalue("tiny_dtu_scene"), depth_polarity="distance")
    else:
        scene = LLFFDataParserConfig(data=request.getfixturevalue("tiny_llff_scene"))
    dataset = dataset_of(scene)
    geometry = dataset.fewshot.geometry
    views = views_of(dataset, grid=grid, grid_size=size)
    pose, drawn = dataset.cameras.camera_to_worlds[0].double().numpy(), views.draw_grid()
    assert drawn.step[0] != drawn.step[1]
    view = views.view(pose, drawn)
    rays = camera_rays(view.cameras, geometry, view.footprint_scale)[0]
    seen = dataset.cameras[:1]
    coords = drawn.positions() + 0.5
    expected = seen.generate_rays(camera_indices=torch.zeros(*coords.shape[:2], 1, dtype=torch.long), coords=coords)
    torch.testing.assert_close(rays.directions, expected.directions)
    torch.testing.assert_close(rays.metadata["directions_norm"], expected.metadata["directions_norm"])
    assert rays.shape == (size, size) and (rays.camera_indices == -1).all()
    whole = attach_radii(seen.generate_rays(camera_indices=0, keep_shape=True), geometry).metadata[RADII_KEY]
    nearest = [coords[..., axis].long() for axis in (0, 1)]
    torch.testing.assert_close(rays.metadata[RADII_KEY], whole[nearest[0], nearest[1]], rtol=0.05, atol=0.0)


def test_crops_and_grids_that_do_not_fit(tiny_blender_scene):
    dataset = dataset_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3))
    views = views_of(dataset, grid="crop", crop_fraction=0.4)
    grids = torch.stack([views.draw_grid().positions() for _ in range(50)])
    assert (grids[:, -1, -1] - grids[:, 0, 0] == 6).all() and len(grids[:, 0, 0, 0].unique()) > 2
    with pytest.raises(ValueError, match="--pipeline.semantic.views.grid-size: expected at least 1 .* got 0"):
        views_of(dataset, grid_size=0)
    with pytest.raises(ValueError, match="--of-mine.poses given needs --of-mine.poses-file"):
        given = UnseenViewsConfig(poses="given")
        UnseenViews(given, dataset, torch.device("cpu"), "--of-mine")


def test_a_strided_grid_is_at_most_the_image(tiny_blender_scene, capsys):
    dataset = dataset_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3))
    config = UnseenViewsConfig()
    views = UnseenViews(config, dataset, torch.device("cpu"), "--of-mine")
    said = " ".join(capsys.readouterr().out.split())
    assert "--of-mine.grid-size 168: the images have 20x20 pixels, so unseen views are rendered with 20x20 rays" in said
    assert views.draw_grid().positions().shape == (20, 20, 2) and config.grid_size == 168
    for fits in ({"grid_size": 20}, {"grid": "full", "grid_size": 30}, {"grid": "crop", "grid_size": 30}):
        assert views_of(dataset, **fits).draw_grid().size == (fits["grid_size"], fits["grid_size"])
    assert "grid-size" not in capsys.readouterr().out


def test_embeddings_are_computed_once(tmp_path):
    images, encoder = [torch.rand(8, 8, 3) for _ in range(3)], Averages()
    first = target_embeddings(encoder, images, tmp_path)
    assert encoder.calls == 3 and first.shape == (3, 12)
    torch.testing.assert_close(first, encoder(torch.stack(images)))
    encoder.calls = 0
    assert torch.equal(target_embeddings(encoder, images, tmp_path), first) and encoder.calls == 0
    images[1] = images[1] + 1e-3
    damaged = sorted(tmp_path.rglob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:20])
    assert not torch.equal(target_embeddings(encoder, images, tmp_path), first) and encoder.calls in (1, 2)
    encoder.calls, encoder.key = 0, "others"
    target_embeddings(encoder, images, tmp_path)
    assert encoder.calls == 3


def test_black_photos_without_direction_are_refused(tmp_path):
    with pytest.raises(ValueError, match="training view 0: expected a finite embedding"):
        target_embeddings(Averages(), [torch.zeros(4, 4, 3)], tmp_path)


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="interval"):
        SemanticPriorConfig(interval=0).setup(scene=scene_of(), name="semantic")
    with pytest.raises(ValueError, match="chunk-rays of at least 1"):
        SemanticPriorConfig(chunk_rays=0).setup(scene=scene_of(), name="semantic")
    with pytest.raises(ValueError, match="both its weights are 0"):
        config = SemanticPriorConfig(enabled=True, fine_weight=0.0, coarse_weight=0.0)
        config.setup(scene=scene_of(), name="semantic")


def test_needs():
    needs = SemanticPriorConfig(enabled=True).setup(scene=scene_of(), name="semantic").needs
    assert set(needs.served) == {"unseen_views"} and needs.single_scene
    # Whole views are rendered on their own, behind the main forward.
    assert needs.request is None and not needs.labels


def test_a_model_without_a_coarse_level_needs_a_fine_weight(make_pipeline):
    pipeline = make_pipeline(fine_weight=0.0)
    with pytest.raises(ValueError, match="fine-weight.*has only rgb"):
        terms(pipeline)

"""ID-NeRF's model: conditioning, target views, presets, what learns, released files."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.ray_images import ray_images
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.configs.idnerf import idnerf, idnerf_lite, idnerf_released, matchnerf, matchnerf_lite
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, Conditioning
from fewshot_ns.models import idnerf as idnerf_module
from fewshot_ns.models.idnerf import IDNeRFModel
from fewshot_ns.utils.checkpoints import CheckpointMismatchError

PRESETS = {config.method_name: config for config in (idnerf, idnerf_released, matchnerf, idnerf_lite, matchnerf_lite)}
VIEWS, SIZE = 2, (32, 64)


def build(preset: str = "idnerf", **fields: Any) -> IDNeRFModel:
    config = deepcopy(PRESETS[preset].pipeline.model)
    chosen = {"num_views": VIEWS, "num_samples": 6, "width": 16, "eval_num_rays_per_chunk": 40, **fields}
    for name, value in chosen.items():
        assert hasattr(config, name), name
        setattr(config, name, value)
    record = FewShotMetadata(SceneGeometry("metric", 1.0, 3.0), "t", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    torch.manual_seed(0)
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    return config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})


def cameras() -> Cameras:
    """Two sources and a target that look down -z, side by side."""
    poses = torch.eye(4)[:3].repeat(VIEWS + 1, 1, 1)
    poses[:, 0, 3] = torch.tensor([-0.2, 0.2, 0.0])
    return Cameras(poses, 60.0, 61.0, 31.0, 17.0, SIZE[1], SIZE[0])


def intrinsics_of(seen: Cameras) -> Tensor:
    return torch.cat([seen.fx, seen.fy, seen.cx, seen.cy], dim=-1)


def shown(scenes: int = 1, target: bool = True, seed: int = 0) -> Conditioning:
    seen = cameras()
    images = torch.rand(scenes, VIEWS, *SIZE, 3, generator=torch.Generator().manual_seed(seed))
    bounds = torch.ones(scenes)
    poses, intrinsics = (
        value[None].expand(scenes, -1, *value.shape[1:]) for value in (seen.camera_to_worlds, intrinsics_of(seen))
    )
    given = Conditioning(images, poses[:, :VIEWS], intrinsics[:, :VIEWS], bounds, 3 * bounds)
    return replace(given, target_to_worlds=poses[:, -1], target_intrinsics=intrinsics[:, -1]) if target else given


def rays(count: int = 10, scenes: int = 1) -> Any:
    generator = torch.Generator().manual_seed(1)
    coords = torch.rand(count, 2, generator=generator) * torch.tensor(SIZE)
    bundle = cameras().generate_rays(camera_indices=torch.full((count, 1), VIEWS), coords=coords)
    bundle.metadata[SCENE_INDEX_KEY] = torch.arange(count)[:, None] % scenes
    return bundle


@pytest.fixture(scope="module")
def model() -> IDNeRFModel:
    return build().eval()


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_renders_and_learns(preset):
    model = build(preset)
    assert set(model.get_param_groups()) <= set(PRESETS[preset].optimizers)
    model.condition(shown())
    bundle = rays()
    rendering = model.train().render_training_rays(bundle)
    assert rendering.rgb.shape == (10, 3) and (rendering.depth > 0).all()
    loss = model.get_loss_dict(rendering, {"image": torch.rand(10, 3)})["rgb_loss"]
    loss.backward()
    for name, group in model.get_param_groups().items():
        # Of two tokens alike in a layer norm some biases have no gradient; every group as a whole has one.
        assert sum(float(value.grad.abs().sum()) for value in group if value.grad is not None) > 0, name
    learning = {id(value) for group in model.get_param_groups().values() for value in group}
    assert all(value.grad is None for value in model.parameters() if id(value) not in learning)


def test_presets_share_nothing():
    parts = [(config.pipeline.model, config.pipeline.datamanager, config.optimizers) for config in PRESETS.values()]
    for kind in zip(*parts, strict=True):
        assert len({id(part) for part in kind}) == len(kind)


def test_sizes_of_the_original():
    model = build("idnerf-released", num_views=3, num_samples=128, width=128)
    count = {name: sum(v.numel() for v in part.parameters()) for name, part in model.named_children()}
    assert count["nerf_dec"] == 141335 and count["latent_inference"] == 153860


def test_camera_and_training_give_the_same(model):
    """A whole image, in chunks, at its own latent, against rays with the latent of the conditioning."""
    model.condition(shown())
    bundle = cameras()[VIEWS : VIEWS + 1].generate_rays(camera_indices=0, keep_shape=True)
    with torch.no_grad():
        expected = model(bundle.flatten()[100:140])
    model.condition(shown(target=False))
    image = model.get_outputs_for_camera(cameras()[VIEWS : VIEWS + 1])
    for name in ("rgb", "depth", "accumulation"):
        assert image[name].shape[:2] == SIZE
        torch.testing.assert_close(image[name].flatten(0, 1)[100:140], expected[name], rtol=1e-4, atol=1e-5)


def test_half_precision_is_near_single(model):
    half = build(compute_dtype="bfloat16").eval()
    half.load_state_dict(model.state_dict())
    found = []
    for each in (model, half):
        each.condition(shown())
        with torch.no_grad():
            found.append(each(rays()))
    assert half.sources.rows[0].dtype == torch.bfloat16 and found[1]["rgb"].dtype == torch.float32
    torch.testing.assert_close(found[1]["rgb"], found[0]["rgb"], rtol=0.0, atol=0.02)


def test_latent_of_a_camera_of_another_size(model):
    """The target's ray image has the size of the sources, whatever is rendered."""
    model.condition(shown())
    latents = model.targets.latents
    half = cameras()[VIEWS : VIEWS + 1]
    half.rescale_output_resolution(0.5)
    model.condition(shown(target=False))
    with torch.no_grad():
        model.prepare_for(half)
    torch.testing.assert_close(model.targets.latents, latents)


def test_scenes_of_a_step_are_apart(model):
    """Rays of two scenes together, each with its own sources and latent, against each scene alone."""
    both, bundle = shown(scenes=2), rays(scenes=2)
    model.condition(both)
    with torch.no_grad():
        together = model(bundle)["rgb"]
        for scene in range(2):
            parts = {name: v[scene : scene + 1] for name, v in vars(both).items() if isinstance(v, Tensor)}
            model.condition(replace(both, **parts))
            mine = bundle.metadata[SCENE_INDEX_KEY][:, 0] == scene
            alone = bundle[mine]
            alone.metadata[SCENE_INDEX_KEY] = torch.zeros_like(alone.metadata[SCENE_INDEX_KEY])
            torch.testing.assert_close(together[mine], model(alone)["rgb"], rtol=1e-4, atol=1e-5)


def test_depths_are_planar(model):
    """All rays of a camera are sampled at the same planar depths, whatever their length."""
    model.condition(shown())
    asked = []
    kept = model.sources.query
    model.sources.query = lambda points, *rest, **more: asked.append(points) or kept(points, *rest, **more)  # type: ignore[method-assign]
    with torch.no_grad():
        model(rays())
    torch.testing.assert_close(-asked[0][..., 2], torch.linspace(1.0, 3.0, 6).expand(10, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_blocks_of_rays_change_nothing(preset, monkeypatch):
    model = build(preset, compute_dtype="float32").eval()
    model.condition(shown(scenes=2))
    with torch.no_grad():
        expected = model(rays(scenes=2))
        monkeypatch.setattr(idnerf_module, "_POINTS_AT_ONCE", 6 * 4)
        asked, kept = [], model.sources.query
        model.sources.query = lambda points, *rest: asked.append(len(points)) or kept(points, *rest)  # type: ignore[method-assign]
        found = model(rays(scenes=2))
    assert asked == [4, 4, 2]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_crop_box_bounds_the_samples(model):
    model.condition(shown())
    bundle = rays()
    bundle.nears, bundle.fars = torch.full((10, 1), 1.5), torch.full((10, 1), 2.0)
    with torch.no_grad():
        depth = model(bundle)["depth"]
    assert (depth >= 1.5 - 1e-4).all() and (depth <= 2.0 + 1e-4).all()


def test_ray_images_of_the_prompt_are_those_of_the_latent_network():
    model = build("idnerf-released").eval()
    given = shown()
    model.condition(given)
    latents, views = model.guided_latents()
    assert latents is model.targets.latents and len(views) == 1
    expected = ray_images(given.camera_to_worlds[0], given.intrinsics[0], SIZE, "world_to_camera")
    torch.testing.assert_close(views[0].ray_images, expected)
    torch.testing.assert_close(views[0].images, given.images[0])


def test_distillation_moves_the_latent_network_alone():
    model = build().train()
    model.condition(shown())
    latents, _ = model.guided_latents()
    (torch.randn_like(latents) * latents).sum().backward()
    moved = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert moved == {"latent_inference"}


def test_without_refinement_there_is_no_latent():
    model = build("matchnerf")
    assert "latents" not in model.provides and "unseen_views" in model.provides and model.latent_inference is None
    model.condition(shown(target=False))
    assert model.train().render_training_rays(rays()).rgb.shape == (10, 3)


def test_what_was_not_shown_is_an_error():
    model = build()
    with pytest.raises(RuntimeError, match="shown no source views"):
        model(rays())
    model.condition(shown(target=False))
    with pytest.raises(RuntimeError, match="--pipeline.datamanager.target-views 1"):
        model(rays())
    with pytest.raises(ValueError, match=r"expected 3 source views \(--pipeline.model.num-views\), got 2"):
        build(num_views=3).condition(shown())


def released_file(path: Path, source: IDNeRFModel, drop: str = "") -> Path:
    state: Dict[str, Tensor] = {
        name: value
        for name, value in source.state_dict().items()
        if name.startswith(("feat_enc.", "nerf_dec.", "latent_inference.")) and not (drop and name.startswith(drop))
    }
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("preset", ["matchnerf", "idnerf-released", "idnerf"])
def test_released_files_load(preset, tmp_path):
    source = build(preset)
    for value in source.parameters():
        torch.nn.init.normal_(value)
    model = build(preset)
    model.start_from(released_file(tmp_path / "last.pth", source))
    for name, value in source.named_parameters():
        torch.testing.assert_close(model.state_dict()[name], value.detach())


@pytest.mark.parametrize("preset, said", [("idnerf", True), ("idnerf-released", False), ("matchnerf", False)])
def test_released_weights_in_a_model_that_reads_them_otherwise(preset, said, tmp_path, capsys):
    """Those of ID-NeRF fit into our form of it, too, where they mean something else."""
    source = "matchnerf" if preset == "matchnerf" else "idnerf-released"
    build(preset).start_from(released_file(tmp_path / "last.pth", build(source)))
    printed = " ".join(capsys.readouterr().out.split())
    assert ("last.pth: weights of ID-NeRF's released code" in printed and "method idnerf-released" in printed) == said


def test_one_view_agrees_with_nothing():
    with pytest.raises(ValueError, match=r"at least 2 source views \(--pipeline.model.num-views\), got 1"):
        build(num_views=1)


def test_own_checkpoints_load(tmp_path):
    source, model = build(), build()
    torch.nn.init.normal_(source.nerf_dec.rgb_linear.weight)
    state = {f"_model.{name}": value for name, value in source.state_dict().items()}
    torch.save({"step": 1, "pipeline": state}, tmp_path / "step-1.ckpt")
    model.start_from(tmp_path / "step-1.ckpt")
    torch.testing.assert_close(model.nerf_dec.rgb_linear.weight, source.nerf_dec.rgb_linear.weight)


def test_files_that_do_not_fit(tmp_path):
    model = build()
    with pytest.raises(FileNotFoundError, match="expected a checkpoint file"):
        model.start_from(tmp_path / "nowhere.pth")
    plain = released_file(tmp_path / "matchnerf.pth", build("matchnerf"))
    with pytest.raises(CheckpointMismatchError, match="guidance_module"):
        model.start_from(plain)
    encoder = released_file(tmp_path / "encoder.pth", model, drop="nerf_dec.")
    with pytest.raises(ValueError, match="--pipeline.model.encoder.weights"):
        model.start_from(encoder)


@pytest.mark.parametrize("preset", ["idnerf-lite", "matchnerf"])
def test_colours_alone_need_no_encoder(preset):
    model = build(preset, matching_features=False)
    model.load_encoder_weights()
    assert "encoder" not in model.get_param_groups() and not any(n.startswith("feat_enc") for n in model.state_dict())
    model.condition(shown())
    assert model.sources.rows == []
    found = model.eval()(rays())["rgb"]
    other = shown()
    model.condition(replace(other, images=1.0 - other.images))
    assert not torch.allclose(found, model(rays())["rgb"])

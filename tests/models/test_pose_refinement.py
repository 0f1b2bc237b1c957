"""Refined poses of training photos on every per-scene backbone: gradients, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.pose_corrections import corrected_cameras, correction_sizes
from fewshot_ns.cameras.ray_space import attach_radii
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.model_components.curricula import NearFarAnnealingConfig
from fewshot_ns.models.compact import CompactModelConfig
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModelConfig
from fewshot_ns.models.fewshot_model import FewShotModel, FewShotModelConfig
from fewshot_ns.models.idnerf import IDNeRFModelConfig
from fewshot_ns.models.mipnerf import MipNeRFModelConfig
from fewshot_ns.models.nerf import NeRFModelConfig
from fewshot_ns.models.pixelnerf import PixelNeRFModelConfig
from fewshot_ns.models.ray_model import RayModel
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.priors.base import CameraRequest

WIDTH, HEIGHT = 14, 12
METRIC = SceneGeometry("metric", 2.0, 6.0, "cone", "white")
NDC = SceneGeometry("ndc", 0.0, 1.0, "cylinder", ndc_focal=(1.6, 2.0), ndc_near=1.2)
SMALL: Dict[str, Any] = dict(width=16, num_layers=3, skip_layer=1, num_octaves=3, stratified=False)
COMPACT: Dict[str, Any] = {
    **SMALL,
    "plane_resolutions": (4, 8),
    "plane_channels": 4,
    "num_proposal_samples": 8,
    "num_samples": 8,
    "proposal_resolution": 4,
    "coarse_steps": 0,
    "fine_steps": 0,
    "random_background": False,
    "compute_dtype": "float32",
    "annealing": NearFarAnnealingConfig(steps=0),
}
CONFIGS: Dict[str, Callable[..., FewShotModelConfig]] = {
    "triplane": lambda **f: CompactModelConfig(**COMPACT, view_dependent=True, **f),
    "mlp": lambda **f: CompactModelConfig(field_type="mlp", **COMPACT, **f),
    "mipnerf": lambda **f: MipNeRFModelConfig(**SMALL, num_samples=8, density_noise=0.0, **f),
    "nerf": lambda **f: NeRFModelConfig(**SMALL, num_samples=8, num_importance_samples=0, **f),
    "depth-mipnerf": lambda **f: DepthMipNeRFModelConfig(
        **SMALL, num_samples=8, num_proposal_samples=(8,), proposal_width=16, num_proposal_layers=2, **f
    ),
    "splats": lambda **f: SparseSplatfactoModelConfig(rasterizer="torch", background="mean", **f),
}
RAYS = [name for name in CONFIGS if name != "splats"]


def cameras() -> Cameras:
    """Two cameras before a scene at z = -3."""
    poses = torch.eye(4)[:3].repeat(2, 1, 1)
    poses[1, :, 3] = torch.tensor([0.3, -0.1, 0.1])
    return Cameras(poses, 11.0, 12.0, 6.5, 6.0, WIDTH, HEIGHT)


def cloud(count: int = 40) -> SeedCloud:
    draw = torch.Generator().manual_seed(0)
    positions = torch.rand(count, 3, generator=draw) * torch.tensor([3.0, 3.0, 1.0]) - torch.tensor([1.5, 1.5, 3.5])
    colours, radii = torch.rand(count, 3, generator=draw), 0.2 + 0.2 * torch.rand(count, generator=draw)
    return SeedCloud(positions, colours, radii, torch.zeros(count).long(), torch.ones(count).bool(), "files", ("a",))


def build(name: str, mode: str = "SO3xR3", geometry: SceneGeometry = METRIC, **fields: Any) -> Any:
    torch.manual_seed(0)
    record = FewShotMetadata(geometry, "test", "train", (0, 1), (0,), (0,), torch.eye(4)[None, :3])
    config = CONFIGS[name](camera_optimizer=CameraOptimizerConfig(mode=mode), **fields)  # type: ignore[arg-type]
    model: FewShotModel = config.setup(
        scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=2,
        metadata={METADATA_KEY: record},
        initial_points=cloud(),
    )
    if name == "triplane":
        # Colours that differ from texel to texel.
        for plane in model.networks["field"].planes:  # type: ignore[union-attr]
            plane.data.copy_(torch.randn(plane.shape))
    model.set_scene(cameras())
    return model.train()


def disturb(model: Any, size: float = 0.02) -> Tensor:
    """Small corrections of both views."""
    with torch.no_grad():
        model.camera_optimizer.pose_adjustment.copy_(
            size * torch.randn(2, 6, generator=torch.Generator().manual_seed(5))
        )
    return model.camera_optimizer.pose_adjustment


def pixels() -> Tensor:
    """(R, 3) of both views."""
    draw = torch.Generator().manual_seed(2)
    row, column = torch.randint(HEIGHT, (12,), generator=draw), torch.randint(WIDTH, (12,), generator=draw)
    return torch.stack([torch.arange(12) % 2, row, column], dim=-1)


def bundle_of(model: Any, some: Cameras, where: Tensor) -> Any:
    """Rays of pixels as the datamanager gives them, of the dtype of the poses."""
    parts = []
    for view, row, column in where.tolist():
        rays = attach_radii(some.generate_rays(camera_indices=view, keep_shape=True), model.geometry)
        parts.append(rays[row : row + 1, column : column + 1].flatten())
    bundle = parts[0]
    for name in ("origins", "directions", "pixel_area", "camera_indices"):
        setattr(bundle, name, torch.cat([getattr(part, name) for part in parts]))
    bundle.metadata = {key: torch.cat([part.metadata[key] for part in parts]) for key in bundle.metadata}
    bundle.nears = bundle.fars = bundle.times = None
    return bundle


def step(model: Any, views: Any = ()) -> Any:
    some = cameras()
    return model(bundle_of(model, some, pixels()), (some, pixels()), views)


def to_double(model: Any, bundle: Any) -> Any:
    model.double()
    for module in model.modules():
        if getattr(module, "dtype", None) is torch.float32 and not isinstance(module, RayModel):
            module.dtype = torch.float64
    bundle.metadata = {key: value.double() for key, value in bundle.metadata.items()}
    return replace(
        bundle,
        **{name: getattr(bundle, name).double() for name in ("origins", "directions", "pixel_area")},
    )


def compare_with_differences(tangent: Tensor, value: Callable[[], Tensor], size: float, tolerance: float) -> None:
    """Gradient of a value with respect to (V, 6) parameters; the tolerance is relative to its largest entry."""
    value().backward()
    expected = torch.zeros_like(tangent)
    with torch.no_grad():
        for entry, result in zip(tangent.reshape(-1, 1), expected.reshape(-1, 1), strict=True):
            ends = []
            for sign in (1.0, -2.0):
                entry += sign * size
                ends.append(value().double())
            entry += size
            result += (ends[0] - ends[1]) / (2 * size)
    assert tangent.grad is not None and expected.abs().min() > 1e-4 * expected.abs().max()
    torch.testing.assert_close(tangent.grad, expected, rtol=0.0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("mode", ["SO3xR3", "SE3"])
@pytest.mark.parametrize("space", ["metric", "ndc"])
@pytest.mark.parametrize("name", RAYS)
def test_gradients_of_rays_reach_the_poses(name: str, space: str, mode: str) -> None:
    """Against finite differences, at samples that do not follow the poses."""
    model = build(name, mode, NDC if space == "ndc" else METRIC)
    if name == "depth-mipnerf":
        torch.nn.init.zeros_(model.proposal.density.weight)
    if name in ("triplane", "mlp"):
        model.networks["proposal"].bias = -100.0
    tangent = disturb(model)
    bundle = to_double(model, bundle_of(model, cameras(), pixels()))
    weights = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def value() -> Tensor:
        rendering = model.render_training_rays(model.training_rays(bundle))
        # A fine level lies where the coarse one says, which has no gradient.
        level = rendering if rendering.coarse is None else rendering.coarse
        return (level.rgb * weights).sum() + 0.1 * level.depth.sum()

    # The compact field gives float32 whatever it is given.
    size, tolerance = (3e-4, 2e-2) if name in ("triplane", "mlp") else (1e-6, 1e-4)
    compare_with_differences(tangent, value, size, tolerance)


@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_gradients_of_splats_reach_the_poses(rasterize_mode: str) -> None:
    """Through projection, compositing and harmonics, against finite differences."""
    model = build("splats", rasterize_mode=rasterize_mode, sh_degree=1, sh_degree_interval=0)
    torch.nn.init.normal_(model.gauss_params["features_rest"], std=0.1)
    model.update_to_step(5)
    tangent = disturb(model)
    weights = torch.randn(12, 3, generator=torch.Generator().manual_seed(3))

    def value() -> Tensor:
        seen = step(model).photos
        return (seen.rgb * weights).sum().double() + seen.accumulation.sum().double()

    compare_with_differences(tangent, value, 3e-4, 1e-2)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_renders_what_the_corrected_cameras_see(name: str) -> None:
    model, off = build(name), build(name, "off")
    whole = {key: value for key, value in model.state_dict().items() if "camera_optimizer" not in key}
    off.load_state_dict(whole)
    same: Dict[str, Any] = {"rtol": 0.0, "atol": 0.0}
    for key, value in step(model).photos.outputs().items():
        torch.testing.assert_close(value, step(off).photos.outputs()[key], rtol=1e-5, atol=1e-6)
    disturb(model, 0.1)
    view = CameraRequest(cameras()[1:2])
    found, unmoved = step(model, (view,)), step(off, (view,))
    assert not torch.allclose(found.photos.rgb, unmoved.photos.rgb, atol=1e-3)
    # Nobody took a photo of an unseen view, whatever its pose.
    torch.testing.assert_close(found.views[0].rgb, unmoved.views[0].rgb, **same)
    moved = corrected_cameras(cameras(), model.pose_corrections().detach())
    expected = off(bundle_of(off, moved, pixels()), (moved, pixels()), ()).photos
    torch.testing.assert_close(found.photos.rgb, expected.rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.photos.depth, expected.depth, rtol=1e-4, atol=1e-4)
    # Evaluation has the given poses, also of these views.
    model.eval()
    off.eval()
    torch.testing.assert_close(step(model).photos.rgb, step(off).photos.rgb, **same)
    shown, given = (one.get_outputs_for_camera(cameras()[1:2])["rgb"] for one in (model, off))
    torch.testing.assert_close(shown, given, **same)


@pytest.mark.parametrize("name", CONFIGS)
def test_off_leaves_no_trace(name: str) -> None:
    off, on = build(name, "off"), build(name)
    assert set(on.state_dict()) - set(off.state_dict()) == {"camera_optimizer.pose_adjustment"}
    assert not hasattr(off, "camera_optimizer") and not off.refines_poses
    assert off.pose_groups() == off.pose_terms() == off.pose_changes() == {} and off.pose_corrections() is None
    same = cameras()
    assert off.training_cameras(same) is same
    assert FewShotModelConfig().camera_optimizer.mode == "off"


@pytest.mark.parametrize("name", ["mlp", "triplane", "mipnerf", "splats"])
def test_disturbed_poses_come_back_to_a_scene_that_is_known(name: str) -> None:
    """Photos of the scene itself, whose cameras are taken to stand elsewhere: by the colours alone they find back."""
    model = build(name)
    if name == "mipnerf":
        # As it is initialised it is grey all over.
        for layer in model.field.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.data *= 2.0
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    whole = [torch.stack([torch.full_like(row, view), row, column], dim=-1).reshape(-1, 3) for view in range(2)]
    some, where = cameras(), torch.cat(whole)
    bundle = None if name == "splats" else bundle_of(model, some, where)
    with torch.no_grad():
        photos = model(bundle, (some, where), ()).photos.rgb
    tangent = disturb(model, 0.03)
    start = correction_sizes(model.pose_corrections().detach())
    optimizer = torch.optim.Adam([tangent], lr=4e-3)
    steps = 250 if name == "splats" else 120
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * 0.05 ** (number / steps)
        optimizer.zero_grad()
        (model(bundle, (some, where), ()).photos.rgb - photos).square().mean().backward()
        optimizer.step()
    end = correction_sizes(model.pose_corrections().detach())
    assert (start[0] > 1.5).all() and (start[1] > 0.02).all()
    # A little of a turn looks like a little of a move.
    assert end[0].mean() < 0.3 * start[0].mean() and end[1].mean() < 0.6 * start[1].mean()


def test_rays_by_nerfstudios_way_are_corrected_in_training() -> None:
    model = build("mlp")
    disturb(model, 0.1)
    bundle = bundle_of(model, cameras(), pixels())
    expected = model.render_training_rays(model.training_rays(bundle)).rgb
    torch.testing.assert_close(model(bundle)["rgb"], expected)
    assert not torch.allclose(model.render_training_rays(bundle).rgb, expected, atol=1e-4)


def test_penalties_pull_poses_back() -> None:
    model = build("mlp")
    start = model.pose_terms()["camera_opt_regularizer"]
    start.backward()
    assert float(start) == 0.0 and model.camera_optimizer.pose_adjustment.grad.isfinite().all()
    tangent = disturb(model)
    model.zero_grad()
    (term,) = model.pose_terms().values()
    term.backward()
    expected = 1e-2 * tangent[:, :3].norm(dim=-1).mean() + 1e-3 * tangent[:, 3:].norm(dim=-1).mean()
    torch.testing.assert_close(term, expected)
    assert tangent.grad is not None and ((tangent.grad * tangent).sum(-1) > 0).all()


def test_changes_are_named_as_nerfstudio_does() -> None:
    model = build("mlp")
    tangent = disturb(model)
    theirs: Dict[str, Any] = {}
    model.camera_optimizer.get_metrics_dict(theirs)
    changes = model.pose_changes()
    assert set(changes) == set(theirs)
    assert float(changes["camera_opt_rotation_max"]) == pytest.approx(
        float(torch.rad2deg(tangent[:, 3:].norm(dim=-1).max())), rel=1e-3
    )
    assert float(changes["camera_opt_translation_mean"]) == pytest.approx(float(theirs["camera_opt_translation_mean"]))


@pytest.mark.parametrize("config", [PixelNeRFModelConfig, IDNeRFModelConfig])
def test_models_of_many_scenes_refuse(config: Any) -> None:
    record = FewShotMetadata(METRIC, "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    with pytest.raises(ValueError, match="--pipeline.model.camera-optimizer.mode SE3: .* many scenes.* give off"):
        config(camera_optimizer=CameraOptimizerConfig(mode="SE3")).setup(
            scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=1, metadata={METADATA_KEY: record}
        )

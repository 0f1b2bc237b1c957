"""pixelNeRF's reference vectors through the product's encoder, look-up, networks, samples and model; and its data,
written to disk as the formats have it and read by the product's dataparsers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple

import cv2
import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from golden_arrays import GoldenFile, expect_close, network
from golden_recipe import recipe_parameters
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.poses import homogeneous, look_at
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.cameras.sphere_views import spherical_poses
from fewshot_ns.data.dataparsers.multi import nmr, srn
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.dvr_dtu import DVRDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.multi_object import MultiObjectDataParserConfig
from fewshot_ns.data.dataparsers.multi.nmr import Z_UP
from fewshot_ns.data.multiscene.colour_jitter import ColourJitter
from fewshot_ns.data.multiscene.images import SceneImages, box_of, pixels_in_boxes
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import Conditioning, Scene
from fewshot_ns.encoders.resnet import ResNetEncoder, ResNetEncoderConfig
from fewshot_ns.evaluation.records.category_table import category_names, category_table
from fewshot_ns.evaluation.records.ledger import LedgerRow
from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.fields.pixelnerf_field import PixelNeRFField
from fewshot_ns.fields.source_features import encode_points
from fewshot_ns.model_components.pixelnerf_draws import Draws
from fewshot_ns.model_components.point_samples import (
    bounded_point_weights,
    importance_fractions,
    points_around_depth,
    points_in_bins,
    stratum_fractions,
)
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.model_components.source_views import SourceCameras, look_up, lookup_taps
from fewshot_ns.models.pixelnerf import PixelNeRFModel, PixelNeRFModelConfig

pytestmark = pytest.mark.goldens


CLOSE: Dict[str, Any] = dict(rtol=1e-5, atol=1e-6)


def close(value: Any, expected: Any, **tolerance: Any) -> None:
    expect_close(value, expected, **(tolerance or CLOSE))


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array)).float()


def photos(images: np.ndarray) -> Tensor:
    """Images (..., 3, H, W) in [-1, 1] as the product takes them."""
    return tensor(images).movedim(-3, -1) * 0.5 + 0.5


def per_view(focal: np.ndarray, centre: Optional[np.ndarray], size: Tuple[int, int], shape: Tuple[int, int]) -> Tensor:
    """(B, V, 4) intrinsics with pixel centres at +0.5 of the original's formats: integer pixels, centre or none."""
    width, height = size
    focal_lengths = np.atleast_1d(focal)[..., None] if focal.ndim < 2 else focal
    focal_lengths = np.broadcast_to(focal_lengths, (len(focal_lengths), 2))
    middle = np.array([[width / 2, height / 2]]) if centre is None else centre
    joined = [np.broadcast_to(part[:, None], (*shape, 2)) for part in (focal_lengths, middle + 0.5)]
    return tensor(np.concatenate(joined, axis=-1))


@pytest.mark.parametrize("case", ["default", "pi", "six", "one"])
def test_position_encoding(arrays, case):
    golden = arrays("positional_encoding")
    octaves, factor, include = golden[f"{case}_params"]
    x = tensor(golden[f"{case}_x"])
    encoded = positional_encoding(float(factor) * x, int(octaves), include_input=False, by_octave=True)
    # The original takes cosines as sin(x + pi / 2), whose sum is rounded at the size of the largest argument.
    largest = factor * 2 ** (octaves - 1) * x.abs().max().item()
    rounding = max(CLOSE["atol"], float(np.spacing(np.float32(largest))))
    close(torch.cat([x, encoded] if include else [encoded], dim=-1), golden[f"{case}_out"], rtol=1e-5, atol=rounding)


@pytest.mark.parametrize("case", ["two_objects", "three_views", "single", "views_default_c"])
def test_projection(arrays, case):
    golden = arrays("projection")
    poses, size = golden[f"{case}_poses"], golden[f"{case}_image_size"]
    scenes, views = poses.shape[:2]
    size = int(size[0]), int(size[1])
    intrinsics = per_view(golden[f"{case}_focal"], golden.get(f"{case}_c"), size, (scenes, views))
    bounds = torch.ones(scenes)
    images = torch.zeros(scenes, views, size[1], size[0], 3)
    cameras = SourceCameras.of(Conditioning(images, tensor(poses)[..., :3, :], intrinsics, bounds, bounds))
    close(torch.cat([cameras.rotations, cameras.translations[..., None]], dim=-1).flatten(0, 1), golden[f"{case}_w2c"])
    xyz, viewdirs = (tensor(golden[f"{case}_{name}"]) for name in ("xyz", "viewdirs"))
    points = xyz.shape[1]
    index = torch.arange(scenes).repeat_interleave(points)

    def by_object(value: Tensor) -> Tensor:
        """(V, B * P, ...) as the original's rows (B * V, P, ...)."""
        return value.unflatten(1, (scenes, points)).transpose(0, 1).flatten(0, 1)

    rotated, along = (cameras.rotated(each.flatten(0, 1), index) for each in (xyz, viewdirs))
    close(by_object(rotated), golden[f"{case}_xyz_rot"])
    close(by_object(along), golden[f"{case}_dirs_rot"])
    close(by_object(cameras.moved(rotated[:, :, None], index)[:, :, 0]), golden[f"{case}_xyz_cam"])
    close(by_object(cameras.project(rotated[:, :, None], index)[:, :, 0]), golden[f"{case}_uv"], rtol=1e-4, atol=1e-3)
    config = PixelNeRFModelConfig()
    inputs = encode_points(rotated, along, config.frequency, config.num_octaves)
    close(by_object(inputs).flatten(0, 1), golden[f"{case}_mlp_input"], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("case", ["a", "odd", "zeros"])
def test_look_up(arrays, case):
    golden = arrays("index_lookup")
    maps, size, uv = (tensor(golden[f"{case}_{name}"]) for name in ("latent", "image_size", "uv"))
    padding = "zeros" if case == "zeros" else "border"
    expected = {"features": uv}
    if case == "zeros":
        expected["features_shared_uv"] = uv[:1].expand_as(uv)
    rows = maps.movedim(1, -1).flatten(0, 2)
    for name, points in expected.items():
        taps = (float(size[0]), float(size[1])), (maps.shape[-1], maps.shape[-2]), padding
        pixels, weights = lookup_taps(points, *taps)  # type: ignore[arg-type]
        first = torch.arange(len(maps))[:, None, None] * maps[0, 0].numel()
        close(look_up(rows, pixels + first, weights).transpose(1, 2), golden[f"{case}_{name}"], rtol=1e-4, atol=1e-5)


def encoder(golden: GoldenFile, **fields: Any) -> ResNetEncoder:
    """The product's encoder with the recipe's parameters."""
    built = ResNetEncoder(keep_unused=False, **fields)
    known = recipe_parameters(golden)
    missing, unexpected = built.model.load_state_dict(known, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return built


@pytest.mark.parametrize("case", ["pool", "nopool"])
def test_encoder(arrays, case):
    golden = arrays("encoder_features")
    built = encoder(golden, first_pool=case == "pool").eval()
    images, (n, y, x) = photos(golden[f"{case}_images"]), golden[f"{case}_probe_pos"].T
    tolerance = network(golden[f"{case}_f32_error"])
    with torch.no_grad():
        maps = built(images)
        assert tuple(maps.shape) == tuple(golden[f"{case}_latent_shape"])
        assert maps.shape[1] == built.columns
        close(maps[n, :, y, x], golden[f"{case}_probe"], **tolerance)
        close(maps.mean((0, 2, 3)), golden[f"{case}_channel_mean"], **tolerance)
        close(maps.std((0, 2, 3), correction=0), golden[f"{case}_channel_std"], **tolerance)
        # A sum of both signs is as exact as that of the sizes.
        size = float(golden[f"{case}_abs_sum"])
        np.testing.assert_allclose(maps.double().sum(), golden[f"{case}_sum"], rtol=0.0, atol=1e-5 * size)
        np.testing.assert_allclose(maps.double().abs().sum(), golden[f"{case}_abs_sum"], rtol=1e-4)
        maps = built.train()(images)
    close(maps[n, :, y, x], golden[f"{case}_train_probe"], rtol=1e-4, atol=1e-4)
    statistics = built.model.state_dict()
    for name in ("running_mean", "running_var"):
        close(statistics[f"bn1.{name}"], golden[f"{case}_train_bn1_{name}"])


def field_of(state: Dict[str, Tensor], **fields: Any) -> PixelNeRFField:
    """The product's network in the size of reference parameters, with their values."""
    width, columns = state["lin_in.weight"].shape
    built = PixelNeRFField(
        in_columns=columns,
        latent_columns=state["lin_z.0.weight"].shape[1],
        width=width,
        num_blocks=sum(name.endswith("fc_0.weight") for name in state),
        pool_before=sum(name.startswith("lin_z") and name.endswith("weight") for name in state),
        **fields,
    )
    built.load_state_dict(state)
    return built


@pytest.mark.parametrize("case", ["ns1", "ns2", "ns3", "max_ns3", "spade_ns2"])
def test_network(arrays, case):
    golden = arrays("resnetfc")
    spade = case.startswith("spade")
    stored = golden.part("spade_param/" if spade else "param/")
    built = field_of(
        {name: tensor(value) for name, value in stored.items()},
        spade=spade,
        pooling="max" if case.startswith("max") else "average",
    )
    scenes, views, points = (int(size) for size in golden[f"{case}_dims"])
    given = tensor(golden[f"{case}_input"]).requires_grad_()
    rows = given.unflatten(0, (scenes, views, points)).movedim(1, 0).flatten(1, 2)
    latents, inputs = rows.split([built.lin_z[0].in_features, built.lin_in.in_features], dim=-1)  # type: ignore[list-item]
    tolerance = network(golden[f"{case}_f32_error"])
    output = built(inputs, built.project(latents)).unflatten(0, (scenes, points))
    close(output, golden[f"{case}_output"], **tolerance)
    (output * tensor(golden[f"{case}_cotangent"])).sum().backward()
    assert given.grad is not None
    close(given.grad, golden[f"{case}_input_grad"], rtol=1e-4, atol=1e-4)


def test_compositing(arrays):
    golden = arrays("compositing")
    far = tensor(golden["rays"])[:, 7:]
    cotangents = [tensor(golden[f"cotangent_{name}"]) for name in ("rgb", "depth", "weights")]
    for background in ("black", "white"):
        z, rgb, sigma = (tensor(golden[name]).requires_grad_() for name in ("z", "rgb", "sigma"))
        weights = bounded_point_weights(torch.relu(sigma), z, far)
        depth, colour = (weights * z).sum(-1), composite_rgb(rgb, weights, background)
        close(weights, golden["weights"])
        close(depth, golden["depth"])
        close(colour, golden[f"{background}_color"])
        sum((c * v).sum() for c, v in zip(cotangents, (colour, depth, weights), strict=True)).backward()  # type: ignore[union-attr]
        for name, value in {"sigma": sigma, "rgb": rgb, "z": z}.items():
            if background == "white" or name == "sigma":
                close(value.grad, golden[f"{background}_grad_{name}"], rtol=1e-4, atol=1e-5)


def test_samples(arrays):
    golden = arrays("fine_sampling")
    near, far = tensor(golden["rays"])[:, 6:].split(1, dim=-1)
    weights, depth = tensor(golden["weights"]), tensor(golden["depth"])[:, None]
    u, jitter, noise = (tensor(golden[name]) for name in ("u_fine", "jitter_fine", "noise_depth"))
    fractions = stratum_fractions(tensor(golden["u_coarse"]))
    drawn = importance_fractions(weights, u, jitter)
    for prefix, disparity in (("", False), ("lindisp_", True)):
        coarse = points_in_bins(near, far, fractions, disparity)
        further = points_in_bins(near, far, drawn, disparity)
        close(coarse, golden[f"{prefix}z_coarse"])
        close(further, golden[f"{prefix}z_fine"])
        if not disparity:
            around = points_around_depth(depth, noise, PixelNeRFModelConfig().depth_deviation, near, far)
            close(around, golden["z_depth"])
            close(torch.cat([coarse, further, around], dim=-1).sort(dim=-1).values, golden["z_all_sorted"])


def test_rays_and_poses(arrays):
    golden = arrays("rays")
    (width, height), near_far = (int(side) for side in golden["image_size"]), golden["near_far"]
    focal, centre, poses = golden["focal"], golden["c"], golden["poses"]
    intrinsics = {"rays": (*focal, *centre), "rays_default_c": (focal[0], focal[0], width / 2, height / 2)}
    for name, (fx, fy, cx, cy) in intrinsics.items():
        expected = golden[name]
        cameras = Cameras(
            tensor(poses[: len(expected), :3]), float(fx), float(fy), float(cx) + 0.5, float(cy) + 0.5, width, height
        )
        for index, rays in enumerate(expected):
            bundle = cameras.generate_rays(camera_indices=index)
            close(torch.cat([bundle.origins, bundle.directions], dim=-1), rays[..., :6])
            np.testing.assert_array_equal(rays[..., 6:], np.broadcast_to(near_far, (height, width, 2)))
    azimuth, angle, radius = golden["spherical_angles"].T
    close(homogeneous(spherical_poses(np.radians(azimuth), -np.radians(angle), radius)), golden["spherical_poses"])
    eye, target, pose = (golden[f"look_at_{name}"].astype(np.float64) for name in ("eye", "target", "pose"))
    close(homogeneous(look_at(eye, target, np.array([0.0, 1.0, 0.0]))), pose)
    close(Z_UP, golden["to_blender"])
    close(np.linalg.inv(Z_UP), golden["from_blender"])


CASES = {"srn": True, "nmr": False, "dtu": True}
"""Cases of the full model, and whether their encoders pool first."""


def model_of(golden: GoldenFile, case: str) -> PixelNeRFModel:
    """The product's model in the size of the reference, shown the case's source views."""
    nets = {net: {n: tensor(v) for n, v in golden.part(f"param/{net}.").items()} for net in ("mlp_coarse", "mlp_fine")}
    fields = field_of(nets["mlp_coarse"])
    counts = {name: golden[f"{case}_{name}"].shape[1] for name in ("u_coarse", "u_fine", "noise_depth")}
    config: Any = PixelNeRFModelConfig(
        encoder=ResNetEncoderConfig(first_pool=CASES[case], pretrained=False, keep_unused=False),
        width=fields.width,
        num_blocks=len(fields.blocks),
        pool_before=fields.pool_before,
        num_samples=counts["u_coarse"],
        num_importance_samples=counts["u_fine"],
        num_depth_samples=counts["noise_depth"],
    )
    record = FewShotMetadata(SceneGeometry("metric", 1.0, 2.0), "golden", "train", (0,), (0,), (0,), torch.eye(4)[None])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}).eval()
    missing, unexpected = model.encoder.model.load_state_dict(recipe_parameters(golden), strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    model.mlp_coarse.load_state_dict(nets["mlp_coarse"])
    model.mlp_fine.load_state_dict(nets["mlp_fine"])
    images, poses = photos(golden[f"{case}_images"]), tensor(golden[f"{case}_poses"])
    size = images.shape[3], images.shape[2]
    bounds = golden[f"{case}_rays"][:, 0, 6:].T
    model.condition(
        Conditioning(
            images=images,
            camera_to_worlds=poses[..., :3, :],
            intrinsics=per_view(golden[f"{case}_focal"], golden.get(f"{case}_c"), size, images.shape[:2]),  # type: ignore[arg-type]
            near=tensor(bounds[0]),
            far=tensor(bounds[1]),
            background="white" if golden[f"{case}_white_background"] else "black",
        )
    )
    return model


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_model(arrays, case):
    golden = arrays("full_model")
    model = model_of(golden, case)
    errors = golden[f"{case}_f32_error"]
    points, viewdirs = tensor(golden[f"{case}_xyz"]), tensor(golden[f"{case}_viewdirs"])
    shape = points.shape[:2]
    scenes = torch.arange(shape[0]).repeat_interleave(shape[1])
    at = points.flatten(0, 1), viewdirs.flatten(0, 1), torch.zeros(len(scenes), 1), scenes
    for error, name, net in zip(errors, ("coarse", "fine"), (model.mlp_coarse, model.mlp_fine), strict=False):
        assert net is not None
        density, rgb = model.sources.query(net, *at)
        values = torch.cat([torch.sigmoid(rgb[:, 0]), torch.relu(density)], dim=-1)
        close(values.view(*shape, -1), golden[f"{case}_{name}"], **network(error))
    rays = tensor(golden[f"{case}_rays"])
    shape = rays.shape[:2]
    scenes = torch.arange(shape[0]).repeat_interleave(shape[1])
    origins, directions, near, far = rays.flatten(0, 1).split([3, 3, 1, 1], dim=-1)
    names = ("u_coarse", "u_fine", "jitter_fine", "noise_depth")
    draws = Draws(*(tensor(golden[f"{case}_{name}"]) for name in names))
    levels = model.levels_of(origins, directions, near, far, scenes, draws)
    background = model.sources.conditioning.background
    rendered = zip(("coarse", "fine"), ("_coarse", ""), (errors[2], errors[3]), strict=True)
    for name, suffix, error in rendered:
        weights, z = levels[suffix]["weights"], levels[suffix]["z"]
        colour, depth = composite_rgb(levels[suffix]["sample_rgb"], weights, background), (weights * z).sum(-1)
        close(colour.view(*shape, 3), golden[f"{case}_render_{name}_rgb"], **network(error))
        close(depth.view(shape), golden[f"{case}_render_{name}_depth"], **network(errors[4]))
    close(levels["_coarse"]["weights"].view(*shape, -1), golden[f"{case}_render_coarse_weights"], **network(errors[2]))


def write_images(folder: Path, images: Iterable[np.ndarray], ending: str = ".png") -> None:
    """Writes (H, W), (H, W, 3) or (H, W, 4) images in RGB order as 000000.png, ..."""
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        ordered = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[-1]]]
        assert cv2.imwrite(str(folder / f"{index:06d}{ending}"), ordered)


def scenes(config: MultiSceneDataParserConfig) -> Dict[str, Scene]:
    """Scenes of the training split by the names of their folders."""
    parser = config.setup()
    return {entry.folder.name: parser.open_scene(entry) for entry in parser.scene_table("train")}


def centre_of(scene: Scene) -> np.ndarray:
    """(N, 2) principal points as the original counts: the first pixel is at 0."""
    return torch.cat([scene.cameras.cx, scene.cameras.cy], dim=-1).numpy() - 0.5


def focal_of(scene: Scene) -> np.ndarray:
    return torch.cat([scene.cameras.fx, scene.cameras.fy], dim=-1).numpy()


def poses_of(scene: Scene) -> np.ndarray:
    """(N, 4, 4) poses."""
    poses = scene.cameras.camera_to_worlds.numpy()
    row = np.broadcast_to(np.array([0, 0, 0, 1], dtype=np.float32), (len(poses), 1, 4))
    return np.concatenate([poses, row], axis=1)


def boxes_of(scene: Scene) -> np.ndarray:
    return SceneImages().boxes(scene, range(len(scene.image_filenames))).numpy()


def pictures_of(scene: Scene) -> np.ndarray:
    """(N, 3, H, W) images in [-1, 1]."""
    images = SceneImages().images(scene, range(len(scene.image_filenames)))
    return images.movedim(-1, 1).numpy() * 2.0 - 1.0


def masks_of(scene: Scene) -> np.ndarray:
    """(N, 1, H, W) masks."""
    masks = [SceneImages().mask(scene, view) for view in range(len(scene.image_filenames))]
    return torch.stack([mask for mask in masks if mask is not None])[:, None].numpy()


@pytest.mark.parametrize("case", ["native", "resized", "scaled"])
@pytest.mark.parametrize("kind", ["cars", "chairs"])
def test_srn(arrays, tmp_path: Path, case: str, kind: str) -> None:
    golden = arrays("srn_camera")
    folder = tmp_path / f"{kind}_train" / "object"
    write_images(folder / "rgb", golden["images_u8"])
    (folder / "pose").mkdir()
    for index, pose in enumerate(golden["poses_txt"]):
        np.savetxt(folder / "pose" / f"{index:06d}.txt", pose.reshape(1, 16), fmt="%.9g")
    (folder / "intrinsics.txt").write_text("\n".join(golden["intrinsics_txt"]) + "\n", encoding="utf-8")
    flags: Dict[str, Any] = {
        "native": {},
        "resized": {"image_size": golden["resized_images"].shape[-2:]},
        "scaled": {"world_scale": float(golden["scaled_world_scale"])},
    }[case]
    scene = scenes(srn.SRNDataParserConfig(data=tmp_path / kind, **flags))["object"]
    close(focal_of(scene), np.full((len(scene.cameras), 2), golden[f"{case}_focal"]))
    close(centre_of(scene), np.tile(golden[f"{case}_c"], (len(scene.cameras), 1)))
    close(poses_of(scene), golden[f"{case}_poses"])
    close(boxes_of(scene), golden[f"{case}_bbox"])
    if case != "scaled":
        close(masks_of(scene), golden[f"{case}_masks"])
    if case == "resized":
        close(pictures_of(scene), golden["resized_images"])
    close((scene.near, scene.far), golden[f"near_far_{kind}"])


@pytest.mark.parametrize("case", ["native", "resized"])
def test_nmr(arrays, tmp_path: Path, case: str) -> None:
    golden = arrays("nmr_camera")
    names = sorted({name.split("/")[0] for name in golden if "/" in name})
    category = tmp_path / "03001627"
    side = int(golden["image_side"])
    for name in names:
        boxes = golden[f"{name}/native_bbox"]
        # Masks of some objects are not stored; those with the same boxes stand for them.
        masks = golden[f"{name}/masks_u8"] if f"{name}/masks_u8" in golden else [filled(box, side) for box in boxes]
        images = golden[f"{name}/images_u8"] if f"{name}/images_u8" in golden else np.zeros((len(boxes), side, side, 3))
        write_images(category / name / "image", np.asarray(images, dtype=np.uint8))
        write_images(category / name / "mask", masks)
        matrices = {key: golden[f"{name}/{key}"] for key in cameras_in(golden, name)}
        np.savez(category / name / "cameras.npz", **matrices)
    (category / "softras_train.lst").write_text("\n".join(names), encoding="utf-8")
    size = int(golden["resized_side"])
    wanted = (size, size) if case == "resized" else None
    opened = scenes(nmr.NMRDataParserConfig(data=tmp_path, image_size=wanted))
    assert list(opened) == names
    for name, scene in opened.items():
        assert scene.entry.scene_id == f"{category.name}/{name}" and scene.entry.category == category.name
        close(focal_of(scene), np.full((len(scene.cameras), 2), golden[f"{name}/{case}_focal"]))
        close(centre_of(scene), np.full((len(scene.cameras), 2), (side if case == "native" else size) / 2))
        close(poses_of(scene), golden[f"{name}/{case}_poses"])
        close(boxes_of(scene), golden[f"{name}/{case}_bbox"])
        close((scene.near, scene.far), golden["near_far"])


def filled(box: np.ndarray, side: int) -> np.ndarray:
    """(side, side) mask of a box."""
    mask = np.zeros((side, side), dtype=np.uint8)
    left, top, right, bottom = box.astype(int)
    mask[top : bottom + 1, left : right + 1] = 255
    return mask


def cameras_in(golden: GoldenFile, name: str) -> Sequence[str]:
    """Names in the `cameras.npz` of a scene."""
    return [key.split("/")[1] for key in golden if key.startswith(f"{name}/") and "_mat_" in key]


@pytest.mark.parametrize("case", ["native", "resized"])
def test_dtu(arrays, tmp_path: Path, case: str) -> None:
    golden = arrays("dtu_camera")
    names = sorted({name.split("/")[0] for name in golden if "/" in name})
    width, height = (int(side) for side in golden["image_size"])
    for name in names:
        count = len(golden[f"{name}/native_poses"])
        write_images(tmp_path / "DTU" / name / "image", [np.zeros((height, width, 3), np.uint8)] * count)
        np.savez(
            tmp_path / "DTU" / name / "cameras.npz",
            **{key: golden[f"{name}/{key}"] for key in cameras_in(golden, name)},
        )
    (tmp_path / "DTU" / "new_train.lst").write_text("\n".join(names), encoding="utf-8")
    factor = 1 if case == "native" else 2
    opened = scenes(DVRDTUDataParserConfig(data=tmp_path, downscale_factor=factor))
    assert list(opened) == names
    for name, scene in opened.items():
        count = len(scene.cameras)
        close(focal_of(scene), np.tile(golden[f"{name}/{case}_focal"], (count, 1)))
        close(centre_of(scene), np.tile(golden[f"{name}/{case}_c"], (count, 1)))
        close(poses_of(scene), golden[f"{name}/{case}_poses"])
        close((scene.near, scene.far), golden["near_far"])
        assert scene.background == "black"


def test_multi_object(arrays, tmp_path: Path) -> None:
    golden = arrays("multi_obj_camera")
    folder = tmp_path / "train" / "two" / "chairs"
    write_images(folder, golden["images_rgba_u8"], "_obj.png")
    frames = [
        {"file_path": f"./{index:06d}", "transform_matrix": matrix.tolist()}
        for index, matrix in enumerate(golden["transform_matrices"])
    ]
    meta = {"camera_angle_x": float(golden["camera_angle_x"]), "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")
    scene = scenes(MultiObjectDataParserConfig(data=tmp_path))["chairs"]
    height, width = golden["images_rgba_u8"].shape[1:3]
    close(focal_of(scene), np.full((len(frames), 2), golden["focal"]))
    close(centre_of(scene), np.tile([width / 2, height / 2], (len(frames), 1)))
    close(poses_of(scene), golden["poses"])
    close(pictures_of(scene), golden["images"])
    close(masks_of(scene), golden["masks"])
    close(boxes_of(scene), golden["bbox"])
    close((scene.near, scene.far), golden["near_far"])


def test_boxes(arrays) -> None:
    golden = arrays("bbox")
    boxes = [box_of(mask > 0) for mask in golden["image_masks_u8"]]
    close(boxes, golden["bbox"])
    ids = golden["image_ids"]
    draws = torch.from_numpy(np.stack([golden["u_x"], golden["u_y"]], axis=1))
    rows, columns = pixels_in_boxes(torch.from_numpy(golden["bbox"])[ids], draws)
    np.testing.assert_array_equal(np.stack([ids, rows.numpy(), columns.numpy()], axis=1), golden["pixels"])


def test_colour_jitter(arrays) -> None:
    golden = arrays("color_jitter")
    images = torch.from_numpy(golden["images"]).movedim(1, -1) * 0.5 + 0.5
    for factors, expected in zip(golden["factors"].tolist(), golden["jittered"], strict=True):
        hue, saturation, brightness, contrast = factors
        jitter = ColourJitter(hue=hue, saturation=saturation, brightness=brightness, contrast=contrast)
        close(jitter.apply(images).movedim(-1, 1).numpy() * 2.0 - 1.0, expected)


def object_row(name: str, category: str, values: Sequence[float]) -> LedgerRow:
    metrics: Dict[str, Optional[float]] = dict(zip(("psnr", "ssim", "lpips"), values, strict=True))
    return LedgerRow(name, 1, 0, 0, metrics=metrics, scene=name, category=category)


def test_category_table(arrays, tmp_path: Path) -> None:
    golden = arrays("category_table")
    (tmp_path / "metadata.yaml").write_text(str(golden["metadata_json"]), encoding="utf-8")
    names = category_names(tmp_path)
    rows = []
    for name, values in zip(golden["objects"].tolist(), golden["metrics"].tolist(), strict=True):
        category, _, scene = name.partition("_")
        rows.append(object_row(scene, category, values))
    assert category_table(rows[::-1], names) == str(golden["expected_multicat"])
    scans = dict(zip(golden["scans"].tolist(), golden["scan_metrics"].tolist(), strict=True))
    # Numbers count as numbers: scan8, scan21, scan103.
    order = sorted(scans, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    assert order == golden["scan_print_order"].tolist()
    rows = [object_row(name, "", scans[name]) for name in order]
    assert category_table(rows) == str(golden["expected_single"])

"""ID-NeRF's reference vectors through the product's encoder, look-ups, metrics, camera paths and camera files.

Sizes and constants are taken from the arrays; another folder of reference vectors may hold others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import nerfstudio.configs.method_configs  # noqa: F401 - the host's modules import each other in this order only
import numpy as np
import pytest
import torch
from golden_arrays import GoldenFile, expect_all_used
from golden_recipe import recipe_parameters
from torch import Tensor

from fewshot_ns.cameras.poses import flip_camera_axes, homogeneous
from fewshot_ns.cameras.source_paths import depth_spiral, through_views
from fewshot_ns.data.dataparsers.mvsnet_dtu import (
    MVSNetDTUDataParserConfig,
    read_mvsnet_camera,
    read_mvsnet_depth,
)
from fewshot_ns.data.scene_table import Conditioning
from fewshot_ns.data.source_views import SourceViews, SourceViewsConfig
from fewshot_ns.encoders.gmflow import MatchingEncoder, normalized_input
from fewshot_ns.encoders.gmflow_transformer import sine_positions
from fewshot_ns.evaluation.metrics import masked_psnr, psnr, ssim
from fewshot_ns.evaluation.regions import black_outside, central_crop
from fewshot_ns.fields.matching_sources import MatchingSources
from fewshot_ns.model_components.matching_points import bilinear_taps, window_taps
from fewshot_ns.model_components.source_views import look_up

pytestmark = pytest.mark.goldens

FILES = ("gmflow_features", "point_conditioning", "metrics", "render_paths", "dtu_camera")
CLOSE: Dict[str, Any] = dict(rtol=1e-4, atol=1e-5)
_loaded: Dict[Path, GoldenFile] = {}


@pytest.fixture
def arrays(goldens_dir: Path) -> Callable[[str], GoldenFile]:
    """Function (name) -> arrays of that file of the folder idnerf/, one object per file and session."""

    def load(name: str) -> GoldenFile:
        path = goldens_dir / "idnerf" / f"{name}.npz"
        if path not in _loaded:
            _loaded[path] = GoldenFile.load(path)
        return _loaded[path]

    return load


def within(error: np.ndarray) -> Dict[str, Any]:
    """Tolerance of the reference vectors' README for whole networks, from float32's own error."""
    return dict(rtol=1e-4, atol=max(1e-5, 10.0 * float(np.max(error))))


def close(value: Any, expected: Any, **tolerance: Any) -> None:
    value = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, **(tolerance or CLOSE))


def tensor(golden: GoldenFile, name: str) -> Tensor:
    return torch.from_numpy(golden[name])


def to_opengl(extrinsics: np.ndarray) -> np.ndarray:
    """(..., 3, 4) OpenGL poses of world-to-camera matrices (..., 4, 4) with OpenCV axes."""
    return flip_camera_axes(np.linalg.inv(extrinsics.astype(np.float64))[..., :3, :])


def to_world_to_camera(poses: np.ndarray) -> np.ndarray:
    """The reverse of `to_opengl`, (..., 4, 4)."""
    return np.linalg.inv(homogeneous(flip_camera_axes(poses)))


def golden_sources(golden: GoldenFile) -> Conditioning:
    """The source views of a file with images (1, V, 3, H, W) and cameras, of which the first V are of sources."""
    images = tensor(golden, "images").movedim(2, -1)
    views = images.shape[1]
    poses = torch.from_numpy(to_opengl(golden["extrinsics"][:, :views])).float()
    matrices = tensor(golden, "intrinsics")[:, :views]
    # The originals' first pixel is at 0, the host's at half a pixel.
    lens = [matrices[..., 0, 0], matrices[..., 1, 1], matrices[..., 0, 2] + 0.5, matrices[..., 1, 2] + 0.5]
    near, far = tensor(golden, "near_fars")[:, 0].unbind(-1)
    return Conditioning(images, poses, torch.stack(lens, dim=-1), near, far)


def test_matching_encoder(arrays):
    golden = arrays("gmflow_features")
    error_8, error_4 = golden["features_f32_error"]
    encoder = MatchingEncoder()
    encoder.load_state_dict(recipe_parameters(golden))
    images = tensor(golden, "images").movedim(2, -1)
    with torch.no_grad():
        (backbone,) = encoder.backbone(normalized_input(images[0]))
        at_8, at_4 = encoder(images)
        of_two, _ = encoder(images[:, : golden["two_views_features_8"].shape[1]])
    close(backbone, golden["backbone"])
    rows, columns = golden["position_encoding"].shape[2:]
    close(sine_positions(rows, columns, backbone.shape[1], backbone).movedim(-1, 0)[None], golden["position_encoding"])
    close(at_8.movedim(-1, 2), golden["features_8"], **within(error_8))
    close(of_two.movedim(-1, 2), golden["two_views_features_8"], **within(error_8))
    assert tuple(at_4.movedim(-1, 2).shape) == tuple(golden["features_4_shape"])
    view, row, column = golden["features_4_probe_pos"].T
    close(at_4[0, view, row, column], golden["features_4_probe"], **within(error_4))
    close(at_4[0].mean(dim=(1, 2)), golden["features_4_channel_mean"], **within(error_4))
    close(at_4[0].std(dim=(1, 2), correction=0), golden["features_4_channel_std"], **within(error_4))
    whole = at_4.double()
    close(whole.sum(), golden["features_4_sum"], rtol=1e-4)
    close(whole.abs().sum(), golden["features_4_abs_sum"], rtol=1e-4)


def test_point_conditioning(arrays):
    golden = arrays("point_conditioning")
    sources = golden_sources(golden)
    views = sources.images.shape[1]
    features = []
    for index, (name, total) in enumerate(zip(("8", "4"), golden["features_sum"], strict=True)):
        draws = np.random.default_rng(int(golden["features_base"]) + index)
        values = draws.standard_normal(tuple(golden[f"features_shape_{name}"])).astype(np.float32)
        np.testing.assert_allclose(values.sum(dtype=np.float64), total, rtol=1e-6)
        features.append(torch.from_numpy(values).movedim(2, -1))
    near, far = tensor(golden, "near_fars")[:, :views].unbind(-1)
    looked_at = MatchingSources(sources, features, near, far, window="released")
    (points,) = tensor(golden, "points")
    shown = looked_at.query(points, torch.zeros(len(points), dtype=torch.long))
    assert shown.view_features is not None
    close(shown.coordinates[:, None], golden["ndc"])
    close(shown.matching[None], golden["matching_info"], **within(golden["matching_info_f32_error"]))
    close(shown.view_features.movedim(-1, 1), golden["view_cond_feat"], **within(golden["matching_info_f32_error"]))
    np.testing.assert_array_equal(shown.in_image.float()[None], golden["mask_info"])
    assert 0 < golden["mask_info"].mean() < 1


@pytest.mark.parametrize("name", ["window_r0", "window_r1", "window_r1_d2"])
def test_window(arrays, name: str):
    golden = arrays("point_conditioning")
    (window_map,) = tensor(golden, "window_map").movedim(1, -1)
    places = (tensor(golden, "window_grid") + 1.0) / 2.0
    size = window_map.shape[1], window_map.shape[0]
    if name == "window_r0":
        taps = bilinear_taps(places, size)
    else:
        taps = window_taps(places, size, dilation=2 if name.endswith("d2") else 1)
    close(look_up(window_map.flatten(0, 1), *taps).movedim(-1, 1), golden[name])


def test_metrics(arrays):
    golden = arrays("metrics")
    pred, truth = tensor(golden, "pred"), tensor(golden, "gt")
    valid = ~tensor(golden, "invalid_mask")
    crops = central_crop(pred), central_crop(truth)
    seen = black_outside(pred, valid), black_outside(truth, valid)
    close(psnr(*crops), golden["psnr_crop"])
    close(ssim(*crops), golden["ssim_crop"])
    close(psnr(pred, truth), golden["psnr_full"])
    close(ssim(pred, truth), golden["ssim_full"])
    close(masked_psnr(pred, truth, valid[..., None]), golden["psnr_masked"])
    close(ssim(*seen), golden["ssim_masked"])


def test_render_paths(arrays):
    golden = arrays("render_paths")
    frames = int(golden["n_frames"])
    poses = to_opengl(golden["extrinsics"][0])
    path = through_views(poses[:-1], frames)
    close(to_world_to_camera(path)[:, :3], golden["interpolate_w2c"])
    near, far = golden["near_fars"][0, -1].tolist()
    spiral = depth_spiral(flip_camera_axes(golden["spiral_c2ws"]), near, far, frames, looks_away=True)
    close(to_world_to_camera(spiral)[:, :3], golden["spiral_w2c"])


def test_dtu_cameras(arrays, tmp_path: Path):
    golden = arrays("dtu_camera")
    ids = golden["view_ids"].tolist()
    height, width = (int(side) for side in golden["depth_shape"])
    folder, images = tmp_path / "Cameras" / "train", tmp_path / "Rectified" / "scan1_train"
    folder.mkdir(parents=True)
    images.mkdir(parents=True)
    texts = dict(zip(ids, golden["cam_txt"].tolist(), strict=True))
    config = MVSNetDTUDataParserConfig(data=tmp_path, num_views=max(ids) + 1)
    for view in range(config.num_views):
        # The views in between are not among the reference vectors; they must be there for the scan to be whole.
        (folder / f"{view:08d}_cam.txt").write_text(texts.get(view, texts[ids[0]]), encoding="utf-8")
        name = f"rect_{view + 1:03d}_{config.light}_r5000.png"
        cv2.imwrite(str(images / name), np.zeros((height, width, 3), np.uint8))
    (tmp_path / "test.lst").write_text("scan1\n", encoding="utf-8")
    parser = config.setup()
    (entry,) = parser.scene_table("test")
    scene = parser.open_scene(entry)
    cameras = scene.cameras[torch.tensor(ids)]
    poses = cameras.camera_to_worlds.double().numpy()
    close(to_world_to_camera(poses), golden["extrinsics"])
    close(homogeneous(flip_camera_axes(poses)), golden["c2w"])
    lens = torch.cat([cameras.fx, cameras.fy, cameras.cx - 0.5, cameras.cy - 0.5], dim=-1)
    matrices = golden["intrinsics"]
    close(lens, np.stack([matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 2], matrices[:, 1, 2]], axis=1))
    files = [read_mvsnet_camera(folder / f"{view:08d}_cam.txt") for view in ids]
    near = np.array([file.depth_min for file in files]) * config.scale
    steps = np.array([file.depth_interval for file in files]) * config.scale
    close(np.stack([near, near + config.depth_planes * steps], axis=1), golden["near_fars"])
    nearest = SourceViewsConfig("nearest", count=len(ids) - 1, distance="l1", pool=tuple(ids))
    target = scene.cameras.camera_to_worlds[ids[-1]]
    assert SourceViews(nearest).select(scene, target, exclude=ids[-1:]) == tuple(golden["nearest_order"].tolist())


def test_dtu_depth(arrays, tmp_path: Path):
    golden = arrays("dtu_camera")
    height, width = (int(side) for side in golden["depth_shape"])
    rows, columns = np.mgrid[:1200, :1600].astype(np.float32)
    cv2.imwrite(str(tmp_path / "depth_map_0000.pfm"), 500 + 0.25 * rows + 0.125 * columns)
    scale = MVSNetDTUDataParserConfig().scale
    depth = read_mvsnet_depth(tmp_path / "depth_map_0000.pfm", (height, width), scale)
    step = height // len(golden["depth_sub"])
    close(depth[::step, ::step], golden["depth_sub"])


@pytest.mark.parametrize("name", FILES)
def test_zz_every_array_was_compared(arrays, name: str, request: pytest.FixtureRequest):
    expect_all_used(arrays(name), request)

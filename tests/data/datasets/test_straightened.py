"""Photos of lenses that bend lines, straightened for backbones that know pinhole cameras alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import numpy.typing as npt
import pytest
import torch
from colmap_models import Lens, Spheres, write_spheres
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image
from PIL import Image

from fewshot_ns.cameras.lenses import bent, straightened_cameras
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.files.colmap import read_colmap
from fewshot_ns.data.labels import depth_labels, nearness_labels
from fewshot_ns.data.seeds.colmap import colmap_cloud

LENS = Lens("OPENCV", (240, 320), 260.0)


def dataset_of(folder: Path, straighten: bool, split: str = "train", **flags: Any) -> FewShotDataset:
    parser = FewShotColmapDataParserConfig(data=folder, straighten=straighten, **flags).setup()
    return FewShotDataset(parser.get_dataparser_outputs(split))


def apart(pixels: npt.NDArray[np.float64], visible: npt.NDArray[np.bool_]) -> List[int]:
    """Points in the photo, no two of which are close to each other."""
    chosen: List[int] = []
    for point in np.flatnonzero(visible):
        inside = (pixels[point] > 20).all() and (pixels[point] < np.array([300, 220])).all()
        if inside and all(np.abs(pixels[point] - pixels[other]).max() > 20 for other in chosen):
            chosen.append(int(point))
    return chosen


def dotted(folder: Path, scene: Spheres) -> List[List[int]]:
    """Photos that show a dot where the lens shows a point; which points."""
    row, column = np.mgrid[:240, :320] + 0.5
    shown = []
    for view, name in enumerate(scene.names):
        pixels = LENS.project(scene.local(view))
        shown.append(apart(pixels, scene.sees[view]))
        photo = np.zeros((240, 320))
        for point in shown[-1]:
            photo += 250 * np.exp(-((column - pixels[point, 0]) ** 2 + (row - pixels[point, 1]) ** 2) / (2 * 1.8**2))
        Image.fromarray(np.repeat(np.round(photo).astype(np.uint8)[..., None], 3, -1)).save(folder / "images" / name)
    return shown


def projected(dataset: FewShotDataset, view: int, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(P, 2) columns and rows at which a pinhole camera of the dataset sees points of the scene's files."""
    world = dataset.world_scale * (points @ dataset.file_to_world[:, :3].double().numpy().T)
    world += dataset.world_scale * dataset.file_to_world[:, 3].double().numpy()
    camera = dataset.cameras[view]
    pose = camera.camera_to_worlds.double().numpy()
    local = (world - pose[:, 3]) @ pose[:, :3]
    x, y = -local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
    return np.stack([x * float(camera.fx) + float(camera.cx), y * float(camera.fy) + float(camera.cy)], axis=-1)


def dot_at(photo: npt.NDArray[np.float64], place: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Column and row of the middle of the dot near a place."""
    left, top = np.floor(place).astype(int) - 8
    part = photo[top : top + 17, left : left + 17]
    row, column = np.mgrid[top : top + 17, left : left + 17] + 0.5
    return np.array([(part * column).sum(), (part * row).sum()]) / part.sum()


def test_points_lie_where_the_straightened_photo_shows_them(tmp_path: Path) -> None:
    scene = write_spheres(tmp_path, (LENS,))
    shown = dotted(tmp_path, scene)
    for split in ("train", "test"):
        straight, lens = dataset_of(tmp_path, True, split), dataset_of(tmp_path, False, split)
        assert straight.cameras.distortion_params is None and lens.cameras.distortion_params is not None
        off, before = [], []
        for view, index in enumerate(straight.fewshot.image_indices):
            photo = straight.get_image_float32(view)[..., 0].double().numpy()
            height, width = straight.size_of(view)
            assert photo.shape == (height, width) and straight.get_data(view)["image"].shape == (height, width, 3)
            places = projected(straight, view, scene.points)
            bends = LENS.project(scene.local(index))
            inside = [
                point
                for point in shown[index]
                if (places[point] > 12).all() and (places[point] < np.array([width - 12, height - 12])).all()
            ]
            assert len(inside) >= 4
            off += [np.linalg.norm(dot_at(photo, places[point]) - places[point]) for point in inside]
            before += [np.linalg.norm(projected(lens, view, scene.points)[point] - bends[point]) for point in inside]
        assert max(off) < 0.1 and max(before) > 0.5
        validate_dataset(straight)


def test_cameras_and_photos_are_those_of_nerfstudio(tmp_path: Path) -> None:
    write_spheres(tmp_path, (LENS,))
    straight, lens = dataset_of(tmp_path, True), dataset_of(tmp_path, False)
    for view in range(len(lens)):
        camera = lens.cameras[view]
        matrix = camera.get_intrinsics_matrices().numpy().astype(np.float64)
        assert camera.distortion_params is not None
        parameters = camera.distortion_params.numpy()
        new, theirs, _ = _undistort_image(camera, parameters, {}, lens.get_image_float32(view).numpy(), matrix)
        found = straight.cameras[view]
        ours = torch.cat([found.fx, found.fy, found.cx, found.cy]).numpy()
        np.testing.assert_allclose(ours, [new[0, 0], new[1, 1], new[0, 2], new[1, 2]], rtol=1e-6)
        assert straight.size_of(view) == theirs.shape[:2]
        np.testing.assert_allclose(straight.get_image_float32(view).numpy()[1:-1, 1:-1], theirs[1:-1, 1:-1], atol=0.04)


def test_pinhole_photos_and_rays_stay_as_they_are(tmp_path: Path) -> None:
    write_spheres(tmp_path / "pinhole")
    write_spheres(tmp_path / "lens", (Lens("OPENCV"),))
    one, other = (dataset_of(tmp_path / "pinhole", straighten) for straighten in (False, True))
    assert other.fewshot.lenses is None and other.as_photographed() is other
    for name in ("fx", "fy", "cx", "cy", "height", "width", "camera_to_worlds"):
        assert torch.equal(getattr(one.cameras, name), getattr(other.cameras, name))
    assert torch.equal(one.get_image_float32(0), other.get_image_float32(0))
    lens = dataset_of(tmp_path / "lens", False)
    again = dataset_of(tmp_path / "lens", True).as_photographed()
    assert lens.fewshot.lenses is None and torch.equal(lens.get_image_float32(1), again.get_image_float32(1))
    assert torch.equal(lens.cameras.fx, again.cameras.fx)
    assert torch.equal(lens.cameras.distortion_params, again.cameras.distortion_params)  # type: ignore[arg-type]
    fisheye = Cameras(torch.eye(4)[None, :3], 50.0, 50.0, 32.0, 24.0, 64, 48, torch.ones(1, 6), camera_type=2)
    assert straightened_cameras(fisheye, ["a"]) is fisheye


def write_maps(folder: Path, scene: Spheres, meaning: str) -> None:
    """Depth of the plane z = 4 + 0.5 x of each camera, in the pixels of the lens."""
    x, y = np.meshgrid(np.linspace(-1, 1, 801), np.linspace(-0.8, 0.8, 641))
    plane = np.stack([x, y], -1).reshape(-1, 2)
    seen = LENS.project(np.concatenate([plane, np.ones((len(plane), 1))], 1))
    # The nearest of many points of the plane at distance 1 says where each pixel looks.
    depth, z = np.zeros((240, 320), np.float32), 4 / (1 - 0.5 * plane[:, 0])
    if meaning == "ray_distance":
        z = z * np.sqrt(1 + (plane**2).sum(-1))
    column, row = np.floor(seen).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < 320) & (row < 240)
    depth[row[inside], column[inside]] = z[inside]
    (folder / "depth").mkdir(exist_ok=True)
    for name in scene.names:
        np.save(folder / "depth" / f"{Path(name).stem}.npy", depth)


@pytest.mark.parametrize("meaning", ["z_depth", "ray_distance"])
def test_depth_maps_are_straightened_with_their_photos(meaning: Any, tmp_path: Path) -> None:
    write_maps(tmp_path, write_spheres(tmp_path, (LENS,)), meaning)
    flags = {"depth_dir": tmp_path / "depth", "depth_polarity": "distance", "depth_meaning": meaning, "depth_unit": 1.0}
    dataset = dataset_of(tmp_path, True, **flags)
    measured, camera = dataset.metric_depth(0), dataset.cameras[0]
    height, width = dataset.size_of(0)
    assert measured.z_depth.shape == measured.norms.shape == (height, width)
    x = (np.arange(width) + 0.5 - float(camera.cx)) / float(camera.fx)
    truth = np.broadcast_to(dataset.world_scale * 4 / (1 - 0.5 * x), (height, width))
    assert measured.valid.mean() > 0.98
    np.testing.assert_allclose(measured.z_depth[measured.valid], truth[measured.valid], rtol=6e-3)
    unbent = dataset.as_photographed().metric_depth(0)
    assert unbent.z_depth.shape == (240, 320)
    assert depth_labels(dataset)[0].shape == (height, width, 3)
    nearness = nearness_labels(dataset)[0][..., 0].numpy()
    np.testing.assert_allclose(nearness[measured.valid], 1 / truth[measured.valid], rtol=6e-3)
    assert dataset.depth_map(0).values.shape == (height, width)


def test_masks_and_transparency_are_straightened_with_their_photos(tiny_nerfstudio_scene: Path) -> None:
    """A mask whose border is a straight line in the world, in a photo of a lens."""
    file = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(file.read_text())
    size, lens = (96, 128), (-0.3, 0.05, 0.0, 0.0, 0.001, -0.002)
    meta |= {"w": 128, "h": 96, "fl_x": 90.0, "fl_y": 90.0, "cx": 64.0, "cy": 48.0, "camera_model": "OPENCV"}
    meta |= {"k1": lens[0], "k2": lens[1], "p1": lens[4], "p2": lens[5]}
    # The line x = 0.5 as the lens shows it, as far as rows go.
    line = bent(torch.stack([torch.full((400,), 0.5), torch.linspace(-0.8, 0.8, 400)], -1), torch.tensor(lens)).numpy()
    border = np.interp(np.arange(96) + 0.5, line[:, 1] * 90 + 48, line[:, 0] * 90 + 64)
    left = np.arange(128)[None] + 0.5 < border[:, None]
    folder = tiny_nerfstudio_scene / "masks"
    folder.mkdir()
    for number, frame in enumerate(meta["frames"]):
        path = tiny_nerfstudio_scene / frame["file_path"]
        photo = np.full((*size, 4), 200, dtype=np.uint8)
        photo[..., 3] = np.where(left, 255, 0)
        Image.fromarray(photo).save(path)
        frame.pop("depth_file_path", None)
        frame["mask_path"] = f"masks/{number}.png"
        Image.fromarray(np.where(left, 255, 0).astype(np.uint8)).save(folder / f"{number}.png")
    file.write_text(json.dumps(meta))
    parser = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene, straighten=True).setup()
    dataset = FewShotDataset(parser.get_dataparser_outputs("train"))
    camera = dataset.cameras[0]
    mask, alpha = dataset.training_mask(0)[..., 0], dataset.alpha(0)
    assert alpha is not None and mask.shape == alpha.shape == dataset.size_of(0)
    edge = 0.5 * float(camera.fx) + float(camera.cx)
    for marked in (mask.float(), alpha):
        np.testing.assert_allclose(marked.sum(1).numpy(), edge, atol=1.6)
    lying = FewShotDataset(parser.get_dataparser_outputs("train")).as_photographed().training_mask(0)[..., 0]
    assert np.ptp(lying.sum(1).numpy()) > 2 >= np.ptp(mask.sum(1).numpy())
    photo, shown = dataset.photo_at(0, (48, 64))
    assert photo.shape == (48, 64, 3) and shown.shape == (48, 64)


def test_lenses_that_cannot_be_straightened(tmp_path: Path) -> None:
    def camera(*distortion: float) -> Tuple[Cameras, List[str]]:
        lens = torch.tensor([distortion])
        return Cameras(torch.eye(4)[None, :3], 50.0, 50.0, 32.0, 24.0, 64, 48, lens), ["scene/photo.png"]

    with pytest.raises(ValueError, match="scene/photo.png: expected lens distortion of k1, k2.*found k4 0.1"):
        straightened_cameras(*camera(0.0, 0.0, 0.0, 0.1, 0.0, 0.0))


def test_points_of_colmap_are_those_of_the_photo(tmp_path: Path) -> None:
    scene = write_spheres(tmp_path, (LENS,))
    dataset = dataset_of(tmp_path, True)
    cloud = colmap_cloud(read_colmap(tmp_path / "sparse/0/points3D.bin"), dataset.as_photographed())
    assert cloud is not None and len(cloud) > 20
    world = dataset.world_scale * (
        torch.from_numpy(scene.points).float() @ dataset.file_to_world[:, :3].T + dataset.file_to_world[:, 3]
    )
    assert torch.cdist(cloud.positions, world).min(1).values.max() < 2e-3

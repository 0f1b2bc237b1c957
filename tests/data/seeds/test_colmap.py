"""COLMAP's tracks triangulated anew from the training views, against points that are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np
import pytest
import torch
from nerfstudio.data.utils import colmap_parsing_utils as colmap
from scipy.optimize import least_squares

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.colmap import project, read_colmap
from fewshot_ns.data.seeds.colmap import colmap_cloud, triangulated

COUNT = 60
POINTS = np.random.default_rng(0).uniform([-0.6, -0.4, -4.4], [0.6, 0.4, -3.6], (COUNT, 3))
FULL = (320, 240)
Shift = Callable[[int, int], Tuple[float, float]]


def llff_poses(scene: Path) -> np.ndarray:
    """(12, 3, 4) OpenGL poses in the world of poses_bounds.npy."""
    matrices = np.load(scene / "poses_bounds.npy")[:, :15].reshape(-1, 3, 5)
    return np.stack([matrices[:, :, 1], -matrices[:, :, 0], matrices[:, :, 2], matrices[:, :, 3]], axis=2)


def write_model(
    folder: Path,
    poses: np.ndarray,
    focal: float,
    stems: Sequence[str],
    shift: Optional[Shift] = None,
    points: np.ndarray = POINTS,
    sees: Optional[np.ndarray] = None,
) -> Path:
    """A model whose photos are 320x240, that sees every point where it is. What it says of positions and colours is
    wrong: those must not be used. `shift` moves sightings, in pixels."""
    folder.mkdir(parents=True)
    intrinsics = np.array([focal, focal * FULL[0] / FULL[1], 0.5, 0.5])
    entries: Any = {number: ([], []) for number in range(len(points))}
    images = {}
    for view, pose in enumerate(poses):
        place, _, inside = project(points, pose, intrinsics)
        place = place * FULL
        visible = np.flatnonzero(inside if sees is None else inside & sees[:, view])
        xys = np.array([place[p] + (shift(p, view) if shift else 0.0) for p in visible]).reshape(-1, 2)
        for position, number in enumerate(visible):
            entries[number][0].append(view + 1)
            entries[number][1].append(position)
        rotation = (pose[:, :3] * np.array([1.0, -1.0, -1.0])).T
        images[view + 1] = colmap.Image(
            id=view + 1,
            qvec=colmap.rotmat2qvec(rotation),
            tvec=-rotation @ pose[:, 3],
            camera_id=1,
            name=f"{stems[view]}.jpg",
            # Sightings of no point stand among the others.
            xys=np.concatenate([xys, [[3.0, 4.0]]]),
            point3D_ids=np.array([*(visible + 1), -1]),
        )
    parameters = np.array([focal * FULL[0], focal * FULL[0], FULL[0] / 2, FULL[1] / 2])
    camera = colmap.Camera(id=1, model="PINHOLE", width=FULL[0], height=FULL[1], params=parameters)
    colmap.write_cameras_binary({1: camera}, str(folder / "cameras.bin"))
    colmap.write_images_binary(images, str(folder / "images.bin"))
    wrong = {
        number + 1: colmap.Point3D(
            number + 1,
            points[number] + 1.0,
            np.array([255, 0, 0]),
            np.array(0.5),
            np.array(seen, dtype=int),
            np.array(where, dtype=int),
        )
        for number, (seen, where) in entries.items()
    }
    colmap.write_points3D_binary(wrong, str(folder / "points3D.bin"))
    return folder / "points3D.bin"


def llff_dataset(scene: Path) -> FewShotDataset:
    parser = LLFFDataParserConfig(data=scene, ray_space="metric").setup()
    return FewShotDataset(parser.get_dataparser_outputs("train"))


def focal_of(scene: Path) -> float:
    """Focal length as a fraction of the width."""
    height_width_focal = np.load(scene / "poses_bounds.npy")[0, :15].reshape(3, 5)[:, 4]
    return float(height_width_focal[2] / height_width_focal[1])


def nearest_of(points: torch.Tensor, others: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """(P,) distance to the nearest of other points, and which it is; exactly, not by products as `cdist`."""
    nearest = (points[:, None] - others).norm(dim=-1).min(dim=1)
    return nearest.values, nearest.indices


def world(dataset: FewShotDataset, points: np.ndarray = POINTS) -> torch.Tensor:
    transform = dataset.file_to_world.double().numpy()
    return torch.from_numpy(dataset.world_scale * (points @ transform[:, :3].T + transform[:, 3])).float()


@pytest.mark.parametrize("names", ["same", "others"])
def test_points_are_where_they_are(tiny_llff_scene: Path, names: str) -> None:
    stems = [f"image{view:03d}" if names == "same" else f"IMG_{7000 + view}" for view in range(12)]
    path = write_model(tiny_llff_scene / "sparse" / "0", llff_poses(tiny_llff_scene), focal_of(tiny_llff_scene), stems)
    dataset = llff_dataset(tiny_llff_scene)
    cloud = colmap_cloud(read_colmap(path), dataset)
    assert cloud is not None and cloud.confirmed.all() and len(cloud) > 30
    truth = world(dataset)
    apart, which = nearest_of(cloud.positions, truth)
    assert apart.max() < 1e-4 * truth.norm(dim=-1).max() and len(which.unique()) == len(cloud)
    # Each has the colour of the photos, and the size of a pixel of the view that it is nearest to.
    poses, focal = dataset.cameras.camera_to_worlds, float(dataset.cameras.fx[0])
    z_depth = -((cloud.positions[:, None] - poses[:, :, 3]) * poses[:, :, 2]).sum(-1)
    torch.testing.assert_close(cloud.radii, z_depth.gather(1, cloud.view[:, None])[:, 0] / focal, rtol=1e-4, atol=1e-6)
    assert not torch.isclose(cloud.colours, torch.tensor([1.0, 0.0, 0.0])).all(-1).any()
    assert cloud.source == f"colmap: {len(cloud)} points from views " + ", ".join(
        path.name for path in dataset.image_filenames
    )


def test_only_what_training_views_have_seen(tiny_llff_scene: Path) -> None:
    dataset = llff_dataset(tiny_llff_scene)
    train = list(dataset.fewshot.train_indices)
    sees = np.ones((COUNT, 12), dtype=bool)
    # The first twenty by held-out views alone, the next by one training view and all others.
    sees[:20, train] = False
    sees[20:40, train[1:]] = False
    stems = [f"image{view:03d}" for view in range(12)]
    poses, focal = llff_poses(tiny_llff_scene), focal_of(tiny_llff_scene)
    path = write_model(tiny_llff_scene / "sparse", poses, focal, stems, sees=sees)
    cloud = colmap_cloud(read_colmap(path), dataset)
    assert cloud is not None
    nearest = nearest_of(cloud.positions, world(dataset))[1]
    assert len(nearest) > 10 and nearest.min() >= 40

    # What held-out views say changes nothing, however wrong it is.
    def held_out_are_wrong(point: int, view: int) -> Tuple[float, float]:
        return (0.0, 0.0) if view in train else (20.0 + point, 15.0)

    again = write_model(tiny_llff_scene / "wrong", poses, focal, stems, held_out_are_wrong, sees=sees)
    same = colmap_cloud(read_colmap(again), dataset)
    assert same is not None and torch.equal(same.positions, cloud.positions)


def test_doubtful_points_are_left_out(tiny_llff_scene: Path) -> None:
    dataset = llff_dataset(tiny_llff_scene)
    train = list(dataset.fewshot.train_indices)
    points = POINTS.copy()
    # So far away that all cameras see it under one angle.
    points[:5] = [[0.1 * number, 0.0, -200.0] for number in range(5)]

    def wrong(point: int, view: int) -> Tuple[float, float]:
        return (0.0, 9.0) if 5 <= point < 15 and view == train[0] else (0.0, 0.0)

    stems = [f"image{view:03d}" for view in range(12)]
    arguments = llff_poses(tiny_llff_scene), focal_of(tiny_llff_scene), stems
    cloud = colmap_cloud(read_colmap(write_model(tiny_llff_scene / "sparse", *arguments, wrong, points)), dataset)
    whole = colmap_cloud(read_colmap(write_model(tiny_llff_scene / "exact", *arguments)), dataset)
    assert cloud is not None and whole is not None
    kept, could = (set(nearest_of(one.positions, world(dataset))[1].tolist()) for one in (cloud, whole))
    assert kept == could - set(range(15)) and could & set(range(5, 15)) and could & set(range(5))


def test_points_alone_do_not_say_who_saw_them(tiny_llff_scene: Path) -> None:
    path = write_model(
        tiny_llff_scene / "sparse", llff_poses(tiny_llff_scene), focal_of(tiny_llff_scene), [str(n) for n in range(12)]
    )
    for name in ("images.bin", "cameras.bin"):
        (path.parent / name).unlink()
    assert colmap_cloud(read_colmap(path), llff_dataset(tiny_llff_scene)) is None


def test_triangulation_against_the_nonlinear_optimum() -> None:
    generator = np.random.default_rng(3)
    centres = np.array([[-1.0, 0.0, 0.0], [0.2, 0.3, 0.0], [1.0, -0.2, 0.1]])
    truth = generator.uniform([-1, -1, -6], [1, 1, -3], (20, 3))
    point, view = np.repeat(np.arange(20), 3), np.tile(np.arange(3), 20)
    directions = truth[point] - centres[view] + 0.01 * generator.normal(size=(60, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    found = triangulated(centres[view], directions, point, 20)
    for number in range(20):
        mine = point == number

        def misses(position: np.ndarray, mine: np.ndarray = mine) -> np.ndarray:
            away = position - centres[view[mine]]
            across = away - (away * directions[mine]).sum(-1, keepdims=True) * directions[mine]
            return (across / np.linalg.norm(away, axis=-1, keepdims=True)).ravel()

        best = least_squares(misses, truth[number]).x
        assert np.linalg.norm(found[number] - best) < 2e-3
        assert np.linalg.norm(best - truth[number]) > 2e-3 or number > 3
    exact = truth[point] - centres[view]
    exact /= np.linalg.norm(exact, axis=-1, keepdims=True)
    np.testing.assert_allclose(triangulated(centres[view], exact, point, 20), truth, atol=1e-9)


def test_photos_of_a_lens(tiny_nerfstudio_scene: Path) -> None:
    """Sightings lie where the lens shows the points."""
    file = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(file.read_text())
    k1 = -0.15
    file.write_text(json.dumps({**meta, "camera_model": "OPENCV", "k1": k1, "k2": 0.0, "p1": 0.0, "p2": 0.0}))
    poses = np.array([frame["transform_matrix"] for frame in meta["frames"]])[:, :3]
    focal = meta["fl_x"] / meta["w"]

    def bent(point: int, view: int) -> Tuple[float, float]:
        local = (POINTS[point] - poses[view][:, 3]) @ poses[view][:, :3]
        plane = np.array([local[0], -local[1]]) / -local[2]
        moved = plane * k1 * (plane**2).sum() * focal * FULL[0]
        return float(moved[0]), float(moved[1])

    stems = [Path(frame["file_path"]).stem for frame in meta["frames"]]
    path = write_model(tiny_nerfstudio_scene / "elsewhere", poses, focal, stems, bent)
    parser = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup()
    dataset = FewShotDataset(parser.get_dataparser_outputs("train"))
    assert dataset.cameras.distortion_params is not None
    cloud = colmap_cloud(read_colmap(path), dataset)
    assert cloud is not None and len(cloud) > 30
    truth = world(dataset)
    assert nearest_of(cloud.positions, truth)[0].max() < 1e-3 * truth.norm(dim=-1).max()

"""nmr-data and dvr-dtu-data: lists and categories, camera files, limits of training, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import cv2
import numpy as np
import pytest

from fewshot_ns.data.dataparsers.multi.dvr_dtu import DVRDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.nmr import NMRDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import decompose_projections
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.records.scene import SceneError

FOCAL = 1.8


def poses(count: int) -> np.ndarray:
    """(count, 4, 4) OpenCV camera-to-world."""
    found = np.tile(np.eye(4), (count, 1, 1))
    found[:, :3, 3] = np.stack([np.linspace(-1, 1, count), np.zeros(count), np.full(count, -2.5)], axis=1)
    return found


def write_object(folder: Path, count: int = 3, size: int = 10) -> None:
    (folder / "image").mkdir(parents=True)
    (folder / "mask").mkdir()
    matrices = {}
    for index, pose in enumerate(poses(count)):
        image = np.full((size, size, 3), 255, np.uint8)
        image[2:6, 3:8] = (20 * index, 90, 160)
        cv2.imwrite(str(folder / "image" / f"{index:04d}.png"), image)
        mask = np.zeros((size, size), np.uint8)
        mask[2:6, 3:8] = 255
        cv2.imwrite(str(folder / "mask" / f"{index:04d}.png"), mask)
        matrices[f"camera_mat_{index}"] = np.diag([FOCAL, FOCAL, 1.0, 1.0])
        matrices[f"world_mat_inv_{index}"] = pose
    np.savez(folder / "cameras.npz", **matrices)


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    """Two categories; the second one has no list of the training split for unseen categories."""
    for category, names in (("02691156", ("a", "b")), ("03001627", ("c",))):
        for name in names:
            write_object(tmp_path / category / name)
        (tmp_path / category / "softras_train.lst").write_text("\n".join(names) + "\n\n", encoding="utf-8")
        (tmp_path / category / "gen_test.lst").write_text(names[0], encoding="utf-8")
    (tmp_path / "02691156" / "gen_train.lst").write_text("b\n", encoding="utf-8")
    (tmp_path / "metadata.yaml").write_text("{}", encoding="utf-8")
    return tmp_path


def names_of(data: Path, split: str = "train", **flags) -> Sequence[str]:
    return [entry.scene_id for entry in NMRDataParserConfig(data=data, **flags).setup().scene_table(split)]


def test_lists_and_categories(shapenet):
    assert names_of(shapenet) == ["02691156/a", "02691156/b", "03001627/c"]
    assert names_of(shapenet, categories=("03001627",)) == ["03001627/c"]
    assert names_of(shapenet, list_prefix="gen_") == ["02691156/b"]
    assert names_of(shapenet, "test", list_prefix="gen_") == ["02691156/a", "03001627/c"]
    with pytest.raises(FileNotFoundError, match="expected softras_test.lst in it or in the folders of its categories"):
        names_of(shapenet, "test")
    with pytest.raises(FileNotFoundError, match="expected the folder of a data set"):
        names_of(shapenet / "none")


def test_a_list_names_only_folders_beside_it(shapenet):
    (shapenet / "03001627" / "softras_train.lst").write_text("c\n../c\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"softras_train.lst line 2: .* found '../c'"):
        names_of(shapenet)


def test_boxes_come_from_the_masks(shapenet):
    parser = NMRDataParserConfig(data=shapenet).setup()
    scene = parser.open_scene(parser.scene_table("train")[0])
    assert SceneImages().box(scene, 1).tolist() == [3, 2, 7, 5]
    assert (scene.near, scene.far, scene.background) == (1.2, 4.0, "white")
    assert scene.cameras.fx[0].item() == pytest.approx(FOCAL * 5)


def test_sets_without_masks_are_read(shapenet):
    folder = shapenet / "02691156" / "a"
    for path in (folder / "mask").iterdir():
        path.unlink()
    parser = NMRDataParserConfig(data=shapenet).setup()
    scene = parser.open_scene(parser.scene_table("train")[0])
    assert scene.mask_filenames is None and SceneImages().box(scene, 0).tolist() == [0, 0, 9, 9]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: (f / "cameras.npz").unlink(), "cameras.npz: expected the cameras of the scene, found no such file"),
        (lambda f: (f / "cameras.npz").write_bytes(b"PK\x03\x04 cut"), "cameras.npz: expected an archive of matrices"),
        (lambda f: np.savez(f / "cameras.npz", camera_mat_0=np.eye(4)), "expected camera_mat_1 of view 1, found 1 "),
        (lambda f: np.savez(f / "cameras.npz", camera_mat_0=np.eye(3)), r"4x4 matrix camera_mat_0, .*shape \(3, 3\)"),
        (lambda f: np.savez(f / "cameras.npz", camera_mat_0=np.eye(4) * np.nan), "expected finite numbers in camera_"),
        (lambda f: (f / "mask" / "0001.png").unlink(), "expected one mask per image, found 2 for 3 images"),
        (lambda f: (f / "image").rename(f / "photos"), "image: expected images"),
    ],
)
def test_damaged_objects(shapenet, change, message):
    change(shapenet / "02691156" / "a")
    parser = NMRDataParserConfig(data=shapenet).setup()
    with pytest.raises(SceneError, match=message):
        parser.open_scene(parser.scene_table("train")[0])


def test_a_matrix_without_inverse(shapenet):
    folder = shapenet / "02691156" / "a"
    matrices = {f"camera_mat_{i}": np.diag([FOCAL, FOCAL, 1, 1]) for i in range(3)}
    np.savez(folder / "cameras.npz", **matrices, **{f"world_mat_{i}": np.diag([1.0, 0, 0, 1]) for i in range(3)})
    parser = NMRDataParserConfig(data=shapenet).setup()
    with pytest.raises(SceneError, match="expected an invertible world_mat_0"):
        parser.open_scene(parser.scene_table("train")[0])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """One scan of 52 views with intrinsics that differ from view to view."""
    folder = tmp_path / "scan1"
    (folder / "image").mkdir(parents=True)
    matrices = {}
    for index, pose in enumerate(poses(52)):
        cv2.imwrite(str(folder / "image" / f"{index:06d}.png"), np.zeros((12, 16, 3), np.uint8))
        calibration = np.array([[20.0 + index, 0, 8], [0, 21.0 + index, 6], [0, 0, 1]])
        matrices[f"world_mat_{index}"] = calibration @ np.linalg.inv(pose)[:3]
    np.savez(folder / "cameras.npz", **matrices)
    for split in ("train", "val"):
        (tmp_path / f"new_{split}.lst").write_text("scan1\n", encoding="utf-8")
    return tmp_path


def test_training_uses_the_first_49_views(scans):
    parser = DVRDTUDataParserConfig(data=scans).setup()
    train, val, test = (parser.open_scene(parser.scene_table(split)[0]) for split in ("train", "val", "test"))
    assert [len(scene.cameras) for scene in (train, val, test)] == [49, 52, 52]
    assert train.cameras.fx[0].item() == pytest.approx(20 + 24, rel=1e-4)
    assert val.cameras.fx[0].item() == pytest.approx(20 + 25.5, rel=1e-4)
    assert train.entry.scene_id == "scan1" and train.entry.category == ""
    whole = DVRDTUDataParserConfig(data=scans, max_train_views=None).setup()
    assert len(whole.open_scene(whole.scene_table("train")[0]).cameras) == 52


def test_own_intrinsics_of_each_view(scans):
    parser = DVRDTUDataParserConfig(data=scans, average_intrinsics=False).setup()
    scene = parser.open_scene(parser.scene_table("val")[0])
    np.testing.assert_allclose(scene.cameras.fx[:, 0], 20.0 + np.arange(52), rtol=1e-4)


def test_a_scale_without_extent(scans):
    with np.load(scans / "scan1" / "cameras.npz") as archive:
        matrices = dict(archive)
    np.savez(scans / "scan1" / "cameras.npz", **matrices, scale_mat_3=np.zeros((4, 4)))
    parser = DVRDTUDataParserConfig(data=scans).setup()
    with pytest.raises(SceneError, match="expected a scale_mat_3 without zeros on its diagonal"):
        parser.open_scene(parser.scene_table("train")[0])


def test_decomposition_gives_back_the_camera():
    pose = poses(3)[2]
    calibration = np.array([[20.0, 0, 8], [0, 21.0, 6], [0, 0, 1]])
    intrinsics, found = decompose_projections((calibration @ np.linalg.inv(pose)[:3])[None])
    np.testing.assert_allclose(intrinsics[0], calibration, atol=1e-4)
    np.testing.assert_allclose(found[0], pose[:3], atol=1e-5)

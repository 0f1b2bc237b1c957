"""dtu-data: calibration, masks, priors, where they are looked for, errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from depth_checks import read_all

from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata


def parse(scan: Path, split: str = "train", **flags):
    return DTUDataParserConfig(data=scan, **flags).setup().get_dataparser_outputs(split)


def test_cameras_project_like_the_matrices(tiny_dtu_scene):
    """A world point lands on the pixel that the 1600x1200 matrix gives, scaled to the files."""
    outputs = parse(tiny_dtu_scene, downscale_factor=2)
    record = get_fewshot_metadata(outputs.metadata)
    assert (outputs.cameras.width == 8).all() and (outputs.cameras.height == 6).all()
    calibration = tiny_dtu_scene.parents[1] / "SampleSet" / "MVS Data" / "Calibration" / "cal18"
    point = np.array([60.0, -40.0, -1200.0, 1.0])
    moved = outputs.dataparser_scale * (outputs.dataparser_transform.double().numpy() @ point)
    for position, index in enumerate(record.image_indices):
        expected = np.loadtxt(calibration / f"pos_{index + 1:03d}.txt") @ point
        expected = expected[:2] / expected[2] * np.array([8 / 1600, 6 / 1200])
        camera = outputs.cameras[position : position + 1]
        pose = camera.camera_to_worlds[0].double().numpy()
        local = pose[:, :3].T @ (moved - pose[:, 3])
        column = camera.cx.item() + camera.fx.item() * local[0] / -local[2]
        row = camera.cy.item() - camera.fy.item() * local[1] / -local[2]
        np.testing.assert_allclose([column, row], expected, atol=1e-3)


def test_world_frame_and_geometry(tiny_dtu_scene):
    outputs = parse(tiny_dtu_scene)
    record = get_fewshot_metadata(outputs.metadata)
    geometry = record.geometry
    assert (geometry.near, geometry.far, geometry.origin_plane_z) == (0.5, 3.5, 0.0)
    assert (geometry.ray_space, geometry.ray_shape, geometry.background) == ("metric", "cone", "black")
    assert record.resize == "bilinear" and record.protocol == "dtu-3"
    positions = record.scene_camera_to_worlds[:, :, 3]
    assert positions.abs().max().item() == pytest.approx(1.0, abs=1e-6)
    # OpenCV's world: the cameras look along +z, so OpenGL's backward axis points along -z.
    assert (record.scene_camera_to_worlds[:, 2, 2] < -0.5).all()
    torch.testing.assert_close(
        outputs.cameras.camera_to_worlds, record.scene_camera_to_worlds[list(record.image_indices)]
    )


def test_masks_and_priors_are_found_above_the_scan(tiny_dtu_scene):
    record = get_fewshot_metadata(parse(tiny_dtu_scene, "test").metadata)
    assert record.object_mask_filenames is not None and len(record.object_mask_filenames) == 25
    assert record.object_mask_filenames[0].name == "001.png"
    assert record.depth_prior_filenames is not None and record.depth_prior_filenames[0].name == "rect_002_3_r5000.npy"
    assert record.depth_encoding.polarity is None
    train = FewShotDataset(parse(tiny_dtu_scene))
    with pytest.raises(ValueError, match="give --depth-polarity"):
        read_all(train)
    with pytest.raises(ValueError, match="give --depth-polarity"):
        parse(tiny_dtu_scene, depth_dir=record.depth_prior_filenames[0].parent)
    read_all(FewShotDataset(parse(tiny_dtu_scene, depth_polarity="distance")))


def test_the_scan_may_be_a_link(tiny_dtu_scene, tmp_path):
    root = tiny_dtu_scene.parents[1]
    elsewhere = tmp_path / "elsewhere" / "photos"
    elsewhere.parent.mkdir()
    tiny_dtu_scene.rename(elsewhere)
    (root / "Rectified" / "scan1").symlink_to(elsewhere)
    assert get_fewshot_metadata(parse(root / "Rectified" / "scan1", "test").metadata).object_mask_filenames is not None


def test_masks_in_the_layout_with_a_mask_folder(tiny_dtu_scene):
    masks = tiny_dtu_scene.parents[1] / "idrmasks" / "scan1"
    files = sorted(masks.glob("*.png"))
    (masks / "mask").mkdir()
    for file in files:
        file.rename(masks / "mask" / file.name)
    record = get_fewshot_metadata(parse(tiny_dtu_scene, "test").metadata)
    assert record.object_mask_filenames is not None and record.object_mask_filenames[0].parent.name == "mask"


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_mask_and_calibration_flags(tiny_dtu_scene, tmp_path, depth):
    root = tiny_dtu_scene.parents[1]
    (root / "idrmasks").rename(tmp_path / "masks")
    (root / "SampleSet").rename(tmp_path / "calibration")
    cameras = tmp_path / "calibration" / "MVS Data" / "Calibration" / "cal18"
    with pytest.raises(FileNotFoundError, match="give --calibration-dir"):
        parse(tiny_dtu_scene)
    assert get_fewshot_metadata(parse(tiny_dtu_scene, calibration_dir=cameras).metadata).object_mask_filenames is None
    folder = (tmp_path / "masks", tmp_path / "masks" / "scan1", tmp_path / "nothing")[depth]
    if depth < 2:
        record = get_fewshot_metadata(parse(tiny_dtu_scene, calibration_dir=cameras, mask_dir=folder).metadata)
        assert record.object_mask_filenames is not None
    else:
        with pytest.raises(FileNotFoundError, match=r"nothing: expected object masks \(001\.png"):
            parse(tiny_dtu_scene, calibration_dir=cameras, mask_dir=folder)


def test_missing_files_of_the_chosen_views_are_named(tiny_dtu_scene):
    root = tiny_dtu_scene.parents[1]
    (root / "idrmasks" / "scan1" / "009.png").unlink()
    parse(tiny_dtu_scene)
    with pytest.raises(FileNotFoundError, match=r"009\.png: expected the object mask of view 9 \(--mask-dir\)"):
        parse(tiny_dtu_scene, "test")
    (tiny_dtu_scene / "rect_050_3_r5000.png").touch()
    (tiny_dtu_scene / "rect_004_3_r5000.png").unlink()
    parse(tiny_dtu_scene)
    (tiny_dtu_scene / "rect_026_3_r5000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"rect_026_3_r5000\.png: expected the photo of view 25"):
        parse(tiny_dtu_scene)


def test_missing_mask_of_a_training_view_is_no_error(tiny_dtu_scene):
    (tiny_dtu_scene.parents[1] / "idrmasks" / "scan1" / "025.png").unlink()
    assert get_fewshot_metadata(parse(tiny_dtu_scene).metadata).object_mask_filenames is None


def test_lights(tiny_dtu_scene):
    for file in list(tiny_dtu_scene.glob("*_3_r5000.png")):
        shutil.copy(file, file.with_name(file.name.replace("3_r5000", "max")))
    assert parse(tiny_dtu_scene, light_condition=7).image_filenames[0].name == "rect_026_max.png"
    with pytest.raises(FileNotFoundError, match=r"rect_002_5_r5000\.png: expected the photo of view 1"):
        parse(tiny_dtu_scene, light_condition=5)


def test_bad_calibration_is_refused(tiny_dtu_scene):
    path = tiny_dtu_scene.parents[1] / "SampleSet" / "MVS Data" / "Calibration" / "cal18" / "pos_005.txt"
    original = path.read_text()
    for text, message in (
        ("1 2 3\n4 5 6\n7 8 9\n", r"pos_005\.txt: expected a 3x4 projection matrix, found shape \(3, 3\)"),
        ("a b c d\n", r"pos_005\.txt: expected a 3x4 projection matrix"),
        (original.replace(original.split()[0], "nan", 1), r"pos_005\.txt: expected finite camera poses"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            parse(tiny_dtu_scene)
    path.unlink()
    with pytest.raises(ValueError, match="the scene has only 4 views"):
        parse(tiny_dtu_scene, max_images=4)


@pytest.mark.parametrize("number", [5, 26, 48, 49])
def test_a_missing_matrix_is_named_and_changes_no_views(tiny_dtu_scene, number):
    path = tiny_dtu_scene.parents[1] / "SampleSet" / "MVS Data" / "Calibration" / "cal18" / f"pos_{number:03d}.txt"
    path.unlink()
    for split in ("train", "test"):
        with pytest.raises(FileNotFoundError, match=rf"pos_{number:03d}\.txt: .*--max-images {number - 1} "):
            parse(tiny_dtu_scene, split)
    # Also of a view without a photo, since matrices behind it would be left out.
    (tiny_dtu_scene / f"rect_{number:03d}_3_r5000.png").unlink()
    if number < 49:
        with pytest.raises(FileNotFoundError, match=rf"pos_{number:03d}\.txt"):
            parse(tiny_dtu_scene)
    else:
        assert len(get_fewshot_metadata(parse(tiny_dtu_scene).metadata).scene_camera_to_worlds) == 48


def test_a_smaller_scan_and_a_larger_calibration_are_whole(make_dtu_scene, tmp_path):
    scan = make_dtu_scene(tmp_path / "small", count=30)
    record = get_fewshot_metadata(parse(scan, train_indices=(0, 5), test_indices=(3,)).metadata)
    assert len(record.scene_camera_to_worlds) == 30
    for number in range(28, 31):
        (scan / f"rect_{number:03d}_3_r5000.png").unlink()
    record = get_fewshot_metadata(parse(scan, train_indices=(0, 5), test_indices=(3,)).metadata)
    assert len(record.scene_camera_to_worlds) == 30


def test_wrong_proportions_are_refused(tiny_dtu_scene):
    cv2.imwrite(str(tiny_dtu_scene / "rect_026_3_r5000.png"), np.zeros((16, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"rect_026_3_r5000\.png: expected the proportions .*1600x1200.* found 12x16"):
        parse(tiny_dtu_scene)


def test_real_scan(data_dir):
    outputs = parse(data_dir / "dtu" / "Rectified" / "scan24", downscale_factor=4, depth_polarity="distance")
    dataset = FewShotDataset(outputs)
    read_all(dataset)
    assert dataset[0]["image"].shape == (75, 100, 3) and dataset[0]["object_mask"].shape == (75, 100, 1)
    assert outputs.cameras.fx[0].item() == pytest.approx(180.77, abs=0.01)

"""llff-data: sizes, poses, folders, priors, errors."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata


def parse(scene: Path, split: str = "train", **flags):
    return LLFFDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs(split)


def rewrite(scene: Path, change) -> None:
    rows = np.load(scene / "poses_bounds.npy")
    np.save(scene / "poses_bounds.npy", change(rows))


def test_intrinsics_follow_the_files_and_the_factor(tiny_llff_scene):
    # poses_bounds is made for 128x96 with a focal length of 153.6; the files are 32x24.
    for factor in (1, 2, 3):
        cameras = parse(tiny_llff_scene, downscale_factor=factor).cameras
        width, height = 32 // factor, 24 // factor
        assert (cameras.width == width).all() and (cameras.height == height).all()
        np.testing.assert_allclose(cameras.fx.numpy(), 1.2 * width, rtol=1e-6)
        np.testing.assert_allclose(cameras.fy.numpy(), 1.6 * height, rtol=1e-6)
        np.testing.assert_allclose(cameras.cx.numpy(), width / 2)


def test_ndc_geometry_does_not_depend_on_the_resolution(tiny_llff_scene):
    geometries = {get_fewshot_metadata(parse(tiny_llff_scene, downscale_factor=f).metadata).geometry for f in (1, 2, 3)}
    (geometry,) = geometries
    assert geometry.ndc_focal == pytest.approx((2.4, 3.2))
    assert geometry.background == "black"


def test_points_project_where_they_did(tiny_llff_scene):
    """The normalised scene gives the same pixels as the file's own poses: recentring and scaling are a similarity."""
    outputs = parse(tiny_llff_scene)
    point = np.array([0.3, -0.2, -4.0])
    transform = outputs.dataparser_transform.double().numpy()
    moved = outputs.dataparser_scale * (transform @ np.append(point, 1.0))
    rows = np.load(tiny_llff_scene / "poses_bounds.npy")
    record = get_fewshot_metadata(outputs.metadata)
    for position, index in enumerate(record.image_indices):
        matrix = rows[index, :15].reshape(3, 5)
        original = np.stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2]], axis=1).T @ (point - matrix[:, 3])
        pose = outputs.cameras.camera_to_worlds[position].double().numpy()
        local = pose[:, :3].T @ (moved - pose[:, 3])
        np.testing.assert_allclose(local[:2] / local[2], original[:2] / original[2], atol=1e-5)


def test_nearest_bound_lies_beyond_the_near_plane(tiny_llff_scene):
    record = get_fewshot_metadata(parse(tiny_llff_scene).metadata)
    assert record.scene_bounds is not None
    assert record.scene_bounds.min().item() == pytest.approx(1 / 0.75, rel=1e-5)


def test_metric_option_takes_the_bounds(tiny_llff_scene):
    record = get_fewshot_metadata(parse(tiny_llff_scene, ray_space="metric").metadata)
    assert record.scene_bounds is not None
    assert record.geometry.ray_space == "metric" and record.geometry.ray_shape == "cone"
    own = record.scene_bounds[list(record.train_indices)]
    assert record.geometry.near == pytest.approx(0.9 * own.min().item(), rel=1e-5)
    assert record.geometry.far == pytest.approx(1.1 * own.max().item(), rel=1e-5)
    assert get_fewshot_metadata(parse(tiny_llff_scene, near=0.1, far=0.9).metadata).geometry.near == 0.1
    with pytest.raises(ValueError, match="0 <= near < far, got near 2"):
        parse(tiny_llff_scene, near=2.0)


def test_splits_and_explicit_indices(tiny_llff_scene, capsys):
    outputs = parse(tiny_llff_scene, train_indices=(3, 1), test_indices=(0, 2))
    record = get_fewshot_metadata(outputs.metadata)
    assert [path.stem for path in outputs.image_filenames] == ["image003", "image001"]
    assert record.image_indices == (3, 1) and record.test_indices == (0, 2) and record.protocol == "indices"
    echoed = " ".join(capsys.readouterr().out.split())
    assert "train views [3, 1], test views [0, 2]" in echoed and "32x24 pixels" in echoed
    torch.testing.assert_close(outputs.cameras.camera_to_worlds, record.scene_camera_to_worlds[[3, 1]])
    for split in ("val", "test"):
        assert get_fewshot_metadata(parse(tiny_llff_scene, split, test_indices=(2,)).metadata).image_indices == (2,)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="unknown split"):
        parse(tiny_llff_scene, "other")


def test_depth_priors_are_found_beside_the_images(tiny_llff_scene, tmp_path):
    record = get_fewshot_metadata(parse(tiny_llff_scene).metadata)
    assert record.depth_encoding.polarity == "inverse_depth" and record.depth_prior_filenames is not None
    assert [path.name for path in record.depth_prior_filenames] == [
        f"depth_image{i:03d}.png" for i in record.image_indices
    ]
    moved = tmp_path / "elsewhere"
    (tiny_llff_scene / "depth_maps").rename(moved)
    assert get_fewshot_metadata(parse(tiny_llff_scene).metadata).depth_prior_filenames is None
    assert get_fewshot_metadata(parse(tiny_llff_scene, depth_dir=moved).metadata).depth_prior_filenames is not None
    with pytest.raises(FileNotFoundError, match="expected depth priors named like the images"):
        parse(tiny_llff_scene, depth_dir=tmp_path / "nowhere")
    (moved / f"depth_image{record.image_indices[0]:03d}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"depth_image001\.png: expected the depth prior of view 1"):
        parse(tiny_llff_scene, depth_dir=moved)


def test_images_folder_is_chosen(tiny_llff_scene):
    (tiny_llff_scene / "images_4").rename(tiny_llff_scene / "photos")
    with pytest.raises(FileNotFoundError, match="expected a folder of photos named images_8, images_4"):
        parse(tiny_llff_scene)
    assert parse(tiny_llff_scene, images_dir=Path("photos")).image_filenames[0].parent.name == "photos"
    with pytest.raises(FileNotFoundError, match="expected a folder of images"):
        parse(tiny_llff_scene, images_dir=Path("absent"))


def test_nerfstudio_s_inference_switch_changes_nothing(tiny_llff_scene):
    parser = LLFFDataParserConfig(data=tiny_llff_scene, downscale_factor=2).setup()
    parser.downscale_factor = 1
    assert (parser.get_dataparser_outputs("train").cameras.width == 16).all()


def test_inference_reads_headers_only(tiny_llff_scene):
    path = tiny_llff_scene / "images_4" / "image001.png"
    path.write_bytes(path.read_bytes()[:200])
    outputs = parse(tiny_llff_scene)
    assert (outputs.cameras.width == 32).all()
    with pytest.raises(ValueError, match=r"image001\.png: expected a complete image"):
        validate_dataset(FewShotDataset(outputs))


def test_bad_scenes_are_refused(tiny_llff_scene, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected the folder of a scene"):
        parse(tmp_path / "nowhere")
    original = np.load(tiny_llff_scene / "poses_bounds.npy")

    def refused(change, error, message):
        rewrite(tiny_llff_scene, lambda _: change(original.copy()))
        with pytest.raises(error, match=message):
            parse(tiny_llff_scene)
        np.save(tiny_llff_scene / "poses_bounds.npy", original)

    def with_nan(rows):
        rows[4, 3] = np.nan
        return rows

    def with_zero_bound(rows):
        rows[2, 15] = 0.0
        return rows

    def portrait(rows):
        rows[:, [4, 9]] = rows[:, [9, 4]]
        return rows

    refused(
        lambda rows: rows[:-1], ValueError, r"poses_bounds\.npy: expected one row per photo, found 11 rows and 12 in"
    )
    refused(lambda rows: rows[:, :-1], ValueError, r"expected shape \(N, 17\), found \(12, 16\)")
    refused(with_nan, ValueError, r"poses_bounds\.npy: .*NaN or infinite values for image004")
    refused(with_zero_bound, ValueError, "expected positive depth bounds, .* in row 2, found 0")
    refused(portrait, ValueError, r"image001\.png: expected the proportions of poses_bounds\.npy \(96x128")
    (tiny_llff_scene / "poses_bounds.npy").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"poses_bounds\.npy: expected a numeric array"):
        parse(tiny_llff_scene)
    (tiny_llff_scene / "poses_bounds.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"poses_bounds\.npy: expected the poses"):
        parse(tiny_llff_scene)


def test_real_points_fall_on_their_own_colours(data_dir):
    """COLMAP's coloured points through the parsed cameras: any shift of the image makes the colours differ more."""
    scene = data_dir / "nerf_llff_data" / "fern"
    outputs = parse(scene, "test", images_dir=Path("images_8"))
    content, offset, points = (scene / "sparse" / "0" / "points3D.bin").read_bytes(), 8, []
    for _ in range(struct.unpack_from("<Q", content)[0]):
        entry = struct.unpack_from("<QdddBBBdQ", content, offset)
        points.append(entry[1:7])
        offset += 51 + 8 * entry[8]
    table = np.array(points)
    transform = outputs.dataparser_transform.double().numpy()
    world = outputs.dataparser_scale * (table[:, :3] @ transform[:, :3].T + transform[:, 3])
    camera, pose = outputs.cameras[0:1], outputs.cameras.camera_to_worlds[0].double().numpy()
    local = (world - pose[:, 3]) @ pose[:, :3]
    column = camera.cx.item() - camera.fx.item() * local[:, 0] / local[:, 2]
    row = camera.cy.item() + camera.fy.item() * local[:, 1] / local[:, 2]
    image = FewShotDataset(outputs)[0]["image"].numpy()
    height, width = image.shape[:2]
    seen = (local[:, 2] < 0) & (column > 4) & (column < width - 4) & (row > 4) & (row < height - 4)
    assert seen.mean() > 0.9

    def difference(dx: int, dy: int) -> float:
        found = image[(row[seen] + dy).astype(int), (column[seen] + dx).astype(int)]
        return float(np.median(np.abs(found - table[seen, 3:] / 255).mean(-1)))

    here = difference(0, 0)
    assert all(here < 0.9 * difference(dx, dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (3, 3), (-3, 3)))


def test_real_scene(data_dir):
    outputs = parse(data_dir / "nerf_llff_data" / "fern", images_dir=Path("images_16"), downscale_factor=2)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == (1, 10, 19) and record.test_indices == (0, 8, 16)
    assert (outputs.cameras.width == 126).all() and (outputs.cameras.height == 94).all()
    validate_dataset(FewShotDataset(outputs))

"""idr-data: matrices, the unit sphere, masks, which photo has which matrix, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_ns.cameras.poses import flip_camera_axes, look_at
from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig
from fewshot_ns.data.dataparsers.single.idr import IDRDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import OBJECT_MASK_KEY, FewShotDataset, validate_dataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata

WIDTH, HEIGHT = 64, 48
INTRINSICS = np.array([[70.0, 0.0, 33.0], [0.0, 75.0, 22.5], [0.0, 0.0, 1.0]])
SCALE, CENTRE = 150.0, np.array([20.0, -10.0, 600.0])
COUNT = 9


def world_pose(index: int) -> np.ndarray:
    """(3, 4) camera-to-world pose with OpenCV axes, in the file's millimetres: 450 from the sphere's centre."""
    angle = 2 * np.pi * index / COUNT
    place = CENTRE + 450.0 * np.array([np.cos(angle), 0.3, np.sin(angle)]) / np.sqrt(1.09)
    return flip_camera_axes(look_at(place, CENTRE, np.array([0.0, -1.0, 0.0])))


def world_mat(index: int) -> np.ndarray:
    pose = world_pose(index)
    rotation = pose[:, :3].T
    return np.vstack([INTRINSICS @ np.concatenate([rotation, -rotation @ pose[:, 3:]], axis=1), [0, 0, 0, 1]])


def pixels(point: np.ndarray, index: int) -> np.ndarray:
    """Where a point (3,) of the file's world is seen: centres of pixels are whole numbers."""
    seen = (world_mat(index) @ np.append(point, 1.0))[:3]
    return seen[:2] / seen[2]


def disc(index: int) -> np.ndarray:
    """(H, W) bool, the pixels of a ball of 60 mm about the sphere's centre."""
    column, row = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    centre = pixels(CENTRE, index)
    return np.hypot((column - centre[0]) / 70.0, (row - centre[1]) / 75.0) < 60.0 / 450.0


def write(folder: Path, name: str = "cameras_sphere.npz", count: int = COUNT, factor: float = 1.0) -> Path:
    """A scan of a red ball before green."""
    scale_mat = np.diag([SCALE, SCALE, SCALE, 1.0])
    scale_mat[:3, 3] = CENTRE
    arrays: Dict[str, np.ndarray] = {}
    for part in ("image", "mask"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        arrays[f"world_mat_{index}"] = factor * world_mat(index)
        arrays[f"scale_mat_{index}"] = scale_mat
        inside = disc(index)[..., None]
        photo = np.where(inside, [200, 20, 20], [10, 220, 10]).astype(np.uint8)
        Image.fromarray(photo).save(folder / "image" / f"{index:03d}.png")
        mask = np.broadcast_to(np.where(inside, 255, 0), (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(mask).save(folder / "mask" / f"{index:03d}.png")
    np.savez(folder / name, **arrays)
    return folder


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write(tmp_path / "scan")


def parse(scan: Path, split: str = "train", **flags: Any) -> Any:
    return IDRDataParserConfig(data=scan, **flags).setup().get_dataparser_outputs(split)


def change(scan: Path, **arrays: Any) -> None:
    path = scan / "cameras_sphere.npz"
    with np.load(path) as stored:
        old = dict(stored)
    old.update(arrays)
    np.savez(path, **{name: value for name, value in old.items() if value is not None})


@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_rays_pass_through_what_their_pixels_show(factor: float, tmp_path: Path) -> None:
    """A ray of each pixel, in the file's world, is the one of IDR's and NeuS's loaders; at half the size as well."""
    outputs = parse(write(tmp_path / "scan", factor=factor), train_indices=tuple(range(1, COUNT)))
    assert [path.name for path in outputs.image_filenames] == [f"{index:03d}.png" for index in range(1, COUNT)]
    transform, scale = outputs.dataparser_transform.double().numpy(), outputs.dataparser_scale
    for position, index in enumerate(range(1, COUNT)):
        for column, row in ((0, 0), (10, 7), (63, 47)):
            pose = world_pose(index)
            direction = pose[:, :3] @ np.linalg.solve(INTRINSICS, [column, row, 1.0])
            rays = outputs.cameras.generate_rays(position, coords=torch.tensor([row + 0.5, column + 0.5]))
            expected = transform[:, :3] @ direction / np.linalg.norm(direction)
            np.testing.assert_allclose(rays.directions.numpy(), expected, atol=2e-6)
            place = scale * (transform[:, :3] @ pose[:, 3] + transform[:, 3])
            np.testing.assert_allclose(rays.origins.numpy(), place, atol=2e-6)


def test_a_corner_is_counted_from_where_asked(scan: Path) -> None:
    inside, corner = parse(scan), parse(scan, integer_pixels=False)
    assert inside.cameras.cx[0].item() == pytest.approx(33.5) and corner.cameras.cx[0].item() == pytest.approx(33.0)
    half = parse(scan, downscale_factor=2)
    assert half.cameras.cx[0].item() == pytest.approx(16.75) and half.cameras.fy[0].item() == pytest.approx(37.5)


def test_the_unit_sphere_is_the_scene(scan: Path) -> None:
    outputs = parse(scan)
    record = get_fewshot_metadata(outputs.metadata)
    assert outputs.scene_box.aabb.tolist() == [[-1, -1, -1], [1, 1, 1]]
    # Cameras stand 3 radii away and look at its middle.
    assert record.scene_camera_to_worlds[:, :, 3].norm(dim=-1).numpy() == pytest.approx(np.full(COUNT, 3.0), abs=1e-5)
    assert (record.geometry.near, record.geometry.far) == (pytest.approx(2.0), pytest.approx(4.0))
    assert record.protocol == "idr-3" and record.test_indices == (0, 8) and record.bounds_from == "scene"
    given = get_fewshot_metadata(parse(scan, near=0.5, far=9.0).metadata).geometry
    assert (given.near, given.far) == (0.5, 9.0)


def test_from_within_the_sphere(scan: Path) -> None:
    scale_mat = np.diag([2 * 450.0] * 3 + [1.0])
    scale_mat[:3, 3] = CENTRE
    change(scan, **{f"scale_mat_{index}": scale_mat for index in range(COUNT)})
    geometry = get_fewshot_metadata(parse(scan).metadata).geometry
    assert (geometry.near, geometry.far) == (pytest.approx(0.05), pytest.approx(1.5))


def test_photos_are_transparent_off_their_masks(scan: Path) -> None:
    for split in ("train", "test"):
        dataset = FewShotDataset(parse(scan, split))
        validate_dataset(dataset)
        assert dataset.has_alpha and dataset.fewshot.has_alpha
        inside = disc(dataset.fewshot.image_indices[0])
        data = dataset[0]
        expected = np.where(inside[..., None], np.array([200, 20, 20]) / 255, 0.0)
        np.testing.assert_allclose(data["image"].numpy(), expected, atol=1e-6)
        np.testing.assert_array_equal(data[OBJECT_MASK_KEY][..., 0].numpy(), inside)
        assert "mask" not in data


@pytest.mark.parametrize("resize", ["area", "bilinear"])
def test_no_background_mixes_into_smaller_photos(resize: Any, scan: Path) -> None:
    dataset = FewShotDataset(parse(scan, downscale_factor=2, background="white", resize=resize))
    image, alpha = dataset[0]["image"], dataset.alpha(0)
    assert alpha is not None and ((alpha > 0) & (alpha < 1)).any()
    red = torch.tensor([200.0, 20.0, 20.0]) / 255
    expected = alpha[..., None] * red + 1 - alpha[..., None]
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)
    shown, opaque = dataset.photo_at(0, (12, 16))
    index = dataset.fewshot.image_indices[0]
    alpha = torch.from_numpy(disc(index).reshape(12, 4, 16, 4).mean((1, 3))).float()
    torch.testing.assert_close(shown, alpha[..., None] * red + 1 - alpha[..., None], atol=1e-5, rtol=0)
    assert torch.equal(opaque, alpha > 0.5)


def test_other_uses_of_masks(scan: Path) -> None:
    trains = FewShotDataset(parse(scan, masks="training"))[0]
    inside = disc(get_fewshot_metadata(parse(scan).metadata).image_indices[0])
    np.testing.assert_array_equal(trains["mask"][..., 0].numpy(), inside)
    assert trains["image"][0, 0].tolist() == pytest.approx([10 / 255, 220 / 255, 10 / 255])
    measured = FewShotDataset(parse(scan, masks="evaluation"))
    assert "mask" not in measured[0] and OBJECT_MASK_KEY in measured[0] and not measured.has_alpha


def test_a_scan_without_masks(scan: Path) -> None:
    for path in (scan / "mask").iterdir():
        path.unlink()
    data = FewShotDataset(parse(scan))[0]
    assert set(data) == {"image_idx", "image"} and data["image"][0, 0, 1] == pytest.approx(220 / 255)


def test_a_missing_or_turned_mask_is_named(scan: Path) -> None:
    mask = scan / "mask" / "001.png"
    Image.fromarray(np.zeros((WIDTH, HEIGHT), np.uint8)).save(mask)
    message = r"mask/001\.png: expected the proportions of 001\.png \(64x48 pixels.*found 48x64"
    for use in ("alpha", "training", "evaluation"):
        with pytest.raises(ValueError, match=message):
            validate_dataset(FewShotDataset(parse(scan, masks=use, train_indices=(1, 3))))
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"mask/001\.png: expected the mask of view 1"):
        parse(scan, train_indices=(1, 3))


def test_it_is_recognised(scan: Path, tmp_path: Path) -> None:
    config = FewShotAutoDataParserConfig(data=scan, num_views=4).settled()
    assert isinstance(config, IDRDataParserConfig) and config.num_views == 4
    assert config.recognised_by == "idr-data by cameras_sphere.npz and image/"
    older = write(tmp_path / "older", "cameras.npz")
    assert FewShotAutoDataParserConfig(data=older).settled().recognised_by == "idr-data by cameras.npz and image/"  # type: ignore[attr-defined]
    assert len(parse(older).image_filenames) == 3


def test_neus_s_file_comes_first(scan: Path) -> None:
    np.savez(scan / "cameras.npz", world_mat_0=np.zeros((4, 4)))
    assert len(parse(scan).cameras) == 3
    with pytest.raises(ValueError, match=r"cameras\.npz: expected world_mat_0"):
        parse(scan, cameras_file=Path("cameras.npz"))


def test_photos_that_were_left_out_keep_their_matrices(scan: Path) -> None:
    """Of photos 0, 3, 4, 7 each has the matrix of its number, not of its place."""
    for index in (1, 2, 5, 6, 8):
        (scan / "image" / f"{index:03d}.png").unlink()
    record = get_fewshot_metadata(parse(scan, train_indices=(1, 3)).metadata)
    seen = record.scene_camera_to_worlds[:, :, 3].numpy()
    expected = [(world_pose(index)[:, 3] - CENTRE) / SCALE for index in (0, 3, 4, 7)]
    np.testing.assert_allclose(seen, expected, atol=1e-5)
    (scan / "image" / "003.png").rename(scan / "image" / "three.png")
    with pytest.raises(ValueError, match="photos named by their numbers, found 9 matrices and 4 photos"):
        parse(scan)


def diagonal(*values: float) -> np.ndarray:
    return np.diag([*values, 1.0])


WRONG: Tuple[Tuple[Dict[str, Any], str], ...] = (
    ({"scale_mat_1": None}, "expected scale_mat_1, found 17 arrays without it"),
    ({"world_mat_2": np.eye(5)}, r"expected a 4x4 matrix world_mat_2, found float64 of shape \(5, 5\)"),
    ({"world_mat_2": np.full((4, 4), np.inf)}, "expected finite numbers in world_mat_2"),
    ({"world_mat_2": np.zeros((4, 4))}, "expected a projection matrix in world_mat_2 @ scale_mat_2"),
    ({"scale_mat_3": diagonal(9.0, 9.0, 9.0)}, "expected one scale_mat for all views, found several"),
    ({f"scale_mat_{i}": diagonal(9.0, 9.0, 8.0) for i in range(COUNT)}, "a scale_mat that scales all axes alike"),
    ({"camera_mat_0": diagonal(2.0, 2.0, 1.0)}, "found their intrinsics apart in camera_mat"),
    ({"world_mat_4": np.diag([2.0, 2.0, 1, 1]) @ world_mat(4)}, "expected the camera of a photo of 64x48 pixels"),
)


@pytest.mark.parametrize(("arrays", "message"), WRONG)
def test_wrong_matrices_are_refused(arrays: Dict[str, Any], message: str, scan: Path) -> None:
    change(scan, **arrays)
    with pytest.raises(ValueError, match=rf"cameras_sphere\.npz: .*{message}"):
        parse(scan)


def test_skew_is_refused(scan: Path) -> None:
    skewed = np.array([[1.0, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    change(scan, world_mat_1=skewed @ world_mat(1))
    with pytest.raises(ValueError, match=r"expected a camera without skew for 001\.png, found 3\.75 pixels"):
        parse(scan)


def test_absent_or_damaged_files(scan: Path) -> None:
    path = scan / "cameras_sphere.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cameras_sphere\.npz: expected an archive of matrices"):
        parse(scan)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"scan: expected the cameras of the scan, cameras_sphere\.npz or"):
        parse(scan)


def test_numbers_that_may_count_from_one_are_refused(scan: Path) -> None:
    for part in ("image", "mask"):
        (scan / part / "000.png").unlink()
    with pytest.raises(ValueError, match=r"expected the photo of world_mat_0 .* may count from 0 or from 1"):
        parse(scan)


def test_photos_smaller_than_their_masks_are_refused(scan: Path) -> None:
    for path in (scan / "image").iterdir():
        Image.open(path).resize((60, 45)).save(path)
    with pytest.raises(ValueError, match=r"000\.png: expected a photo of the size of its mask, 64x48, .* found 60x45"):
        parse(scan)

"""COLMAP's folders: cameras of every model, both file formats, where photos lie, seed points, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colmap_models import Lens, write_spheres
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.colmap import find_colmap
from fewshot_ns.data.records.metadata import SEED_COLOURS_KEY, SEED_POINTS_KEY, get_fewshot_metadata
from fewshot_ns.data.seeds.colmap import colmap_cloud

MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
BIG = (480, 640)


def parse(folder: Path, split: str = "train", **flags: Any) -> DataparserOutputs:
    return FewShotColmapDataParserConfig(data=folder, **flags).setup().get_dataparser_outputs(split)


def misses(outputs: DataparserOutputs, scene: Any) -> np.ndarray:
    """By how many of COLMAP's pixels the ray of each sighting misses its point."""
    record, found = get_fewshot_metadata(outputs.metadata), []
    transform, scale = outputs.dataparser_transform.double().numpy(), outputs.dataparser_scale
    world = torch.from_numpy(scale * (scene.points @ transform[:, :3].T + transform[:, 3]))
    order = np.argsort(scene.names)
    for position, view in enumerate(order[list(record.image_indices)]):
        lens, seen = scene.lenses[view], scene.sees[view]
        height, width = (int(side[position]) for side in (outputs.cameras.height, outputs.cameras.width))
        pixels = torch.from_numpy(lens.project(scene.local(view))[seen] * (width / lens.size[1], height / lens.size[0]))
        indices = torch.full((len(pixels), 1), position)
        rays = outputs.cameras.generate_rays(camera_indices=indices, coords=pixels.flip(-1).float())
        wanted = torch.nn.functional.normalize(world[torch.from_numpy(seen)] - rays.origins, dim=-1)
        found.append(lens.focal * torch.linalg.cross(rays.directions.double(), wanted).norm(dim=-1))
    return torch.cat(found).numpy()


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
@pytest.mark.parametrize("model", MODELS)
def test_cameras_project_like_colmaps(model: str, suffix: str, tmp_path: Path) -> None:
    scene = write_spheres(tmp_path, [Lens(model, BIG, 600.0)], suffix, shrink=20)
    outputs = parse(tmp_path, num_views=0)
    errors = misses(outputs, scene)
    assert len(errors) > 300 and errors.max() < 0.1
    assert (outputs.cameras.distortion_params is None) == ("PINHOLE" in model)
    # Photos are those of the names, wherever they stand in the file.
    assert [path.name for path in outputs.image_filenames] == [
        f"photo_{view:03d}.png" for view in range(12) if view % 8
    ]


def test_a_wrong_lens_would_be_seen(tmp_path: Path) -> None:
    scene = write_spheres(tmp_path, [Lens("OPENCV", BIG, 600.0)], shrink=20)
    for view, lens in enumerate(scene.lenses):
        scene.lenses[view] = replace(lens, model="PINHOLE")
    assert misses(parse(tmp_path), scene).max() > 1.0


def test_text_says_what_binary_says(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    lenses = [Lens("OPENCV"), Lens("SIMPLE_RADIAL", (36, 64), 70.0)]
    write_spheres(one, lenses, ".bin")
    write_spheres(two, lenses, ".txt")
    binary, text = parse(one), parse(two)
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "distortion_params", "width", "height"):
        assert torch.equal(getattr(binary.cameras, name), getattr(text.cameras, name)), name
    for key in (SEED_POINTS_KEY, SEED_COLOURS_KEY):
        assert torch.equal(binary.metadata[key], text.metadata[key])
    assert get_fewshot_metadata(binary.metadata).geometry == get_fewshot_metadata(text.metadata).geometry


def test_several_cameras_of_several_sizes(tmp_path: Path) -> None:
    lenses = [Lens("PINHOLE", BIG, 600.0), Lens("RADIAL", (360, 640), 500.0), Lens("SIMPLE_PINHOLE", (640, 480), 640.0)]
    scene = write_spheres(tmp_path, lenses, shrink=10)
    outputs = parse(tmp_path, num_views=0)
    assert misses(outputs, scene).max() < 0.1
    sizes = set(zip(outputs.cameras.height.flatten().tolist(), outputs.cameras.width.flatten().tolist(), strict=True))
    assert sizes == {(48, 64), (36, 64), (64, 48)}
    assert outputs.cameras.distortion_params is not None
    assert (outputs.cameras.distortion_params != 0).any(-1).tolist() == [
        view % 3 == 1 for view in range(12) if view % 8
    ]
    halved = parse(tmp_path, num_views=0, downscale_factor=2)
    assert misses(halved, scene).max() < 0.1 and int(halved.cameras.width.max()) == 32


def test_the_same_scene_as_a_transforms_json_of_ns_process_data(tmp_path: Path) -> None:
    """nerfstudio's own conversion of the model, read by its own parser."""
    from nerfstudio.process_data.colmap_utils import colmap_to_json

    scene = write_spheres(tmp_path, [Lens("OPENCV")])
    colmap_to_json(recon_dir=tmp_path / "sparse" / "0", output_dir=tmp_path)
    ours = parse(tmp_path, num_views=5)
    theirs = FewShotNerfstudioDataParserConfig(data=tmp_path, num_views=5).setup().get_dataparser_outputs("train")
    assert ours.image_filenames == theirs.image_filenames
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "distortion_params"):
        torch.testing.assert_close(getattr(ours.cameras, name), getattr(theirs.cameras, name), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.dataparser_transform, theirs.dataparser_transform, rtol=1e-5, atol=1e-5)
    assert ours.dataparser_scale == pytest.approx(theirs.dataparser_scale, rel=1e-6)
    mine, other = (get_fewshot_metadata(outputs.metadata).geometry for outputs in (ours, theirs))
    assert (mine.near, mine.far) == pytest.approx((other.near, other.far), rel=1e-4)
    # The points say where the scene is: spheres from 2.9 to 5.4 in front of cameras at 4.
    assert 0.8 * 2.5 < mine.near / ours.dataparser_scale < 3.5
    assert 4.0 < mine.far / ours.dataparser_scale < 1.25 * 5.6
    assert len(scene.points) == 120


def test_seed_points_are_those_of_training_views(tmp_path: Path) -> None:
    scene = write_spheres(tmp_path)
    outputs = parse(tmp_path, train_indices=(1, 2, 9))
    record = get_fewshot_metadata(outputs.metadata)
    counts = scene.sees[[1, 2, 9]].sum(0)
    assert 0 < (counts > 0).sum() < len(scene.points)
    transform = outputs.dataparser_transform.double().numpy()
    world = outputs.dataparser_scale * (scene.points[counts > 0] @ transform[:, :3].T + transform[:, 3])
    np.testing.assert_allclose(outputs.metadata[SEED_POINTS_KEY].numpy(), world, atol=1e-4)
    assert record.seed_points_train_views is not None
    assert record.seed_points_train_views.tolist() == counts[counts > 0].tolist()
    assert "points3D.bin" in (record.seed_points_source or "")
    # Splats start from what the training views alone say of these points.
    cloud = colmap_cloud(find_colmap(tmp_path), FewShotDataset(outputs))
    assert cloud is not None and len(cloud) > 20
    away = np.linalg.norm(cloud.positions.numpy()[:, None] - world[None], axis=-1).min(1)
    assert away.max() < 0.02


def in_folders(view: int) -> str:
    return f"cam{view % 2}/{view // 2:03d}.png"


def test_names_with_folders_are_paths_not_stems(tmp_path: Path) -> None:
    """Two folders with photos of the same names."""
    scene = write_spheres(tmp_path, name_of=in_folders)
    outputs = parse(tmp_path, num_views=4)
    assert misses(outputs, scene).max() < 0.1
    assert {path.parent.name for path in outputs.image_filenames} == {"cam0", "cam1"}
    model = find_colmap(tmp_path)
    for path in outputs.image_filenames:
        image = model.image_of(path)
        assert image is not None and image.name == path.relative_to(tmp_path / "images").as_posix()
    cloud = colmap_cloud(model, FewShotDataset(outputs))
    transform = outputs.dataparser_transform.double().numpy()
    world = outputs.dataparser_scale * (scene.points @ transform[:, :3].T + transform[:, 3])
    assert cloud is not None and len(cloud) > 20
    assert np.linalg.norm(cloud.positions.numpy()[:, None] - world[None], axis=-1).min(1).max() < 0.02


@pytest.mark.parametrize("model", ["sparse/0", "sparse", "colmap/sparse/0"])
@pytest.mark.parametrize("images", ["images", "images_4", ".", "input"])
def test_where_things_lie(images: str, model: str, tmp_path: Path) -> None:
    write_spheres(tmp_path, images=images, model=model, shrink=4 if images == "images_4" else 1)
    flags: Any = {"images_dir": Path("input")} if images == "input" else {}
    outputs = parse(tmp_path, **flags)
    assert outputs.image_filenames[0] == tmp_path / images / "photo_001.png"
    assert int(outputs.cameras.width[0]) == (16 if images == "images_4" else 64)


def test_photos_of_another_suffix_and_photos_without_a_pose(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_spheres(tmp_path, count=10, name_of=lambda view: f"photo_{view:03d}.png")
    for path in (tmp_path / "images").iterdir():
        if path.stem == "photo_003":
            path.rename(path.with_suffix(".PNG"))
    for name in ("extra_1.png", "extra_2.png"):
        shutil.copyfile(tmp_path / "images" / "photo_001.png", tmp_path / "images" / name)
    outputs = parse(tmp_path, train_indices=(1, 3))
    assert outputs.image_filenames[1].name == "photo_003.PNG"
    assert "2 of 12 photos have no pose in COLMAP's model" in " ".join(capsys.readouterr().out.split())
    shutil.copytree(tmp_path / "sparse" / "0", tmp_path / "sparse" / "1")
    parse(tmp_path)
    assert "one of several models; the others are 1 (--colmap-dir)" in " ".join(capsys.readouterr().out.split())


def test_a_model_without_points_guesses_bounds(tmp_path: Path) -> None:
    write_spheres(tmp_path)
    (tmp_path / "sparse" / "0" / "points3D.bin").unlink()
    outputs = parse(tmp_path)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.bounds_from == "cameras" and SEED_POINTS_KEY not in outputs.metadata
    given = get_fewshot_metadata(parse(tmp_path, near=0.5, far=3.0).metadata)
    assert (given.geometry.near, given.geometry.far, given.bounds_from) == (0.5, 3.0, "flags")


@pytest.mark.parametrize("model", ["OPENCV_FISHEYE", "FULL_OPENCV"])
def test_other_lenses_are_refused_with_the_way_out(model: str, tmp_path: Path) -> None:
    write_spheres(tmp_path, [Lens(model)])
    expected = (
        rf"expected cameras of the models SIMPLE_PINHOLE, .*, OPENCV, found {model}; straighten the photos by `colmap "
        r"image_undistorter .*ns-fewshot prepare --poses .*sparse/0 --images IMAGES"
    )
    with pytest.raises(ValueError, match=expected):
        parse(tmp_path)


def test_missing_photos_are_named(tmp_path: Path) -> None:
    write_spheres(tmp_path)
    for view in (3, 4, 5, 6):
        (tmp_path / "images" / f"photo_{view:03d}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected the 12 photos .* no photo_003.png, .*005.png and 1 more"):
        parse(tmp_path, on_missing="stop")
    record = get_fewshot_metadata(parse(tmp_path).metadata)
    assert record.left_out == {"frames without a photo": 4} and record.train_indices == (1, 7, 11)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(FileNotFoundError, match=r"such as photo_000.png, in .*images_2.*; give --images-dir"):
        parse(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected COLMAP's cameras and images .*; give --colmap-dir"):
        parse(tmp_path, colmap_dir=Path("nowhere"))


def test_photos_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_spheres(tmp_path)
    wide = tmp_path / "wide"
    write_spheres(wide, [Lens(size=(48, 96))])
    shutil.copyfile(wide / "images" / "photo_001.png", tmp_path / "images" / "photo_001.png")
    with pytest.raises(ValueError, match=r"photo_001.png: expected the proportions of COLMAP's camera \(64x48"):
        parse(tmp_path)


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    write_spheres(tmp_path / "scene", name_of=lambda view: f"../other/{view}.png")
    with pytest.raises(ValueError, match=r"expected names of photos below a folder, found '\.\./other/"):
        parse(tmp_path / "scene")


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_damaged_files_give_one_error(name: str, suffix: str, tmp_path: Path) -> None:
    write_spheres(tmp_path, suffix=suffix)
    path = tmp_path / "sparse" / "0" / f"{name}{suffix}"
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, len(whole), dtype=np.uint8).tobytes()
    # Text ends anywhere in a number, and is whole but shorter where it ends with a line.
    for content in (whole[: len(whole) // 2 + 3], whole[:-20] if suffix == ".bin" else b"1 2\n", b"\xff" * 200, noise):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected") as caught:
            parse(tmp_path)
        assert str(tmp_path / "sparse" / "0") in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (" 60.0 ", " nan ", "finite parameters of camera 7"),
        (" 60.0 ", " -60.0 ", "positive focal lengths of camera 7"),
        ("PINHOLE 64", "PINHOLE 0", "expected a size"),
        ("7 PINHOLE", "8 PINHOLE", "the cameras of all images, found none for"),
    ],
)
def test_cameras_that_are_none(old: str, new: str, text: str, tmp_path: Path) -> None:
    write_spheres(tmp_path, suffix=".txt")
    path = tmp_path / "sparse" / "0" / "cameras.txt"
    content = path.read_text(encoding="utf8")
    assert old in content
    path.write_text(content.replace(old, new), encoding="utf8")
    with pytest.raises(ValueError, match=text):
        parse(tmp_path)


def test_poses_that_are_none(tmp_path: Path) -> None:
    write_spheres(tmp_path, suffix=".txt")
    path = tmp_path / "sparse" / "0" / "images.txt"
    lines = path.read_text(encoding="utf8").splitlines()
    for values, text in (("nan 0 0 0", "finite camera poses"), ("2 0 0 0", "unit quaternion for photo_011.png")):
        words = lines[1].split()
        words[1:5] = values.split()
        path.write_text("\n".join([lines[0], " ".join(words), *lines[2:]]), encoding="utf8")
        with pytest.raises(ValueError, match=text):
            parse(tmp_path)


def test_near_and_far_hold_what_the_training_views_see(tmp_path: Path) -> None:
    scene = write_spheres(tmp_path)
    outputs = parse(tmp_path, train_indices=(0, 1, 2))
    geometry, scale = get_fewshot_metadata(outputs.metadata).geometry, outputs.dataparser_scale
    depths = []
    for view in range(3):
        local, (height, width) = scene.local(view), scene.lenses[view].size
        pixels = scene.lenses[view].project(local)
        depths.append(local[((pixels >= 0) & (pixels <= (width, height))).all(-1), 2])
    low, high = np.quantile(np.concatenate(depths), [0.01, 0.99])
    assert (geometry.near / scale, geometry.far / scale) == pytest.approx((0.8 * low, 1.25 * high), rel=1e-4)
    old = get_fewshot_metadata(parse(tmp_path, train_indices=(0, 1, 2), bounds_of_all_photos=True).metadata).geometry
    assert (old.near, old.far) != (geometry.near, geometry.far)


def test_a_run_of_an_earlier_version_keeps_its_bounds() -> None:
    saved = {name: value for name, value in vars(FewShotColmapDataParserConfig()).items() if "all_photos" not in name}
    restored = FewShotColmapDataParserConfig.__new__(FewShotColmapDataParserConfig)
    restored.__setstate__(saved)
    assert restored.bounds_of_all_photos and not FewShotColmapDataParserConfig().bounds_of_all_photos

"""Which file is whose: photos of one name in several folders, names as other programs write them, files that lack."""

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest
import torch
from colmap_models import write_spheres
from PIL import Image

from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.colmap import find_colmap, read_model
from fewshot_ns.data.files.normals import find_normals
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.evaluation.runners.views import dataset_views

SIDES = ("left", "right")


def parse(scene: Path, split: str = "train", config: Any = FewShotNerfstudioDataParserConfig, **flags: Any) -> Any:
    return config(data=scene, **flags).setup().get_dataparser_outputs(split)


def meta_of(scene: Path) -> Dict[str, Any]:
    return json.loads((scene / "transforms.json").read_text())


def rename(scene: Path, name: Callable[[int], str]) -> None:
    """Gives the photos of a capture other names, on disk and in its file, and takes its depth out of the file."""
    meta = meta_of(scene)
    for index, frame in enumerate(meta["frames"]):
        (scene / name(index)).parent.mkdir(parents=True, exist_ok=True)
        (scene / frame["file_path"]).rename(scene / name(index))
        frame["file_path"] = name(index)
        frame.pop("depth_file_path", None)
    (scene / "transforms.json").write_text(json.dumps(meta))


@pytest.fixture
def rig(tiny_nerfstudio_scene: Path) -> Path:
    """Twelve photos of two cameras, six names; depth maps in `depth` by path, each of another value."""
    rename(tiny_nerfstudio_scene, lambda index: f"images/{SIDES[index % 2]}/{index // 2:04d}.png")
    shutil.rmtree(tiny_nerfstudio_scene / "depths")
    return tiny_nerfstudio_scene


def write_maps(scene: Path, folder: str = "depth_maps", flat: bool = False) -> None:
    for number, side in enumerate(SIDES):
        for index in range(6):
            place = scene / folder / ("" if flat else side)
            place.mkdir(parents=True, exist_ok=True)
            np.save(place / f"depth_{index:04d}.npy", np.full((24, 32), 1.0 + 6 * number + index, np.float32))


@pytest.mark.parametrize("config", [FewShotNerfstudioDataParserConfig, RGBDDataParserConfig])
@pytest.mark.parametrize("folder", ["depth_maps", "depth_maps/images"])
def test_depth_maps_are_those_of_the_photos_paths(folder: str, config: Any, rig: Path) -> None:
    write_maps(rig, folder)
    (rig / "depth_maps" / "depth.json").write_text('\ufeff{"polarity": "distance", "unit": 0.5}', encoding="utf-8")
    outputs = parse(rig, num_views=0, near=0.1, far=20.0, config=config)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.depth_prior_filenames is not None and len(record.depth_prior_filenames) == 10
    for image, file in zip(outputs.image_filenames, record.depth_prior_filenames, strict=True):
        # The scene's list is sorted: six of the left, then six of the right.
        expected = 1.0 + 6 * SIDES.index(image.parent.name) + int(image.stem)
        assert np.load(file)[0, 0] == expected
    assert record.depth_encoding.unit == pytest.approx(0.5 * outputs.dataparser_scale)


def test_a_bare_name_of_two_photos_is_an_error_that_names_both(rig: Path) -> None:
    write_maps(rig, flat=True)
    both = r"depth_0001.npy: expected the depth prior of one photo, found 2 photos of that name, left/0001.png and "
    with pytest.raises(
        ValueError, match=both.replace("0001", "0000") + r"right/0000.png in .*images; .*depth_maps/left"
    ):
        parse(rig, depth_dir=rig / "depth_maps")
    # Maps that were found on the way stop only what reads them.
    problem = get_fewshot_metadata(parse(rig).metadata).depth_prior_problem
    assert problem is not None and "left/0001.png and right/0001.png" in problem and "depth_maps" in problem
    with pytest.raises(FileNotFoundError, match=r"sensor's depth .*left/0001.png and right/0001.png"):
        parse(rig, config=RGBDDataParserConfig)
    # One file by its path leaves the bare name no more certain.
    write_maps(rig)
    assert get_fewshot_metadata(parse(rig).metadata).depth_prior_filenames is not None
    (rig / "depth_maps" / "right" / "depth_0001.npy").unlink()
    with pytest.raises(ValueError, match=both):
        parse(rig, depth_dir=rig / "depth_maps")


def test_a_bare_name_will_do_where_one_photo_has_it(tiny_nerfstudio_scene: Path) -> None:
    rename(tiny_nerfstudio_scene, lambda index: f"images/{SIDES[index % 2]}/{index:04d}.png")
    folder = tiny_nerfstudio_scene / "depth_maps"
    folder.mkdir()
    for index in range(12):
        np.save(folder / f"{index:04d}.npy", np.full((24, 32), 1.0 + index, np.float32))
    outputs = parse(tiny_nerfstudio_scene, depth_polarity="distance")
    record = get_fewshot_metadata(outputs.metadata)
    assert record.depth_prior_filenames is not None
    assert [path.stem for path in record.depth_prior_filenames] == [path.stem for path in outputs.image_filenames]
    assert [photo.name for photo in record.photos] == [path.name for path in outputs.image_filenames]


def test_photos_of_one_name_and_two_suffixes(tiny_nerfstudio_scene: Path) -> None:
    scene = tiny_nerfstudio_scene
    rename(scene, lambda index: f"images/{index // 2:04d}.{('png', 'jpg')[index % 2]}")
    folder = scene / "depth_maps"
    folder.mkdir()
    for index in range(12):
        name = f"{index // 2:04d}.{('png', 'jpg')[index % 2]}"
        np.save(folder / f"{name}.npy", np.full((24, 32), 1.0 + index, np.float32))
    outputs = parse(scene, depth_polarity="distance")
    record = get_fewshot_metadata(outputs.metadata)
    assert record.depth_prior_filenames is not None
    assert [path.name for path in record.depth_prior_filenames] == [f"{p.name}.npy" for p in outputs.image_filenames]
    assert [photo.stem for photo in record.photos] == [path.name for path in outputs.image_filenames]


def test_ledgers_tell_photos_of_one_name_apart(rig: Path) -> None:
    dataset = FewShotDataset(parse(rig, "test", test_indices=(0, 6)))
    assert [view.file_name for view in dataset_views(dataset, [0, 1])] == ["left/0000.png", "right/0000.png"]


def test_normals_by_path(rig: Path) -> None:
    images = [rig / "images" / side / "0000.png" for side in SIDES]
    for side in SIDES:
        (rig / "normals" / side).mkdir(parents=True)
        shutil.copy(images[0], rig / "normals" / side / "0000_normal.png")
    assert find_normals(images) == tuple(rig / "normals" / side / "0000_normal.png" for side in SIDES)
    shutil.move(rig / "normals" / "left" / "0000_normal.png", rig / "normals" / "0000_normal.png")
    assert find_normals(images)[1] == rig / "normals" / "right" / "0000_normal.png"
    (rig / "normals" / "right" / "0000_normal.png").unlink()
    with pytest.raises(ValueError, match=r"normals of one photo, found .* left/0000.png and right/0000.png"):
        find_normals(images)


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
@pytest.mark.parametrize(
    "name",
    [
        lambda view: f"{view // 2:04d}.{('png', 'jpg')[view % 2]}",
        lambda view: f"{SIDES[view % 2]} camera/{view // 2:04d}.png",
        lambda view: f"frame.{view:04d}",
    ],
)
def test_colmaps_images_are_told_apart(name: Callable[[int], str], suffix: str, tmp_path: Path) -> None:
    def with_format(view: int) -> str:
        return name(view) if PurePosixPath(name(view)).suffix in (".png", ".jpg") else f"{name(view)}.png"

    write_spheres(tmp_path, suffix=suffix, name_of=with_format)
    if with_format(0) != name(0):
        # As COLMAP names photos that had no suffix when it read them.
        path = tmp_path / "sparse" / "0" / f"images{suffix}"
        path.write_bytes(path.read_bytes().replace(b".png", b""))
    model = read_model(tmp_path / "sparse" / "0")
    assert len(model.images) == 12
    outputs = parse(tmp_path, num_views=0, config=FewShotColmapDataParserConfig)
    record = get_fewshot_metadata(outputs.metadata)
    assert len(record.scene_camera_to_worlds) == 12
    for path in outputs.image_filenames:
        image = model.image_of(path)
        assert image is not None and path.as_posix().startswith((tmp_path / "images" / image.name).as_posix())


def test_a_photo_that_colmap_left_out_is_not_its_namesake(tmp_path: Path) -> None:
    write_spheres(tmp_path, name_of=lambda view: f"{SIDES[view % 2]}/{view // 2:04d}.png")
    model = find_colmap(tmp_path)
    left = tmp_path / "images" / "left" / "0003.png"
    right = tmp_path / "images" / "right" / "0003.png"
    del model.images["right/0003.png"]
    assert model.images_of([left, right]) == [model.images["left/0003.png"], None]


WRITTEN = {
    "backslashes": lambda scene, name: name.replace("/", "\\"),
    "no suffix": lambda scene, name: name.removesuffix(".png"),
    "a drive": lambda scene, name: "C:\\Users\\me\\capture\\" + name.replace("/", "\\"),
    "another machine": lambda scene, name: "/home/someone/capture/" + name,
    "its own machine": lambda scene, name: str(scene / name),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_names_as_other_programs_write_them(kind: str, tiny_nerfstudio_scene: Path) -> None:
    expected = parse(tiny_nerfstudio_scene)
    test = parse(tiny_nerfstudio_scene, "test")
    meta = meta_of(tiny_nerfstudio_scene)
    for frame in meta["frames"]:
        frame["file_path"] = WRITTEN[kind](tiny_nerfstudio_scene, frame["file_path"])
        frame["depth_file_path"] = WRITTEN["backslashes"](tiny_nerfstudio_scene, frame["depth_file_path"])
    (tiny_nerfstudio_scene / "transforms.json").write_text(json.dumps(meta))
    for split, before in (("train", expected), ("test", test)):
        now = parse(tiny_nerfstudio_scene, split)
        assert now.image_filenames == before.image_filenames
        for name in ("camera_to_worlds", "fx", "fy", "cx", "cy"):
            assert torch.equal(getattr(now.cameras, name), getattr(before.cameras, name))
        assert torch.equal(now.dataparser_transform, before.dataparser_transform)
        records = [get_fewshot_metadata(outputs.metadata) for outputs in (now, before)]
        assert records[0].depth_prior_filenames == records[1].depth_prior_filenames


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_mark_that_editors_of_windows_leave(encoding: str, tiny_nerfstudio_scene: Path) -> None:
    expected = parse(tiny_nerfstudio_scene)
    path = tiny_nerfstudio_scene / "transforms.json"
    # nerfstudio finds the world of COLMAP's files by a folder beside the file.
    (tiny_nerfstudio_scene / "colmap" / "sparse" / "0").mkdir(parents=True)
    turned = parse(tiny_nerfstudio_scene)
    path.write_text(path.read_text(), encoding=encoding)
    now = parse(tiny_nerfstudio_scene)
    assert now.image_filenames == expected.image_filenames
    assert torch.equal(now.cameras.camera_to_worlds, expected.cameras.camera_to_worlds)
    assert torch.equal(now.dataparser_transform, turned.dataparser_transform)


def test_frames_without_photos_are_skipped_and_counted(
    tiny_nerfstudio_scene: Path, capsys: pytest.CaptureFixture
) -> None:
    scene = tiny_nerfstudio_scene
    whole = parse(scene)
    for index in (2, 5, 8):
        (scene / "images" / f"frame_{index:05d}.png").unlink()
    shutil.copy(scene / "images" / "frame_00000.png", scene / "images" / "other.png")
    shutil.copy(scene / "images" / "frame_00000.png", scene / "images" / "frame_00000_depth.png")
    capsys.readouterr()
    outputs = parse(scene)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == (1, 7, 11) and record.test_indices == (0,)
    assert record.left_out == {"frames without a photo": 3, "photos without a pose": 1}
    said = " ".join(capsys.readouterr().out.split())
    assert "of 12 frames, skipped 3 frames without a photo and 1 photos without a pose (--on-missing stop" in said
    # The world and the numbers of views are those of the whole file.
    assert torch.equal(record.scene_camera_to_worlds, get_fewshot_metadata(whole.metadata).scene_camera_to_worlds)
    with pytest.raises(FileNotFoundError, match=r"found no frame_00002.png, .*00008.png; .* --on-missing skip"):
        parse(scene, on_missing="stop")
    with pytest.raises(FileNotFoundError, match=r"frame_00005.png: expected the photo of view 5"):
        parse(scene, train_indices=(1, 5, 11))


def test_what_was_skipped_is_in_the_record_of_a_run(tiny_nerfstudio_scene: Path, tiny_pipeline_config: Any) -> None:
    (tiny_nerfstudio_scene / "images" / "frame_00005.png").unlink()
    parser = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene)
    pipeline = tiny_pipeline_config(parser).setup(device="cpu")
    assert pipeline.resolved()["left_out"] == {"frames without a photo": 1}


def test_a_scene_of_a_set_stops(tiny_nerfstudio_scene: Path) -> None:
    (tiny_nerfstudio_scene / "images" / "frame_00005.png").unlink()
    with pytest.raises(FileNotFoundError, match="frame_00005.png: expected the photo of view 5"):
        FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().read_views()


def test_what_nobody_uses_may_lack_and_nothing_moves(tiny_nerfstudio_scene: Path) -> None:
    (tiny_nerfstudio_scene / "images" / "frame_00002.png").unlink()
    assert get_fewshot_metadata(parse(tiny_nerfstudio_scene).metadata).train_indices == (1, 5, 11)


def test_a_prepared_scene_stops(tiny_nerfstudio_scene: Path) -> None:
    meta = meta_of(tiny_nerfstudio_scene)
    (tiny_nerfstudio_scene / "transforms.json").write_text(json.dumps({**meta, "held_out": []}))
    (tiny_nerfstudio_scene / "images" / "frame_00002.png").unlink()
    with pytest.raises(FileNotFoundError, match="frame_00002.png: expected the photo of view 2"):
        parse(tiny_nerfstudio_scene, num_views=0)
    assert len(parse(tiny_nerfstudio_scene, num_views=0, on_missing="skip").image_filenames) == 11


def test_a_capture_without_any_photo(tiny_nerfstudio_scene: Path) -> None:
    shutil.rmtree(tiny_nerfstudio_scene / "images")
    with pytest.raises(FileNotFoundError, match=r"photos of 12 frames, found no frame_00000.png, .* and 9 more"):
        parse(tiny_nerfstudio_scene)


def test_an_unposed_photo_stops_where_it_shall(tiny_nerfstudio_scene: Path) -> None:
    shutil.copy(tiny_nerfstudio_scene / "images" / "frame_00000.png", tiny_nerfstudio_scene / "images" / "other.png")
    with pytest.raises(ValueError, match=r"a pose of every photo, found none of other.png"):
        parse(tiny_nerfstudio_scene, on_missing="stop")


def turned_jpegs(scene: Path, size: Tuple[int, int], orientation: int) -> None:
    """Photos as JPEG of a stored size (width, height) with an EXIF orientation."""
    meta = meta_of(scene)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for frame in meta["frames"]:
        path = scene / frame["file_path"]
        frame["file_path"] = frame["file_path"].replace(".png", ".jpg")
        Image.open(path).resize(size).save(scene / frame["file_path"], exif=exif)
        path.unlink()
    (scene / "transforms.json").write_text(json.dumps(meta))


def test_a_photo_that_viewers_turn(tiny_nerfstudio_scene: Path, capsys: pytest.CaptureFixture) -> None:
    turned_jpegs(tiny_nerfstudio_scene, (24, 32), 6)
    with pytest.raises(
        ValueError, match=r"\(32x24, width x height\), found 24x32 and an EXIF orientation \(6\) .*prep"
    ):
        parse(tiny_nerfstudio_scene)


@pytest.mark.parametrize("orientation, said", [(6, False), (3, True)])
def test_cameras_of_photos_as_they_are_stored(
    orientation: int, said: bool, tiny_nerfstudio_scene: Path, capsys: pytest.CaptureFixture
) -> None:
    turned_jpegs(tiny_nerfstudio_scene, (32, 24), orientation)
    dataset = FewShotDataset(parse(tiny_nerfstudio_scene))
    assert dataset.get_numpy_image(0).shape == (24, 32, 3)
    assert ("have an EXIF orientation" in " ".join(capsys.readouterr().out.split())) == said


def test_a_capture_with_all_of_it(tiny_nerfstudio_scene: Path) -> None:
    """An opening angle alone, backslashes, no suffixes, a mark, and frames without a photo."""
    expected = parse(tiny_nerfstudio_scene, num_views=0)
    meta = meta_of(tiny_nerfstudio_scene)
    frames = [
        {
            "file_path": frame["file_path"].removesuffix(".png").replace("/", "\\"),
            "depth_path": frame["depth_file_path"],
        }
        | {"transform_matrix": frame["transform_matrix"][:3]}
        for frame in meta["frames"]
    ]
    angle = 2 * np.arctan(0.5 * meta["w"] / meta["fl_x"])
    content = json.dumps({"camera_angle_x": angle, "frames": frames})
    (tiny_nerfstudio_scene / "transforms.json").write_text(content, encoding="utf-8-sig")
    for index in (0, 3):
        (tiny_nerfstudio_scene / "images" / f"frame_{index:05d}.png").unlink()
    outputs = parse(tiny_nerfstudio_scene, num_views=0)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.left_out == {"frames without a photo": 2} and record.test_indices == (8,)
    kept = [place for place, path in enumerate(expected.image_filenames) if path.is_file()]
    assert outputs.image_filenames == [expected.image_filenames[place] for place in kept]
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy"):
        ours, whole = getattr(outputs.cameras, name), getattr(expected.cameras, name)[kept]
        torch.testing.assert_close(ours, whole, rtol=1e-5, atol=1e-5)
    whole_record = get_fewshot_metadata(expected.metadata)
    assert record.depth_prior_filenames is not None and whole_record.depth_prior_filenames is not None
    assert record.depth_prior_filenames == tuple(whole_record.depth_prior_filenames[place] for place in kept)

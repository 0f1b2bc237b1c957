"""Every format is recognised by its files, in the documented order, and what is none gets one error that helps."""

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from colmap_models import write_spheres

from fewshot_ns.data.dataparsers.recognition import MANY, SINGLE, NoPosesError, recognise

Maker = Callable[[Path, Any], Path]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def colmap(folder: Path, request: Any) -> Path:
    write_spheres(folder, count=2)
    return folder


def made_by(fixture: str) -> Maker:
    return lambda folder, request: Path(shutil.copytree(request.getfixturevalue(fixture), folder))


ONE: Dict[str, Maker] = {
    "llff-data": made_by("tiny_llff_scene"),
    "dtu-data": made_by("tiny_dtu_scene"),
    "multiscale-blender-data": lambda folder, _: touch(folder, "metadata.json", "images_train/000_d0.png"),
    "rgbd-data": lambda folder, _: touch(folder, "transforms_train.json", "train/target_depth/0.png"),
    "fewshot-blender-data": made_by("tiny_blender_scene"),
    "fewshot-nerfstudio-data": made_by("tiny_nerfstudio_scene"),
    "idr-data": lambda folder, _: touch(folder, "cameras_sphere.npz", "image/000.png", "mask/000.png"),
    "fewshot-colmap-data": colmap,
}
SETS: Dict[str, Maker] = {
    "srn-data": made_by("solids_once"),
    "mvsnet-dtu-data": made_by("tiny_mvsnet"),
    "dvr-dtu-data": lambda folder, _: touch(folder, "new_train.lst", "scan1/cameras.npz"),
    "nmr-data": lambda folder, _: touch(folder, "02691156/softras_train.lst", "02691156/a/cameras.npz"),
    "multi-object-data": lambda folder, _: touch(folder, "train/a/transforms.json", "train/a/00_obj.png"),
}


def test_all_are_tested() -> None:
    assert [one.parser for one in SINGLE] == list(ONE) and [one.parser for one in MANY] == list(SETS)


@pytest.mark.parametrize("parser", ONE)
def test_one_scene(parser: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    scene = ONE[parser](tmp_path / "here", request)
    found = recognise(scene)
    # ScanNet's layout has Blender's files, too, but not the other way round.
    also = ("fewshot-blender-data (transforms_train.json)",) if parser == "rgbd-data" else ()
    assert (found.parser, found.also, dict(found.settings)) == (parser, also, {})
    assert recognise(scene, many_scenes=True) == found
    # What is named is there.
    assert all((scene / sign).exists() for sign in found.sign.split(" and "))


@pytest.mark.parametrize("parser", SETS)
def test_many_scenes(parser: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = SETS[parser](tmp_path / "here", request)
    assert recognise(data, many_scenes=True).parser == parser
    with pytest.raises(ValueError, match=f"expected one scene, found a data set of many .*`{parser} --scene NAME`"):
        recognise(data)


def test_a_set_without_its_split(solids_once: Path, tmp_path: Path) -> None:
    """`--data DIR/set` for DIR/set_train, which is no folder itself; and the released chairs, one level deeper."""
    train = next(path for path in solids_once.iterdir() if path.name.endswith("_train"))
    shutil.copytree(train, tmp_path / "set_train")
    assert recognise(tmp_path / "set", many_scenes=True).sign == "set_train/*/intrinsics.txt"
    shutil.copytree(train, tmp_path / "chairs_train" / "chairs_2.0_train")
    assert recognise(tmp_path / "chairs", many_scenes=True).parser == "srn-data"


@pytest.mark.parametrize("first", range(len(SINGLE)))
def test_the_order(first: int, tmp_path: Path) -> None:
    """Of files of several formats the first in the table wins, and the line names the others."""
    files = {
        "llff-data": ["poses_bounds.npy"],
        "dtu-data": ["rect_001_3_r5000.png"],
        "multiscale-blender-data": ["metadata.json", "images_train/0.png"],
        "rgbd-data": ["train/target_depth/0.png"],
        "fewshot-blender-data": ["transforms_train.json"],
        "fewshot-nerfstudio-data": ["transforms.json"],
        "idr-data": ["cameras.npz", "image/000.png"],
        "fewshot-colmap-data": ["sparse/0/cameras.bin", "sparse/0/images.bin"],
    }
    rest = list(files)[first:]
    for parser in rest:
        touch(tmp_path, *files[parser])
    found = recognise(tmp_path)
    assert found.parser == rest[0]
    assert [other.split()[0] for other in found.also] == rest[1:]
    assert all(other in found.in_words for other in rest)


def test_files(tmp_path: Path) -> None:
    touch(tmp_path, "mine.json", "film.mp4")
    assert recognise(tmp_path / "mine.json").parser == "fewshot-nerfstudio-data"
    with pytest.raises(ValueError, match=r"film.mp4: expected the folder of a scene or a transforms.json"):
        recognise(tmp_path / "film.mp4")
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected the folder of a scene \(--data\), found nothing"):
        recognise(tmp_path / "nowhere", many_scenes=True)


@pytest.mark.parametrize(
    ("folder", "depth", "expected"),
    [
        ("kinect/scene01", "depth_maps/0001_train.png", "nvs-kinect"),
        ("nvs/ZED2/scene01", "depth_maps/0001_train.png", "nvs-zed"),
        ("any/scene01", "depth_maps/0001-depth_train.jpg", "nvs-iphone"),
        ("any/scene01", "depth_maps/0001_train.png", None),
    ],
)
def test_cameras_of_nvs_rgbd(folder: str, depth: str, expected: Any, tmp_path: Path) -> None:
    scene = touch(tmp_path / folder, "poses_bounds.npy", "images_2/0001_train.jpg", "images_2/0002.jpg", depth)
    found = recognise(scene)
    assert found.parser == "llff-data" and found.settings.get("view_protocol") == expected
    if expected is not None:
        assert f"llff-data --view-protocol {expected} by poses_bounds.npy" in found.in_words


def test_folders_of_scenes(tmp_path: Path) -> None:
    touch(tmp_path, "a/poses_bounds.npy", "b/poses_bounds.npy", "notes/readme.txt")
    found = recognise(tmp_path, many_scenes=True)
    assert (found.parser, found.sign) == ("scene-folder-data", "a/poses_bounds.npy")
    assert found.of_scenes is not None and found.of_scenes.parser == "llff-data"
    with pytest.raises(ValueError, match=r"scenes below: a \(llff-data\), b \(llff-data\); give one of them as --data"):
        recognise(tmp_path)
    touch(tmp_path, "c/transforms.json")
    with pytest.raises(
        ValueError, match=r"scenes of one format, found llff-data \(a\) and fewshot-nerfstudio-data \(c"
    ):
        recognise(tmp_path, many_scenes=True)


def test_splits_with_scenes(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/transforms.json", "train/a/images/0.png", "val/b/transforms.json")
    found = recognise(tmp_path, many_scenes=True)
    assert (found.parser, found.sign) == ("scene-folder-data", "train/a/transforms.json")


def test_photos_without_poses(tmp_path: Path) -> None:
    scene = touch(tmp_path / "x", *(f"images/{number}.JPG" for number in range(5)), "images/notes.txt")
    with pytest.raises(ValueError) as caught:
        recognise(scene)
    text = str(caught.value)
    assert all(one.looks_for in text and one.parser in text for one in SINGLE)
    assert f"found 5 photos in images/, no poses. `ns-fewshot prepare --images {scene}/images --output SCENE`" in text
    assert f"`ns-fewshot photos {scene}/images`" in text
    assert "softras" not in text
    with pytest.raises(
        NoPosesError, match=r"softras_\*\.lst .*found 5 photos.*`ns-fewshot photo IMAGE` shows one photo"
    ):
        recognise(scene, many_scenes=True)
    assert "ns-fewshot photo IMAGE" not in text and isinstance(caught.value, NoPosesError)
    with pytest.raises(ValueError, match="found 5 photos, no poses"):
        recognise(scene / "images")


def test_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solids_once: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^\.: expected the files of a scene"):
        recognise(Path(), many_scenes=True)
    touch(tmp_path, "sparse/cameras.txt", "sparse/images.txt")
    assert recognise(Path()).sign == "sparse/"
    monkeypatch.chdir(solids_once)
    assert recognise(Path("."), many_scenes=True).parser == "srn-data"


def test_anything_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found an empty folder; `ns-fewshot prepare --images PHOTOS --output SCENE`"):
        recognise(tmp_path / "empty")
    touch(tmp_path / "code", *(f"{letter}.py" for letter in "abcdefg"))
    with pytest.raises(ValueError, match=r"found a.py, b.py, c.py, d.py, e.py and 2 more; where poses lie elsewhere"):
        recognise(tmp_path / "code")


def test_a_metadata_json_alone_is_no_multiscale_scene(tmp_path: Path) -> None:
    touch(tmp_path, "metadata.json")
    (tmp_path / "transforms.json").write_text(json.dumps({}), encoding="utf8")
    assert recognise(tmp_path).parser == "fewshot-nerfstudio-data"


@pytest.mark.parametrize("photos, poses", [("color", "trajectory.log"), ("rgb", "groundtruth.txt")])
def test_an_rgbd_capture_of_other_programs(photos: str, poses: str, tmp_path: Path) -> None:
    """Redwood's (Open3D) and TUM's layout, which the error names with what reads them."""
    touch(tmp_path, f"{photos}/00000.jpg", "depth/00000.png", poses)
    with pytest.raises(
        ValueError, match=f"found 1 photo in {photos}/, depth maps in depth/ and poses in {poses}"
    ) as caught:
        recognise(tmp_path)
    assert all(word in str(caught.value) for word in ("transforms.json", "rgbd-data", "depth_file_path", "diag(1, -1"))
    (tmp_path / poses).unlink()
    with pytest.raises(NoPosesError, match=f"found 1 photo in {photos}/, no poses"):
        recognise(tmp_path)

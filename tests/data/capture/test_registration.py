"""Poses by COLMAP itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.capture.photos import gather_photos
from fewshot_ns.data.capture.poses import CapturedPoses, read_colmap_poses
from fewshot_ns.data.capture.preparation import PrepareOptions, prepare_scene
from fewshot_ns.data.capture.registration import KEPT, register_photos
from fewshot_ns.data.capture.trust import reprojection_errors
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'fewshot-ns[photos]'")


def files_of(scene: Path) -> List[Path]:
    return sorted(path for path in scene.rglob("*.png") if path.parent.name.startswith("images"))


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of the built-in scene."""
    scene, folder = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("photos")
    write_demo_scene(scene, DemoSceneConfig(width=320, height=240, supersample=1, columns=3, rows=1))
    for file in files_of(scene):
        shutil.copy(file, folder / file.name)
    return folder


@pytest.fixture(scope="module")
def prepared_scene(taken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of them."""
    scene = tmp_path_factory.mktemp("prepared") / "scene"
    assert prepare_scene(taken, scene, PrepareOptions()).trust.verdict == "good"
    return scene


def content(scene: Path) -> Dict[str, bytes]:
    files = [path for path in scene.rglob("*") if path.is_file() and "prepare" not in path.relative_to(scene).parts]
    return {str(path.relative_to(scene)): path.read_bytes() for path in files}


def test_a_second_call_gives_the_same_poses(taken: Path, prepared_scene: Path) -> None:
    before, said = content(prepared_scene), []
    prepare_scene(taken, prepared_scene, PrepareOptions(threads=2), said.append)
    assert content(prepared_scene) == before
    assert "poses: found before" in said and "registering photos" not in said


def test_what_is_kept_is_of_the_same_photos_and_settings(taken: Path, tmp_path: Path) -> None:
    source, images, work = tmp_path / "in", tmp_path / "images", tmp_path / "work"
    shutil.copytree(taken, source)

    def register(seed: int = 0, force: bool = False) -> Tuple[CapturedPoses, bool]:
        said: List[str] = []
        found = register_photos(gather_photos(source, images), images, work, seed=seed, say=said.append, force=force)
        assert found.poses is not None
        return found.poses, "registering photos" in said

    first, anew = register()
    assert anew and register()[0].intrinsics.tolist() == first.intrinsics.tolist()
    assert not register()[1] and register(force=True)[1] and not register()[1]
    assert register(seed=1)[1] and not register(seed=1)[1] and not register()[1]
    # Other pixels under the same name, of the same size: matches and poses were those of the old ones.
    file = sorted(source.iterdir())[0]
    with Image.open(file) as image:
        image.rotate(180).save(file)
    said: List[str] = []
    register_photos(gather_photos(source, images), images, work, say=said.append)
    assert any(line.startswith("finding features") for line in said)
    # What is damaged is found again.
    shutil.copy(taken / file.name, file)
    assert not register()[1]
    for folder in (work / KEPT).iterdir():
        (folder / "model" / "cameras.bin").write_bytes(b"no")
    assert register()[1]


def test_a_call_that_fails_leaves_the_scene(taken: Path, prepared_scene: Path, tmp_path: Path) -> None:
    before = content(prepared_scene)
    with pytest.raises(ValueError, match="--hold-out 2"):
        prepare_scene(taken, prepared_scene, PrepareOptions(hold_out=2))
    others = tmp_path / "others"
    others.mkdir()
    for number in range(2):
        noise = np.random.RandomState(number).randint(0, 255, (96, 128, 3)).astype(np.uint8)
        Image.fromarray(noise).save(others / f"{number}.png")
    with pytest.raises(ValueError, match=f"found one of {taken.resolve()}.*--force") as refused:
        prepare_scene(others, prepared_scene, PrepareOptions())
    assert str(others.resolve()) in str(refused.value)
    with pytest.raises(ValueError, match="nothing to train on"):
        prepare_scene(others, prepared_scene, PrepareOptions(force=True))
    assert content(prepared_scene) == before


def test_scenes_of_earlier_versions_say_their_photos_folder(taken: Path, prepared_scene: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(prepared_scene, scene)
    report = json.loads((scene / "prepare.json").read_text())
    del report["source"]
    (scene / "prepare.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=f"found one of {taken.resolve()}"):
        prepare_scene(tmp_path, scene, PrepareOptions())
    prepare_scene(taken, scene, PrepareOptions())


def test_a_scene_whose_model_lies_below(taken: Path, prepared_scene: Path, tmp_path: Path) -> None:
    """`--poses SCENE`: the model in sparse/0, and nothing else of the folder."""
    given = tmp_path / "given"
    shutil.copytree(prepared_scene / "sparse", given / "sparse")
    (given / "sparse" / "0" / "database.db").write_text("large")
    (given / "video.mp4").write_text("larger")
    found = prepare_scene(taken, tmp_path / "scene", PrepareOptions(poses=str(given)))
    np.testing.assert_array_equal(found.poses.points, read_colmap_poses(prepared_scene / "sparse" / "0").points)
    names = {path.name for path in (tmp_path / "scene" / "sparse").rglob("*")}
    assert {"cameras.bin", "images.bin", "points3D.bin"} < names and not names & {"database.db", "video.mp4", "sparse"}
    # A scene's own model may be given back to it.
    prepare_scene(taken, tmp_path / "scene", PrepareOptions(poses=str(tmp_path / "scene")))
    assert (tmp_path / "scene" / "sparse" / "0" / "points3D.bin").is_file()


def test_bent_lenses_of_a_model_below_are_straightened(taken: Path, tmp_path: Path) -> None:
    bent = prepare_scene(taken, tmp_path / "bent", PrepareOptions(camera_model="SIMPLE_RADIAL"))
    given = tmp_path / "given"
    assert not bent.poses.distorted
    (model,) = (tmp_path / "bent" / "prepare" / "colmap" / KEPT).glob("*/model")
    shutil.copytree(model, given / "sparse" / "0")
    found = prepare_scene(taken, tmp_path / "scene", PrepareOptions(poses=str(given)))
    np.testing.assert_array_equal(found.poses.intrinsics, bent.poses.intrinsics)


def test_two_crops_of_one_photo_are_doubtful(taken: Path, tmp_path: Path) -> None:
    """COLMAP places them side by side before a wall, and every figure of the wall is good."""
    crops = tmp_path / "crops"
    crops.mkdir()
    with Image.open(sorted(taken.iterdir())[0]) as image:
        image.crop((0, 0, 290, 240)).save(crops / "a.png")
        image.crop((30, 0, 320, 240)).save(crops / "b.png")
    found = prepare_scene(crops, tmp_path / "scene", PrepareOptions())
    assert found.trust.verdict == "doubtful" and any("no parallax" in reason for reason in found.trust.reasons)


def test_a_photo_of_something_else_is_left_out(tmp_path: Path) -> None:
    """All settings and draws are tried for its sake, and the scene is still that of the best of them."""
    write_demo_scene(tmp_path / "demo", DemoSceneConfig(width=320, height=240, supersample=1, columns=3, rows=1))
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in files_of(tmp_path / "demo"):
        (photos / file.name).write_bytes(file.read_bytes())
    noise = np.random.RandomState(0).randint(0, 255, (96, 128, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photos / "other.png")

    prepared = prepare_scene(photos, tmp_path / "scene", PrepareOptions())
    assert len(prepared.poses.names) == 3 and set(prepared.left_out) == {"other.png"}
    assert prepared.trust.verdict == "fair" and "1 of 4 photos could not be placed" in prepared.trust.reasons
    assert all(reprojection_errors(prepared.poses, index).mean() < 1 for index in range(3))
    # What lies in the scene is the model that was judged.
    kept = read_colmap_poses(tmp_path / "scene" / "sparse" / "0")
    np.testing.assert_array_equal(kept.points, prepared.poses.points)
    frames = json.loads((tmp_path / "scene" / "transforms.json").read_text())["frames"]
    assert [Path(frame["file_path"]).name for frame in frames] == list(kept.names) == list(prepared.poses.names)

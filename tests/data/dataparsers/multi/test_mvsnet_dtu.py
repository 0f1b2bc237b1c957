"""mvsnet-dtu-data: cameras, lights, ranges, pairs, depth, errors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig
from fewshot_ns.data.files.mvsnet import read_mvsnet_depth, read_pairs
from fewshot_ns.data.multiscene.library import SceneLibrary
from fewshot_ns.data.records.scene import SceneError
from fewshot_ns.data.views.sources import SourceViews, SourceViewsConfig

VIEWS = 4
PAIRS = "4\n0\n3 1 9.0 2 8.0 3 7.0\n1\n2 0 9.0 17 3.0\n2\n2 3 9.0 1 8.0\n3\n0\n"


def camera_text(view: int) -> str:
    # World to camera, with the camera at (100 * view, 0, -600) mm.
    extrinsic = f"1 0 0 {-100 * view}\n0 1 0 0\n0 0 1 600\n0 0 0 1"
    return f"extrinsic\n{extrinsic}\n\nintrinsic\n360 0 80\n0 361 64\n0 0 1\n\n425.0 {2.5 + 0.1 * view}\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    cameras = tmp_path / "Cameras" / "train"
    cameras.mkdir(parents=True)
    for view in range(VIEWS):
        (cameras / f"{view:08d}_cam.txt").write_text(camera_text(view), encoding="utf-8")
    for scan in ("scan1", "scan4"):
        folder = tmp_path / "Rectified" / f"{scan}_train"
        folder.mkdir(parents=True)
        for view in range(VIEWS):
            for light in (0, 3):
                image = np.full((64, 80, 3), 10 * view + light, np.uint8)
                cv2.imwrite(str(folder / f"rect_{view + 1:03d}_{light}_r5000.png"), image)
    (tmp_path / "view_pairs.txt").write_text(PAIRS, encoding="utf-8")
    (tmp_path / "dtu_train_all.txt").write_text("scan1\nscan4\n", encoding="utf-8")
    (tmp_path / "val_all.txt").write_text("scan4\n", encoding="utf-8")
    return tmp_path


def parser_of(data: Path, **flags):
    return MVSNetDTUDataParserConfig(data=data, num_views=VIEWS, **{"train_lights": (0, 3), **flags}).setup()


def test_scans_under_each_light(data):
    parser = parser_of(data)
    train = [entry.scene_id for entry in parser.scene_table("train")]
    assert train == ["scan1/light0", "scan1/light3", "scan4/light0", "scan4/light3"]
    assert [entry.scene_id for entry in parser.scene_table("test")] == ["scan4"]
    # Without a list of tests, that of validation is the tests', and training scans validate.
    assert [entry.scene_id for entry in parser.scene_table("val")] == ["scan1", "scan4"]
    for split, place, light in (("train", 0, 0), ("train", 1, 3), ("test", 0, 3)):
        scene = parser.open_scene(parser.scene_table(split)[place])
        assert scene.image_filenames[1].name == f"rect_002_{light}_r5000.png"


def test_three_lists(data):
    (data / "test.lst").write_text("scan1\n", encoding="utf-8")
    tables = {split: [entry.scene_id for entry in parser_of(data).scene_table(split)] for split in ("val", "test")}
    assert tables == {"val": ["scan4"], "test": ["scan1"]}


def test_lights_of_a_scan_are_scenes_of_their_own(data):
    library = SceneLibrary(parser_of(data))
    seen = [library.open(entry).image_filenames[0].name for entry in library.table("train")]
    assert seen == ["rect_001_0_r5000.png", "rect_001_3_r5000.png"] * 2


def test_protocol_of_the_tests(data):
    parser = parser_of(data, test_sources=(0, 2, 3), test_targets=(1,))
    scene = parser.open_scene(parser.scene_table("test")[0])
    assert (scene.pool, scene.targets) == ((0, 2, 3), (1,))
    for split in ("train", "val"):
        scene = parser.open_scene(parser.scene_table(split)[0])
        # View 24, which validates, is none of these scans'.
        assert (scene.pool, scene.targets) == (None, None)
    # Nor do they have the views of the published protocol.
    scene = parser_of(data).open_scene(parser.scene_table("test")[0])
    assert (scene.pool, scene.targets) == (None, None)


def test_cameras_and_range(data):
    parser = parser_of(data)
    scene = parser.open_scene(parser.scene_table("test")[0])
    cameras = scene.cameras
    assert (cameras.width[0].item(), cameras.height[0].item()) == (80, 64)
    # The intrinsics are for 160x128, the images have half of that.
    np.testing.assert_allclose([cameras.fx[0].item(), cameras.fy[0].item()], [180.0, 180.5])
    np.testing.assert_allclose([cameras.cx[0].item(), cameras.cy[0].item()], [40.5, 32.5])
    np.testing.assert_allclose(cameras.camera_to_worlds[2, :, 3], [1.0, 0.0, -3.0], atol=1e-6)
    np.testing.assert_allclose(cameras.camera_to_worlds[2, :, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-6)
    # The files hold planar depths; the ray to a corner is longer.
    assert scene.planar_range == pytest.approx((425 / 200, (425 + 192 * 2.8) / 200))
    longest = (1 + (40.5 / 180) ** 2 + (32.5 / 180.5) ** 2) ** 0.5
    assert (scene.near, scene.far) == pytest.approx((425 / 200, longest * (425 + 192 * 2.8) / 200))
    given = parser_of(data, near=2.0, far=4.0)
    assert given.open_scene(given.scene_table("test")[0]).planar_range == (2.0, 4.0)
    assert scene.depth_filenames == (None,) * VIEWS


def test_pairs(data):
    scene = parser_of(data).open_scene(parser_of(data).scene_table("train")[0])
    assert scene.neighbours == ((1, 2, 3), (0,), (3, 1), ())
    selector = SourceViews(SourceViewsConfig(mode="pairs", count=2, among=2))
    assert selector.select(scene, target_view=0) == (1, 2)
    assert {selector.select(scene, target_view=0, exclude=(1,))} == {(2, 3)}
    drawn = SourceViews(SourceViewsConfig(mode="pairs", count=2))
    assert {drawn.select(scene, target_view=0, seed=seed) for seed in range(30)} == {(1, 2), (1, 3), (2, 3)}
    with pytest.raises(SceneError, match="expected 2 source views of view 1 in the set's list, found 1"):
        selector.select(scene, target_view=1)
    # A free camera takes the nearest views.
    assert selector.select(scene, scene.cameras.camera_to_worlds[3]) == (3, 2)


def test_without_a_pair_file(data):
    (data / "view_pairs.txt").unlink()
    parser = parser_of(data)
    scene = parser.open_scene(parser.scene_table("train")[0])
    assert scene.neighbours is None
    with pytest.raises(SceneError, match="expected the set's list of source views"):
        SourceViews(SourceViewsConfig(mode="pairs")).select(scene, target_view=0)
    with pytest.raises(SceneError, match=r"none.txt: expected a list of source views \(--pair-file\)"):
        parser_of(data, pair_file=data / "none.txt").open_scene(parser.scene_table("train")[0])


def test_depth_maps(data):
    path = data / "Depths" / "scan4" / "depth_map_0001.pfm"
    path.parent.mkdir(parents=True)
    full = np.arange(160 * 192, dtype=np.float32).reshape(160, 192)
    full[32, 32] = np.nan
    cv2.imwrite(str(path), full)
    parser = parser_of(data)
    scene = parser.open_scene(parser.scene_table("test")[0])
    assert scene.depth_filenames == (None, path, None, None)
    depth = read_mvsnet_depth(path, (64, 80), 1 / 200)
    # Half of 160x192 is 80x96, of which 8 rows and 8 columns go on each side.
    expected = full[::2, ::2][8:72, 8:88] / 200
    np.testing.assert_allclose(depth, np.nan_to_num(expected), rtol=1e-6)
    assert depth[8, 8] == 0.0
    with pytest.raises(SceneError, match="expected at least 240x200 pixels"):
        read_mvsnet_depth(path, (100, 120), 1.0)
    path.write_bytes(b"Pf\n")
    with pytest.raises(SceneError, match="depth_map_0001.pfm"):
        read_mvsnet_depth(path, (64, 80), 1.0)


@pytest.mark.parametrize(
    "text, message",
    [
        ("extrinsic\n1 0 0", "expected 'extrinsic', 16 numbers, .* found 4 words"),
        (camera_text(0).replace("600", "far"), "expected 'extrinsic'.* found could not convert"),
        (camera_text(0).replace("2.5", "0"), ".*a positive interval, found others"),
        (camera_text(0).replace("0 0 0 1", "0 0 0 0"), "expected an invertible extrinsic matrix"),
        (None, "expected a camera of the scan, found no such file"),
    ],
)
def test_damaged_cameras(data, text, message):
    path = data / "Cameras" / "train" / "00000002_cam.txt"
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    parser = parser_of(data)
    with pytest.raises(SceneError, match=f"00000002_cam.txt: {message}"):
        parser.open_scene(parser.scene_table("train")[0])


def test_a_missing_image(data):
    (data / "Rectified" / "scan1_train" / "rect_003_0_r5000.png").unlink()
    parser = parser_of(data)
    with pytest.raises(SceneError, match="rect_003_0_r5000.png: expected an image of the scan, found no such file"):
        parser.open_scene(parser.scene_table("train")[0])


def test_lists(data):
    other = data / "mine.txt"
    other.write_text("scan1\n", encoding="utf-8")
    assert [entry.scene_id for entry in parser_of(data, scan_list=other).scene_table("test")] == ["scan1"]
    (data / "dtu_train_all.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a list of scans \(train.lst, train.txt, .*--scan-list"):
        parser_of(data).scene_table("train")


@pytest.mark.parametrize("text", ["", "1\n0\n2 a b", "1\n0\n5 1 9.0\n"])
def test_damaged_pairs(tmp_path, text):
    path = tmp_path / "pair.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SceneError, match="pair.txt: expected"):
        read_pairs(path, VIEWS)

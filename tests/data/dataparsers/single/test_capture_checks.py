"""What the cameras of a capture decide: ray space, near and far, and what is said of views that share little."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from object_captures import ObjectCapture, ring_poses

from fewshot_ns.cameras.poses import recenter
from fewshot_ns.data.dataparsers.single.capture_checks import bounds_of_views, overlap_warning, resolve_ray_space
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.seed_points import SeedPoints
from fewshot_ns.data.records.metadata import get_fewshot_metadata

RING = ObjectCapture(tuple(np.linspace(-170.0, 170.0, 12)), size=(12, 16), supersample=1)
ARC = ObjectCapture(tuple(np.linspace(-20.0, 20.0, 9)), size=(12, 16), supersample=1)


def parser_of(scene: Path, **flags: Any):
    return LLFFDataParserConfig(data=scene, **flags).setup()


def record_of(scene: Path, split: str = "train", **flags: Any):
    return get_fewshot_metadata(parser_of(scene, **flags).get_dataparser_outputs(split).metadata)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_ring_resolves_to_metric_and_says_so(tmp_path, capsys):
    scene = RING.write(tmp_path / "ring")
    record = record_of(scene)
    assert record.geometry.ray_space == "metric"
    assert record.ray_space_from is not None and "look up to 130 degrees apart" in record.ray_space_from
    out = said(capsys)
    assert "metric rays (the cameras look up to 130 degrees apart" in out and "NDC is for captures" not in out
    assert record_of(scene, "test").geometry == record.geometry
    assert said(capsys) == ""


def test_an_explicit_ndc_stays_and_warns_with_the_angle(tmp_path, capsys):
    record = record_of(RING.write(tmp_path / "ring"), ray_space="ndc")
    assert record.geometry.ray_space == "ndc" and record.ray_space_from is None
    assert "the cameras look up to 130 degrees apart" in (out := said(capsys)) and "NDC is for captures" in out


def test_forward_facing_captures_stay_in_ndc(tmp_path, tiny_llff_scene, capsys):
    for scene in (tiny_llff_scene, ARC.write(tmp_path / "arc")):
        default, stated = record_of(scene), record_of(scene, ray_space="ndc")
        assert default.geometry == stated.geometry and default.geometry.ray_space == "ndc"
        assert default.ray_space_from is not None and stated.ray_space_from is None
        assert "NDC is for captures" not in said(capsys)


@pytest.mark.parametrize("spread, space", [(44.0, "ndc"), (46.0, "metric")])
def test_the_angle_decides(spread, space):
    poses = ring_poses([-spread / 2, 0.0, spread / 2], height=-0.1)
    poses[:, :, 3] -= poses[1, :, 3]
    found = resolve_ray_space(None, poses)
    assert found.space == space and f"{spread:.0f} degrees" in str(found.reason)
    assert (resolve_ray_space("ndc", poses).warning is not None) == (space == "metric")
    assert resolve_ray_space("metric", poses) == ("metric", None, None)


def test_a_camera_beyond_the_near_plane_decides_too():
    poses = np.tile(np.eye(4)[None, :3], (3, 1, 1))
    poses[2, 2, 3] = -0.99
    assert resolve_ray_space(None, poses).space == "ndc"
    poses[2, 2, 3] = -1.01
    found = resolve_ray_space(None, poses)
    assert found.space == "metric" and "1 of 3 stand beyond the near plane" in str(found.reason)


def test_near_and_far_are_those_of_the_training_views(tmp_path):
    """Other photos of the file may look into the distance; the world is scaled by all, as before."""
    bounds = {2: (0.8, 3.0), 4: (0.7, 4.0), 6: (0.9, 5.0)}
    capture = ObjectCapture(
        ARC.degrees, size=(12, 16), supersample=1, bounds=lambda view, _: bounds.get(view, (0.1, 90.0))
    )
    scene = capture.write(tmp_path / "arc")
    flags = {"ray_space": "metric", "train_indices": (2, 4, 6), "test_indices": (3, 5)}
    outputs = parser_of(scene, **flags).get_dataparser_outputs("train")
    record, scale = get_fewshot_metadata(outputs.metadata), outputs.dataparser_scale
    assert scale == pytest.approx(1 / (0.75 * 0.1))
    assert record.geometry.near == pytest.approx(0.9 * 0.7 * scale)
    assert record.geometry.far == pytest.approx(1.1 * 5.0 * scale)
    assert record_of(scene, "test", **flags).geometry == record.geometry
    given = record_of(scene, near=2.0, **flags)
    assert (given.geometry.near, given.geometry.far, given.bounds_from) == (2.0, record.geometry.far, "flags")


def seen_points(scene, depths: np.ndarray) -> SeedPoints:
    """Points before the first camera, near its axis."""
    pose = scene.camera_to_worlds[0]
    sideways = np.random.default_rng(0).uniform(-0.1, 0.1, (len(depths), 2)) * depths[:, None]
    local = np.concatenate([sideways, -depths[:, None]], axis=1)
    world = (local @ pose[:, :3].T + pose[:, 3]).astype(np.float32)
    return SeedPoints(world, np.zeros((len(depths), 3), np.uint8), Path("points3D.bin"))


@pytest.mark.parametrize(
    "first, last, words",
    [(1.0, 10.0, None), (0.9, 5.0, None), (0.3, 10.0, "do not hold"), (1.0, 30.0, "do not hold"), (1.0, 2.0, "beyond")],
)
def test_bounds_are_checked_against_the_points_that_views_see(tmp_path, first, last, words):
    capture = ObjectCapture(ARC.degrees, size=(12, 16), supersample=1, bounds=lambda view, _: (1.0, 10.0))
    parser = parser_of(capture.write(tmp_path / "arc"))
    scene, _, _ = parser.read_views()
    low, high = scene.bounds[0]
    depths = np.linspace(first * low, last * high / 10.0, 500)
    found = bounds_of_views(scene, [0], seen_points(scene, depths))
    if words is None:
        assert found == (pytest.approx(0.9 * low), pytest.approx(1.1 * high), None)
        return
    assert words in str(found.warning)
    quantiles = np.quantile(depths, [0.01, 0.99])
    assert found[:2] == (pytest.approx(0.8 * quantiles[0], rel=1e-4), pytest.approx(1.25 * quantiles[1], rel=1e-4))
    # Too few points say nothing, and those that no training view is known to see do not count.
    assert bounds_of_views(scene, [0], seen_points(scene, depths[:20])).warning is None
    unseen = seen_points(scene, depths)
    hidden = SeedPoints(unseen.positions, unseen.colours, unseen.path, np.zeros(len(depths), np.int64))
    assert bounds_of_views(scene, [0], hidden).warning is None


def test_views_that_hardly_overlap_are_named_at_the_start(tmp_path, capsys):
    scene = RING.write(tmp_path / "ring")
    record_of(scene, train_indices=(0, 4, 8), test_indices=(1,))
    out = said(capsys)
    assert (
        re.search(r"of what training views 0 \(\d%\), 4 \(\d%\), 8 \(\d%\) may show", out) and "--train-indices" in out
    )
    record_of(scene, train_indices=(0, 1, 6), test_indices=(2,))
    assert "of what training view 6 (0%)" in said(capsys)
    for fine in ((0, 1, 2), (0, 1, 2, 4, 5, 7, 8, 9, 10)):
        record_of(scene, train_indices=fine, test_indices=(3,))
        assert "of what training view" not in said(capsys)


def test_published_protocols_overlap(tmp_path, tiny_llff_scene, tiny_dtu_scene):
    for config in (LLFFDataParserConfig(data=tiny_llff_scene), DTUDataParserConfig(data=tiny_dtu_scene)):
        scene, selection, _ = config.setup().read_views()
        assert overlap_warning(scene, selection.train) is None


def test_runs_of_earlier_versions_keep_their_bounds(tmp_path):
    """A saved config without the younger field was trained between the bounds of all photos."""
    capture = ObjectCapture(ARC.degrees, size=(12, 16), supersample=1, bounds=lambda view, _: (1.0, 3.0 + view))
    flags = {"data": capture.write(tmp_path / "arc"), "train_indices": (0, 1, 2), "test_indices": (3,)}
    text = yaml.dump(LLFFDataParserConfig(ray_space="metric", **flags))
    today = yaml.load(text, Loader=yaml.Loader).setup().get_dataparser_outputs("train")
    younger = "".join(line for line in text.splitlines(True) if "bounds_of_all_photos" not in line)
    assert younger != text
    then = yaml.load(younger, Loader=yaml.Loader).setup().get_dataparser_outputs("train")
    far = [get_fewshot_metadata(outputs.metadata).geometry.far for outputs in (today, then)]
    np.testing.assert_allclose(far, 1.1 * today.dataparser_scale * np.array([5.0, 11.0]), rtol=1e-6)
    ndc = yaml.dump(LLFFDataParserConfig(ray_space="ndc", **flags)).replace("bounds_of_all_photos: false\n", "")
    assert yaml.load(ndc, Loader=yaml.Loader) == LLFFDataParserConfig(ray_space="ndc", **flags)


def test_real_scenes_of_llff_face_forward(data_dir):
    """All eight: NDC, with the focal lengths, poses and scale as ever, and three views that overlap."""
    for path in sorted((data_dir / "nerf_llff_poses").glob("*/poses_bounds.npy")):
        rows = np.load(path)
        matrices, bounds = rows[:, :15].reshape(-1, 3, 5), rows[:, 15:]
        poses = np.stack([matrices[:, :, 1], -matrices[:, :, 0], matrices[:, :, 2], matrices[:, :, 3]], axis=2)
        poses, _ = recenter(poses)
        poses[:, :, 3] /= 0.75 * bounds.min()
        assert resolve_ray_space(None, poses).space == "ndc", path


def test_real_fern_in_world_space_holds_what_its_views_see(data_dir, capsys):
    flags = {"images_dir": Path("images_16"), "data": data_dir / "nerf_llff_data" / "fern"}
    outputs = LLFFDataParserConfig(ray_space="metric", **flags).setup().get_dataparser_outputs("train")
    record = get_fewshot_metadata(outputs.metadata)
    assert record.scene_bounds is not None
    rows = record.scene_bounds[list(record.train_indices)]
    assert record.geometry.near == pytest.approx(0.9 * rows.min().item(), rel=1e-5)
    assert record.geometry.far == pytest.approx(1.1 * rows.max().item(), rel=1e-5)
    assert "of what training view" not in (out := said(capsys)) and "bounds that the file states" not in out


def test_resolved_values_name_the_reason(tmp_path, tiny_pipeline_config):
    config = tiny_pipeline_config(LLFFDataParserConfig(data=RING.write(tmp_path / "ring"), train_indices=(0, 1, 2)))
    config.depth.enabled = False
    found = json.loads(json.dumps(config.setup(device="cpu", test_mode="val").resolved()))["model"]
    assert found["ray_space"] == "metric" and "130 degrees apart" in found["ray_space_from"]

"""Poses from elsewhere, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from fewshot_ns.cameras.poses import flip_camera_axes, look_at
from fewshot_ns.data.capture.photos import Photo, warnings_of
from fewshot_ns.data.capture.poses import CapturedPoses, poses_of_arrays, read_poses
from fewshot_ns.data.capture.trust import judge, ray_angles, reprojection_errors, why_left_out

NAMES, SIZES = ("a.png", "b.png", "c.png"), [(60, 80)] * 3


def true_poses() -> np.ndarray:
    places = [np.array([x, 0.0, 4.0]) for x in (-0.6, 0.0, 0.6)]
    return flip_camera_axes(np.stack([look_at(place, np.zeros(3), np.array([0.0, 1.0, 0.0])) for place in places]))


def arrays() -> Dict[str, Any]:
    """What a network says at half the photos' size: a plane through the origin, seen from three places."""
    poses, matrices = true_poses(), np.array([[[40.0, 0, 20], [0, 40, 15], [0, 0, 1]]] * 3)
    extrinsics = np.stack([np.concatenate([pose[:, :3].T, -pose[:, :3].T @ pose[:, 3:]], axis=1) for pose in poses])
    rows, columns = np.mgrid[:30, :40] + 0.5
    rays = np.stack([(columns - 20) / 40, (rows - 15) / 40, np.ones_like(rows)], axis=-1)
    depth = np.stack([-pose[2, 3] / (rays @ pose[2, :3]) for pose in poses])
    return {"extrinsics": extrinsics, "intrinsics": matrices, "depth": depth, "conf": np.ones_like(depth)}


def test_intrinsics_follow_the_photos_and_points_lie_on_the_surface(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **arrays())
    found = read_poses(tmp_path / "p.npz", NAMES, SIZES)
    np.testing.assert_allclose(found.intrinsics, [[80, 80, 40, 30]] * 3)
    np.testing.assert_allclose(found.camera_to_worlds, true_poses(), atol=1e-12)
    assert len(found.points) > 500 and np.abs(found.points[:, 2]).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extrinsics": None}, "expected the arrays extrinsics and intrinsics"),
        ({"extrinsics": np.zeros((2, 3, 4))}, r"expected extrinsics of 3 photos"),
        ({"intrinsics": np.zeros((3, 3))}, r"expected intrinsics of 3 photos"),
        ({"intrinsics": -np.ones((3, 3, 3))}, "positive focal lengths"),
        ({"extrinsics": np.full((3, 3, 4), np.nan)}, "p.npz"),
        ({"depth": np.ones((3, 30, 30))}, "cropped or padded"),
        ({"names": np.array(["a.png", "b.png", "x.png"])}, r"found \['x.png'\]"),
        ({"conf": np.ones((3, 5, 5))}, "expected confidence of the depth's shape"),
        ({"extrinsics": np.array(["x"])}, "expected numbers"),
    ],
)
def test_what_is_no_camera_is_refused(change: Dict[str, Any], message: str) -> None:
    given = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        poses_of_arrays(given, NAMES, SIZES, "p.npz")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(ValueError, match="p.npz: expected a readable .npz"):
        read_poses(tmp_path / "p.npz", NAMES, SIZES)
    with pytest.raises(FileNotFoundError, match="expected a COLMAP model"):
        read_poses(tmp_path, NAMES, SIZES)


def captured(noise: float = 0.0) -> CapturedPoses:
    random = np.random.RandomState(0)
    points, poses = random.uniform(-0.8, 0.8, (200, 3)), true_poses()
    intrinsics = np.array([[80.0, 80, 40, 30]] * 3)
    observations = []
    for pose in poses:
        local = (points - pose[:, 3]) @ pose[:, :3]
        seen = local[:, :2] / local[:, 2:] * 80 + [40, 30]
        observations.append((np.arange(200), seen + [noise, 0.0]))
    colours = np.zeros((200, 3), np.uint8)
    size = np.array(SIZES)
    return CapturedPoses(NAMES, poses, size, intrinsics, ("PINHOLE",) * 3, points, colours, tuple(observations))


def test_reprojection_errors_and_angles_are_measured() -> None:
    poses = captured(noise=3.0)
    np.testing.assert_allclose(reprojection_errors(poses, 1), 3.0)
    point, centres = poses.points[7], poses.camera_to_worlds[:, :, 3]
    first, last = (point - centres[index] for index in (0, 2))
    cosine = first @ last / np.linalg.norm(first) / np.linalg.norm(last)
    assert ray_angles(poses)[7] == pytest.approx(np.degrees(np.arccos(cosine)))


def test_verdicts() -> None:
    assert judge(captured(), [("a.png", "b.png", 90), ("b.png", "c.png", 80)]).verdict == "good"
    assert judge(captured(noise=3.0)).verdict == "doubtful"
    assert judge(captured(), left_out=1).verdict == "fair" and judge(captured(), left_out=3).verdict == "doubtful"
    assert judge(captured(), [("a.png", "b.png", 90), ("b.png", "c.png", 12)]).verdict == "fair"
    assert judge(captured(), focal_is_a_guess=True).verdict == "fair"
    unlikely = replace(
        captured(), intrinsics=captured().intrinsics * [0.3, 0.3, 1, 1], observations=captured().observations
    )
    assert any("0.30 times the longer side" in reason for reason in judge(unlikely).reasons)
    pairs = [("a.png", "b.png", 90), ("b.png", "c.png", 80), ("a.png", "c.png", 9)]
    # One pair that shows that the camera moved is enough; one with too few matches to tell is not.
    assert judge(captured(), pairs, flat={("a.png", "b.png")}).verdict == "good"
    turned = judge(captured(), pairs, flat={("a.png", "b.png"), ("b.png", "c.png")})
    assert turned.verdict == "doubtful" and turned.reasons[0].startswith("no parallax")
    near = captured()
    near = replace(near, points=near.points * [1, 1, 0] - [0, 0, 100.0], observations=near.observations)
    assert any("nearly one place" in reason for reason in judge(near).reasons)


def test_one_point_is_no_points() -> None:
    first = captured()
    one = replace(first, points=first.points[:1], observations=tuple((n[:1], at[:1]) for n, at in first.observations))
    assert "only 1 point" in judge(one).reasons and "a photo hangs on 1 match" in judge(one, [(*NAMES[:2], 1)]).reasons


def photo(name: str, sharpness: float = 100.0, contrast: float = 50.0) -> Photo:
    return Photo(name, name, 60, 80, None, "", "", sharpness, contrast, 100.0)


def test_reasons_for_photos_that_are_left_out() -> None:
    photos = [photo("a"), photo("b"), photo("plain", contrast=2.0), photo("blurred", sharpness=3.0), photo("far")]
    features = {"a": 900, "b": 900, "plain": 4, "blurred": 200, "far": 900}
    reasons = why_left_out(photos, ["a", "b"], features, [("a", "b", 300), ("a", "far", 9)])
    assert set(reasons) == {"plain", "blurred", "far"}
    assert "one colour" in reasons["plain"] and "blurred" in reasons["blurred"]
    assert "too few matches" in reasons["far"] and "9, with a" in reasons["far"]


def test_blur_is_told_from_content() -> None:
    """A blurred photo has few features; one of a smooth subject has its own, and they match nothing."""
    photos = [photo("a"), photo("b"), photo("smeared", sharpness=3.0), photo("sky", sharpness=3.0), photo("tiny")]
    features = {"a": 900, "b": 900, "smeared": 12, "sky": 700, "tiny": 12}
    reasons = why_left_out(photos, ["a", "b"], features, [("a", "b", 300)])
    assert reasons["smeared"].startswith("it is blurred") and reasons["sky"].startswith("too few matches")
    assert reasons["tiny"] == "it has 12 features: nearly one colour, or too small"
    said = warnings_of([replace(one, height=480, width=640) for one in photos], features)
    assert [line.split(":")[0] for line in said] == ["smeared"]

"""Files of geometry networks: names of arrays, and the size that intrinsics are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from fewshot_ns.data.capture.poses import CapturedPoses, gives_depth, poses_of_arrays, read_poses

NAMES, SIZES = ("a.png", "b.png", "c.png"), [(60, 80)] * 3
TAKEN = [(600, 800)] * 3


def arrays(width: int = 40, height: int = 30, of: int = 40) -> Dict[str, Any]:
    """A plane at distance 4 before three cameras in a row; maps of a size, intrinsics for images of a width `of`."""
    poses = np.tile(np.eye(4)[:3], (3, 1, 1))
    poses[:, 0, 3] = [-0.6, 0.0, 0.6]
    matrix = np.array([[1.0, 0, 0.5], [0, 1.0, 0.5 * height / width], [0, 0, 1 / of]]) * of
    depth = np.full((3, height, width), 4.0)
    sure = np.tile(np.linspace(0, 1, width), (3, height, 1))
    return {"extrinsics": poses, "intrinsics": np.tile(matrix, (3, 1, 1)), "depth": depth, "conf": sure}


def read(given: Dict[str, Any], taken: Any = TAKEN) -> CapturedPoses:
    return poses_of_arrays(given, NAMES, SIZES, "p.npz", taken)


def same(one: CapturedPoses, other: CapturedPoses) -> None:
    for name in ("camera_to_worlds", "intrinsics", "depths", "confidences", "points"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("confidence", ["confidence", "depth_conf", "world_points_conf"])
def test_arrays_have_the_names_of_their_authors(tmp_path: Path, confidence: str) -> None:
    """VGGT: singular, a leading batch, depth with a channel, and points that are not asked for."""
    plain = arrays()
    given = {
        "extrinsic": plain["extrinsics"][None],
        "intrinsic": plain["intrinsics"][None],
        "depth": plain["depth"][None, ..., None],
        confidence: plain["conf"][None],
        "world_points": np.zeros((1, 3, 30, 40, 3)),
        "pose_enc": np.zeros((1, 3, 9)),
    }
    same(read(given), read(plain))
    np.savez(tmp_path / "p.npz", **given)
    same(read_poses(tmp_path / "p.npz", NAMES, SIZES, TAKEN), read(plain))


@pytest.mark.parametrize("name", ["depths", "depth_map", "depth_maps"])
def test_depth_in_the_plural(name: str) -> None:
    plain = arrays()
    same(read({**{key: plain[key] for key in ("extrinsics", "intrinsics", "conf")}, name: plain["depth"]}), read(plain))


def test_a_surer_array_goes_first() -> None:
    """Confidence of depth, not of the points."""
    same(read({**arrays(), "world_points_conf": arrays()["conf"][..., ::-1]}), read(arrays()))


@pytest.mark.parametrize("of", [40, 80, 800])
def test_the_principal_point_says_what_size_intrinsics_are_for(of: int) -> None:
    """In pixels of the maps, of the photos, and of the photos before they were made smaller: one camera."""
    found = read(arrays(of=of))
    np.testing.assert_allclose(found.intrinsics, [[80.0, 80.0, 40.0, 30.0]] * 3)
    np.testing.assert_allclose(found.points[:, 2], 4.0)
    same(found, read(arrays())) if of == 40 else np.testing.assert_allclose(found.points, read(arrays()).points)


def test_a_principal_point_off_the_middle_keeps_its_size() -> None:
    given = arrays(of=80)
    given["intrinsics"][:, 0, 2] += 5
    np.testing.assert_allclose(read(given).intrinsics, [[80.0, 80.0, 45.0, 30.0]] * 3)
    # Without maps, too, where twice the point is no size of the photo's shape.
    del given["depth"], given["conf"]
    given["intrinsics"][:, 0, 2] -= 2
    np.testing.assert_allclose(read(given).intrinsics, [[80.0, 80.0, 43.0, 30.0]] * 3)


def test_a_network_whose_size_is_nearly_the_photos_keeps_it() -> None:
    """As 518 pixels and 504: the focal length is that of the maps, in whose very middle the point lies."""
    np.testing.assert_allclose(read(arrays(84, 63, of=84)).intrinsics, [[80.0, 80.0, 40.0, 30.0]] * 3)
    without = {key: value for key, value in arrays(84, 63, of=84).items() if key in ("extrinsics", "intrinsics")}
    np.testing.assert_allclose(read(without).intrinsics, [[80.0, 80.0, 40.0, 30.0]] * 3)


@pytest.mark.parametrize("of", [20, 160, 400])
def test_intrinsics_of_no_size_are_refused(of: int) -> None:
    with pytest.raises(ValueError, match=r"near the middle of 40x30 or of 80x60 or of 800x600, found it at"):
        read(arrays(of=of))


def test_a_crop_without_maps_is_refused() -> None:
    given = {key: value for key, value in arrays(height=22).items() if key in ("extrinsics", "intrinsics")}
    with pytest.raises(ValueError, match="cropped or padded"):
        read(given)


def test_what_has_depth_is_known_before_it_is_read(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "with.npz", **given)
    np.savez(tmp_path / "without.npz", extrinsics=given["extrinsics"], intrinsics=given["intrinsics"])
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    assert gives_depth(str(tmp_path / "with.npz")) and gives_depth("depth-anything-3")
    for other in (None, str(tmp_path), str(tmp_path / "without.npz"), str(tmp_path / "damaged.npz")):
        assert not gives_depth(other)

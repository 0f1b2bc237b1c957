"""Angles between viewing axes, and what cameras see of each other's frusta."""

from __future__ import annotations

import numpy as np
import pytest
from object_captures import ring_poses

from fewshot_ns.cameras.overlap import MAX_PARALLAX, shared_views, widest_angle

INTRINSICS = [0.9, 1.2, 0.5, 0.5]


def shares(degrees, near=0.9, far=3.0):
    count = len(degrees)
    return shared_views(ring_poses(degrees), np.tile([INTRINSICS], (count, 1)), np.tile([[near, far]], (count, 1)))


def naive_shares(poses, intrinsics, ranges):
    """The definition, one point at a time."""
    found = []
    for view, (pose, (fx, fy, cx, cy), (near, far)) in enumerate(zip(poses, intrinsics, ranges, strict=True)):
        hits = total = 0
        for column in (np.arange(8) + 0.5) / 8:
            for row in (np.arange(6) + 0.5) / 6:
                for depth in near * (far / near) ** (np.arange(12) / 11):
                    point = pose @ [(column - cx) / fx * depth, -(row - cy) / fy * depth, -depth, 1.0]
                    total += 1
                    for other, (second, (gx, gy, dx, dy)) in enumerate(zip(poses, intrinsics, strict=True)):
                        x, y, z = second[:, :3].T @ (point - second[:, 3])
                        if other == view or not ranges[other][0] <= -z <= ranges[other][1]:
                            continue
                        u, v = dx + gx * x / -z, dy - gy * y / -z
                        one, two = pose[:, 3] - point, second[:, 3] - point
                        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
                        if 0 <= u <= 1 and 0 <= v <= 1 and cosine >= np.cos(np.radians(MAX_PARALLAX)):
                            hits += 1
                            break
        found.append(hits / total)
    return np.array(found)


def test_shares_follow_the_definition():
    rng = np.random.default_rng(0)
    poses = ring_poses([0.0, 30.0, 75.0, 170.0])
    intrinsics = np.array(INTRINSICS) * rng.uniform(0.8, 1.2, (4, 4))
    ranges = np.array([[0.5, 2.0], [0.7, 5.0], [0.9, 40.0], [0.3, 3.0]])
    expected = naive_shares(poses, intrinsics, ranges)
    # The ends of the range of another camera may round to either side.
    np.testing.assert_allclose(shared_views(poses, intrinsics, ranges), expected, atol=2 / 576)
    assert 0.0 < expected.min() < 0.3 < 0.6 < expected.max()


def test_neighbours_share_and_cameras_all_around_do_not():
    assert shares([0, 15, 30]).min() > 0.7
    assert shares(np.arange(8) * 45).min() > 0.7  # a ring of eight is a capture as it should be
    assert shares([0, 120, 240]).max() < 0.1
    one_apart = shares([0, 15, 180])
    assert one_apart[:2].min() > 0.7 and one_apart[2] == 0.0
    assert shares([0.0]) == [0.0]
    # A background behind the object, or bounds that are far too wide, make no stranger of a neighbour.
    assert shares([0, 15, 30], 0.9, 40.0).min() > 0.6 and shares([0, 15, 30], 0.1, 100.0).min() > 0.5


@pytest.mark.parametrize("span", [0.0, 20.0, 90.0, 179.0])
def test_widest_angle(span):
    poses = ring_poses([0.0, 0.3 * span, span], height=-0.1)
    assert widest_angle(poses) == pytest.approx(span, abs=1e-4)
    poses[1, :, 2] *= 3.0
    assert widest_angle(poses) == pytest.approx(span, abs=1e-4)
    assert widest_angle(poses[:1]) == pytest.approx(0.0, abs=1e-4)

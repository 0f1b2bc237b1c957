"""The geometric filter against loops over pixels, and on planes whose depths are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.data.stereo.consistency import Consistency, consistent_views, fuse, reproject
from fewshot_ns.data.stereo.views import StereoView

PLANE = -4.0
"""z of a plane of the world; cameras look along -z, more or less."""


def view_from(position: Tuple[float, float, float], size: Tuple[int, int] = (9, 12), turn: float = 0.0) -> StereoView:
    """A camera turned about the vertical axis by `turn` radians."""
    height, width = size
    cosine, sine = math.cos(turn), math.sin(turn)
    rotation = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    pose = torch.cat([rotation, torch.tensor(position)[:, None]], dim=1)
    intrinsics = torch.tensor([1.1 * width, 1.2 * height, 0.52 * width, 0.47 * height])
    mask = torch.ones(height, width, dtype=torch.bool)
    return StereoView(torch.zeros(height, width, 3), pose, intrinsics, 1.0, 10.0, mask, f"from {position}")


def plane_depth(view: StereoView, z: float = PLANE) -> Tensor:
    """Exact planar depth of the plane."""
    return (z - view.pose[2, 3]) / view.rays[..., 2]


@pytest.fixture
def pair() -> Tuple[StereoView, StereoView]:
    """Two views of different sizes and directions."""
    return view_from((0.0, 0.0, 0.0)), view_from((1.2, 0.1, 0.2), (14, 10), turn=0.08)


def naive_reprojection(reference: StereoView, depth: Tensor, source: StereoView, other: Tensor, row: int, column: int):
    """(position, depth, pixel error, depth error) of one pixel, by matrices in double precision."""

    def matrices(view: StereoView) -> Tuple[Tensor, Tensor]:
        fx, fy, cx, cy = view.intrinsics.double().tolist()
        c2w = torch.eye(4).double()
        c2w[:3] = view.pose.double()
        # OpenCV's axes, and pixels with integer centres.
        w2c = torch.linalg.inv(c2w @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]).double()))
        return torch.tensor([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]]).double(), w2c

    (k1, e1), (k2, e2) = matrices(reference), matrices(source)
    one = torch.ones(1).double()
    start = torch.tensor([column, row, 1.0]).double()
    own = float(depth[row, column])
    there = e2 @ torch.linalg.inv(e1) @ torch.cat([own * torch.linalg.inv(k1) @ start, one])
    x, y, _ = ((k2 @ there[:3]) / there[2]).tolist()
    found = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < other.shape[0] and 0 <= j < other.shape[1]:
                found += (1 - abs(y - i)) * (1 - abs(x - j)) * float(other[i, j])
    again = torch.cat([found * torch.linalg.inv(k2) @ torch.tensor([x, y, 1.0]).double(), one])
    back = e1 @ torch.linalg.inv(e2) @ again
    pixel = (k1 @ back[:3]) / back[2]
    error = float((pixel - start)[:2].norm())
    return (x + 0.5, y + 0.5), float(back[2]), error, abs(float(back[2]) - own) / own


def test_reprojection_against_matrices(pair):
    reference, source = pair
    generator = torch.Generator().manual_seed(0)
    depth = plane_depth(reference) * (1 + 0.02 * torch.randn(reference.size, generator=generator))
    other = plane_depth(source) * (1 + 0.02 * torch.randn(source.size, generator=generator))
    found = reproject(reference, depth, source, other)
    seen = 0
    for row in range(reference.size[0]):
        for column in range(reference.size[1]):
            position, z_depth, pixel, relative = naive_reprojection(reference, depth, source, other, row, column)
            torch.testing.assert_close(found.position[row, column], torch.tensor(position), rtol=1e-4, atol=1e-4)
            if -0.4 < position[0] - 0.5 < source.size[1] - 0.6 and -0.4 < position[1] - 0.5 < source.size[0] - 0.6:
                seen += 1
                assert float(found.z_depth[row, column]) == pytest.approx(z_depth, rel=1e-4)
                assert float(found.pixel_error[row, column]) == pytest.approx(pixel, abs=1e-3)
                assert float(found.depth_error[row, column]) == pytest.approx(relative, abs=1e-4)
    assert 30 < seen < reference.size[0] * reference.size[1]


def test_a_plane_confirms_itself_in_views_of_other_sizes(pair):
    reference, source = pair
    found = reproject(reference, plane_depth(reference), source, plane_depth(source))
    row, column = (found.position - 0.5).flip(-1).unbind(-1)
    inside = (row >= 0) & (row <= source.size[0] - 1) & (column >= 0) & (column <= source.size[1] - 1)
    assert 0.3 < float(inside.float().mean()) < 1.0
    # Depth of a plane is not bilinear in the pixels of a turned camera, but nearly.
    assert float(found.pixel_error[inside].max()) < 0.05 and float(found.depth_error[inside].max()) < 2e-3
    torch.testing.assert_close(found.z_depth[inside], plane_depth(reference)[inside], rtol=2e-3, atol=0)
    assert torch.equal(found.consistent(1.0, 0.01)[inside], torch.ones(int(inside.sum()), dtype=torch.bool))
    assert not found.consistent(1.0, 0.01)[(row < -1) | (column < -1)].any()


def test_another_plane_is_not_confirmed(pair):
    reference, source = pair
    found = reproject(reference, plane_depth(reference), source, plane_depth(source, 1.1 * PLANE))
    assert not found.consistent(1.0, 0.01).any()
    assert found.consistent(5.0, 0.2).any()


def test_either_error_is_enough_to_refuse(pair):
    reference, source = pair
    found = reproject(reference, 1.02 * plane_depth(reference), source, plane_depth(source))
    finite = found.pixel_error.isfinite() & (found.depth_error < 0.05)
    pixel, relative = float(found.pixel_error[finite].max()), float(found.depth_error[finite].max())
    assert found.consistent(1.01 * pixel, 1.01 * relative)[finite].all()
    assert not found.consistent(1.01 * pixel, 0.5 * float(found.depth_error[finite].min()))[finite].any()
    assert not found.consistent(0.5 * float(found.pixel_error[finite].min()), 1.01 * relative)[finite].any()


def test_nothing_behind_the_other_camera():
    """The mirrored position of a point behind a camera lies in its image; its depth there must not count."""
    reference, beyond = view_from((0.0, 0.0, 0.0)), view_from((0.0, 0.0, 2.0 * PLANE))
    found = reproject(reference, plane_depth(reference), beyond, torch.full(beyond.size, -PLANE))
    assert (found.position == -1.0).all()
    assert found.pixel_error.isinf().all() and found.depth_error.isinf().all() and not found.z_depth.any()
    assert not found.consistent(1e9, 1e9).any()


def test_holes_confirm_nothing_and_are_not_confirmed(pair):
    reference, source = pair
    depth, other = plane_depth(reference), plane_depth(source)
    assert not reproject(reference, torch.zeros_like(depth), source, other).consistent(1e9, 1e9).any()
    assert not reproject(reference, depth, source, torch.zeros_like(other)).consistent(1e9, 1e9).any()


def test_count_and_mean_of_those_that_agree():
    reference = view_from((0.0, 0.0, 0.0))
    sources = [view_from((0.2, 0.0, 0.0)), view_from((-0.2, 0.1, 0.0), (12, 18)), view_from((0.0, 0.2, 0.0))]
    depths = [1.004 * plane_depth(sources[0]), plane_depth(sources[1]), 1.1 * plane_depth(sources[2])]
    found = consistent_views(reference, plane_depth(reference), sources, depths)
    assert found.masks.shape == (3, *reference.size)
    each = [
        reproject(reference, plane_depth(reference), source, depth)
        for source, depth in zip(sources, depths, strict=True)
    ]
    assert not found.masks[2].any()
    fused = fuse(plane_depth(reference), found)
    for row in range(reference.size[0]):
        for column in range(reference.size[1]):
            values = [float(plane_depth(reference)[row, column])]
            for pair in each:
                if pair.pixel_error[row, column] < 1.0 and pair.depth_error[row, column] < 0.01:
                    values.append(float(pair.z_depth[row, column]))
            assert int(found.count[row, column]) == len(values) - 1
            assert float(fused[row, column]) == pytest.approx(sum(values) / len(values), rel=1e-6)
    middle = (slice(3, -3), slice(4, -4))
    assert (found.count[middle] == 2).all()
    torch.testing.assert_close(fused[middle], plane_depth(reference)[middle] * (1 + 0.004 / 3), rtol=2e-4, atol=0)


def test_without_agreement_the_depth_stays():
    depth = torch.rand(3, 4)
    nothing = Consistency(torch.zeros(2, 3, 4, dtype=torch.bool), torch.rand(2, 3, 4))
    assert torch.equal(fuse(depth, nothing), depth)


def test_thresholds_are_arguments(pair):
    reference, source = pair
    depth, other = plane_depth(reference), 1.02 * plane_depth(source)
    strict = consistent_views(reference, depth, [source], [other])
    loose = consistent_views(reference, depth, [source], [other], 2.0, 0.05)
    assert not strict.masks.any() and loose.masks.any()


def test_errors_name_the_view(pair):
    reference, source = pair
    with pytest.raises(ValueError, match=r"from \(1.2.*: expected a depth map of size \(14, 10\), found \(9, 12\)"):
        reproject(reference, plane_depth(reference), source, plane_depth(reference))
    with pytest.raises(ValueError, match="alone: expected at least one other view, found none"):
        consistent_views(replace(reference, name="alone"), plane_depth(reference), [], [])

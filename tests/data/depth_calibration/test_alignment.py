"""Scale and shift of monocular depth: the robust line against naive loops, outliers, both spaces, misfits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fewshot_ns.data.depth_calibration.alignment import Alignment, align, align_to_range, fit_line

RNG = np.random.default_rng(3)


def naive_least_median(x, y):
    """Smallest median distance over the lines through all pairs of points."""
    best = (np.inf, 0.0, 0.0)
    for i, j in combinations(range(len(x)), 2):
        if x[i] != x[j]:
            scale = (y[j] - y[i]) / (x[j] - x[i])
            shift = y[i] - scale * x[i]
            best = min(
                best, (float(np.median([abs(scale * a + shift - b) for a, b in zip(x, y, strict=True)])), scale, shift)
            )
    return best


@pytest.mark.parametrize("seed", range(6))
def test_few_points_against_a_loop_over_all_pairs(seed):
    generator = np.random.default_rng(seed)
    x = generator.random(24)
    y = 2.0 * x + 0.5 + 0.01 * generator.normal(size=24)
    y[:9] += generator.uniform(1, 4, 9)
    scale, shift, inliers = fit_line(x, y, np.ones(24))
    median, naive_scale, naive_shift = naive_least_median(x, y)
    sigma = 1.4826 * (1 + 5 / 22) * median
    kept = np.abs(naive_scale * x + naive_shift - y) <= 2.5 * sigma
    expected = np.polyfit(x[kept], y[kept], 1)
    # The final refits may change the set by a point or two.
    np.testing.assert_allclose([scale, shift], expected, atol=0.02)
    assert not inliers[:9].any() and inliers[9:].mean() > 0.8


def test_weights_are_those_of_weighted_least_squares():
    x, weights = RNG.random(200), RNG.random(200) + 0.01
    y = 3.0 * x - 1.0 + 0.001 * RNG.normal(size=200)
    scale, shift, inliers = fit_line(x, y, weights)
    expected = np.polyfit(x[inliers], y[inliers], 1, w=np.sqrt(weights[inliers]))
    np.testing.assert_allclose([scale, shift], expected, rtol=1e-9)
    assert inliers.mean() > 0.9


@pytest.mark.parametrize("polarity", ["inverse_depth", "distance"])
@pytest.mark.parametrize("outliers", [0.0, 0.4])
def test_a_distorted_truth_comes_back(polarity, outliers):
    z = RNG.uniform(2.0, 9.0, 3000)
    shown = 1.0 / z if polarity == "inverse_depth" else z
    values = (shown - 0.1) / 0.004
    known = z * (1 + 0.01 * RNG.normal(size=3000))
    wrong = RNG.random(3000) < outliers
    known[wrong] = RNG.uniform(0.5, 30.0, int(wrong.sum()))
    fitted = align(values, known, polarity)
    depth, valid = fitted.z_depth(values.reshape(50, 60))
    assert valid.all()
    np.testing.assert_allclose(depth.ravel(), z, rtol=0.01)
    assert fitted.residual == pytest.approx(0.01, rel=0.35)
    assert fitted.num_points == 3000 and fitted.inlier_fraction == pytest.approx(1 - outliers, abs=0.12)
    assert fitted.misfit(20, 0.5, 0.3) == ""


def test_a_plain_fit_would_not_do():
    """The outliers of the test above ruin ordinary least squares."""
    z = RNG.uniform(2.0, 9.0, 500)
    known = np.where(RNG.random(500) < 0.3, 60.0, z)
    slope, offset = np.polyfit(z, known, 1)
    assert np.abs(slope * z + offset - z).mean() > 5
    fitted = align(z, known, "distance")
    assert fitted.scale == pytest.approx(1.0, abs=1e-6) and fitted.shift == pytest.approx(0.0, abs=1e-5)


def test_what_does_not_fit_says_why():
    z = RNG.uniform(2.0, 9.0, 400)
    assert "larger values are on the other side" in align(1 / z, z, "distance").misfit(20, 0.5, 0.3)
    assert align(RNG.random(400), z, "distance").misfit(20, 0.5, 0.3) != ""
    assert "only 5 points" in align(z[:5], z[:5], "distance").misfit(20, 0.5, 0.3)
    assert align(np.ones(400), z, "distance").misfit(20, 0.5, 0.3) != ""
    many = np.concatenate([z, RNG.uniform(2.0, 9.0, 600)])
    found = align(many, np.concatenate([z, RNG.uniform(2.0, 9.0, 600)]), "distance")
    assert found.misfit(20, 0.9, 0.0) != ""


def test_pixels_beyond_the_line_are_invalid():
    depth, valid = Alignment("inverse_depth", 1.0, -1.0).z_depth(np.array([[0.5, 1.0, 1.5]]))
    assert valid.tolist() == [[False, False, True]] and depth.tolist() == [[0.0, 0.0, 2.0]]
    depth, valid = Alignment("distance", 2.0, -1.0).z_depth(np.array([[0.25, 1.0]]))
    assert valid.tolist() == [[False, True]] and depth[0, 1] == 1.0


@pytest.mark.parametrize("polarity", ["inverse_depth", "distance"])
def test_near_and_far(polarity):
    values = np.linspace(10.0, 20.0, 1001)
    fitted = align_to_range(values, 2.0, 6.0, polarity)
    depth, valid = fitted.z_depth(values[None])
    assert valid.all() and fitted.correlation is None and fitted.misfit(20, 0.9, 0.9) == ""
    low, high = (depth[0, 980], depth[0, 20]) if polarity == "inverse_depth" else (depth[0, 20], depth[0, 980])
    assert low == pytest.approx(2.0, rel=1e-4) and high == pytest.approx(6.0, rel=1e-4)
    with pytest.raises(ValueError, match="expected 0 < near < far"):
        align_to_range(values, 6.0, 2.0, polarity)

"""The distortion that turns exact depth into a prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from fewshot_ns.synthetic.scene import DepthDistortion, to_uint16

CLEAN = DepthDistortion(region_error=0.0, blur=0.0, noise=0.0)


def rank_correlation(first, second):
    """Spearman's coefficient."""
    return np.corrcoef(rankdata(first), rankdata(second))[0, 1]


def depths(seed=0):
    """(48, 64) random positive depths."""
    return np.random.default_rng(seed).uniform(10.0, 50.0, size=(48, 64))


@pytest.mark.parametrize("index", range(4))
def test_without_errors_it_is_monotone(index):
    depth = depths(index)
    assert rank_correlation(CLEAN.apply(depth, index).ravel(), -depth.ravel()) > 1.0 - 1e-9


def test_the_bend_is_no_affine_map():
    inverse = 1.0 / depths()
    bent = replace(CLEAN, bend=2.0).apply(1.0 / inverse, 1)
    residual = np.polyfit(inverse.ravel(), bent.ravel(), 1, full=True)[1][0] / inverse.size
    assert residual > 1e-4 * bent.var()
    straight = replace(CLEAN, bend=1.0).apply(1.0 / inverse, 1)
    assert np.polyfit(inverse.ravel(), straight.ravel(), 1, full=True)[1][0] < 1e-12 * straight.var() * inverse.size


def test_scale_and_shift_differ_between_images_and_seeds():
    depth = depths()
    maps = [
        DepthDistortion().apply(depth, 0),
        DepthDistortion().apply(depth, 1),
        DepthDistortion(seed=1).apply(depth, 0),
    ]
    means, spreads = [m.mean() for m in maps], [np.ptp(m) for m in maps]
    assert len({round(m, 6) for m in means}) == 3 and max(spreads) > 1.5 * min(spreads)
    np.testing.assert_array_equal(maps[0], DepthDistortion().apply(depth, 0))


def test_each_error_lowers_the_agreement():
    ramp = np.tile(np.linspace(10.0, 40.0, 64), (48, 1))
    steps = ramp + 5.0 * (np.indices(ramp.shape).sum(axis=0) % 2)

    def agreement(**errors):
        return rank_correlation(replace(CLEAN, **errors).apply(steps, 0).ravel(), -steps.ravel())

    for errors in ({"region_error": 0.2}, {"blur": 0.05}, {"noise": 0.1}):
        assert agreement(**errors) < agreement() - 1e-3


def test_layout_of_the_png():
    stretched = to_uint16(np.array([[-3.0, 1.0], [5.0, 1.0]]))
    assert stretched.dtype == np.uint16
    np.testing.assert_array_equal(stretched, [[0, 32768], [65535, 32768]])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_refuses_depth_that_is_none(value):
    depth = depths()
    depth[3, 4] = value
    with pytest.raises(ValueError, match="positive finite"):
        DepthDistortion().apply(depth, 0)

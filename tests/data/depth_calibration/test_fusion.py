"""Sensor depth laid over aligned monocular depth."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_ns.data.depth.metric import MetricDepth
from fewshot_ns.data.depth_calibration.alignment import Alignment
from fewshot_ns.data.depth_calibration.fusion import fuse, sample_nearest

VALUES = np.array([[1.0, 2.0, 4.0], [0.5, 0.0, 8.0]], np.float32)
LINE = Alignment("inverse_depth", scale=0.5, shift=0.0, residual=0.05)


def sensor(sigma=None) -> MetricDepth:
    depth = np.array([[2.1, 0.0, 0.0], [0.0, 7.0, 0.0]], np.float32)
    return MetricDepth(depth, depth > 0, np.ones((2, 3), np.float32), sigma)


def test_sensor_where_valid_and_the_network_elsewhere():
    fused = fuse(VALUES, LINE, sensor())
    np.testing.assert_allclose(fused.z_depth, [[2.1, 1.0, 0.5], [4.0, 7.0, 0.25]])
    np.testing.assert_array_equal(fused.from_sensor, [[True, False, False], [False, True, False]])
    np.testing.assert_allclose(fused.sigma, [[0.021, 0.05, 0.025], [0.2, 0.07, 0.0125]], rtol=1e-6)
    assert fused.valid.all()


def test_each_source_alone():
    alone = fuse(VALUES, LINE)
    np.testing.assert_array_equal(alone.valid, [[True, True, True], [True, False, True]])
    assert not alone.from_sensor.any() and (alone.sigma[alone.valid] > 0).all() and alone.sigma[1, 1] == 0
    alone = fuse(VALUES, None, sensor(), sensor_error=0.02)
    np.testing.assert_array_equal(alone.valid, sensor().valid)
    np.testing.assert_allclose(alone.sigma, 0.02 * alone.z_depth)


def test_uncertainty_of_the_sensor_s_own_map_and_a_perfect_line():
    sigma = np.where(sensor().valid, 0.3, 0).astype(np.float32)
    fused = fuse(VALUES, Alignment("inverse_depth", 0.5, 0.0, residual=0.0), sensor(sigma))
    assert fused.sigma[0, 0] == np.float32(0.3)
    # No monocular pixel is trusted more than a measured one.
    np.testing.assert_allclose(fused.sigma[0, 1], 0.01)


@pytest.mark.parametrize("position, expected", [((0.0, 0.0), 1.0), ((0.999, 0.999), 8.0), ((0.5, 0.49), 2.0)])
def test_sampling(position, expected):
    assert sample_nearest(VALUES, np.array([position]))[0] == expected

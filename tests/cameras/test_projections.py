"""Projection matrices are split into the intrinsics and the pose that they were made of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fewshot_ns.cameras.projections import split_projection

RNG = np.random.default_rng(3)


def composed(intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """K [R | t] of a camera-to-world pose, the naive way."""
    rotation = pose[:, :3].T
    return intrinsics @ np.concatenate([rotation, -rotation @ pose[:, 3:]], axis=1)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-3, -2.5e4])
def test_parts_come_back(factor: float) -> None:
    for rotation in Rotation.from_quat(RNG.normal(size=(8, 4))).as_matrix():
        intrinsics = np.array([[900.0, 3.0, 310.0], [0, 870.0, 250.0], [0, 0, 1]]) + np.triu(RNG.random((3, 3)))
        intrinsics /= intrinsics[2, 2]
        pose = np.concatenate([rotation, RNG.normal(scale=40.0, size=(3, 1))], axis=1)
        found, where = split_projection(factor * composed(intrinsics, pose))
        np.testing.assert_allclose(found, intrinsics, rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(where, pose, rtol=1e-9, atol=1e-7)
        assert np.linalg.det(where[:, :3]) == pytest.approx(1.0)


@pytest.mark.parametrize("matrix", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.ones((3, 4))])
def test_no_camera(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="whose 3x3 part has an inverse"):
        split_projection(matrix)

"""Depth priors: formats, polarity, validity, resampling, errors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fewshot_ns.data.depth.maps import DepthMap, find_depth_maps, read_depth_map, resample_depth

RNG = np.random.default_rng(0)


def test_png_is_inverse_depth_unless_told_otherwise(tmp_path):
    values = RNG.integers(1, 65535, (6, 8)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), values)
    prior = read_depth_map(tmp_path / "d.png", None, (6, 8))
    assert prior.polarity == "inverse_depth" and prior.valid.all() and prior.values.dtype == np.float32
    np.testing.assert_array_equal(prior.values, values)
    np.testing.assert_array_equal(prior.nearness(), values)
    assert read_depth_map(tmp_path / "d.png", "distance", (6, 8)).polarity == "distance"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (1, 6, 8)])
def test_npy_and_npz_of_every_number_type(tmp_path, dtype, shape):
    values = RNG.integers(1, 100, shape).astype(dtype)
    np.save(tmp_path / "d.npy", values)
    np.savez(tmp_path / "one.npz", anything=values)
    np.savez(tmp_path / "two.npz", depth=values, other=np.zeros(3))
    for name in ("d.npy", "one.npz", "two.npz"):
        prior = read_depth_map(tmp_path / name, "distance", (6, 8))
        np.testing.assert_array_equal(prior.values, values.reshape(6, 8).astype(np.float32))


def test_nearness_ranks_alike_for_both_polarities(tmp_path):
    depth = 1.0 + RNG.random((6, 8))
    np.save(tmp_path / "distance.npy", depth)
    np.save(tmp_path / "inverse.npy", 1.0 / depth)
    distance = read_depth_map(tmp_path / "distance.npy", "distance", (6, 8)).nearness()
    inverse = read_depth_map(tmp_path / "inverse.npy", "inverse_depth", (6, 8)).nearness()
    np.testing.assert_array_equal(distance.ravel().argsort(), inverse.ravel().argsort())
    assert np.unravel_index(inverse.argmax(), (6, 8)) == np.unravel_index(depth.argmin(), (6, 8))


def test_npy_without_polarity_is_refused(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"d\.npy: .* give --depth-polarity"):
        read_depth_map(tmp_path / "d.npy", None, (4, 4))


def test_zero_negative_and_non_finite_values_are_invalid(tmp_path):
    values = np.array([[0.0, -1.0, 2.0], [np.nan, np.inf, 3.0]])
    np.save(tmp_path / "d.npy", values)
    prior = read_depth_map(tmp_path / "d.npy", "distance", (2, 3))
    np.testing.assert_array_equal(prior.valid, [[False, False, True], [False, False, True]])
    np.testing.assert_array_equal(prior.values, [[0, 0, 2], [0, 0, 3]])


def _taps(source: int, target: int):
    """Neighbours and weights of bilinear resampling along one axis, written out."""
    for index in range(target):
        position = max((index + 0.5) * source / target - 0.5, 0.0)
        low = min(int(position), source - 1)
        high = min(low + 1, source - 1)
        weight = position - low
        yield [(low, 1.0 - weight), (high, weight)]


@pytest.mark.parametrize(
    "source, target", [((12, 16), (6, 8)), ((12, 16), (5, 7)), ((9, 12), (24, 32)), ((12, 16), (3, 4))]
)
def test_resampling_against_a_naive_loop(source, target):
    values = RNG.random(source).astype(np.float32) + 1.0
    valid = RNG.random(source) > 0.2
    resized, resized_valid = resample_depth(np.where(valid, values, 1e9).astype(np.float32), valid, target)
    for row, row_taps in enumerate(_taps(source[0], target[0])):
        for column, column_taps in enumerate(_taps(source[1], target[1])):
            taps = [(r, c, wr * wc) for r, wr in row_taps for c, wc in column_taps if wr * wc > 0]
            expected_valid = all(valid[r, c] for r, c, _ in taps)
            assert resized_valid[row, column] == expected_valid
            expected = sum(values[r, c] * weight for r, c, weight in taps) if expected_valid else 0.0
            np.testing.assert_allclose(resized[row, column], expected, rtol=1e-5)


def test_a_hole_spreads_and_never_leaks(tmp_path):
    values = np.full((40, 40), 7.0)
    values[10:20, 10:20] = np.nan
    np.save(tmp_path / "d.npy", values)
    prior = read_depth_map(tmp_path / "d.npy", "distance", (17, 17))
    assert 0 < (~prior.valid).sum() < 17 * 17
    np.testing.assert_allclose(prior.values[prior.valid], 7.0, rtol=1e-6)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.ones((6, 8, 3)), r"shape \(H, W\), found shape \(6, 8, 3\)"),
        (np.ones(48), r"shape \(H, W\), found shape \(48,\)"),
        (np.ones((8, 6)), r"proportions of the image \(8x6 .* found 6x8"),
        (np.zeros((6, 8)), "expected some positive finite values, found none"),
        (np.full((6, 8), np.nan), "expected some positive finite values"),
        (np.ones((6, 8), dtype=complex), "expected real numbers"),
        (np.full((6, 8), "a"), "expected real numbers"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, values, message):
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(ValueError, match=rf"d\.npy: .*{message}"):
        read_depth_map(tmp_path / "d.npy", "distance", (6, 8))


def test_prior_too_sparse_for_the_camera(tmp_path):
    values = np.zeros((40, 40))
    values[::7, ::7] = 1.0
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(ValueError, match=r"no valid pixel is left at 10x10"):
        read_depth_map(tmp_path / "d.npy", "distance", (10, 10))


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npy"):
        read_depth_map(tmp_path / "absent.npy", "distance", (4, 4))
    for name in ("d.npy", "d.npz", "d.png"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            read_depth_map(tmp_path / name, "distance", (4, 4))
    np.save(tmp_path / "cut.npy", np.ones((64, 64)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.npy"):
        read_depth_map(tmp_path / "cut.npy", "distance", (64, 64))
    np.save(tmp_path / "object.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"object\.npy"):
        read_depth_map(tmp_path / "object.npy", "distance", (4, 4))
    np.savez(tmp_path / "two.npz", a=np.ones((4, 4)), b=np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"expected one array, or one named 'depth', found \['a', 'b'\]"):
        read_depth_map(tmp_path / "two.npz", "distance", (4, 4))
    cv2.imwrite(str(tmp_path / "eight.png"), np.full((4, 4), 9, np.uint8))
    with pytest.raises(ValueError, match="expected a PNG of 16 bits, found uint8"):
        read_depth_map(tmp_path / "eight.png", None, (4, 4))
    (tmp_path / "d.tga").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a depth prior as \.png, \.npy, \.npz, \.pfm, \.exr, found \.tga"):
        read_depth_map(tmp_path / "d.tga", "distance", (4, 4))


def test_files_are_found_by_the_names_of_the_images(tmp_path):
    for name in ("depth_a.png", "a.npy", "b.npy", "c.txt"):
        (tmp_path / name).touch()
    images = [tmp_path / "images" / name for name in ("a.JPG", "b.png", "c.png")]
    assert find_depth_maps(tmp_path, images) == (tmp_path / "depth_a.png", tmp_path / "b.npy", None)
    assert find_depth_maps(tmp_path / "absent", images) == (None, None, None)


def test_nearness_does_not_depend_on_the_file():
    values = np.array([[1.0, 2.0]], np.float32)
    valid = np.ones((1, 2), bool)
    assert DepthMap(values, valid, "inverse_depth").nearness().argmax() == 1
    assert DepthMap(values, valid, "distance").nearness().argmax() == 0

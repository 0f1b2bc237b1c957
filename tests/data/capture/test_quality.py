"""Sharpness and brightness at one working size."""

from __future__ import annotations

import cv2
import numpy as np

from fewshot_ns.data.capture.quality import WORKING_SIDE, sharpness_of, working_grey


def texture(side: int) -> np.ndarray:
    coarse = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.random.RandomState(0).randint(0, 256, (20, 30)).astype(np.uint8)
    padded = np.pad(grey.astype(float), 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * padded[1:-1, 1:-1]
    np.testing.assert_allclose(sharpness_of(grey), laplacian.var())


def test_pictures_of_all_sizes_compare() -> None:
    sharpness = [sharpness_of(working_grey(texture(side))) for side in (512, 1024, 2048)]
    np.testing.assert_allclose(sharpness, sharpness[0], rtol=0.1)
    # One that lacks the detail is worse, not better by its steep pixels.
    assert sharpness_of(working_grey(texture(48))) < 0.8 * sharpness[0]
    assert max(working_grey(texture(100)).shape) == WORKING_SIDE


def test_blur_lowers_sharpness() -> None:
    blurred = cv2.GaussianBlur(texture(1024), (0, 0), 24).astype(np.uint8)
    assert sharpness_of(working_grey(blurred)) < 0.1 * sharpness_of(working_grey(texture(1024)))


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((512, 512, 4), np.uint8)
    pixels[:, 256:, 3] = 255
    grey = working_grey(pixels)
    assert (grey[:, :256] == 255).all() and (grey[:, 256:] == 0).all()

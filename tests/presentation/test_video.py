"""Frames, depth colours and video files."""

from __future__ import annotations

import imageio.v2 as imageio
import numpy as np
import pytest

from fewshot_ns.presentation.ffmpeg import ensure_ffmpeg_on_path
from fewshot_ns.presentation.pictures import shared_depth_range
from fewshot_ns.presentation.video import RenderedPath, colour_depth, rgb_beside_depth, write_video


def path_of(depths, height=24, width=33):
    """A path of constant-depth frames with a red picture."""
    rgb = [np.tile(np.array([200, 10, 10], np.uint8), (height, width, 1)) for _ in depths]
    depth = [np.full((height, width), value, np.float32) for value in depths]
    return RenderedPath(rgb, depth, [np.ones((height, width), np.float32) for _ in depths])


def test_equal_depth_has_equal_colour_in_all_frames():
    path = path_of([2.0, 3.0, 2.0, 6.0])
    frames = rgb_beside_depth(path, *shared_depth_range(path.depth), min_height=0)
    assert frames[0].shape == (24, 70, 3) and frames[0].dtype == np.uint8  # Two pictures and the gap between them.
    np.testing.assert_array_equal(frames[0], frames[2])
    np.testing.assert_array_equal(frames[0][:, :33], path.rgb[0])
    assert np.abs(frames[0][:, 37:].astype(int) - frames[1][:, 37:]).max() > 100


def test_near_is_blue_far_is_red_and_nothing_is_white():
    depth = np.array([[1.0, 5.0, 1.0, 0.0]], np.float32)
    colour = colour_depth(depth, np.array([[1.0, 1.0, 0.0, 1.0]], np.float32), 1.2, 4.0).astype(int)[0]
    assert colour[0, 2] > colour[0, 0] and colour[1, 0] > colour[1, 2] + 50
    assert (colour[2] == 255).all()
    np.testing.assert_array_equal(colour[3], colour[0])


def test_frames_that_show_nothing_are_white():
    nothing = np.zeros((4, 6), np.float32)
    path = RenderedPath([np.zeros((4, 6, 3), np.uint8)], [nothing], [nothing])
    (frame,) = rgb_beside_depth(path, *shared_depth_range(path.depth), min_height=4)
    assert (frame[:, -6:] == 255).all()


def test_colours_are_spread_over_inverse_distance():
    even = 1.0 / np.linspace(1.0 / 2.0, 1.0 / 1000.0, 9, dtype=np.float32)[None]
    colours = colour_depth(even, np.ones_like(even), 2.0, 1000.0)[0].astype(int)
    steps = np.abs(np.diff(colours, axis=0)).sum(axis=1)
    assert steps.min() > 40  # Nine well separated colours although most of the distances lie close to the camera.


def test_small_frames_are_enlarged_by_a_whole_factor():
    path = path_of([2.0])
    assert rgb_beside_depth(path, 1.0, 3.0, min_height=60)[0].shape == (72, 202, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_video_files_can_be_read_back(tmp_path, suffix):
    ensure_ffmpeg_on_path()
    path = path_of([2.0, 3.0, 4.0])
    frames = rgb_beside_depth(path, 1.0, 5.0, min_height=70)
    file = tmp_path / "new" / f"video{suffix}"
    write_video(file, frames, fps=10)
    # Not mediapy's own reader: it asks ffmpeg for an option that ffmpeg 8 and later no longer know.
    read = np.stack([frame[..., :3] for frame in imageio.mimread(file)])
    assert len(read) == 3 and abs(read.shape[1] - frames[0].shape[0]) <= 1
    assert np.abs(read[:, 5:60, 5:90].astype(int).mean(axis=(0, 1, 2)) - [200, 10, 10]).max() < 25
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_unusable_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "video.mp4", [], 10)
    with pytest.raises(ValueError, match=r"ending in \.mp4 or \.gif, found '\.avi'"):
        write_video(tmp_path / "video.avi", [np.zeros((8, 8, 3), np.uint8)], 10)

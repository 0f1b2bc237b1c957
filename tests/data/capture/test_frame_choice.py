"""Which frames of a video are taken: by time, upright, and none twice while the camera rests."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import List, Sequence

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from fewshot_ns.data.capture.frames import choose_frames, pick_frames

PATTERN = cv2.resize(
    np.random.RandomState(0).randint(0, 255, (8, 60, 3)).astype(np.uint8), (960, 128), interpolation=cv2.INTER_NEAREST
)


def view(at: int) -> np.ndarray:
    """(128, 192, 3) of a pattern, `at` pixels from its left."""
    return np.ascontiguousarray(PATTERN[:, at : at + 192])


def write(path: Path, places: Sequence[int]) -> None:
    writer = imageio_ffmpeg.write_frames(str(path), (192, 128), fps=30, quality=9, macro_block_size=16)
    writer.send(None)
    for at in places:
        writer.send(view(at))
    writer.close()


def place_of(pixels: np.ndarray) -> int:
    """Where the pattern is that a frame shows."""
    off = [np.abs(view(at).astype(int) - pixels).mean() for at in range(0, 768, 4)]
    assert min(off) < 12
    return 4 * int(np.argmin(off))


def distinct(count: int) -> List[np.ndarray]:
    return list(np.random.RandomState(1).randint(0, 255, (count, 8, 8)).astype(np.uint8))


def test_the_sharpest_of_the_middle_of_each_span() -> None:
    sharpness = [1.0] * 80
    # Within the middle half of a span of 20 frames, and outside, where it does not count.
    for inside, outside in ((7, 19), (33, 21), (54, 59), (65, 79)):
        sharpness[inside], sharpness[outside] = 5.0, 9.0
    assert choose_frames(sharpness, distinct(80), 4) == (7, 33, 54, 65)


@pytest.mark.parametrize("total", [4, 5, 6, 7, 9, 11])
def test_short_videos_give_one_frame_a_span(total: int) -> None:
    chosen = choose_frames([1.0] * total, distinct(total), 4)
    assert len(chosen) == 4 and [number * 4 // total for number in chosen] == [0, 1, 2, 3]


def test_a_resting_camera_gives_no_copies_and_no_lost_motion() -> None:
    frames = distinct(80)
    # At rest up to the middle of the third span; the exposure that drifts meanwhile is no motion.
    resting = [frames[0] // 2 + number for number in range(50)] + frames[50:]
    chosen = choose_frames(list(np.linspace(2, 1, 80)), resting, 4)
    assert chosen[0] == 5 and len(chosen) == 3
    assert chosen[1] == 50, "the third span's frames from 45 to 49 are sharper and show what the first one shows"
    assert choose_frames([1.0] * 80, [frames[0]] * 80, 4) == (10 - 5,)


def test_pixels_are_those_of_the_time(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", [4 * number for number in range(90)])
    frames = pick_frames(tmp_path / "v.mp4", 5)
    assert [place_of(frame.pixels) for frame in frames] == [round(frame.time * 30) * 4 for frame in frames]
    assert [int(frame.time / 3 * 5) for frame in frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    write(tmp_path / "v.mp4", [4 * number for number in range(30)])
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(degrees)]
    command += ["-i", str(tmp_path / "v.mp4"), "-c", "copy", str(tmp_path / "turned.mp4")]
    subprocess.run(command, check=True)
    straight, turned = pick_frames(tmp_path / "v.mp4", 2), pick_frames(tmp_path / "turned.mp4", 2)
    # ffmpeg's angle is counterclockwise.
    expected = np.rot90(straight[0].pixels, degrees // 90)
    assert turned[0].pixels.shape == expected.shape
    assert np.abs(turned[0].pixels.astype(int) - expected).mean() < 1.5


def test_spans_are_of_time_where_the_frame_rate_varies(tmp_path: Path) -> None:
    """A second of sixty frames, then three of four each: most frames are in the first quarter."""
    times = [number / 60 for number in range(60)] + [1 + number / 4 for number in range(12)]
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=60, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 600)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(view(8 * number), format="rgb24")
            frame.pts, frame.time_base = round(time * 600), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = pick_frames(tmp_path / "v.mp4", 4)
    assert [int(frame.time) for frame in frames] == [0, 1, 2, 3]
    shown = [times[place_of(frame.pixels) // 8] for frame in frames]
    # A frame stays until the next one comes.
    assert all(0 <= frame.time - time < 0.26 + 1 / 30 for frame, time in zip(frames, shown, strict=True))


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n"])
def test_lists_of_addresses_and_empty_files_are_no_videos(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="v.mp4: expected a video that ffmpeg reads"):
        pick_frames(tmp_path / "v.mp4", 2)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=1"]
    subprocess.run([*command, str(tmp_path / "a.mp4")], check=True)
    with pytest.raises(ValueError, match="a.mp4: expected a video that ffmpeg reads"):
        pick_frames(tmp_path / "a.mp4", 2)


@pytest.mark.parametrize("count", [1, 0, -3])
def test_one_frame_is_too_few(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="--frames: expected at least 2"):
        pick_frames(tmp_path / "v.mp4", count)

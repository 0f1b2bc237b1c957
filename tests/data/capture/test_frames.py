"""Sharp frames of a video."""

from __future__ import annotations

from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from fewshot_ns.data.capture.frames import pick_frames
from fewshot_ns.data.capture.photos import gather_photos


def write_video(path: Path, blurred: bool = True) -> None:
    """48 frames of a pattern that moves; of every four all but one are blurred."""
    pattern = np.random.RandomState(0).randint(0, 255, (16, 60, 3)).astype(np.uint8)
    pattern = cv2.resize(pattern, (480, 128), interpolation=cv2.INTER_NEAREST)
    writer = imageio_ffmpeg.write_frames(str(path), (192, 128), fps=24, quality=9, macro_block_size=16)
    writer.send(None)
    for number in range(48):
        frame = pattern[:, 4 * number : 4 * number + 192]
        if blurred and number % 4 != 2:
            frame = cv2.GaussianBlur(frame, (0, 0), 4)
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def test_the_sharp_frame_of_each_span_is_taken(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4")
    frames = pick_frames(tmp_path / "v.mp4", 4)
    numbers = [round(frame.time * 24) for frame in frames]
    assert len(frames) == 4 and all(number % 4 == 2 for number in numbers)
    assert [number // 12 for number in numbers] == [0, 1, 2, 3]


def test_a_video_becomes_photos(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4")
    photos = gather_photos(tmp_path / "v.mp4", tmp_path / "out", frames=3)
    assert [photo.name for photo in photos] == ["v_000.jpg", "v_001.jpg", "v_002.jpg"]
    assert all(photo.time is not None and (photo.width, photo.height) == (192, 128) for photo in photos)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match="v.mp4: expected a video that ffmpeg reads"):
        pick_frames(tmp_path / "v.mp4", 4)
    write_video(tmp_path / "w.mp4")
    with pytest.raises(ValueError, match="at least 100 frames"):
        pick_frames(tmp_path / "w.mp4", 100)
    with pytest.raises(FileNotFoundError, match="no such file"):
        pick_frames(tmp_path / "none.mp4", 4)

"""`ns-fewshot video --images`: images on disk in natural order."""

from __future__ import annotations

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from fewshot_ns.scripts.video import VideoCommand


def write(folder, name, grey, size=(31, 21)):
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(folder / name)


def test_frames_are_the_images_in_natural_order(tmp_path):
    folder = tmp_path / "renders"
    for name, grey in (("f10.png", 220), ("f9.png", 120), ("f1.png", 20)):
        write(folder, name, grey)
    (folder / "notes.txt").write_text("no image")
    write(folder / "gt", "f0.png", 0, size=(8, 8))
    VideoCommand(images=folder, fps=5.0, min_height=40, forth_and_back=True).main()
    for suffix in (".mp4", ".gif"):
        frames = imageio.mimread(tmp_path / f"renders{suffix}")
        # Enlarged by 2; sides are even.
        assert np.asarray(frames[0]).shape[:2] == (42, 62)
        means = [float(np.asarray(frame)[..., :3].mean()) for frame in frames]
        np.testing.assert_allclose(means, [20, 120, 220, 120], atol=4)
    write(folder, "f2.png", 0, size=(30, 21))
    with pytest.raises(ValueError, match=r"f2\.png: expected 31x21 pixels .* as f1\.png has, found 30x21"):
        VideoCommand(images=folder).main()


def test_flags(tmp_path):
    write(tmp_path / "a", "1.png", 9)
    with pytest.raises(ValueError, match="leave out flags of paths"):
        VideoCommand(images=tmp_path / "a", kind="orbit").main()
    with pytest.raises(ValueError, match=r"ending in \.mp4"):
        VideoCommand(images=tmp_path / "a", output=tmp_path / "x.avi").main()
    with pytest.raises(ValueError, match="either a run .* or a folder of images"):
        VideoCommand(images=tmp_path / "a", load_config=tmp_path).main()
    (tmp_path / "b" / "c").mkdir(parents=True)
    write(tmp_path / "b" / "c", "1.png", 9)
    with pytest.raises(FileNotFoundError, match="found them in folders of it alone"):
        VideoCommand(images=tmp_path / "b").main()

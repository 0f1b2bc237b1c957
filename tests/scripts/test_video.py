"""`ns-fewshot video` and the paths of `ns-fewshot camera-path`, on a run that the host itself has trained."""

from __future__ import annotations

import subprocess

import imageio.v2 as imageio
import pytest

from fewshot_ns.demo.scene import DemoSceneConfig, write_demo_scene
from fewshot_ns.scripts.camera_path import CameraPathCommand
from fewshot_ns.scripts.runs import load_run
from fewshot_ns.scripts.video import VideoCommand
from fewshot_ns.utils.processes import host_command

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("video")
    write_demo_scene(folder / "scene", DemoSceneConfig(width=32, height=24, supersample=1))
    flags = ["--data", folder / "scene", "--output-dir", folder / "runs", "--max-num-iterations", 2]
    flags += ["--vis", "tensorboard", "--machine.device-type", "cpu", "--steps-per-eval-all-images", 0]
    command = [host_command("ns-train"), "sparsenerf-lite", *flags, "llff-data"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "runs"


def test_video_and_gif_show_colour_beside_depth(run_folder):
    VideoCommand(load_config=run_folder, frames=3, fps=6.0, min_height=48).main()
    (video,) = run_folder.rglob("renders/video.mp4")
    for file in (video, video.with_suffix(".gif")):
        frames = imageio.mimread(file)
        assert len(frames) == 3 and frames[0].shape[:2] == (48, 2 * 64 + 4)


def test_forth_and_back(run_folder, tmp_path):
    target = tmp_path / "bounce.mp4"
    VideoCommand(
        load_config=run_folder, output=target, kind="spheric", frames=4, fps=6.0, min_height=48, forth_and_back=True
    ).main()
    frames = imageio.mimread(target.with_suffix(".gif"))
    assert len(frames) == 6
    for there, back in ((1, 5), (2, 4)):
        assert abs(frames[there].astype(float) - frames[back]).mean() < 3


def test_the_host_renders_the_path_that_we_write(run_folder, tmp_path):
    CameraPathCommand(load_config=run_folder, frames=4, fps=8.0, output=tmp_path / "path.json").main()
    (config,) = run_folder.rglob("config.yml")
    flags = ["--load-config", config, "--camera-path-filename", tmp_path / "path.json"]
    flags += ["--output-path", tmp_path / "host.mp4", "--rendered-output-names", "rgb", "depth"]
    command = [host_command("ns-render"), "camera-path", *flags]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(imageio.mimread(tmp_path / "host.mp4")) == 4
    VideoCommand(load_config=config, camera_path=tmp_path / "path.json", output=tmp_path / "ours.mp4", gif=False).main()
    assert len(imageio.mimread(tmp_path / "ours.mp4")) == 4 and not (tmp_path / "ours.gif").exists()


def test_a_run_without_a_checkpoint_is_named(run_folder, tmp_path):
    (config,) = run_folder.rglob("config.yml")
    (checkpoint,) = run_folder.rglob("*.ckpt")
    checkpoint.rename(tmp_path / "away.ckpt")
    try:
        with pytest.raises(FileNotFoundError, match="expected a checkpoint"):
            load_run(config)
    finally:
        (tmp_path / "away.ckpt").rename(checkpoint)
    with pytest.raises(ValueError, match=r"ending in \.mp4"):
        VideoCommand(load_config=config, output=tmp_path / "video.avi").main()

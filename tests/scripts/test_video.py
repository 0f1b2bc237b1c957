"""`ns-fewshot video` and the paths of `ns-fewshot camera-path`, on a run that nerfstudio itself has trained."""

from __future__ import annotations

import subprocess

import imageio.v2 as imageio
import pytest
import torch

from fewshot_ns.scripts.camera_path import CameraPathCommand
from fewshot_ns.scripts.runs import load_run
from fewshot_ns.scripts.video import VideoCommand
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene
from fewshot_ns.utils.processes import console_script

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("video")
    write_demo_scene(folder / "scene", DemoSceneConfig(width=32, height=24, supersample=1))
    flags = ["--data", folder / "scene", "--output-dir", folder / "runs", "--max-num-iterations", 2]
    flags += ["--vis", "tensorboard", "--machine.device-type", "cpu", "--steps-per-eval-all-images", 0]
    command = [console_script("ns-train"), "sparsenerf-lite", *flags, "llff-data"]
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


def test_nerfstudio_renders_the_path_that_we_write(run_folder, tmp_path):
    CameraPathCommand(load_config=run_folder, frames=4, fps=8.0, output=tmp_path / "path.json").main()
    (config,) = run_folder.rglob("config.yml")
    flags = ["--load-config", config, "--camera-path-filename", tmp_path / "path.json"]
    flags += ["--output-path", tmp_path / "nerfstudio.mp4", "--rendered-output-names", "rgb", "depth"]
    command = [console_script("ns-render"), "camera-path", *flags]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(imageio.mimread(tmp_path / "nerfstudio.mp4")) == 4
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


def test_a_released_checkpoint_alone(tmp_path, monkeypatch):
    """In DietNeRF's own layout, with networks of the published size."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.fields.nerf_field import NeRFField

    names = {"trunk.": "pts_linears.", "colour.": "views_linears.0.", "bottleneck.": "feature_linear."}
    names |= {"density.": "alpha_linear.", "rgb.": "rgb_linear."}
    state = {}
    for network in ("network_fn_state_dict", "network_fine_state_dict"):
        own = NeRFField(num_layers=8, width=256, skip_layer=5, num_octaves=10, view_octaves=4, colour_width=128)
        state[network] = {
            f"module.{theirs}{name.removeprefix(ours)}": value
            for name, value in own.state_dict().items()
            for ours, theirs in names.items()
            if name.startswith(ours)
        }
    torch.save(state, tmp_path / "lego.tar")
    monkeypatch.chdir(tmp_path)
    VideoCommand(weights=tmp_path / "lego.tar", kind="spin", frames=2, height=8, min_height=8).main()
    assert len(imageio.mimread(tmp_path / "lego.tar.mp4")) == len(imageio.mimread(tmp_path / "lego.tar.gif")) == 2
    with pytest.raises(ValueError, match="either a run"):
        VideoCommand().main()
    with pytest.raises(ValueError, match="--method: expected one of .*dietnerf.*, got 'nerfacto'"):
        VideoCommand(weights=tmp_path / "lego.tar", method="nerfacto").main()

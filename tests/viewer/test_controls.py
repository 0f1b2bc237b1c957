"""Sliders and the button of the viewer, installed by nerfstudio's own viewer; a page is driven in end_to_end/."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_ns.cameras.sphere_views import spherical_poses
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.weights import WEIGHTS_ENV
from fewshot_ns.priors.unseen_views import UnseenViewsConfig
from fewshot_ns.utils.cache import CACHE_ENV
from fewshot_ns.viewer.sphere_controls import sphere_of_cameras, synthetic_sphere


@pytest.fixture
def tiny_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderConfig:
    """A small network of torchvision with random weights."""
    from torchvision import models

    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "squeezenet1_1.pth")
    return EncoderConfig("torchvision", "squeezenet1_1", weights=tmp_path / "squeezenet1_1.pth", output="projected")


@pytest.fixture
def make_pipeline(tiny_pipeline_config: Any) -> Any:
    """Function (parser, encoder) -> untrained pipeline whose semantic prior is off."""

    def make(parser: Any, encoder: EncoderConfig) -> Any:
        config = tiny_pipeline_config(parser)
        config.depth.enabled = False
        config.semantic.encoder, config.semantic.views = encoder, UnseenViewsConfig(grid_size=6)
        torch.manual_seed(0)
        return config.setup(device="cpu", test_mode="test").eval()

    return make


@pytest.fixture
def viewer_of(tmp_path: Path) -> Any:
    """Function (pipeline) -> nerfstudio's viewer, which has found and installed its controls."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.viewer.viewer import Viewer

    opened = []

    def open_viewer(pipeline: Any) -> Any:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        config = ViewerConfig(websocket_port=port, websocket_host="127.0.0.1")
        opened.append(Viewer(config, tmp_path / "viewer.log", tmp_path, pipeline))
        return opened[-1]

    yield open_viewer
    for viewer in opened:
        viewer.viser_server.stop()


def test_spheres():
    sphere = synthetic_sphere((0.0, 0.0, 0.5))
    pose = sphere.pose(0.3, 0.7, 4.0)
    expected = spherical_poses(*(np.array([value]) for value in (0.3, 0.7, 4.0)), centre=np.array([0.0, 0.0, 0.5]))[0]
    np.testing.assert_allclose(pose, expected, atol=1e-12)
    np.testing.assert_allclose(sphere.angles(pose[:, 3]), (0.3, 0.7, 4.0))
    # Cameras before a wall, y up: phi leads upwards, and the camera looks at the wall.
    poses = np.stack([np.concatenate([np.eye(3), [[x], [0.0], [1.0]]], axis=1) for x in (-1.0, 0.0, 1.0)])
    sphere = sphere_of_cameras(poses, np.array([0.0, 0.0, -3.0]))
    theta, phi, radius = sphere.angles(poses[1, :, 3])
    assert (theta, phi, radius) == (0.0, 0.0, 4.0)
    np.testing.assert_allclose(sphere.pose(theta, phi, radius), poses[1], atol=1e-12)
    raised = sphere.pose(theta, 0.3, radius)
    assert raised[1, 3] > 1.0 and raised[1, 1] > 0.9
    np.testing.assert_allclose(raised[:, 3] - radius * raised[:, 2], [0.0, 0.0, -3.0], atol=1e-12)


def test_nerfstudio_installs_the_sliders(make_pipeline, tiny_blender_scene, tiny_encoder, viewer_of):
    pipeline = make_pipeline(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3), tiny_encoder)
    viewer = viewer_of(pipeline)
    names = {path for path, _ in viewer.viewer_elements}
    prefix = "Custom Elements"
    assert {f"{prefix}/sphere/{name}" for name in ("theta", "phi", "radius")} <= names
    assert {f"{prefix}/unseen_views/draw", f"{prefix}/unseen_views/report"} <= names
    controls = pipeline.sphere
    limits = [(slider.min, slider.max) for slider in (controls.theta, controls.phi, controls.radius)]
    assert limits == [(-3.14, 3.14), (0.0, 1.57), (2.0, 6.0)]
    first = pipeline.datamanager.train_dataset.cameras.camera_to_worlds[0, :, 3].numpy()
    np.testing.assert_allclose(controls.pose[:, 3], first, atol=0.1)  # a little below the equator
    controls.phi.gui_handle.value = 1.0
    assert controls.pose[2, 3] == pytest.approx(controls.radius.value * math.sin(1.0))
    assert not any(name.startswith(("sphere", "unseen")) for name in pipeline.state_dict())


def test_similarities_to_the_training_views(make_pipeline, tiny_blender_scene, tiny_encoder, viewer_of):
    pipeline = make_pipeline(FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3), tiny_encoder)
    viewer_of(pipeline)
    state = torch.random.get_rng_state()
    controls, reports = pipeline.unseen_views, []
    for _ in range(2):
        controls.show()
        reports.append(controls.report.content)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert reports[0] != reports[1] and controls.report.gui_handle.content == reports[1]
    assert "data:image/png;base64," in reports[0] and "hemisphere, from (" in reports[0]
    rows = [line for line in reports[0].splitlines() if line.startswith("| r_")]
    assert len(rows) == 3 and all(-1.0 <= float(row.split("|")[2]) <= 1.0 for row in rows)
    # Looking does not switch the term on.
    assert pipeline.priors.enabled == [pipeline.priors.all[name] for name in ("distortion", "plane_smoothness")]
    assert not pipeline.training


def test_what_is_missing_is_shown(make_pipeline, tiny_llff_scene, tmp_path, monkeypatch):
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path / "nowhere"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = EncoderConfig("torchvision", "vgg16", output="projected", download=False)
    pipeline = make_pipeline(LLFFDataParserConfig(data=tiny_llff_scene), encoder)
    pipeline.unseen_views.show()
    report = pipeline.unseen_views.report.content
    assert "data:image/png" in report and "box, from (" in report
    assert "weights not found" in report and "--pipeline.semantic.encoder.weights" in report
    pipeline.config.semantic.views.grid_size = 0
    pipeline.unseen_views.show()
    assert "--pipeline.semantic.views.grid-size" not in pipeline.unseen_views.report.content  # the views are kept
    other = make_pipeline(LLFFDataParserConfig(data=tiny_llff_scene), encoder)
    other.config.semantic.views.grid_size = 0
    other.unseen_views.show()
    assert "--pipeline.semantic.views.grid-size: expected at least 1" in other.unseen_views.report.content

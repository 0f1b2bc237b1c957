"""Poses by COLMAP itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.capture.poses import read_colmap_poses
from fewshot_ns.data.capture.preparation import PrepareOptions, prepare_scene
from fewshot_ns.data.capture.trust import reprojection_errors
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'fewshot-ns[photos]'")


def test_a_photo_of_something_else_is_left_out(tmp_path: Path) -> None:
    """All settings and draws are tried for its sake, and the scene is still that of the best of them."""
    write_demo_scene(tmp_path / "demo", DemoSceneConfig(width=320, height=240, supersample=1, columns=3, rows=1))
    photos = tmp_path / "photos"
    photos.mkdir()
    files = sorted(path for path in (tmp_path / "demo").rglob("*.png") if path.parent.name.startswith("images"))
    for file in files:
        (photos / file.name).write_bytes(file.read_bytes())
    noise = np.random.RandomState(0).randint(0, 255, (96, 128, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photos / "other.png")

    prepared = prepare_scene(photos, tmp_path / "scene", PrepareOptions())
    assert len(prepared.poses.names) == 3 and set(prepared.left_out) == {"other.png"}
    assert prepared.trust.verdict == "fair" and "1 of 4 photos could not be placed" in prepared.trust.reasons
    assert all(reprojection_errors(prepared.poses, index).mean() < 1 for index in range(3))
    # What lies in the scene is the model that was judged.
    kept = read_colmap_poses(tmp_path / "scene" / "sparse" / "0")
    np.testing.assert_array_equal(kept.points, prepared.poses.points)
    frames = json.loads((tmp_path / "scene" / "transforms.json").read_text())["frames"]
    assert [Path(frame["file_path"]).name for frame in frames] == list(kept.names) == list(prepared.poses.names)

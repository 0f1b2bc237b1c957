"""Near and far as distances and as planar depths: of every kind of format, and as a model is shown them."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.cameras.depth_ranges import distances_of_planar, planar_of_distances
from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig, scene_of_parser
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.multiscene.batches import load_sources
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.records.scene import Scene, SceneEntry


def depths_and_distances(scene: Scene, depth: float) -> torch.Tensor:
    """Distances of all pixels' points at a planar depth, from every camera."""
    norms = [
        scene.cameras.generate_rays(camera_indices=index).metadata["directions_norm"].flatten()
        for index in range(len(scene.cameras))
    ]
    return depth * torch.cat(norms)


def test_the_two_reach_over_each_other():
    poses = torch.eye(4)[None, :3]
    cameras = Cameras(poses, 10.0, 20.0, 4.0, 8.0, 12, 16)
    longest = (1 + 0.8**2 + 0.4**2) ** 0.5
    assert planar_of_distances(1.0, 2.0, cameras) == pytest.approx((1.0 / longest, 2.0))
    assert distances_of_planar(1.0, 2.0, cameras) == pytest.approx((1.0, 2.0 * longest))


def test_of_a_scene_that_says_distances(tiny_solids: Path):
    parser = SRNDataParserConfig(data=tiny_solids, sampling_range="cars").setup()
    scene = parser.open_scene(parser.scene_table("train")[0])
    first, last = scene.planar_range
    assert depths_and_distances(scene, first).max() <= scene.near * 1.0001
    assert last == scene.far and first < scene.near


def test_of_a_single_scene(make_llff_scene: Callable[..., Path], tmp_path: Path):
    """LLFF's bounds are planar, and stay as they are."""
    parser = LLFFDataParserConfig(data=make_llff_scene(tmp_path / "one"), ray_space="metric", near=0.5, far=3.0).setup()
    scene = scene_of_parser(parser, SceneEntry("one", "", tmp_path))
    assert scene.planar_range == pytest.approx((0.5, 3.0))
    assert scene.near == pytest.approx(0.5, rel=1e-3) and scene.far > depths_and_distances(scene, 3.0).max()


def test_of_rays_that_begin_at_a_plane(tiny_dtu_scene: Path):
    """DTU in RegNeRF's protocol: near and far count from a plane, planar depth from the camera."""
    parser = DTUDataParserConfig(data=tiny_dtu_scene, depth_polarity="distance").setup()
    scene = scene_of_parser(parser, SceneEntry("scan1", "", tiny_dtu_scene))
    first, last = scene.planar_range
    assert 0 <= first < last <= scene.far and scene.near <= depths_and_distances(scene, first).max()
    assert scene.far <= distances_of_planar(first, last, scene.cameras)[1] * 1.001


def test_of_a_folder_of_scenes(make_llff_scene: Callable[..., Path], tmp_path: Path):
    make_llff_scene(tmp_path / "set" / "one")
    own = LLFFDataParserConfig(ray_space="metric", near=0.5, far=3.0)
    parser = SceneFolderDataParserConfig(data=tmp_path / "set", parser=own).setup()
    assert parser.open_scene(parser.scene_table("test")[0]).planar_range == pytest.approx((0.5, 3.0))
    # The folder's flags are distances, as in all formats of many scenes.
    parser = SceneFolderDataParserConfig(data=tmp_path / "set", parser=own, near=1.0).setup()
    scene = parser.open_scene(parser.scene_table("test")[0])
    assert scene.near == 1.0 and scene.planar_range[0] < 1.0 and scene.planar_range[1] == scene.far


def test_a_model_is_told_both(make_llff_scene: Callable[..., Path], tmp_path: Path):
    parser = LLFFDataParserConfig(data=make_llff_scene(tmp_path / "one"), ray_space="metric", near=0.5, far=3.0).setup()
    scene = scene_of_parser(parser, SceneEntry("one", "", tmp_path))
    given = load_sources(SceneImages(), [(scene, (0, 1)), (scene, (2, 3))])
    assert given.far.tolist() == pytest.approx([scene.far] * 2)
    planar = given.to("cpu").with_planar_bounds()
    torch.testing.assert_close(torch.stack([planar.near, planar.far], -1), torch.tensor([[0.5, 3.0]] * 2))
    assert planar.with_planar_bounds() is planar

"""Flags of `ns-fewshot eval` for runs of generalizable methods; the command itself runs in end_to_end/."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
import torch

from fewshot_ns.data.views.sources import SourceViewsConfig
from fewshot_ns.scripts.eval_scenes import SceneOptions, choose_scenes, run_baselines


def test_bad_scenes_are_left_out_from_the_first_one_on(tiny_pixelnerf: Callable[..., Any]):
    config = SimpleNamespace(pipeline=tiny_pixelnerf())
    SceneOptions().change(config)
    assert config.pipeline.datamanager.on_bad_scene == "stop"
    SceneOptions(on_bad_scene="skip").change(config)
    assert config.pipeline.datamanager.on_bad_scene == "skip"
    # Methods of one scene know no such thing.
    single = SimpleNamespace(pipeline=SimpleNamespace(datamanager=SimpleNamespace()))
    SceneOptions(on_bad_scene="skip").change(single)
    assert not vars(single.pipeline.datamanager)


def test_source_views_are_chosen_in_one_way():
    configured = SourceViewsConfig(mode="nearest", count=2)
    assert SceneOptions().sources(configured) is configured
    changed = SceneOptions(source_views=(64, 104)).sources(configured)
    assert (changed.mode, changed.views) == ("views", (64, 104))
    assert SceneOptions(nearest_sources=3).sources(configured).count == 3
    with pytest.raises(ValueError, match="--source-views and --random-sources: give one of them"):
        SceneOptions(source_views=(1,), random_sources=2).sources(configured)


@pytest.mark.parametrize("output", ["views.json", "other/../views.json"])
def test_an_evaluation_spares_the_list_of_source_views(output: str, tiny_pixelnerf: Callable[..., Any], tmp_path: Path):
    pipeline = tiny_pixelnerf().setup(device="cpu", test_mode="test")
    names = [entry.scene_id for entry in pipeline.datamanager.eval_table()]
    listed = tmp_path / "views.txt"
    listed.write_text("".join(f"solids {name} 2\n" for name in names))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"expected a name that spares .*views\.txt"):
        choose_scenes(pipeline, SceneOptions(viewlist=listed), tmp_path / output)
    assert choose_scenes(pipeline, SceneOptions(viewlist=listed), tmp_path / "results.json")
    assert pipeline.datamanager.selector.open(pipeline.datamanager.eval_table()[0]).sources == (2,)


def test_one_scene_is_compared_with_what_its_source_views_show(tiny_pixelnerf: Callable[..., Any]):
    """Those of each camera, where they are the nearest."""
    config = tiny_pixelnerf()
    config.datamanager.sources.mode, config.datamanager.sources.count = "nearest", 2
    pipeline = config.setup(device="cpu", test_mode="test")
    manager = pipeline.datamanager
    baselines: Any = run_baselines(pipeline)
    scene, images = manager.active.scene, manager.library.images
    for place in (0, 2):
        found = baselines.predict(scene.cameras[place : place + 1], (16, 16))
        sources = manager.selector.sources_for(manager.active, scene.cameras.camera_to_worlds[place])
        assert place not in sources and set(found) == {"mean_colour", "nearest_view", "plane_sweep"}
        seen = torch.stack([images.image(scene, source) for source in sources])
        torch.testing.assert_close(found["mean_colour"][0, 0], seen.reshape(-1, 3).mean(0))
        assert any(torch.equal(found["nearest_view"], image) for image in seen)

"""Flags of `ns-fewshot eval` for runs of generalizable methods; the command itself runs in end_to_end/."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable

import pytest

from fewshot_ns.data.source_views import SourceViewsConfig
from fewshot_ns.scripts.eval_scenes import SceneOptions


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

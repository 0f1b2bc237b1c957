"""Datamanagers of three photos that all train, or are all looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.views.sources import SourceViewsConfig


@pytest.fixture
def three(make_nerfstudio_scene: Callable[..., Path], tmp_path: Path) -> FewShotNerfstudioDataParserConfig:
    return FewShotNerfstudioDataParserConfig(data=make_nerfstudio_scene(tmp_path / "three", 3))


def manager_of(kind: Any, parser: Any, mode: str, **values: Any) -> Any:
    return kind(dataparser=parser, eval_num_rays_per_batch=8, **values).setup(device="cpu", test_mode=mode)


@pytest.mark.parametrize("mode", ["val", "test", "inference"])
def test_one_scene(three: FewShotNerfstudioDataParserConfig, mode: str):
    manager = manager_of(FewShotDataManagerConfig, three, mode)
    assert not manager.holds_out and list(manager.eval_dataset.fewshot.image_indices) == [0, 1, 2]
    three.test_indices = (1,)
    manager = manager_of(FewShotDataManagerConfig, three, mode)
    assert manager.holds_out and list(manager.eval_dataset.fewshot.image_indices) == [1]
    manager.evaluate_training_views()
    assert list(manager.eval_dataset.fewshot.image_indices) == [0, 2]


@pytest.mark.parametrize("mode", ["val", "test", "inference"])
def test_one_scene_of_a_generalizable_method(three: FewShotNerfstudioDataParserConfig, mode: str):
    sources = SourceViewsConfig("views", views=(0, 1, 2))
    manager = manager_of(MultiSceneDataManagerConfig, three, mode, sources=sources)
    assert not manager.holds_out and list(manager.eval_dataset.fewshot.image_indices) == [0, 1, 2]
    manager.evaluate_training_views()
    assert list(manager.eval_dataset.fewshot.image_indices) == [0, 1, 2]
    if mode == "val":
        assert manager.next_train(0)[1]["image"].shape[1] == 3


def test_source_views_of_many_scenes_are_measured_by_their_numbers(solids: Path):
    manager = manager_of(MultiSceneDataManagerConfig, SRNDataParserConfig(data=solids), "test")
    assert manager.holds_out
    with pytest.raises(ValueError, match="--split train: expected a run on one scene"):
        manager.evaluate_training_views()


def test_many_scenes_have_to_hold_something_out(solids: Path):
    every = SourceViewsConfig("pool")
    with pytest.raises(ValueError, match="expected a view to compare beside the source views, found none"):
        manager_of(MultiSceneDataManagerConfig, SRNDataParserConfig(data=solids), "test", sources=every)

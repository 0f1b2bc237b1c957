"""What nerfstudio sees of a run of many scenes: one scene, its views, and rays of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Tuple

import pytest
import torch

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.multiscene.source_provider import TARGET_VIEW_KEY
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.data.views.sources import SourceViewsConfig


@pytest.fixture
def manager_of(tiny_pixelnerf: Callable[..., Any]) -> Callable[..., Any]:
    """Function (mode, fields of the datamanager's config) -> datamanager, by default of the generated set."""

    def build(mode: str = "test", **fields: Any) -> Any:
        config = tiny_pixelnerf().datamanager
        if "dataparser" in fields:
            config.data = None
        for name, value in fields.items():
            setattr(config, name, value)
        return config.setup(device="cpu", test_mode=mode)

    return build


def of_views(*views: int) -> SourceViewsConfig:
    return SourceViewsConfig("views", views=views)


def views_of(dataset: Any) -> Tuple[int, ...]:
    return tuple(get_fewshot_metadata(dataset.metadata).image_indices)


def test_a_single_scene_is_seen_from_its_source_views(manager_of: Callable[..., Any], tiny_llff_scene: Path):
    """Also from views that its protocol keeps for the test, which are not evaluated then."""
    parser = LLFFDataParserConfig(data=tiny_llff_scene, ray_space="metric", num_views=0)
    tested = views_of(manager_of(sources=of_views(1), dataparser=parser).eval_dataset)
    assert len(tested) > 1 and 1 not in tested
    other = manager_of(sources=of_views(tested[0]), dataparser=parser)
    assert views_of(other.train_dataset) == tested[:1] and views_of(other.eval_dataset) == tested[1:]
    assert other.train_dataset.image_filenames[0].name == f"image{tested[0]:03d}.png"
    # While training all views that may be trained on are nerfstudio's training views.
    training = manager_of("val", sources=of_views(1), dataparser=parser)
    assert len(views_of(training.train_dataset)) > 1
    alone = manager_of("val", sources=of_views(1, 2), dataparser=parser, train_on_sources_only=True)
    assert views_of(alone.train_dataset) == (1, 2)


def test_a_protocol_gives_the_source_views(manager_of: Callable[..., Any], tiny_llff_scene: Path):
    parser = LLFFDataParserConfig(data=tiny_llff_scene, ray_space="metric", num_views=3)
    manager = manager_of(dataparser=parser, sources=SourceViewsConfig("pool"))
    active = manager.selector.open(manager.eval_table()[0])
    numbers = active.scene.view_indices
    chosen = parser.setup().get_dataparser_outputs("train").metadata["fewshot"].train_indices
    assert tuple(numbers[view] for view in active.sources) == tuple(sorted(chosen))


def test_rays_for_an_export(manager_of: Callable[..., Any]):
    """As many as asked for, each time others, of one view, which they name."""
    manager = manager_of(sources=of_views(0))
    manager.train_pixel_sampler.num_rays_per_batch = 20
    assert manager.train_pixel_sampler.num_rays_per_batch == 20 == manager.get_train_rays_per_batch()
    (first, batch), (second, _) = manager.next_train(0), manager.next_train(0)
    assert len(first) == 20 and not torch.equal(first.directions, second.directions)
    (view,) = set(batch["indices"][:, 0].tolist())
    poses = manager.active.scene.cameras.camera_to_worlds
    assert first.metadata[TARGET_VIEW_KEY].tolist() == [[view]] * 20
    torch.testing.assert_close(first.origins, poses[view, :, 3].expand(20, 3))


@pytest.mark.parametrize("mode, found", [("random", 1), ("nearby", 2)])
def test_too_few_views_to_train_on_are_said_at_once(manager_of: Callable[..., Any], mode: str, found: int):
    few = {"scenes": ("chair_0006",), "train_on_sources_only": True, "num_sources": (1, 2), "train_source_mode": mode}
    with pytest.raises(ValueError, match=rf"expected at least {found + 1} views .*num-sources 1 2 .*found {found}"):
        manager_of("val", sources=of_views(*range(found)), target_views=1, **few)
    manager_of("val", sources=of_views(*range(found + 1)), target_views=1, **few).next_train(0)


def test_a_pool_may_go_beyond_the_protocol(manager_of: Callable[..., Any], tiny_llff_scene: Path):
    """Where only views of a pool train, their source views come from it as well."""
    manager = manager_of(
        "val",
        dataparser=LLFFDataParserConfig(data=tiny_llff_scene, ray_space="metric", num_views=0),
        train_on_sources_only=True,
        train_source_mode="nearby",
        num_sources=(2,),
        target_views=1,
        sources=SourceViewsConfig("nearest", count=2, pool=(0, 1, 2)),
    )
    assert 0 in views_of(manager.eval_dataset)
    for step in range(6):
        _, batch = manager.next_train(step)
        target = int(batch["indices"][0, 0])
        assert {target, *batch["sources"][0]} == {0, 1, 2}

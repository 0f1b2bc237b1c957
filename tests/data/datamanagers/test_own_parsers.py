"""A method's settings of a format, on the command line, in saved configs and in processes; and what settles them."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from nerfstudio.configs.method_configs import all_methods

from fewshot_ns import registry
from fewshot_ns.bench.planning.config_identity import resolve_config
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig
from fewshot_ns.data.datamanagers.own_parsers import settle_dataparser
from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig


def parser_of(method: str, *words: str) -> Any:
    """The dataparser of `ns-train METHOD --data x WORDS`."""
    manager: Any = resolve_config(method, ["--data", "x", *words]).pipeline.datamanager
    return manager.dataparser


@pytest.mark.parametrize("method", [name.replace("_", "-") for name in registry.METHODS])
def test_the_default_of_every_method_recognises(method: str) -> None:
    parser = parser_of(method)
    assert type(parser) is FewShotAutoDataParserConfig
    many = isinstance(all_methods[method].pipeline.datamanager, MultiSceneDataManagerConfig)
    assert parser.many_scenes == many
    # Flags of the default are given by naming it, and the method's settings stay.
    named = parser_of(method, "fewshot-data", "--near", "0.5")
    assert (named.near, named.own, named.many_scenes) == (0.5, parser.own, many)
    metric = parser_of(method, "llff-data", "--downscale-factor", "4")
    assert metric.downscale_factor == 4
    assert (metric.ray_space == "metric") == (many or "splat" in method)


def test_named_parsers_begin_with_the_methods_settings() -> None:
    assert parser_of("dietnerf", "fewshot-blender-data").downscale_factor == 2
    assert parser_of("dietnerf", "fewshot-blender-data", "--downscale-factor", "1").downscale_factor == 1
    # Derived from dietnerf, on photos of full size.
    assert parser_of("dietnerf-jax", "fewshot-blender-data").downscale_factor == 1
    assert parser_of("sparsenerf-lite", "fewshot-blender-data").downscale_factor == 1
    mipnerf = parser_of("depth-mipnerf", "fewshot-blender-data")
    assert (mipnerf.num_views, mipnerf.view_protocol) == (3, "first")
    assert parser_of("pixelnerf-sn64-unseen", "nmr-data").list_prefix == "gen_"
    assert parser_of("pixelnerf-sn64", "nmr-data").list_prefix == "softras_"
    assert type(parser_of("dietnerf", "nerfstudio-data")).__module__.startswith("nerfstudio.")


def test_a_config_is_of_its_base_once_it_is_settled(tiny_blender_scene: Path) -> None:
    own = FewShotAutoDataParserConfig(own=(FewShotBlenderDataParserConfig(downscale_factor=2),))
    manager: Any = FewShotDataManagerConfig(dataparser=own, crop_steps=7)
    assert isinstance(manager, FewShotDataManagerConfig) and type(manager) is not FewShotDataManagerConfig
    assert type(manager) is type(FewShotDataManagerConfig(dataparser=copy.deepcopy(own)))
    again = copy.deepcopy(manager)
    assert again == manager and type(again) is type(manager)
    # A file names the base, and what is read from it is the same again.
    text = yaml.dump(manager)
    assert text.startswith("!!python/object:fewshot_ns.data.datamanagers.fewshot.FewShotDataManagerConfig\n")
    assert yaml.load(text, Loader=yaml.Loader) == manager
    manager.data = tiny_blender_scene
    settle_dataparser(manager)
    assert type(manager) is FewShotDataManagerConfig
    assert type(manager.dataparser) is FewShotBlenderDataParserConfig
    assert (manager.dataparser.data, manager.dataparser.downscale_factor) == (tiny_blender_scene, 2)
    assert pickle.loads(pickle.dumps(manager)) == manager
    before = copy.deepcopy(manager)
    settle_dataparser(manager)
    assert manager == before


def test_named_parsers_are_left_as_they_are(tiny_blender_scene: Path) -> None:
    named: Any = FewShotDataManagerConfig(dataparser=LLFFDataParserConfig(data=tiny_blender_scene))
    settle_dataparser(named)
    assert named.dataparser == LLFFDataParserConfig(data=tiny_blender_scene)


def test_older_configs_have_no_reason(tiny_llff_scene: Path) -> None:
    """A config.yml from before there was this dataparser."""
    text = yaml.dump(FewShotDataManagerConfig(dataparser=LLFFDataParserConfig(data=tiny_llff_scene)))
    loaded = yaml.load(text.replace("recognised_by: null", ""), Loader=yaml.Loader)
    assert loaded.dataparser.recognised_by is None and "recognised_by" not in vars(loaded.dataparser)
    settle_dataparser(loaded)
    assert loaded.dataparser.setup().get_dataparser_outputs("train").cameras.size == 3

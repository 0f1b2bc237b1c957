"""Configs of runs made before modules moved: their class names are found, their values mean the same."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import yaml

from fewshot_ns import registry
from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.utils import moved_modules
from fewshot_ns.utils.moved_modules import MOVED, PACKAGE, RENAMED, moved_class

SAVED = sorted((Path(__file__).parents[1] / "saved_configs").glob("*.yml"))
"""Configs of methods as version 0.1.0 wrote them at commit e9ce1a0, before any module moved."""


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_configs_are_those_of_today(path: Path, capsys: pytest.CaptureFixture) -> None:
    """None of their values was changed, so each equals the method's defaults, wherever a value is kept now; but a run
    that read the scene's depth maps goes on doing so, and weighs depth of known scale as it did. Of the format that the
    method was made for, which was its dataparser then, it has the same settings today."""
    restored = yaml.load(path.read_text(), Loader=yaml.Loader)
    assert capsys.readouterr().out == ""
    today: Any = deepcopy(registry.method_specification(path.stem.replace("-", "_")).config)
    then, manager = restored.pipeline.datamanager.dataparser, today.pipeline.datamanager
    own: Any = manager.dataparser.settings_for(type(then)) or type(then)()
    if getattr(own, "num_views", 0) is None:
        # What the default meant then; now a scene may say that all its photos train.
        own.num_views = 8 if isinstance(then, FewShotBlenderDataParserConfig) else 3
        assert then.num_views == own.num_views
    if isinstance(then, LLFFDataParserConfig):
        # The default of then; now the cameras decide, and say the same of captures that face forward.
        assert then.ray_space == "ndc" and own.ray_space is None
        own.ray_space = "ndc"
        # A run of then keeps the scale of its world, also where one photo's bounds are absurd.
        assert then.odd_bounds_count and not own.odd_bounds_count
        own.odd_bounds_count = True
    if "allow_outside" in vars(own):
        # Nor were photos outside of the scene's folder refused.
        assert vars(then)["allow_outside"] and not own.allow_outside
        own.allow_outside = True
    manager.dataparser = own
    manager.follow_parser()
    # Their viewers listened to everybody, as nerfstudio's do.
    assert (restored.viewer.websocket_host, today.viewer.websocket_host) == ("0.0.0.0", "127.0.0.1")
    today.viewer = restored.viewer
    # No run of then refined poses.
    today.optimizers.pop(CAMERA_GROUP, None)
    if path.stem == "sparsenerf-lite":
        # Nor did an interval of any length change how it was sampled and judged.
        assert today.pipeline.model.spacing is today.pipeline.distortion.normalised is None
        today.pipeline.model.spacing, today.pipeline.distortion.normalised = "linear", False
        assert (restored.pipeline.depth.source, today.pipeline.depth.source) == ("files", "auto")
        today.pipeline.depth.source = "files"
        then, now = restored.pipeline.depth.metric, today.pipeline.depth.metric
        assert (then.near_weight, then.min_sigma_of_maps) == (0.1, None) != (now.near_weight, now.min_sigma_of_maps)
        today.pipeline.depth.metric = replace(now, near_weight=0.1, min_sigma_of_maps=None)
    assert restored == today
    assert yaml.load(yaml.dump(restored), Loader=yaml.Loader) == restored


def test_saved_configs_name_old_modules() -> None:
    """Otherwise the test above would show nothing."""
    texts = [path.read_text() for path in SAVED]
    assert len(texts) >= 7
    named = {old for old in MOVED if any(f"{PACKAGE}.{old}." in text for text in texts)}
    assert {"priors.depth", "priors.diffusion", "models.sparsenerf_lite", "evaluation.suite"} <= named


@pytest.mark.parametrize("old", MOVED)
def test_old_modules_hand_out_their_classes(old: str) -> None:
    module = import_module(f"{PACKAGE}.{old}")
    for name in MOVED[old].names:
        found = getattr(module, name)
        assert isinstance(found, type) and found.__name__ == RENAMED.get(name, name)
        assert found.__module__ == f"{PACKAGE}.{MOVED[old].module}"
        if name.endswith("Config"):
            assert isinstance(yaml.load(f"!!python/object:{PACKAGE}.{old}.{name} {{}}", Loader=yaml.Loader), found)
        assert yaml.load(f"!!python/name:{PACKAGE}.{old}.{name} ''", Loader=yaml.Loader) is found
    with pytest.raises(AttributeError, match=f"'{PACKAGE}.{old}' has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_only_old_names_are_answered() -> None:
    assert find_spec(f"{PACKAGE}.models.sparsenerf") is None
    with pytest.raises(ModuleNotFoundError, match="fewshot_ns.models.sparsenerf"):
        import_module(f"{PACKAGE}.models.sparsenerf")
    with pytest.raises(AttributeError, match="no attribute 'CompactModel'"):
        moved_class(f"{PACKAGE}.models.compact", "CompactModel")


def test_modules_that_exist_are_not_hidden() -> None:
    """A package of an old module's name is found first, with its own files."""
    for old in MOVED:
        spec = find_spec(f"{PACKAGE}.{old}")
        assert spec is not None
        folder = Path(moved_modules.__file__).parents[1] / Path(*old.split("."))
        assert (spec.origin == moved_modules.__name__) == (not folder.is_dir())
    assert find_spec(f"{PACKAGE}.priors.depth.metric") is not None


def test_the_hook_is_there_once_and_loads_nothing() -> None:
    code = """
import sys
import fewshot_ns
fewshot_ns.utils.moved_modules.install()
import fewshot_ns.models.sparsenerf_lite
hooks = [hook for hook in sys.meta_path if type(hook).__module__ == "fewshot_ns.utils.moved_modules"]
ours = sorted(name for name in sys.modules if name.startswith("fewshot_ns"))
print(len(hooks), sys.meta_path[-1] is hooks[0], ours, {"torch", "nerfstudio"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["fewshot_ns", "fewshot_ns.models", "fewshot_ns.models.sparsenerf_lite"]
    names += ["fewshot_ns.utils", "fewshot_ns.utils.moved_modules"]
    assert done.stdout == f"1 True {names} set()\n"

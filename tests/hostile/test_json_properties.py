"""Any value of a right JSON file, replaced by any other JSON: finite cameras, or one error of ours that names a file of
the scene; and names of files from any parts: nothing outside of the folder is ever opened."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import json_scenes as scenes
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_ns.data.dataparsers.automatic import CONFIGS
from fewshot_ns.data.depth.encoding import read_note
from fewshot_ns.data.files.inside import lies_inside
from fewshot_ns.engine.error_lines import is_of_this_package
from fewshot_ns.utils.json_files import read_json
from fewshot_ns.utils.shown_values import shown

Where = Tuple[Any, ...]
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
WORDS = ("", "up", "images/0.png", "../0.png", "/etc/passwd", "1", "nan", "1e999", "\0", "\ud800", "é", "x" * 300, ".")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([10**25, -(10**400), 10**400]),
    st.floats(-100.0, 100.0),
    st.sampled_from([float("nan"), float("inf"), 1e30, 1e308, 1e-320]),
    st.sampled_from(WORDS),
    st.text(max_size=5),
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any, where: Where = ()) -> Iterator[Where]:
    """Paths of all values of a tree but those in a matrix after its first row, which are like the others."""
    if where:
        yield where
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        if not (isinstance(key, int) and key > 1):
            yield from places(child, (*where, key))


def replaced(tree: Any, where: Where, value: Any) -> Any:
    changed = copy.deepcopy(tree)
    parent = changed
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    return changed


def check(action: Callable[[], Any], folder: Path) -> None:
    """That an action gives finite cameras or ends in one error of ours that names something of the folder."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            outputs = action()
    # Whatever comes: that it is no error of ours is what the test is about.
    except Exception as error:
        assert is_of_this_package(error, error.__traceback__), f"raw {type(error).__name__}: {error}"
        assert str(folder) in str(error) and len(str(error)) < 2000, str(error)
        return
    if outputs is not None:
        cameras = outputs.cameras
        for numbers in (cameras.camera_to_worlds, cameras.fx, cameras.fy, cameras.cx, cameras.cy):
            assert torch.isfinite(numbers).all()
        for path in outputs.image_filenames:
            assert lies_inside(folder, Path(path).absolute())


def _done(result: object) -> None:
    """Of an action that gives no cameras."""


LAYOUTS = {
    "capture": (scenes.write_capture, "fewshot-nerfstudio-data", "transforms.json"),
    "sensor": (scenes.write_capture, "rgbd-data", "transforms.json"),
    "blender": (scenes.write_blender, "fewshot-blender-data", "transforms_train.json"),
    "scannet": (scenes.write_scannet, "rgbd-data", "transforms_train.json"),
    "multiscale": (scenes.write_multiscale, "multiscale-blender-data", "metadata.json"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_value_of_a_scene(layout: str, tmp_path: Path) -> None:
    write, parser, name = LAYOUTS[layout]
    write(tmp_path, None)
    right = json.loads((tmp_path / name).read_text("utf8"))
    keys = st.sampled_from(list(places(right)))

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
    @given(where=keys, value=ANY_JSON)
    def run(where: Where, value: Any) -> None:
        (tmp_path / name).write_text(json.dumps(replaced(right, where, value)), "utf8")
        config: Any = CONFIGS[parser](data=tmp_path)  # type: ignore[call-arg]
        check(lambda: config.setup().get_dataparser_outputs("train"), tmp_path)

    run()


def test_any_value_of_a_set_of_objects(tmp_path: Path) -> None:
    right = scenes.write_objects(tmp_path)
    path = tmp_path / "train" / "a" / "transforms.json"

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(where=st.sampled_from(list(places(right))), value=ANY_JSON)
    def run(where: Where, value: Any) -> None:
        path.write_text(json.dumps(replaced(right, where, value)), "utf8")
        check(lambda: _done(scenes.opened_object(tmp_path)()), tmp_path)

    run()


def test_any_value_of_a_note(tmp_path: Path) -> None:
    right = {"polarity": "distance", "meaning": "z_depth", "unit": 0.5, "max_depth": 9, "may_be_empty": True, "x": [1]}

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(where=st.sampled_from(list(places(right))), value=ANY_JSON)
    def run(where: Where, value: Any) -> None:
        (tmp_path / "depth.json").write_text(json.dumps(replaced(right, where, value)), "utf8")
        check(lambda: _done(read_note(tmp_path)), tmp_path)

    run()


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(content=st.binary(max_size=40) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "any.json").write_bytes(content)
    check(lambda: _done(read_json(tmp_path / "any.json")), tmp_path)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    value=ANY_JSON.map(lambda inner: [inner] * 100) | ANY_JSON.map(lambda inner: {str(n): inner for n in range(100)})
)
def test_a_value_in_a_message_is_short(value: Any) -> None:
    assert len(shown(value)) <= 60


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(parts=st.lists(st.sampled_from(["..", ".", "a", "in", "out", "/", "b.png"]), min_size=1, max_size=7))
def test_what_counts_as_inside_is_inside(parts: List[str], tmp_path: Path) -> None:
    """Against what the system says: of a folder with a link to another one, only what is below that link lies elsewhere
    and counts as inside."""
    scene, other = tmp_path / "scene", tmp_path / "other"
    for folder in (scene / "a" / "in", other / "out"):
        folder.mkdir(parents=True, exist_ok=True)
    if not (scene / "out").exists():
        (scene / "out").symlink_to(other)
    name = os.path.join(*parts)
    if lies_inside(scene, name):
        real = os.path.realpath(scene / name)
        below_link = "out" in Path(name).parts and Path(real).is_relative_to(other.resolve())
        assert Path(real).is_relative_to(scene.resolve()) or below_link, (name, real)

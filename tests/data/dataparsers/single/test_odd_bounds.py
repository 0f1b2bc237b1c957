"""Bounds of one photo that are far off the others' decide neither about a scene's scale nor about its ray space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.odd_bounds import MOST_APART, plain_bounds
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata


def parse(scene: Path, **flags):
    return LLFFDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs("train")


def record_of(outputs) -> FewShotMetadata:
    return get_fewshot_metadata(outputs.metadata)


def scale_bounds(scene: Path, row: int, factor: float) -> None:
    rows = np.load(scene / "poses_bounds.npy")
    rows[row, 15:] *= factor
    np.save(scene / "poses_bounds.npy", rows)


@pytest.mark.parametrize("row", [2, 1])
@pytest.mark.parametrize("factor", [1 / 200, 200.0])
@pytest.mark.parametrize("ray_space", [None, "metric"])
def test_one_odd_row_among_others_or_of_a_training_view(tiny_llff_scene, capsys, row, factor, ray_space):
    before = parse(tiny_llff_scene, ray_space=ray_space)
    assert 1 in record_of(before).train_indices and 2 not in record_of(before).train_indices
    assert "times off" not in " ".join(capsys.readouterr().out.split())
    scale_bounds(tiny_llff_scene, row, factor)
    after = parse(tiny_llff_scene, ray_space=ray_space)
    # The replaced row may have been the nearest one, whose depth is not known any more.
    assert after.dataparser_scale == pytest.approx(before.dataparser_scale, rel=0.2)
    geometry, wanted = record_of(after).geometry, record_of(before).geometry
    assert geometry.ray_space == wanted.ray_space == (ray_space or "ndc")
    assert (geometry.near, geometry.far) == pytest.approx((wanted.near, wanted.far), rel=0.3)
    said = " ".join(capsys.readouterr().out.split())
    assert "poses_bounds.npy: the depth bounds of" in said and "more than 20 times off those of the other" in said


def test_an_odd_row_that_is_not_the_nearest_changes_nothing_but_itself(tiny_llff_scene):
    before = parse(tiny_llff_scene)
    rows = record_of(before).scene_bounds
    assert rows is not None
    odd = int(rows[:, 0].argmax())
    scale_bounds(tiny_llff_scene, odd, 1 / 200)
    after = parse(tiny_llff_scene)
    assert after.dataparser_scale == before.dataparser_scale
    assert (after.cameras.camera_to_worlds == before.cameras.camera_to_worlds).all()
    bounds = record_of(after).scene_bounds
    assert bounds is not None
    kept = [row for row in range(len(rows)) if row != odd]
    assert (bounds[kept] == rows[kept]).all() and bounds[odd].tolist() == pytest.approx(
        rows[kept].median(dim=0).values.tolist(), rel=0.1
    )


def test_a_run_of_an_earlier_version_keeps_its_scale(tiny_llff_scene):
    before = parse(tiny_llff_scene)
    scale_bounds(tiny_llff_scene, 2, 1 / 200)
    text = yaml.dump(LLFFDataParserConfig(data=tiny_llff_scene))
    younger = text.replace("odd_bounds_count: false\n", "")
    assert younger != text
    then = yaml.load(younger, Loader=yaml.Loader).setup().get_dataparser_outputs("train")
    assert then.dataparser_scale > 100 * before.dataparser_scale
    today = yaml.load(text, Loader=yaml.Loader).setup().get_dataparser_outputs("train")
    assert today.dataparser_scale == pytest.approx(before.dataparser_scale, rel=0.2)


@given(
    nears=st.lists(st.floats(1.0, 4.0), min_size=3, max_size=12),
    which=st.integers(0, 11),
    factor=st.floats(5.0 * MOST_APART, 1e6),
    inverse=st.booleans(),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_any_one_row_is_found_and_rows_alike_stay(nears, which, factor, inverse):
    rows = np.array([[near, 3.0 * near] for near in nears])
    names = [f"{row}.png" for row in range(len(rows))]
    assert plain_bounds(rows, names).rows is rows
    which %= len(rows)
    spoilt = rows.copy()
    spoilt[which] *= 1.0 / factor if inverse else factor
    found = plain_bounds(spoilt, names)
    kept = np.arange(len(rows)) != which
    assert found.remark is not None and f"{which}.png (" in found.remark
    assert (found.rows[kept] == rows[kept]).all()
    np.testing.assert_array_equal(found.rows[which], np.median(rows[kept], axis=0))


@pytest.mark.parametrize("nears", [(1.0, 200.0), (1.0, 1.0, 500.0, 500.0), (1.0, 19.0, 19.0)])
def test_where_nothing_tells_which_is_wrong_all_stay(nears):
    rows = np.array([[near, 2.0 * near] for near in nears])
    assert plain_bounds(rows, [str(near) for near in nears]).remark is None


def test_the_scenes_of_llff_stay_as_they_are(data_dir):
    paths = sorted((data_dir / "nerf_llff_poses").glob("*/poses_bounds.npy"))
    assert paths
    for path in paths:
        bounds = np.load(path)[:, 15:]
        assert plain_bounds(bounds, [""] * len(bounds)).rows is bounds

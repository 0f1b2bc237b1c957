"""Whatever one number of a camera is, the scene casts finite rays or is refused in words."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch
from camera_scenes import LAYOUTS, UNUSED, read_cameras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_ns.data.dataparsers.automatic import CONFIGS
from fewshot_ns.engine.error_lines import is_of_this_package

REPLACED = ("nan", "inf", "-inf", "0", "-x", "1e300", "-1e300", "1e30", "1e12", "1e-30", "1e-300", "x+1", "1000x")


def _replaced(value: float, how: str) -> float:
    words = {"-x": -value, "x+1": value + 1.0, "1000x": 1000.0 * value}
    return words[how] if how in words else float(how)


def _check_rays(read: List[Any]) -> None:
    near, far = read[2]
    assert 0.0 <= near < far < float("inf")
    for cameras in read[:2]:
        for index in range(len(cameras)):
            rays = cameras.generate_rays(camera_indices=index, keep_shape=True)
            lengths = rays.metadata["directions_norm"]
            points = rays.origins + far * lengths * rays.directions
            for found in (rays.origins, rays.directions, lengths, points, points.square().sum(-1)):
                assert bool(found.isfinite().all())


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_as_they_are_written_are_read(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    _check_rays(read_cameras(layout, layout.write(tmp_path, layout.numbers())))


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_number_of_a_camera(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    numbers = layout.numbers()
    key = data.draw(st.sampled_from(sorted(numbers)))
    place = data.draw(st.integers(0, numbers[key].size - 1))
    how = data.draw(st.sampled_from(REPLACED))
    flat = np.array(numbers[key]).ravel()
    flat[place] = _replaced(float(flat[place]), how)
    numbers[key] = flat.reshape(numbers[key].shape)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        written = layout.write(Path(folder), numbers)
        try:
            read = read_cameras(layout, written)
        except Exception as error:
            assert is_of_this_package(error, error.__traceback__), f"raw {type(error).__name__}: {error}"
            assert Path(folder).name in str(error), f"no file is named: {error}"
            return
        _check_rays(read)


def test_a_camera_that_is_not_used_is_said(tmp_path: Path) -> None:
    layout = LAYOUTS["frames"]
    numbers = layout.numbers()
    numbers["inner"][UNUSED, 0] = 1e12
    config: Any = CONFIGS[layout.parser]()
    data = layout.write(tmp_path, numbers)
    scene, _, _ = replace(config, data=data, **layout.flags).setup().read_views()
    assert any(f"photos that are not used are none: {UNUSED}.png" in remark for remark in scene.remarks)

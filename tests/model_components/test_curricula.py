"""Curricula: each against a naive reference, column by column and ray by ray."""

from __future__ import annotations

from typing import Any, List

import pytest
import torch

from fewshot_ns.cameras.ray_space import ModelRays
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.model_components.curricula import (
    ANNEALING,
    AnnealingDefaults,
    Curriculum,
    EncodedColumns,
    FrequencyMask,
    FrequencyMaskConfig,
    NearFarAnnealing,
    NearFarAnnealingConfig,
)

METRIC, NDC = SceneGeometry("metric", 2.0, 6.0), SceneGeometry("ndc", 0.0, 1.0, ndc_focal=(1.0, 1.0))
OCTAVES = 4


def rays(geometry: SceneGeometry, count: int = 5) -> ModelRays:
    torch.manual_seed(0)
    ones, directions = torch.ones(count, 1), 0.3 * torch.randn(count, 3) + torch.tensor([0.0, 0.0, 1.0])
    length = directions.norm(dim=-1, keepdim=True)
    # Each ray has bounds of its own, as where a crop box has set them.
    near = geometry.near + 0.1 * torch.rand(count, 1)
    return ModelRays(
        *(0.1 * torch.randn(count, 3), directions, directions / length, ones, near, geometry.far * ones),
        *(ones.bool(), ones, 0 * ones, ones),
    )


def annealed_naively(
    given: ModelRays, geometry: SceneGeometry, step: int, curriculum: NearFarAnnealing, focus: torch.Tensor
) -> Any:
    """Near and far, ray by ray."""
    nears, fars = [], []
    for ray in range(len(given.near)):
        near, far = float(given.near[ray]), float(given.far[ray])
        if curriculum.mid_fraction is None:
            origin, direction = given.origins[ray], given.directions[ray]
            middle = float((focus - origin) @ direction / (direction @ direction))
            middle = min(max(middle, geometry.near), geometry.far)
        else:
            middle = geometry.near + curriculum.mid_fraction * (geometry.far - geometry.near)
        start = [middle + curriculum.init_fraction * (end - middle) for end in (near, far)]
        share = (step + 1) / curriculum.steps
        nears.append(start[0] + share * (near - start[0]))
        fars.append(start[1] + share * (far - start[1]))
    return torch.tensor(nears)[:, None], torch.tensor(fars)[:, None]


@pytest.mark.parametrize("mid_fraction", [None, 0.25, 1.0])
@pytest.mark.parametrize("geometry", [METRIC, NDC], ids=["metric", "ndc"])
def test_near_and_far_of_each_ray(geometry: SceneGeometry, mid_fraction: Any) -> None:
    config = NearFarAnnealingConfig(steps=10, init_fraction=0.3, mid_fraction=mid_fraction)
    curriculum, given = NearFarAnnealing(config, geometry), rays(geometry)
    focus = torch.tensor([0.1, -0.2, 4.0 if geometry is METRIC else 0.6])
    for step in (0, 4, 8):
        found = curriculum.apply(given, step, focus)
        near, far = annealed_naively(given, geometry, step, curriculum, focus)
        torch.testing.assert_close(found.near, near)
        torch.testing.assert_close(found.far, far)
        assert torch.equal(found.origins, given.origins) and torch.equal(found.directions, given.directions)
        assert (found.near > given.near).all() and (found.near < found.far).all()
    # The original's counter is 1 for the first batch.
    for step in (9, 10, 10**6):
        assert curriculum.apply(given, step) is given


def test_annealing_off_changes_nothing() -> None:
    given = rays(METRIC)
    assert NearFarAnnealing(NearFarAnnealingConfig(steps=0), METRIC).apply(given, 0) is given


@pytest.mark.parametrize("geometry", [METRIC, NDC], ids=["metric", "ndc"])
def test_annealing_of_backbone_and_scene(geometry: SceneGeometry) -> None:
    own = {"ndc": AnnealingDefaults(7, 0.1, 0.2), "metric": AnnealingDefaults(8, 0.3, None)}
    open_config = NearFarAnnealingConfig(steps=None)
    expected = own[geometry.ray_space]
    middle = "focus point" if expected.mid_fraction is None else expected.mid_fraction
    assert NearFarAnnealing(open_config, geometry, own).resolved() == {  # type: ignore[arg-type]
        "steps": expected.steps,
        "init_fraction": expected.init_fraction,
        "mid_fraction": middle,
    }
    default = NearFarAnnealing(open_config, geometry)
    assert (default.steps, default.init_fraction, default.mid_fraction) == ANNEALING[geometry.ray_space]
    given = NearFarAnnealingConfig(steps=3, init_fraction=0.4, mid_fraction=0.0)
    resolved = NearFarAnnealing(given, geometry, own).resolved()  # type: ignore[arg-type]
    assert resolved == {"steps": 3, "init_fraction": 0.4, "mid_fraction": 0.0}


def octave_of_columns(columns: EncodedColumns) -> List[int]:
    """Octave of each column by looking at the encoding itself: how fast it turns; -1 for the coordinates."""
    octaves, small = [], 1e-4
    x = torch.zeros(1, 3, dtype=torch.float64)
    encode = {"num_octaves": columns.num_octaves, "include_input": columns.include_input}
    at = [positional_encoding(x + shift, by_octave=columns.by_octave, **encode)[0] for shift in (0.0, small)]
    for column, (start, end) in enumerate(zip(*at, strict=True)):
        if columns.include_input and column < 3:
            octaves.append(-1)
            continue
        # A sine begins at 0 and has risen by 2^k x, a cosine begins at 1 and has fallen by (2^k x)^2 / 2.
        turned = float(end) if float(start) == 0 else float(2 * (1 - end)) ** 0.5
        octaves.append(round(float(torch.log2(torch.tensor(turned / small)))))
    return octaves


@pytest.mark.parametrize("include_input", [False, True])
@pytest.mark.parametrize("by_octave", [False, True])
def test_octaves_open_one_after_the_other(include_input: bool, by_octave: bool) -> None:
    """Whatever the order of the columns: sine and cosine of an octave have one visibility."""
    columns = EncodedColumns(OCTAVES, include_input, by_octave)
    octaves = octave_of_columns(columns)
    assert len(octaves) == columns.count and sorted(set(octaves)) == list(range(-include_input, OCTAVES))
    mask = FrequencyMask(FrequencyMaskConfig(steps=20, order="octave"), METRIC)
    for step in (0, 3, 10, 18):
        (found,) = mask.apply([columns], step)
        assert found is not None
        visible = OCTAVES * (step + 1) / 20 + 1
        expected = [1.0 if octave < 0 else min(max(visible - octave, 0.0), 1.0) for octave in octaves]
        torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("include_input", [False, True])
def test_columns_open_one_after_the_other(include_input: bool) -> None:
    """FreeNeRF's own order: three columns at a time, whatever they are."""
    columns = EncodedColumns(OCTAVES, include_input)
    mask = FrequencyMask(FrequencyMaskConfig(steps=20), METRIC)
    for step in (0, 3, 10, 18):
        (found,) = mask.apply([columns], step)
        assert found is not None and found.shape == (columns.count,)
        visible = min(columns.count / 3 * (step + 1) / 20 + 1, columns.count / 3)
        expected = [min(max(visible - column // 3, 0.0), 1.0) for column in range(columns.count)]
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_several_encodings_open_together() -> None:
    encodings = [EncodedColumns(6, False), EncodedColumns(2, True)]
    mask = FrequencyMask(FrequencyMaskConfig(steps=20), METRIC)
    both = mask.apply(encodings, 7)
    for columns, found in zip(encodings, both, strict=True):
        (alone,) = mask.apply([columns], 7)
        assert found is not None and alone is not None and torch.equal(found, alone)
    assert mask.apply(encodings, 19) != [None, None] and mask.apply(encodings, 20) == [None, None]


def test_what_the_first_batch_counts_as() -> None:
    columns = [EncodedColumns(OCTAVES, False)]
    ahead, plain = (
        FrequencyMask(FrequencyMaskConfig(steps=20, order="octave", first_step=first), METRIC) for first in (1, 0)
    )
    for step in (0, 5, 12):
        one, other = ahead.apply(columns, step)[0], plain.apply(columns, step + 1)[0]
        assert one is not None and other is not None and torch.equal(one, other)
        assert not torch.equal(one, plain.apply(columns, step)[0])  # type: ignore[arg-type]


def test_a_fixed_share() -> None:
    mask = FrequencyMask(FrequencyMaskConfig(visible_ratio=0.5, order="octave"), METRIC)
    for step in (0, 10**6):
        (found,) = mask.apply([EncodedColumns(OCTAVES, False)], step)
        assert found is not None and found.tolist() == [1.0] * 12 + [0.0] * 12
    assert mask.used and not FrequencyMask(FrequencyMaskConfig(), METRIC).used
    assert FrequencyMask(FrequencyMaskConfig(), METRIC).apply([EncodedColumns(OCTAVES, False)], 0) == [None]


def test_steps_of_freenerf() -> None:
    resolved = [FrequencyMask(FrequencyMaskConfig(steps=None), geometry).resolved() for geometry in (NDC, METRIC)]
    assert resolved == [{"steps": 62791}, {"steps": 39550}]
    assert FrequencyMask(FrequencyMaskConfig(steps=3), NDC).resolved() == {"steps": 3}


def test_configs_build_their_curricula() -> None:
    assert isinstance(NearFarAnnealingConfig().setup(geometry=METRIC), NearFarAnnealing)
    assert isinstance(FrequencyMaskConfig().setup(geometry=METRIC), FrequencyMask)
    with pytest.raises(TypeError, match="Curriculum has to define apply"):
        Curriculum(None).apply(None, 0)

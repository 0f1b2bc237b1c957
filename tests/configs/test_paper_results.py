"""Published figures: complete records, and numbers that agree with one another."""

from __future__ import annotations

import math

import pytest

from fewshot_ns import registry
from fewshot_ns.configs.paper_results import METRICS, row

PUBLISHED = [name for name, entry in registry.METHODS.items() if entry.paper_results is not None]
AVERAGED = ("mipnerf_fewshot", "regnerf", "freenerf", "sparsenerf", "free_sparsenerf")
"""Methods whose papers print the average of the three errors."""
WITHOUT_FIGURES = {"dietnerf_jax", "dietnerf_jax_coarse", "idnerf", "idnerf_released", "sparse_splatfacto"}
"""Methods that are no presets of our own, and of which no published figure is quoted."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_records_are_complete(name: str) -> None:
    results = registry.paper_results(name)
    assert results
    for result in results:
        assert result.metric in METRICS and result.num_views > 0
        assert all(len(text) > 10 for text in (result.table, result.conditions, result.citation))
    assert all(result.citation.startswith(registry.METHODS[name].paper.citation) for result in results)
    keys = [(result.dataset, result.num_views, result.metric, result.table) for result in results]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_agree_with_their_metrics(name: str) -> None:
    """The geometric mean of the mean errors comes close to the printed mean of the geometric means."""
    rows: dict = {}
    for result in registry.paper_results(name):
        rows.setdefault((result.dataset, result.num_views), {})[result.metric] = result.value
    checked = 0
    for key, values in rows.items():
        if set(values) == set(METRICS):
            product = 10 ** (-values["psnr"] / 10) * math.sqrt(1 - values["ssim"]) * values["lpips"]
            assert values["average"] == pytest.approx(product ** (1 / 3), rel=0.15), key
            checked += 1
    assert checked > 0


def test_only_lite_presets_and_a_few_others_have_none() -> None:
    without = {name for name, entry in registry.METHODS.items() if entry.paper_results is None}
    assert without == {name for name in registry.METHODS if name.endswith("_lite")} | WITHOUT_FIGURES
    assert all(registry.paper_results(name) == () for name in without)


def test_rows_may_end_early() -> None:
    results = row("dtu", 3, (20.0, None, 0.1), "someone's method")
    assert [(result.metric, result.value) for result in results] == [("psnr", 20.0), ("lpips", 0.1)]
    assert "Tab. 3" in results[0].table and "masks" in results[0].conditions

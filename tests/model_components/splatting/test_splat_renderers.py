"""benchmarks/splat_renderers.py: what it says of two renderers, on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from splat_renderers import LEARNED, Comparison, Difference, as_text, compare, comparison

from fewshot_ns.model_components.splatting.rasterization import rasterization

SIZE = ((24, 18),)


def test_equal_renderers_differ_by_nothing_and_others_are_found():
    in_portions = partial(rasterization, max_fragments=500)

    def bright(**given: Any):
        image, alpha, info = rasterization(**given)
        return 1.5 * image, alpha, info

    renderers = {"torch": rasterization, "portions": in_portions, "bright": bright}
    measured, differences = compare(renderers, torch.device("cpu"), SIZE, stride=2, repeats=1)
    assert [one.renderer for one in measured] == ["torch", "portions", "bright"]
    assert all(one.gaussians == 12 * 9 and 0 < one.forward_ms and one.peak_mb is None for one in measured)
    found = {(one.renderer, one.what): one for one in differences}
    assert len(found) == 2 * (3 + len(LEARNED))
    for what in ("colour", "depth", "opacity", *(f"gradient of {name}" for name in LEARNED)):
        one = found["portions", what]
        assert one.largest is not None and one.mean is not None and one.mean <= one.largest < 1e-4
    colour = found["bright", "colour"].largest
    assert colour == pytest.approx(0.5) and found["bright", "opacity"].largest == 0.0
    assert (found["bright", "gradient of means"].largest or 0.0) > 0.1
    text = as_text(Comparison("cpu", {"torch": "2"}, measured, differences))
    assert "| 24x18 | bright | colour | 5.0e-01 |" in text and "From torch" in text


def test_what_is_not_finite_is_said_and_kept():
    def broken(**given: Any):
        image, alpha, info = rasterization(**given)
        return image * float("nan"), alpha, info

    measured, differences = compare({"torch": rasterization, "broken": broken}, torch.device("cpu"), SIZE, 3, 1)
    kind = TypeAdapter(Comparison)
    kept = kind.validate_json(kind.dump_json(Comparison("cpu", {}, measured, differences)))
    assert Difference("24x18", "broken", "colour", None, None) in kept.differences
    assert "not finite" in as_text(kept) and asdict(kept)["differences"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without CUDA")
def test_without_cuda_one_line_says_so():
    result = comparison(repeats=1)
    assert result.error.startswith("no CUDA device") and not result.measured and not result.tables()
    assert as_text(result).count("nothing was compared") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_kernels_are_compared():
    result = comparison(repeats=1)
    assert not result.error and {one.renderer for one in result.measured} == {"gsplat", "torch"}
    assert all(one.peak_mb for one in result.measured)
    assert all(one.mean is not None and one.mean < 1e-2 for one in result.differences)

"""ID-NeRF's renderings against the plain twin that its speed is compared to."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from idnerf_speed import Case, product, target_rays, twin_of
from torch import Tensor


@pytest.mark.parametrize("case", get_args(Case))
def test_renderings_are_the_twins(case: Case):
    """In double precision: in single the highest octave of the encoding makes 1e-3 of what differs in rounding."""
    torch.manual_seed(0)
    model, conditioning = product(case, "float32", (32, 64))
    model = model.double()
    for weight in (model.nerf_dec.alpha_linear[0].weight, model.nerf_dec.rgb_linear.weight):
        # As they start, all colours are much the same.
        torch.nn.init.normal_(weight)
    bundle = target_rays(conditioning, 8)
    given = replace(conditioning, **{n: v.double() for n, v in vars(conditioning).items() if isinstance(v, Tensor)})
    bundle.origins, bundle.directions = bundle.origins.double(), bundle.directions.double()
    bundle.metadata["directions_norm"] = bundle.metadata["directions_norm"].double()
    with torch.no_grad():
        model.condition(given)
        assert model.sources.rows[0].dtype == torch.float64
        twin, rays, views, features = twin_of(model, given, bundle)
        expected = twin.double()(rays, views, features)
        found = model(bundle)["rgb"]
    assert expected.std(dim=0).min() > 1e-3  # a thousand times what may differ
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)

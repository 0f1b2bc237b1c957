"""Panels of training."""

import pytest
import torch

from fewshot_ns.presentation.view_pictures import source_panel


def outputs(suffix: str, value: float) -> dict:
    return {
        f"rgb{suffix}": torch.full((4, 6, 3), value),
        f"depth{suffix}": torch.full((4, 6, 1), 1.0),
        f"accumulation{suffix}": torch.full((4, 6, 1), 0.4),
    }


def test_coarse_row_over_fine_row():
    sources = [torch.zeros(4, 6, 3), torch.full((4, 6, 3), 0.2)]
    both = {**outputs("", 0.8), **outputs("_coarse", 0.6)}
    panel = source_panel(sources, torch.ones(4, 6, 3), both, near=0.5, far=2.0)
    assert panel.shape == (8, 36, 3) and panel.dtype == torch.float32
    for top, colour in ((0, 0.6), (4, 0.8)):
        cells = panel[top : top + 4].reshape(4, 6, 6, 3).permute(1, 0, 2, 3)
        means = cells.reshape(6, -1).mean(-1)
        torch.testing.assert_close(
            means[[0, 1, 2, 4, 5]], torch.tensor([0.0, 0.2, 1.0, colour, 0.4]), atol=2e-3, rtol=0
        )
        assert cells[3].std(dim=(0, 1)).max() == 0 and cells[3, 0, 0].std() > 0.05, "one depth, one colour"


def test_one_level_is_one_row():
    assert source_panel([], torch.ones(4, 6, 3), outputs("", 0.5), 0.5, 2.0).shape == (4, 24, 3)


def test_sizes_have_to_fit():
    with pytest.raises(ValueError, match=r"\(4, 6\), \(5, 6\)"):
        source_panel([torch.zeros(5, 6, 3)], torch.ones(4, 6, 3), outputs("", 0.5), 0.5, 2.0)

"""Flow of matching features: its parts against naive twins, and a real pair of pictures with the real weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gmflow_flow import FlowPropagation, GMFlow, global_flow, local_flow, neighbours, warped

from fewshot_ns.encoders.convert_gmflow import find_gmflow
from fewshot_ns.pretrained.weights import load_weights

ROLL = 2


@pytest.fixture
def shifted_maps():
    """Features of pixels, very unlike each other, and of the same pixels some columns further right."""
    first = 40.0 * torch.nn.functional.normalize(
        torch.randn(1, 6, 9, 16, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    return first, torch.roll(first, ROLL, 2)


@pytest.mark.parametrize("search", [global_flow, lambda first, second: local_flow(first, second, 3)])
def test_pixels_are_found_again(shifted_maps, search):
    first, second = shifted_maps
    flow = search(first, second)
    expected = torch.tensor([float(ROLL), 0.0]).expand(6, 9 - ROLL, 2)
    torch.testing.assert_close(flow[0, :, :-ROLL], expected, rtol=0, atol=1e-3)


def test_local_search_against_loops(shifted_maps):
    first, second = (each / 20.0 for each in shifted_maps)
    flow, radius = local_flow(first, second, 2)[0], 2
    for row, column in ((0, 0), (3, 4), (5, 8)):
        places = [
            (dx, dy)
            for dy in range(-radius, radius + 1)
            for dx in range(-radius, radius + 1)
            if 0 <= row + dy < 6 and 0 <= column + dx < 9
        ]
        scores = torch.stack([first[0, row, column] @ second[0, row + dy, column + dx] / 4.0 for dx, dy in places])
        torch.testing.assert_close(flow[row, column], scores.softmax(0) @ torch.tensor(places).float())


def test_neighbours():
    maps = torch.rand(1, 3, 4, 2)
    around = neighbours(maps)[0]
    torch.testing.assert_close(around[:, 1, 1], maps[0, 0:3, 0:3].flatten(0, 1))
    assert not around[:3, 0].any() and torch.equal(around[4], maps[0])


def test_warped():
    maps = torch.rand(1, 3, 5, 2)
    moved = warped(maps, torch.tensor([1.0, 0.0]).expand(1, 3, 5, 2))
    torch.testing.assert_close(moved[:, :, :-1], maps[:, :, 1:])
    assert float(moved[:, :, -1].abs().max()) < 1e-5


def test_propagation_keeps_what_is_the_same_everywhere():
    torch.manual_seed(0)
    propagation = FlowPropagation(8)
    features, flow = torch.randn(1, 4, 5, 8), torch.tensor([3.0, -1.0]).expand(1, 4, 5, 2)
    torch.testing.assert_close(propagation.everywhere(features, flow), flow)
    torch.testing.assert_close(propagation.nearby(features, flow)[:, 1:-1, 1:-1], flow[:, 1:-1, 1:-1])


@pytest.mark.parametrize("num_scales", [1, 2])
def test_flow_has_the_size_of_the_images(num_scales):
    torch.manual_seed(0)
    network = GMFlow(num_scales)
    with torch.no_grad():
        flow = network(torch.rand(32, 64, 3), torch.rand(32, 64, 3))
    assert flow.shape == (32, 64, 2) and bool(flow.isfinite().all())


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        GMFlow(1)(torch.rand(32, 50, 3), torch.rand(32, 50, 3))


@pytest.mark.weights
def test_real_weights_have_the_errors_of_the_original_code(weights_dir: Path):
    """The original code: mean 0.93 px, median 0.34 px at a mean disparity of 33.4 px."""
    data = pytest.importorskip("skimage.data")
    try:
        pictures = data.stereo_motorcycle()
    except (OSError, ModuleNotFoundError) as error:
        pytest.skip(f"scikit-image's motorcycle pair is not on this disk ({error})")
    # The size that the original was measured at: multiples of 32 without padding.
    left, right, disparity = (torch.from_numpy(picture)[:480, :736] for picture in pictures)
    network = GMFlow(2)
    network.load_state_dict(load_weights(find_gmflow(2, weights_dir, False, "--weights")))
    with torch.no_grad():
        flow = network(left.float() / 255.0, right.float() / 255.0)
    known = disparity.isfinite()
    error = (flow[..., 0] + disparity).abs()[known]
    assert float(disparity[known].mean()) == pytest.approx(33.4, abs=0.05)
    assert float(error.mean()) == pytest.approx(0.93, abs=0.005)
    assert float(error.median()) == pytest.approx(0.34, abs=0.005)
    assert float(flow[..., 1].abs()[known].median()) < 0.5

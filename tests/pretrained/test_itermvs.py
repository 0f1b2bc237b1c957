"""IterMVS: its parts against loops, its loss, and files of weights. The reference vectors are in tests/goldens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.pretrained.itermvs.geometry import LEVELS, DepthRange, projections, relative_projections, warp
from fewshot_ns.pretrained.itermvs.loss import DECAY, RIGHT, training_loss
from fewshot_ns.pretrained.itermvs.matching import group_correlation, weighted_mean
from fewshot_ns.pretrained.itermvs.network import IterMVS, State, convex_upsampling
from fewshot_ns.pretrained.itermvs.updates import OFFSETS, read_out, step_samples
from fewshot_ns.pretrained.itermvs.weights import find_itermvs, load_itermvs
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError
from fewshot_ns.utils.checkpoints import CheckpointMismatchError

FLAG = "--pipeline.depth.mvs.weights"


@pytest.fixture(scope="module")
def network() -> IterMVS:
    """Random weights."""
    torch.manual_seed(0)
    return IterMVS().eval()


def cameras(views: int, batch: int = 1) -> Tuple[Tensor, Tensor]:
    """Poses (B, V, 3, 4) beside each other, and intrinsics (B, V, 4) of 64x96 photos."""
    generator = torch.Generator().manual_seed(1)
    poses = torch.eye(4)[:3].repeat(batch, views, 1, 1)
    poses[..., 3] = 10.0 * torch.randn(batch, views, 3, generator=generator)
    return poses, torch.tensor([90.0, 95.0, 47.0, 33.0]).expand(batch, views, 4)


def problem_of(views: int, batch: int = 1) -> Tuple[Tensor, List[Tensor], Tensor, Tensor]:
    """Arguments of the network."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(batch, views, 3, 64, 96, generator=generator) * 2 - 1
    matrices = [projections(*cameras(views, batch), level).float() for level in LEVELS]
    return images, matrices, torch.full((batch,), 90.0), torch.tensor([200.0, 400.0])[:batch]


def test_depth_range():
    depths = DepthRange.between(torch.tensor([2.0, 1.0]), torch.tensor([8.0, 100.0]))
    ends = depths.depth(torch.tensor([0.0, 1.0, 0.5]).reshape(1, 3, 1, 1))[..., 0, 0]
    expected = [[8.0, 2.0, 2.0 / (1 / 2 + 1 / 8)], [100.0, 1.0, 2.0 / (1 + 1 / 100)]]
    torch.testing.assert_close(ends, torch.tensor(expected).float())
    back = depths.normalized(depths.depth(torch.full((2, 1, 1, 1), 0.3)))
    torch.testing.assert_close(back, torch.full((2, 1, 1, 1), 0.3), rtol=0, atol=1e-4)


def test_projections_are_those_of_the_view():
    """In pixels with integer centres, of which every 2^l-th of the photo is one of the level's."""
    pose = torch.eye(4)[:3].clone()
    pose[:, :3] = torch.linalg.qr(torch.rand(3, 3, generator=torch.Generator().manual_seed(4)))[0]
    pose[:, 0] *= torch.linalg.det(pose[:, :3])
    pose[:, 3] = torch.tensor([0.3, -0.2, 1.0])
    intrinsics = torch.tensor([50.0, 60.0, 31.0, 25.0])
    view = StereoView(torch.zeros(48, 64, 3), pose, intrinsics, 1.0, 5.0, torch.ones(48, 64, dtype=torch.bool))
    points = view.points(torch.full((48, 64), 3.0)).double()
    position, z_depth = view.project(points.float())
    for level in (0, *LEVELS):
        image = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1) @ projections(pose, intrinsics, level).T
        torch.testing.assert_close(image[..., 2].float(), z_depth, rtol=1e-5, atol=0)
        found = (image[..., :2] / image[..., 2:3]).float()
        torch.testing.assert_close(found, (position - 0.5) / 2**level, rtol=0, atol=1e-4)


def naive_warp(maps: Tensor, transform: Tensor, depths: Tensor) -> Tensor:
    """One map (C, Hs, Ws) at depths (N, H, W)."""
    (channels, map_height, map_width), (number, height, width) = maps.shape, depths.shape
    result = torch.zeros(channels, number, height, width)
    for n in range(number):
        for i in range(height):
            for j in range(width):
                pixel = torch.tensor([j * map_width / width, i * map_height / height, 1.0])
                x, y, z = (float(depths[n, i, j]) * transform[:3, :3] @ pixel + transform[:3, 3]).tolist()
                column, row = (x / z, y / z) if z > 0.01 else (width, height)
                for a in (math.floor(row), math.floor(row) + 1):
                    for b in (math.floor(column), math.floor(column) + 1):
                        if 0 <= a < map_height and 0 <= b < map_width:
                            weight = (1 - abs(row - a)) * (1 - abs(column - b))
                            result[:, n, i, j] += weight * maps[:, a, b]
    return result


@pytest.mark.parametrize("grid", [(4, 6), (2, 3), (8, 12)])
def test_warp_against_loops(grid: Tuple[int, int]):
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(2, 3, 4, 6, generator=generator)
    depths = 1.0 + 3.0 * torch.rand(2, 2, *grid, generator=generator)
    transform = torch.eye(4).repeat(2, 1, 1)
    transform[:, :3, :3] += 0.05 * torch.randn(2, 3, 3, generator=generator)
    # The second item's source has all but the farthest points behind it.
    transform[:, :3, 3] = torch.tensor([[6.0, -2.0, 0.3], [1.0, 0.5, -3.0]])
    found = warp(maps, transform, depths)
    expected = torch.stack([naive_warp(maps[k], transform[k], depths[k]) for k in range(2)])
    assert expected[0].any() and not expected[0].all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_warp_is_the_identity_between_equal_cameras():
    maps = torch.rand(1, 2, 5, 7)
    poses, intrinsics = cameras(1)
    matrix = projections(poses[:, 0], intrinsics[:, 0], 2)
    found = warp(maps, relative_projections(matrix, matrix), 1.0 + torch.rand(1, 3, 5, 7))
    torch.testing.assert_close(found, maps[:, :, None].expand_as(found), rtol=0, atol=1e-4)


def test_no_gradient_through_positions():
    maps, depths = torch.rand(1, 2, 5, 7, requires_grad=True), torch.ones(1, 1, 5, 7, requires_grad=True)
    warp(maps, torch.eye(4)[None], depths).sum().backward()
    assert maps.grad is not None and depths.grad is None


def test_correlation_against_loops():
    generator = torch.Generator().manual_seed(5)
    reference, sources = torch.randn(2, 16, 3, 4, generator=generator), torch.randn(3, 2, 16, 5, 3, 4)
    weights = torch.rand(2, 3, 3, 4, generator=generator)
    each = [group_correlation(reference, source) for source in sources]
    for group in range(8):
        product = reference[:, 2 * group : 2 * group + 2, None] * sources[1][:, 2 * group : 2 * group + 2]
        torch.testing.assert_close(each[1][:, group], product.sum(1) / 2)
    total = sum(weights[:, k, None, None] * each[k] for k in range(3))
    expected = total / (1e-5 + weights[:, 0] + weights[:, 1] + weights[:, 2])[:, None, None]
    torch.testing.assert_close(weighted_mean(each, weights), expected)


def test_read_out_against_loops():
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(1, 256, 2, 4, generator=generator)
    for column, peak in enumerate((0, 2, 253, 255)):
        scores[0, peak, 0, column] = 9.0
    probabilities = scores.softmax(1)
    reading = read_out(probabilities)
    for i in range(2):
        for j in range(4):
            p = probabilities[0, :, i, j].tolist()
            peak = p.index(max(p))
            window = [min(max(peak + k, 0), 255) for k in range(-4, 5)]
            mean = sum(b * p[b] for b in window) / (1e-6 + sum(p[b] for b in window)) / 255
            assert int(reading.peak[0, i, j]) == peak
            assert float(reading.normalized[0, 0, i, j]) == pytest.approx(mean, abs=1e-6)


def test_samples_stay_in_the_range():
    normalized = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    for level, offsets in OFFSETS.items():
        samples = step_samples(normalized, level)
        assert samples.shape == (1, len(offsets), 1, 3)
        assert float(samples.min()) == 0.0 and float(samples.max()) == 1.0
        torch.testing.assert_close(samples[0, :, 0, 1], 0.5 + torch.tensor(offsets) / 256)


def test_convex_upsampling_against_loops():
    generator = torch.Generator().manual_seed(7)
    values = torch.rand(2, 1, 3, 2, generator=generator)
    weights = torch.randn(2, 9, 4, 4, 3, 2, generator=generator).softmax(1)
    found = convex_upsampling(values, weights)
    expected = torch.zeros(2, 1, 12, 8)
    for y in range(12):
        for x in range(8):
            for k in range(9):
                row, column = y // 4 + k // 3 - 1, x // 4 + k % 3 - 1
                value = values[:, 0, min(max(row, 0), 2), min(max(column, 0), 1)]
                expected[:, 0, y, x] += weights[:, k, y % 4, x % 4, y // 4, x // 4] * value
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_result_is_a_depth_of_the_range_whatever_the_batch_and_the_order(network: IterMVS):
    images, matrices, low, high = problem_of(4, batch=2)
    depth, confidence = network(images, matrices, low, high)
    assert depth.shape == confidence.shape == (2, 1, 64, 96)
    ends = low.reshape(2, 1, 1, 1), high.reshape(2, 1, 1, 1)
    assert (depth >= ends[0] * 0.9999).all() and (depth <= ends[1] * 1.0001).all()
    assert (confidence > 0).all() and (confidence < 1).all()
    network.double()
    try:
        both = network(images.double(), matrices, low.double(), high.double())
        order = [0, 3, 1, 2]
        for k in range(2):
            item = slice(k, k + 1)
            alone = network(
                images[item, order].double(),
                [each[item, order] for each in matrices],
                low[item].double(),
                high[item].double(),
            )
            torch.testing.assert_close(alone.depth, both.depth[item])
    finally:
        network.float()


def test_other_sizes_and_a_single_view_are_refused(network: IterMVS):
    images, matrices, low, high = problem_of(2)
    with pytest.raises(ValueError, match="multiples of 32, got 64x80"):
        network(images[..., :80], matrices, low, high)
    with pytest.raises(ValueError, match=r"at least one source view, got 1 view"):
        network(images[:, :1], [each[:, :1] for each in matrices], low, high)


def loss_terms(states: int = 3) -> Dict[str, Any]:
    """Random arguments of the loss in double precision, whose states differ from the truth by few bins."""
    generator = torch.Generator().manual_seed(8)
    size, truth_size = (2, 1, 2, 3), (2, 1, 8, 12)
    low, high = torch.tensor([2.0, 3.0]).double(), torch.tensor([8.0, 9.0]).double()
    depth_range = DepthRange.between(low, high)
    truth = depth_range.depth(torch.rand(truth_size, generator=generator).double())
    near = depth_range.normalized(truth[..., ::4, ::4])
    made = []
    for _ in range(states):
        noise = torch.randn(size, generator=generator).double()
        normalized = (near + 0.004 * noise).clamp(0.001, 0.999).requires_grad_()
        probabilities = torch.rand(2, 256, 2, 3, generator=generator).double().softmax(1)
        peak = (255 * near + 3.0 * noise).round().clamp(0, 255).long()[:, 0]
        made.append(State(torch.zeros(1), probabilities.requires_grad_(), normalized, peak))
    return {
        "depth": (truth * 1.03).requires_grad_(),
        "depth_coarse": (truth[..., ::4, ::4] * 0.9).requires_grad_(),
        "states": made,
        "confidence_logits": [torch.randn(size, generator=generator).double().requires_grad_() for _ in made],
        "depth_range": depth_range,
        "truth": truth,
        "mask": torch.rand(truth_size, generator=generator) > 0.3,
    }


@pytest.mark.parametrize("regress", [False, True])
def test_loss_against_loops(regress: bool):
    terms = loss_terms()
    low, high = (1.0 / terms["depth_range"].nearest).flatten(), (1.0 / terms["depth_range"].farthest).flatten()

    def m(depth: float, item: int) -> float:
        far = 1.0 / float(high[item])
        return (1.0 / (depth + 1e-5) - far) / (1.0 / float(low[item]) - far)

    def at(name_or_map: Any, item: int, i: int, j: int) -> float:
        return float((terms[name_or_map] if isinstance(name_or_map, str) else name_or_map)[item, 0, i, j])

    def mean(values: List[float]) -> float:
        return sum(values) / len(values)

    fine = [(b, i, j) for b in range(2) for i in range(8) for j in range(12) if terms["mask"][b, 0, i, j]]
    coarse = [(b, i // 4, j // 4) for b, i, j in fine if i % 4 == 0 and j % 4 == 0]
    goal = {pixel: m(at("truth", pixel[0], 4 * pixel[1], 4 * pixel[2]), pixel[0]) for pixel in coarse}
    count = len(terms["states"])
    total = DECAY**count * 256 * mean([abs(m(at("depth_coarse", *p), p[0]) - goal[p]) for p in coarse])
    used = 0
    for k, (state, logit) in enumerate(zip(terms["states"], terms["confidence_logits"], strict=True)):
        bins = {p: math.floor(255 * min(max(goal[p], 0.0), 1.0)) for p in coarse}
        part = mean([-math.log(max(float(state.probabilities[p[0], bins[p], p[1], p[2]]), 1e-5)) for p in coarse])
        if regress:
            off = {p: abs(m(1.0 / float(_inverse(terms, state, p)), p[0]) - goal[p]) for p in coarse}
            near = [off[p] for p in coarse if abs(bins[p] - int(state.peak[p])) <= 4]
            used += len(near)
            part += 256 * mean(near) if near else 0.0
            for p in coarse:
                s = 1.0 / (1.0 + math.exp(-at(logit, *p)))
                part -= math.log(s if off[p] < RIGHT else 1.0 - s) / len(coarse)
        total += DECAY ** (count - 1 - k) * part
    total += 256 * mean([abs(m(at("depth", *p), p[0]) - m(at("truth", *p), p[0])) for p in fine])
    assert not regress or 0 < used < count * len(coarse)
    assert float(training_loss(**terms, regress=regress)) == pytest.approx(total, rel=1e-9)


def _inverse(terms: Dict[str, Any], state: State, pixel: Tuple[int, int, int]) -> float:
    depths = terms["depth_range"].depth(state.normalized)
    return 1.0 / float(depths[pixel[0], 0, pixel[1], pixel[2]])


def test_gradient_of_the_loss():
    terms = loss_terms(1)
    leaves = [terms["depth"], terms["depth_coarse"], *terms["confidence_logits"]]
    leaves += [leaf for state in terms["states"] for leaf in (state.normalized, state.probabilities)]
    assert torch.autograd.gradcheck(lambda *_: training_loss(**terms), leaves, eps=1e-7, atol=1e-4)


def test_loss_without_a_likely_bin_near_the_truth_leaves_that_term_out():
    terms = loss_terms()
    terms["states"] = [state._replace(peak=(state.peak + 100) % 256) for state in terms["states"]]
    assert math.isfinite(float(training_loss(**terms)))


def test_training_reaches_all_that_the_network_uses():
    torch.manual_seed(0)
    network = IterMVS()
    images, matrices, low, high = problem_of(3)
    problem = network.problem(network.encode(images), matrices, low, high)
    start = network.start(problem)
    states = list(network.states(problem, start))
    logits = [network.iter_mvs.update.confidence_logit(state.hidden) for state in states]
    truth = torch.full((1, 1, 64, 96), 150.0)
    loss = training_loss(
        network.upsampled(problem, states[-1]).depth,
        network.coarse_depth(problem, start),
        states,
        logits,
        problem.range,
        truth,
        truth > 0,
    )
    loss.backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == ["feature_net.inner3.weight", "feature_net.inner3.bias"]
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_no_gradient_through_samples_and_weights_of_a_step(network: IterMVS):
    images, matrices, low, high = problem_of(3)
    problem = network.problem(network.encode(images), matrices, low, high)
    start = network.start(problem)
    weights, hidden = (value.detach().requires_grad_() for value in (start.view_weights, start.hidden))
    first, second, *_ = network.states(problem, start._replace(view_weights=weights, hidden=hidden))
    goal = second.normalized.sum()
    through = torch.autograd.grad(goal, [first.normalized, weights, hidden], allow_unused=True)
    assert through[0] is None and through[1] is None and through[2].any()


def test_parameters_are_those_of_the_published_file(network: IterMVS):
    state = network.state_dict()
    assert len(state) == 150
    assert sum(parameter.numel() for parameter in network.parameters()) == 343_685
    assert state["feature_net.layer2.0.downsample.conv.weight"].shape == (32, 16, 3, 3)
    assert state["iter_mvs.evaluation.corr_conv1.2.conv3.weight"].shape == (32, 16, 3, 3)
    assert state["iter_mvs.evaluation.pixel_view_weight.conv.0.conv.weight"].shape == (16, 8, 3, 3)
    assert state["iter_mvs.update.gru.convq.weight"].shape == (32, 43, 3, 3)
    assert state["iter_mvs.upsample.2.weight"].shape == (144, 64, 1, 1)


@pytest.mark.parametrize("layout", ["authors", "bare", "safetensors"])
def test_layouts_of_the_file(tmp_path: Path, network: IterMVS, layout: str):
    state = network.state_dict()
    path = tmp_path / ("weights.safetensors" if layout == "safetensors" else "weights.ckpt")
    if layout == "safetensors":
        pytest.importorskip("safetensors.torch", reason="needs the extra 'priors'").save_file(state, path)
    else:
        parallel = {f"module.{name}": value for name, value in state.items()}
        torch.save({"model": parallel, "optimizer": {}, "epoch": 15} if layout == "authors" else state, path)
    before = torch.get_rng_state()
    loaded = load_itermvs(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_files_that_do_not_fit_are_refused(tmp_path: Path, network: IterMVS):
    path = tmp_path / "weights.ckpt"

    def save(content: Any) -> Path:
        torch.save(content, path)
        return path

    state = network.state_dict()
    with pytest.raises(
        CheckpointMismatchError, match=r"weights.ckpt: .*(?s:.*)missing \(1\):\n    iter_mvs.upsample.2"
    ):
        load_itermvs(save({"model": {name: v for name, v in state.items() if name != "iter_mvs.upsample.2.weight"}}))
    with pytest.raises(CheckpointMismatchError, match=r"unexpected \(1\):\n    iter_mvs.extra"):
        load_itermvs(save({**state, "iter_mvs.extra": torch.zeros(1)}))
    with pytest.raises(CheckpointMismatchError, match=r"upsample.2.weight: expected \(144, 64, 1, 1\), found \(1,\)"):
        load_itermvs(save({**state, "iter_mvs.upsample.2.weight": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"expected weights of IterMVS \(feature_net.\*.*found backbone.weight"):
        load_itermvs(save({"model": {"module.backbone.weight": torch.zeros(1)}}))
    with pytest.raises(ValueError, match="found nothing"):
        load_itermvs(save({}))
    with pytest.raises(ValueError, match=r"weights.ckpt: expected .*, found a damaged file"):
        path.write_bytes(b"damaged")
        load_itermvs(path)
    with pytest.raises(FileNotFoundError, match="absent.ckpt"):
        load_itermvs(tmp_path / "absent.ckpt")


def test_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path))
    with pytest.raises(WeightsNotFoundError) as error:
        find_itermvs(None, FLAG)
    text = str(error.value)
    assert "itermvs_blendedmvs.safetensors" in text.splitlines()[0] and f"{FLAG} PATH" in text
    assert "https://github.com/FangjinhuaWang/IterMVS" in text and "model_000015.ckpt" in text
    (tmp_path / "model_000015.ckpt").touch()
    assert find_itermvs(None, FLAG) == tmp_path / "model_000015.ckpt"
    (tmp_path / "itermvs_blendedmvs.safetensors").touch()
    assert find_itermvs(None, FLAG) == find_itermvs(tmp_path, FLAG) == tmp_path / "itermvs_blendedmvs.safetensors"
    assert find_itermvs(tmp_path / "model_000015.ckpt", FLAG) == tmp_path / "model_000015.ckpt"
    with pytest.raises(WeightsNotFoundError, match=f"{FLAG} .*absent.ckpt: does not exist"):
        find_itermvs(tmp_path / "absent.ckpt", FLAG)

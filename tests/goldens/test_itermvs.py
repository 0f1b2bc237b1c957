"""IterMVS' reference vectors through the product's network with the published weights, its loss and the filter.

Names of files, sizes, numbers of views and batch sizes are taken from the folder; another one may hold others. Scenes
are the files NAME_*.npz; their filter, where there is one, is filter_NAME.npz.

Tolerances are those of the vectors' README at least, which come of the spread of its own scenes. Where the numbers of
another folder are larger or worse conditioned, float32's error in them counts: of the stored precisions where there
are two, else of the product's own two, of which the one in float64 is held to the reference's to ten digits.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import pytest
import torch
from golden_arrays import LEFT_OUT, NOISE, SHIPPED, GoldenFile, reference_folder
from torch import Tensor

from fewshot_ns.data.stereo.consistency import consistent_views, fuse, reproject
from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.pretrained.itermvs.features import Features, enlarged
from fewshot_ns.pretrained.itermvs.geometry import LEVELS, projections, world_to_cameras
from fewshot_ns.pretrained.itermvs.loss import training_loss
from fewshot_ns.pretrained.itermvs.matching import weighted_mean
from fewshot_ns.pretrained.itermvs.network import STEPS, UPSAMPLING, Estimate, IterMVS, Problem, Start, State
from fewshot_ns.pretrained.itermvs.updates import OFFSETS, read_out, step_samples
from fewshot_ns.pretrained.itermvs.weights import find_itermvs, load_itermvs
from fewshot_ns.pretrained.weights import WeightsNotFoundError

pytestmark = pytest.mark.goldens

FILTER = "filter_"
MAX_FLIPS = 0.005
"""Share of pixels whose likeliest bin may be another one by rounding; the depth around them then differs, too."""
QUANTILE = 0.98
"""Share of an array that has to be within the tolerance all the same where some bins are others."""
MOST = 10.0
"""How many times the README's tolerance is the most that float32's error may widen it to."""
PIXEL_ERROR, DEPTH_ERROR = 1.0, 0.01
"""Thresholds of the stored filter."""
PRECISIONS = (torch.float32, torch.float64)
Load = Callable[[str], GoldenFile]


def file_names() -> List[str]:
    """Files of the folder without .npz; of the shipped one also those that it leaves out, which are skipped."""
    folder = reference_folder()
    names = [path.stem for path in (folder / "itermvs").glob("*.npz")]
    if folder == SHIPPED:
        names += [Path(name).stem for name in LEFT_OUT if name.startswith("itermvs/")]
    return sorted(names)


SCENES = [name for name in file_names() if not name.startswith(FILTER)]
FILTERS = [name for name in file_names() if name.startswith(FILTER)]


def scenes_with(array: str) -> List[str]:
    """Scenes that have an array, or whose file is absent."""
    paths = {name: reference_folder() / "itermvs" / f"{name}.npz" for name in SCENES}
    return [name for name, path in paths.items() if not path.is_file() or array in np.load(path).files]


class Run(NamedTuple):
    """Everything that the network makes of a scene file."""

    features: Features
    problem: Problem
    start: Start
    states: List[State]
    logits: List[Tensor]
    estimate: Estimate


Runs = Callable[[GoldenFile], Tuple[Run, Run]]


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, skip_unread: Callable[[str], None]) -> IterMVS:
    """The network with the published weights, float32."""
    try:
        path = find_itermvs(request.getfixturevalue("weights_dir"), "--weights")
    except (pytest.skip.Exception, WeightsNotFoundError) as error:
        skip_unread(str(error))
        raise
    return load_itermvs(path)


def inputs(golden: GoldenFile, dtype: torch.dtype) -> Any:
    """Images, cameras and range as the network takes them, from the stored float32 numbers."""
    images = golden["images_u8"].astype(np.float32) * np.float32(2) / np.float32(255) - np.float32(1)
    cameras = [torch.from_numpy(golden[f"proj{level}"]).to(dtype) for level in LEVELS]
    ends = [torch.from_numpy(golden[name]).to(dtype) for name in ("depth_min", "depth_max")]
    return torch.from_numpy(images).movedim(-1, 2).to(dtype), cameras, *ends


@torch.no_grad()
def run_network(network: IterMVS, golden: GoldenFile, dtype: torch.dtype) -> Run:
    images, cameras, depth_min, depth_max = inputs(golden, dtype)
    network = network.to(dtype)
    try:
        features = network.encode(images)
        problem = network.problem(features, cameras, depth_min, depth_max)
        start = network.start(problem)
        states = list(network.states(problem, start))
        logits = [network.iter_mvs.update.confidence_logit(state.hidden) for state in states]
        # By the one call that the product makes, which has to be the same.
        estimate = network(images, cameras, depth_min, depth_max)
        return Run(features, problem, start, states, logits, estimate)
    finally:
        network.float()


@pytest.fixture(scope="module")
def run(network: IterMVS) -> Callable[..., Run]:
    """Function (file, dtype = float32) -> run, made once."""
    made: dict = {}

    def find(golden: GoldenFile, dtype: torch.dtype = torch.float32) -> Run:
        if (id(golden), dtype) not in made:
            made[id(golden), dtype] = run_network(network, golden, dtype)
        return made[id(golden), dtype]

    return find


@pytest.fixture(scope="module")
def runs(run: Callable[..., Run]) -> Runs:
    """Function (file) -> runs in float32 and in float64."""
    return lambda golden: (run(golden), run(golden, torch.float64))


def tensor(golden: GoldenFile, name: str) -> Tensor:
    return torch.from_numpy(golden[name])


def widened(value: Tensor, double: Tensor, share: float, atol: float, rtol: float) -> Dict[str, float]:
    """Tolerances, but `NOISE` times the error of float32 where that is more, up to `MOST` times what they were.

    Args:
        value: in float32.
        double: the same in float64.
        share: of the entries that the error is taken of, the smallest first.
        atol: absolute tolerance, or 0 for a relative one alone.
        rtol: relative tolerance.
    """
    error = (value.double() - double).abs().flatten()
    if atol == 0.0:
        error = error / double.abs().flatten().clamp_min(torch.finfo(torch.float32).tiny)
    # As `torch.quantile`, which takes no large tensors.
    noise = NOISE * float(error.sort().values[round(share * (error.numel() - 1))])
    if atol == 0.0:
        return {"atol": 0.0, "rtol": min(max(rtol, noise), MOST * rtol)}
    return {"atol": min(max(atol, noise), MOST * atol), "rtol": rtol}


def close(
    value: Tensor, golden: GoldenFile, name: str, double: Optional[Tensor] = None, atol: float = 0.0, rtol: float = 0.0
) -> None:
    """Compares all entries, of which `double` is what float64 makes of them, if that is to count."""
    expected = golden[name]
    assert value.shape == expected.shape, name
    within = {"atol": atol, "rtol": rtol}
    if double is not None:
        within = widened(value, double, 1.0, atol, rtol)
    np.testing.assert_allclose(value.numpy(), expected, within["rtol"], within["atol"], err_msg=name)


def flips(golden: GoldenFile, states: List[State], last: int) -> float:
    """Largest share of pixels whose likeliest bin is another one, of the states up to one; below `MAX_FLIPS`."""
    shares = [float((states[k].peak.numpy() != golden[f"argmax_{k}"]).mean()) for k in range(last + 1)]
    assert max(shares) <= MAX_FLIPS, shares
    return max(shares)


def steady(single: List[State], double: List[State], last: int) -> float:
    """Share of the entries that tell of float32's error, of the states up to one: less than all where float32 itself
    takes other bins than float64, by which the error of a pixel is that of a whole bin."""
    same = all(bool((single[k].peak == double[k].peak).all()) for k in range(last + 1))
    return 1.0 if same else QUANTILE


@contextmanager
def in_double(network: IterMVS) -> Iterator[IterMVS]:
    """The network in float64."""
    network.double()
    try:
        yield network
    finally:
        network.float()


def close_but_for_flips(
    value: Tensor,
    golden: GoldenFile,
    name: str,
    flipped: float,
    double: Optional[Tensor] = None,
    share: float = 1.0,
    atol: float = 0.0,
    rtol: float = 0.0,
) -> None:
    """Compares all entries, or, where bins are others, all but a few.

    Args:
        value: in float32.
        golden: file with the array.
        name: of the array.
        flipped: share of the pixels whose bins are others.
        double: as in `close`; None: the stored one.
        share: of `steady`.
        atol: absolute tolerance, or 0 for a relative one alone.
        rtol: relative tolerance.
    """
    within = {"atol": atol, "rtol": rtol}
    if double is not None:
        within = widened(value, double, share, atol, rtol)
    elif f"{name}_f64" in golden:
        within = widened(tensor(golden, name), tensor(golden, f"{name}_f64"), share, atol, rtol)
    expected = golden[name]
    assert value.shape == expected.shape, name
    if flipped == 0.0:
        return np.testing.assert_allclose(value.numpy(), expected, within["rtol"], within["atol"], err_msg=name)
    near = np.isclose(value.numpy(), expected, rtol=within["rtol"], atol=within["atol"])
    assert near.mean() >= QUANTILE, (name, near.mean())


def sub(value: Tensor) -> Tensor:
    """Every 4th pixel from the first."""
    return value[..., ::4, ::4]


def test_folder_has_a_scene() -> None:
    assert SCENES


@pytest.mark.parametrize("name", SCENES)
def test_cameras(arrays: Load, name: str) -> None:
    golden = arrays(name)
    poses, intrinsics = tensor(golden, "c2w_opengl"), tensor(golden, "intrinsics")
    close(world_to_cameras(poses[..., :3, :]), golden, "w2c_opencv", atol=1e-9, rtol=1e-9)
    for level in LEVELS:
        expected = golden[f"proj{level}"]
        found = projections(poses[..., :3, :], intrinsics, level).float().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", SCENES)
def test_features(arrays: Load, runs: Runs, name: str) -> None:
    golden = arrays(name)
    found, exact = runs(golden)
    for level, maps, double in zip(LEVELS, found.features, exact.features, strict=True):
        close(maps, golden, f"feat{level}", double, atol=3e-4)


@pytest.mark.parametrize("name", SCENES)
def test_initialisation(arrays: Load, network: IterMVS, runs: Runs, name: str) -> None:
    golden = arrays(name)
    start, exact = (each.start for each in runs(golden))
    close(start.hypotheses[..., 0, 0], golden, "hyp", rtol=5e-6)
    close(start.correlation, golden, "gcorr_init", exact.correlation, atol=4e-3)
    close(start.view_weights, golden, "vw3", exact.view_weights, atol=5e-5)
    close(enlarged(start.view_weights, 2), golden, "vw2", enlarged(exact.view_weights, 2), atol=5e-5)
    close(start.scores, golden, "corr_init", exact.scores, atol=2.5e-3)
    close(start.hidden, golden, "hidden_0", exact.hidden, atol=1e-3)
    coarse, double = (network.coarse_depth(each.problem, each.start) for each in runs(golden))
    close(coarse, golden, "depth_coarse", double, rtol=5e-6)


@pytest.mark.parametrize("name", SCENES)
@torch.no_grad()
def test_states(arrays: Load, network: IterMVS, runs: Runs, name: str) -> None:
    """All steps in a row, from the images."""
    golden = arrays(name)
    found, exact = runs(golden)
    states, doubles = found.states, exact.states
    for number, (state, double) in enumerate(zip(states, doubles, strict=True)):
        before = 0.0 if number == 0 else flips(golden, states, number - 1)
        now = flips(golden, states, number)
        then = 1.0 if number == 0 else steady(states, doubles, number - 1)
        if f"hidden_{number}" in golden:
            close_but_for_flips(state.hidden, golden, f"hidden_{number}", before, double.hidden, then, atol=1e-3)
        if f"prob_{number}_sub" in golden:
            parts = sub(state.probabilities), sub(double.probabilities)
            close_but_for_flips(parts[0], golden, f"prob_{number}_sub", before, parts[1], then, atol=1e-4)
        at_peak = steady(states, doubles, number)
        close_but_for_flips(state.normalized, golden, f"nd_{number}", now, None, at_peak, atol=1e-5)
        confidences = [torch.sigmoid(each.logits[number]) for each in (found, exact)]
        close_but_for_flips(confidences[0], golden, f"conf_{number}", before, confidences[1], then, atol=7e-5)
        if f"corr_{number}" in golden:
            scores = network.scores(found.problem, weights_of(found), states[number - 1].normalized)
            with in_double(network):
                close_to = network.scores(exact.problem, weights_of(exact), doubles[number - 1].normalized)
            close_but_for_flips(scores, golden, f"corr_{number}", before, close_to, then, atol=2.5e-3)
    assert len(states) == STEPS + 1


def weights_of(found: Run) -> Tensor:
    """The weights of the views at the size of the states."""
    return enlarged(found.start.view_weights, 2)


@pytest.mark.parametrize("name", SCENES)
@torch.no_grad()
def test_samples_and_correlations_of_the_first_step(arrays: Load, network: IterMVS, name: str) -> None:
    golden = arrays(name)
    stored = [[each.to(dtype) for each in (tensor(golden, "nd_0"), tensor(golden, "vw2"))] for dtype in PRECISIONS]
    problems = [stored_problem(golden, dtype) for dtype in PRECISIONS]
    for level in LEVELS:
        found = []
        for problem, (normalized, weights) in zip(problems, stored, strict=True):
            depths = problem.range.depth(step_samples(normalized, level))
            assert depths.shape[1] == len(OFFSETS[level])
            found.append((depths, weighted_mean(network.correlations(problem, level, depths), weights)))
        (depths, correlation), (double_depths, double) = found
        close(depths, golden, f"samples_1_l{level}", double_depths, rtol=5e-6)
        close(correlation, golden, f"gcorr_1_l{level}", double, atol=4e-3)


@pytest.mark.parametrize("name", SCENES)
@torch.no_grad()
def test_result(arrays: Load, network: IterMVS, runs: Runs, name: str) -> None:
    golden = arrays(name)
    found, exact = runs(golden)
    weights = sub(network.upsampling_weights(found.problem))
    with in_double(network):
        close(weights, golden, "upw_sub", sub(network.upsampling_weights(exact.problem)), atol=1e-5)
    last = len(found.states) - 1
    flipped, share = flips(golden, found.states, last), steady(found.states, exact.states, last)
    close_but_for_flips(found.estimate.depth, golden, "depth_up", flipped, None, share, rtol=1e-5)
    close_but_for_flips(found.estimate.confidence, golden, "conf_up", flipped, None, share, atol=7e-5)


@pytest.mark.parametrize("name", SCENES)
def test_float64(arrays: Load, run: Callable[..., Run], name: str) -> None:
    golden = arrays(name)
    found = run(golden, torch.float64)
    for number, state in enumerate(found.states):
        close(state.normalized, golden, f"nd_{number}_f64", rtol=1e-10, atol=1e-10)
    close(found.estimate.depth, golden, "depth_up_f64", rtol=1e-10)
    close(found.estimate.confidence, golden, "conf_up_f64", rtol=1e-10, atol=1e-10)


def stored_problem(golden: GoldenFile, dtype: torch.dtype = torch.float32) -> Problem:
    """What a step looks at, from the stored features."""
    features = Features(*(tensor(golden, f"feat{level}").to(dtype) for level in LEVELS))
    return IterMVS().problem(features, *inputs(golden, dtype)[1:])


class Stepped(NamedTuple):
    """What a step makes of a state."""

    scores: Tensor
    state: State
    logit: Tensor


@torch.no_grad()
def stepped(network: IterMVS, golden: GoldenFile, hidden: str, normalized: str) -> Tuple[Stepped, Stepped]:
    """One step from stored arrays, in float32 and in float64."""
    made = []
    for dtype in PRECISIONS:
        problem, weights = stored_problem(golden, dtype), tensor(golden, "vw2").to(dtype)
        before = [tensor(golden, name).to(dtype) for name in (hidden, normalized)]
        network.to(dtype)
        try:
            state = network.step(problem, weights, *before)
            logit = network.iter_mvs.update.confidence_logit(state.hidden)
            made.append(Stepped(network.scores(problem, weights, before[1]), state, logit))
        finally:
            network.float()
    return made[0], made[1]


@pytest.mark.parametrize("name", SCENES)
def test_single_steps(arrays: Load, network: IterMVS, name: str) -> None:
    """Each step whose start and end are stored, from the stored state before it."""
    golden = arrays(name)
    steps = [k for k in range(1, STEPS + 1) if f"corr_{k}" in golden and f"hidden_{k - 1}" in golden]
    assert steps
    for number in steps:
        found, exact = stepped(network, golden, f"hidden_{number - 1}", f"nd_{number - 1}")
        close(found.scores, golden, f"corr_{number}", exact.scores, atol=1e-3)
        close(found.state.hidden, golden, f"hidden_{number}", exact.state.hidden, atol=1e-4)
        flipped = float((found.state.peak.numpy() != golden[f"argmax_{number}"]).mean())
        assert flipped <= MAX_FLIPS
        share = steady([found.state], [exact.state], 0)
        double = exact.state.normalized
        close_but_for_flips(found.state.normalized, golden, f"nd_{number}", flipped, double, share, atol=2e-6)


@pytest.mark.parametrize("name", scenes_with("ramp_nd"))
def test_step_from_a_ramp(arrays: Load, network: IterMVS, name: str) -> None:
    """Samples beyond both ends of the range."""
    golden = arrays(name)
    normalized = tensor(golden, "ramp_nd")
    expected = torch.linspace(0.0, 1.0, normalized.shape[-1]).expand_as(normalized)
    torch.testing.assert_close(normalized, expected, rtol=0, atol=1e-6)
    found, exact = stepped(network, golden, "hidden_0", "ramp_nd")
    close(found.scores, golden, "ramp_corr", exact.scores, atol=1e-3)
    close(found.state.hidden, golden, "ramp_hidden", exact.state.hidden, atol=1e-4)
    flipped, share = flipped_from(found.state, golden, "ramp_nd_out"), steady([found.state], [exact.state], 0)
    double = exact.state.normalized
    close_but_for_flips(found.state.normalized, golden, "ramp_nd_out", flipped, double, share, atol=2e-6)
    close(torch.sigmoid(found.logit), golden, "ramp_conf", torch.sigmoid(exact.logit), atol=7e-5)


def flipped_from(state: State, golden: GoldenFile, name: str) -> float:
    """Share of pixels whose estimate is off by the size of a bin, where the likeliest bin itself is not stored."""
    share = float((np.abs(state.normalized.numpy() - golden[name]) > 1e-3).mean())
    assert share <= MAX_FLIPS
    return share


@pytest.mark.parametrize("name", SCENES)
def test_read_out(arrays: Load, network: IterMVS, name: str) -> None:
    golden = arrays(name)
    cases = [(f"hidden_{k}", f"nd_{k}", f"argmax_{k}") for k in range(STEPS + 1) if f"hidden_{k}" in golden]
    if "ro_hidden" in golden:
        cases.append(("ro_hidden", "ro_nd", "ro_argmax"))
    for hidden, normalized, peak in cases:
        with torch.no_grad():
            reading = read_out(network.iter_mvs.update.probabilities(tensor(golden, hidden)))
            with in_double(network):
                exact = read_out(network.iter_mvs.update.probabilities(tensor(golden, hidden).double()))
        flipped = float((reading.peak.numpy() != golden[peak]).mean())
        assert flipped <= MAX_FLIPS, peak
        share = 1.0 if bool((reading.peak == exact.peak).all()) else QUANTILE
        close_but_for_flips(reading.normalized, golden, normalized, flipped, exact.normalized, share, atol=1e-6)


@pytest.mark.parametrize("name", scenes_with("depth_gt"))
def test_loss(arrays: Load, network: IterMVS, run: Callable[[GoldenFile], Run], name: str) -> None:
    golden = arrays(name)
    truth, found = tensor(golden, "depth_gt"), run(golden)
    low, high = (tensor(golden, key).reshape(-1, 1, 1, 1) for key in ("depth_min", "depth_max"))
    mask = (truth >= low) & (truth <= high)
    coarse = network.coarse_depth(found.problem, found.start)
    assert coarse.shape[-1] * UPSAMPLING == truth.shape[-1]
    # A bin that flips by rounding moves the mean a little.
    tolerance = 1e-5 if flips(golden, found.states, STEPS) == 0.0 else 1e-3
    for kind, regress in (("loss_plain", False), ("loss_regress", True)):
        loss = training_loss(
            found.estimate.depth, coarse, found.states, found.logits, found.problem.range, truth, mask, regress
        )
        close(loss, golden, kind, rtol=tolerance)


def filter_views(golden: GoldenFile) -> List[StereoView]:
    """The cameras of a filter file, whose pixel centres are integers."""
    count, height, width = golden["depth"].shape
    poses = torch.linalg.inv(tensor(golden, "w2c_opencv")) * torch.tensor([1.0, -1.0, -1.0, 1.0]).double()
    matrices = tensor(golden, "K")
    fields = [matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 2] + 0.5, matrices[:, 1, 2] + 0.5]
    intrinsics = torch.stack(fields, dim=-1).float()
    image, mask = torch.zeros(height, width, 3), torch.ones(height, width, dtype=torch.bool)
    return [StereoView(image, poses[k, :3].float(), intrinsics[k], 1.0, 2.0, mask, f"view {k}") for k in range(count)]


@pytest.mark.parametrize("name", FILTERS)
def test_filter(arrays: Load, name: str) -> None:
    golden = arrays(name)
    views, depths = filter_views(golden), list(tensor(golden, "depth"))
    assert not golden["pair_mask"][range(len(views)), range(len(views))].any()
    for index, reference in enumerate(views):
        others = [k for k in range(len(views)) if k != index]
        found = consistent_views(
            reference, depths[index], [views[k] for k in others], [depths[k] for k in others], PIXEL_ERROR, DEPTH_ERROR
        )
        expected = golden["pair_mask"][index][others]
        assert ((found.masks.numpy() != expected).mean((1, 2)) <= 0.005).all()
        same = found.count.numpy() == golden["count"][index]
        assert same.mean() >= 0.99
        relative = np.abs(fuse(depths[index], found).numpy() / golden["depth_fused"][index] - 1.0)[same]
        assert np.quantile(relative, 0.99) < 1e-3 and relative.max() < 2e-2


@pytest.mark.parametrize("name", FILTERS)
def test_reprojection_of_the_first_pair(arrays: Load, name: str) -> None:
    golden = arrays(name)
    views, depths = filter_views(golden), tensor(golden, "depth")
    found = reproject(views[0], depths[0], views[1], depths[1])
    expected, mask = golden["depth_reprojected_0_1"], golden["pair_mask"][0, 1]
    np.testing.assert_array_equal(expected > 0, mask)
    error = np.abs((found.position - 0.5).numpy() - golden["xy_src_0_1"])[mask]
    assert error.max() < 1e-3
    both = mask & found.consistent(PIXEL_ERROR, DEPTH_ERROR).numpy()
    relative = np.abs(found.z_depth.numpy()[both] / expected[both] - 1.0)
    # The fused depth's tolerance, without the halving that comes of the mean of two.
    assert np.quantile(relative, 0.99) < 3e-3 and relative.max() < 3e-2


def of_the_same_views(scene: GoldenFile, golden: GoldenFile) -> bool:
    """Whether a filter file is that of a scene."""
    same_size = scene["images_u8"].shape[1:4] == golden["depth"].shape
    return same_size and np.allclose(scene["w2c_opencv"][0], golden["w2c_opencv"], atol=1e-9)


@pytest.mark.parametrize("name", FILTERS)
def test_depth_and_confidence_that_are_filtered(arrays: Load, network: IterMVS, name: str) -> None:
    """They are the network's, with each view of the scene as the reference."""
    golden = arrays(name)
    depth, confidence = golden["depth"], golden["conf"]
    assert ((confidence >= 0) & (confidence <= 1)).all()
    named = [scene for scene in SCENES if scene.startswith(f"{name.removeprefix(FILTER)}_")]
    (scene,) = [arrays(each) for each in named if of_the_same_views(arrays(each), golden)]
    images, cameras, *ends = inputs(scene, torch.float32)
    for index in range(len(depth)):
        order = [index, *(k for k in range(len(depth)) if k != index)]
        with torch.no_grad():
            found = network(images[:1, order], [each[:1, order] for each in cameras], *(end[:1] for end in ends))
        near = np.isclose(found.depth[0, 0].numpy(), depth[index], rtol=1e-5)
        sure = np.isclose(found.confidence[0, 0].numpy(), confidence[index], atol=7e-5)
        assert near.mean() >= QUANTILE and sure.mean() >= QUANTILE, (near.mean(), sure.mean())


WRONG_LAYERS = {
    "feature_net.conv1": test_features,
    "feature_net.output1": test_features,
    "iter_mvs.evaluation.pixel_view_weight": test_initialisation,
    "iter_mvs.evaluation.corr_conv1": test_states,
    "iter_mvs.update.hidden_init_head": test_initialisation,
    "iter_mvs.update.gru": test_states,
    "iter_mvs.update.depth_head": test_states,
    "iter_mvs.update.confidence_head": test_states,
    "iter_mvs.upsample.2": test_result,
}
"""Parts of the network, and the test that must not let one pass whose first weights are off by 1 %."""


@pytest.mark.parametrize("part", WRONG_LAYERS)
def test_a_wrong_network_fails(arrays: Load, network: IterMVS, part: str) -> None:
    wrong = deepcopy(network)
    weights = next(weight for name, weight in wrong.named_parameters() if name.startswith(part))
    with torch.no_grad():
        weights.mul_(1.01)
    golden = arrays(SCENES[-1])
    made = tuple(run_network(wrong, golden, dtype) for dtype in PRECISIONS)
    with pytest.raises(AssertionError):
        checked(WRONG_LAYERS[part], arrays, wrong, made)


@pytest.mark.parametrize("check", [test_features, test_initialisation])
def test_float32_that_is_worse_than_float32_fails(arrays: Load, network: IterMVS, check: Callable[..., None]) -> None:
    """Weights of half the digits, in float32 alone, whose distance from float64 must not excuse itself."""
    worse, golden = deepcopy(network), arrays(SCENES[-1])
    with torch.no_grad():
        for weights in worse.parameters():
            weights.copy_(weights.half().float())
    made = run_network(worse, golden, torch.float32), run_network(network, golden, torch.float64)
    with pytest.raises(AssertionError):
        checked(check, arrays, network, made)


def checked(check: Callable[..., None], arrays: Load, network: IterMVS, made: Any) -> None:
    """Calls one of the tests here on other runs in both precisions."""
    given = {"arrays": arrays, "network": network, "runs": lambda golden: made, "name": SCENES[-1]}
    check(**{name: given[name] for name in inspect.signature(check).parameters})

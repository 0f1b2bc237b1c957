"""Near and far from the depth that photos confirm: what is found, and where nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.stereo.estimate import StereoConfig, StereoError
from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
from fewshot_ns.pretrained.weights import WeightsNotFoundError
from fewshot_ns.priors.depth import photo_depths as photo_depths_module
from fewshot_ns.priors.depth.bounds import bounds_in_photos, guessed
from fewshot_ns.priors.depth.prior import DepthPriorConfig

FLAG = "--pipeline.depth"
STEREO = StereoConfig(device="cpu")


def dataset_of(bare_capture: Path, **flags: Any) -> FewShotDataset:
    return FewShotDataset(
        FewShotNerfstudioDataParserConfig(data=bare_capture, **flags).setup().get_dataparser_outputs("train")
    )


@pytest.fixture
def true_bounds(make_nerfstudio_scene: Any, tmp_path: Path) -> Callable[[FewShotDataset], List[float]]:
    """Function (training views) -> 0.8 and 1.25 times the quantiles of exact depth, world units."""
    folder = make_nerfstudio_scene(tmp_path / "true", size=(48, 64)) / "depths"

    def compute(dataset: FewShotDataset) -> List[float]:
        depths = [np.asarray(Image.open(folder / path.name)) for path in dataset.image_filenames]
        quantiles = np.quantile(np.concatenate([depth.ravel() for depth in depths]), (0.01, 0.99))
        return (1e-3 * dataset.world_scale * quantiles * (0.8, 1.25)).tolist()

    return compute


def shown(capsys: pytest.CaptureFixture) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Function (share) after whose call stereo confirms nothing but in so many of the rows of each photo."""

    def make(share: float) -> None:
        real = photo_depths_module.stereo_depths

        def partly(config: Any, photos: Any) -> List[Any]:
            found = []
            for depth in real(config, photos):
                valid = depth.valid.clone()
                valid[round(share * len(valid)) :] = False
                found.append(replace(depth, valid=valid))
            return found

        monkeypatch.setattr(photo_depths_module, "stereo_depths", partly)

    return make


def test_near_and_far_hold_what_the_photos_show(
    bare_capture: Path, true_bounds: Any, capsys: pytest.CaptureFixture
) -> None:
    dataset = dataset_of(bare_capture)
    guess = dataset.fewshot.geometry
    assert guessed(dataset) and "(a guess from the cameras)" in shown(capsys)
    found = bounds_in_photos(dataset, STEREO, FLAG)
    expected = true_bounds(dataset)
    assert found is not None and found == pytest.approx(expected, rel=0.05)
    assert guess.near < 0.5 * expected[0] and guess.far > 1.5 * expected[1], "the guess is wider"
    assert dataset.fewshot.geometry == guess
    assert f"near {found[0]:g} and far {found[1]:g} hold what the photos confirm (stereo)" in shown(capsys)
    assert [float(f"{bound:.4g}") for bound in found] == list(found)
    # Where training looks again, within what was found, it finds the same surface.
    narrow = dataset.with_bounds(*found, "photos")
    assert not guessed(narrow) and narrow.fewshot.geometry.near == found[0]
    depths = photo_depths_module.photo_depths(narrow, STEREO, FLAG)
    for view in range(3):
        z_depth = depths.view_depth(view).z_depth
        known = z_depth[z_depth > 0]
        assert depths.valid[view] > 0.3 and found[0] <= known.min() and known.max() <= found[1]


@pytest.mark.parametrize("factors", [(1.0, 0.3), (2.0, 4.0), (0.25, 10.0)], ids=["too near", "late", "wide"])
def test_a_guess_may_be_far_off(bare_capture: Path, true_bounds: Any, factors: Any) -> None:
    dataset = dataset_of(bare_capture)
    guess = dataset.fewshot.geometry
    expected = true_bounds(dataset)
    if factors == (1.0, 0.3):
        assert factors[1] * guess.far < expected[0] / 0.8, "all that the photos show lies beyond"
    other = dataset.with_bounds(factors[0] * guess.near, factors[1] * guess.far, "cameras")
    assert bounds_in_photos(other, STEREO, FLAG) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_where_too_little_is_confirmed_the_guess_stays(
    bare_capture: Path, blind: Callable[[float], None], share: float, capsys: pytest.CaptureFixture
) -> None:
    blind(share)
    dataset = dataset_of(bare_capture)
    assert bounds_in_photos(dataset, STEREO, FLAG) is None
    geometry = dataset.fewshot.geometry
    words = f"near {geometry.near:.4g} and far {geometry.far:.4g} stay a guess from the cameras: the photos do not say"
    assert words in (said := shown(capsys)) and "frame_00001.png" in said and "give the dataparser's --near" in said


def test_photos_that_share_nothing(
    bare_capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(*given: Any) -> Any:
        raise StereoError("nothing in common")

    monkeypatch.setattr(photo_depths_module, "stereo_depths", refuse)
    assert bounds_in_photos(dataset_of(bare_capture), STEREO, FLAG) is None
    assert "where the scene lies, nothing in common; give" in shown(capsys)


def test_what_is_stated_is_no_guess(bare_capture: Path, make_llff_scene: Any, tmp_path: Path) -> None:
    assert dataset_of(bare_capture, far=9.0).fewshot.bounds_from == "flags"
    assert dataset_of(bare_capture, near=1.0, far=9.0, bounds_from_photos=True).fewshot.bounds_from == "photos"
    scene = make_llff_scene(tmp_path / "llff")
    for ray_space in ("ndc", "metric"):
        config = LLFFDataParserConfig(data=scene, ray_space=ray_space)
        dataset = FewShotDataset(config.setup().get_dataparser_outputs("train"))
        assert dataset.fewshot.bounds_from == "scene" and not guessed(dataset)


def test_which_priors_look_for_bounds(
    bare_capture: Path, tiny_nerfstudio_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DepthPriorConfig(enabled=True, loss="cdf", source="stereo", stereo=STEREO)
    for changes in ({"enabled": False}, {"loss": "none"}, {"source": "files"}, {"source": "mono"}):
        assert replace(config, **changes).bounds_finder() is None
    seen: List[Any] = []

    def watched(dataset: FewShotDataset, matching: Any, flag: str, cache: Any, planes: Any) -> Any:
        seen.append((type(matching).__name__, flag, cache, planes))
        return 1.0, 2.0

    monkeypatch.setattr("fewshot_ns.priors.depth.prior.bounds_in_photos", watched)
    planes, cache = FlatRegionConfig(enabled=False), bare_capture / "cache"
    for source in ("stereo", "mvs", "auto"):
        finder = replace(config, source=source, flat_regions=planes, cache_dir=cache).bounds_finder()
        assert finder is not None and finder(dataset_of(bare_capture), FLAG) == (1.0, 2.0)
    names = ["StereoConfig", "MultiViewDepthConfig", "StereoConfig"]
    assert seen == [(name, f"{FLAG}.mvs.weights", cache, planes) for name in names]
    # auto takes the scene's own maps, whose depth is not that of the photos.
    finder = replace(config, source="auto").bounds_finder()
    assert finder is not None and finder(dataset_of(tiny_nerfstudio_scene), FLAG) is None
    assert len(seen) == 3


def test_a_network_without_weights_stops(bare_capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEWSHOT_WEIGHTS", raising=False)
    finder = DepthPriorConfig(enabled=True, source="mvs").bounds_finder()
    assert finder is not None
    with pytest.raises(WeightsNotFoundError, match=r"--pipeline\.depth\.mvs\.weights"):
        finder(dataset_of(bare_capture), FLAG)

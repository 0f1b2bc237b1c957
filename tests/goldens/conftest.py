"""Scenes written from reference vectors and read back through the product's own dataparsers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Callable, Dict, Iterator, Sequence, Set

import cv2
import numpy as np
import pytest
from golden_arrays import GoldenFile, uncompared

from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig

_RAN = pytest.StashKey[Set[str]]()
_DESELECTED = pytest.StashKey[Set[Path]]()


def pytest_configure(config: pytest.Config) -> None:
    """Starts the records that `every_array_is_compared` reads."""
    config.stash.setdefault(_RAN, set())
    config.stash.setdefault(_DESELECTED, set())


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remembers files of tests some of which were not asked for (-k, -m, --deselect)."""
    for item in items:
        item.config.stash.setdefault(_DESELECTED, set()).add(item.path)


def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Remembers the tests whose turn has come, skipped ones included."""
    item.config.stash.setdefault(_RAN, set()).add(item.nodeid)


@pytest.fixture(scope="session")
def loaded_goldens() -> Dict[Path, GoldenFile]:
    """Every file that tests have read, one object each, so that it knows which of its arrays were asked for."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def every_array_is_compared(
    request: pytest.FixtureRequest, goldens_dir: Path, loaded_goldens: Dict[Path, GoldenFile]
) -> Iterator[None]:
    """Fails where the tests of a method have all run, in whatever order, and left an array of its folder unread.

    Where only some of a file's tests were asked for, or run was stopped early, it has nothing to say.
    """
    yield
    config, path = request.config, request.path
    items = [item for item in request.session.items if item.path == path]
    named = {item.originalname for item in items if isinstance(item, pytest.Function)}
    whole = (
        path not in config.stash[_DESELECTED]
        and {name for name in vars(request.module) if name.startswith("test_")} <= named
        and {item.nodeid for item in items} <= config.stash[_RAN]
    )
    missed = uncompared(goldens_dir / path.stem.removeprefix("test_"), loaded_goldens) if whole else []
    if missed:
        pytest.fail(f"{path.name} has compared nothing with: {', '.join(missed)}", pytrace=False)


@pytest.fixture(scope="module")
def skip_unread(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Function (reason) that skips what asks for it, and lets arrays of this file of tests stay unread."""

    def skip(reason: str) -> None:
        request.config.stash[_DESELECTED].add(request.path)
        pytest.skip(reason)

    return skip


@pytest.fixture
def arrays(
    goldens_dir: Path, request: pytest.FixtureRequest, loaded_goldens: Dict[Path, GoldenFile]
) -> Callable[[str], GoldenFile]:
    """Function (name) -> arrays of that file of the method that the file of tests is named after."""
    folder = goldens_dir / request.path.stem.removeprefix("test_")

    def load(name: str) -> GoldenFile:
        path = folder / f"{name}.npz"
        if path not in loaded_goldens:
            loaded_goldens[path] = GoldenFile.load(path)
        return loaded_goldens[path]

    return load


def _noise(size) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def sparsenerf_golden(goldens_dir: Path, loaded_goldens: Dict[Path, GoldenFile]) -> Callable[[str], GoldenFile]:
    """Function (file name) -> arrays of that file of the folder sparsenerf/."""

    def load(name: str) -> GoldenFile:
        path = goldens_dir / "sparsenerf" / name
        if path not in loaded_goldens:
            loaded_goldens[path] = GoldenFile.load(path)
        return loaded_goldens[path]

    return load


@pytest.fixture(scope="session")
def llff_golden(sparsenerf_golden) -> GoldenFile:
    """Arrays of sparsenerf/llff_loader.npz."""
    return sparsenerf_golden("llff_loader.npz")


@pytest.fixture(scope="session")
def dtu_golden(sparsenerf_golden) -> GoldenFile:
    """Arrays of sparsenerf/dtu_loader.npz."""
    return sparsenerf_golden("dtu_loader.npz")


@pytest.fixture(scope="session")
def parse_llff_golden(llff_golden, tmp_path_factory) -> Callable[..., SimpleNamespace]:
    """Function (**flags of llff-data) -> namespace with `train` and `test` DataparserOutputs of the golden scene."""
    scene = tmp_path_factory.mktemp("golden_llff")
    images = scene / f"images_{int(llff_golden['factor'])}"
    images.mkdir()
    np.save(scene / "poses_bounds.npy", llff_golden["poses_bounds"])
    for index in range(len(llff_golden["poses_bounds"])):
        cv2.imwrite(str(images / f"image{index:03d}.png"), _noise(llff_golden["image_hw"]))

    def parse(**flags) -> SimpleNamespace:
        parser = LLFFDataParserConfig(data=scene, images_dir=Path(images.name), **flags).setup()
        outputs = {split: parser.get_dataparser_outputs(split) for split in ("train", "test")}
        return SimpleNamespace(scene=scene, **outputs)

    return parse


@pytest.fixture(scope="session")
def parse_dtu_golden(dtu_golden, tmp_path_factory) -> Callable[..., SimpleNamespace]:
    """Function (**flags of dtu-data) -> namespace with `train` and `test` DataparserOutputs of the golden scan.

    Photos, masks and depth priors are the stored full-size examples where there are any, else noise; the depth prior
    is the stored one for every view. `downscale_factor` is the golden's unless given.
    """
    root = tmp_path_factory.mktemp("golden_dtu")
    scan = root / "Rectified" / "scan1"
    calibration = root / "SampleSet" / "MVS Data" / "Calibration" / "cal18"
    masks, depths = root / "idrmasks" / "scan1", root / "depth_maps" / "scan1"
    for folder in (scan, calibration, masks, depths):
        folder.mkdir(parents=True)
    size = tuple(int(value) for value in dtu_golden["image_hw_full"])
    stored_view = int(dtu_golden["train_index_3"][0])
    stored_masks = dict(zip(dtu_golden["test_index"].tolist(), dtu_golden["mask_full_examples"], strict=False))
    for index, projection in enumerate(dtu_golden["projection"]):
        name = f"rect_{index + 1:03d}_3_r5000"
        image = dtu_golden["image_full_example"] if index == stored_view else _noise(size)
        cv2.imwrite(str(scan / f"{name}.png"), image[..., ::-1])
        cv2.imwrite(str(masks / f"{index:03d}.png"), stored_masks.get(index, np.full(size, 255, np.uint8)))
        cv2.imwrite(str(depths / f"depth_{name}.png"), dtu_golden["depth_full_example"])
        np.savetxt(calibration / f"pos_{index + 1:03d}.txt", projection, fmt="%.9e")

    def parse(**flags) -> SimpleNamespace:
        flags = {"downscale_factor": int(dtu_golden["factor"]), "max_images": len(dtu_golden["projection"]), **flags}
        parser = DTUDataParserConfig(data=scan, calibration_size=(size[0], size[1]), **flags).setup()
        outputs = {split: parser.get_dataparser_outputs(split) for split in ("train", "test")}
        return SimpleNamespace(scan=scan, stored_view=stored_view, **outputs)

    return parse

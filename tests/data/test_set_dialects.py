"""Layouts of many scenes by every dataparser, of sets and of one scene: right to .1 pixel and .1 % of depth, or refused
with a reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from dialect_checks import worst_errors
from dialects import DIALECTS, PARSERS, RIGHT, Written
from scene_dialects import SET_DIALECTS, SET_PARSERS, set_table

from fewshot_ns.data.dataparsers.automatic import CONFIGS, FewShotAutoDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.files.images import read_image
from fewshot_ns.data.multiscene.images import SceneImages

CELLS = [(dialect, parser) for dialect in SET_DIALECTS for parser in SET_PARSERS]
SINGLES = ("llff", "dtu", "idr", "blender", "transforms", "depth-mm", "colmap-bin", "fisheye")
"""Captures of one scene that are given to the dataparsers of sets."""
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """Writes each layout once."""
    found: Dict[str, Written] = {}

    def get(name: str) -> Written:
        if name not in found:
            folder = tmp_path_factory.mktemp(name) / "set"
            folder.mkdir()
            found[name] = {**DIALECTS, **SET_DIALECTS}[name].write(folder)
        return found[name]

    return get


def config_of(parser: str, data: Path, scenes: str = "", **flags: Any) -> Any:
    if parser == "fewshot-data":
        return FewShotAutoDataParserConfig(data=data, many_scenes=True, **flags)
    if parser == "scene-folder-data" and scenes:
        # Sets are read in world space: the dataparser's own default of LLFF.
        space = {"ray_space": "metric"} if scenes == "llff-data" else {}
        flags["parser"] = CONFIGS[scenes](**space)  # type: ignore[call-arg]
    return CONFIGS[parser](data=data, **flags)  # type: ignore[call-arg]


def read(parser: str, capture: Written, scenes: str, **flags: Any) -> List[FewShotDataset]:
    """Both splits of the first scene, as nerfstudio sees it, after all scenes have been opened and all photos of the
    first one have been read as sets are."""
    built = config_of(parser, capture.data, scenes, **flags).setup()
    scene, *_ = [built.open_scene(entry) for entry in built.scene_table("train")]
    images = SceneImages()
    for view in range(len(scene.image_filenames)):
        assert images.image(scene, view).shape[:2] == read_image(scene.image_filenames[view]).shape[:2]
    splits = [FewShotDataset(built.get_dataparser_outputs(split)) for split in ("train", "test")]
    for dataset in splits:
        validate_dataset(dataset)
    return splits


@pytest.mark.parametrize(("dialect", "parser"), CELLS, ids=[f"{dialect}-{parser}" for dialect, parser in CELLS])
def test_sets_are_read_right_or_refused(dialect: str, parser: str, written: Callable[[str], Written]) -> None:
    capture, known = written(dialect), SET_DIALECTS[dialect]
    outcome, (train, test) = known.outcomes.get(parser), known.views
    flags = {"train_indices": train, "test_indices": test, **known.flags}
    if outcome == RIGHT:
        splits = read(parser, capture, known.scenes, **flags)
        pixels_off, depth_off, views = worst_errors(splits, capture)
        assert views == len(train) + len(test) and pixels_off < 0.1 and depth_off < 1e-3
        if dialect == "mvsnet":
            assert all(split.true_depth(place) is not None for split in splits for place in range(len(split)))
        return
    with pytest.raises((FileNotFoundError, ValueError), match=None if outcome is None else re.escape(outcome)) as error:
        read(parser, capture, known.scenes, **flags)
    assert str(capture.data) in str(error.value)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("dialect", list(SET_DIALECTS))
def test_dataparsers_of_one_scene_refuse_sets(dialect: str, parser: str, written: Callable[[str], Written]) -> None:
    """Each says that there are many scenes."""
    capture = written(dialect)
    config: Any = FewShotAutoDataParserConfig() if parser == PARSERS[0] else CONFIGS[parser]()
    config.data = capture.data
    words = "expected one scene, found" if parser == PARSERS[0] else "is a data set of many scenes|holds scenes, as a"
    with pytest.raises((FileNotFoundError, ValueError), match=words) as error:
        config.setup().get_dataparser_outputs("train")
    assert str(capture.data) in str(error.value)


@pytest.mark.parametrize("parser", [parser for parser in SET_PARSERS if parser != "fewshot-data"])
@pytest.mark.parametrize("dialect", SINGLES)
def test_dataparsers_of_sets_refuse_one_scene(dialect: str, parser: str, written: Callable[[str], Written]) -> None:
    """Each says what the folder is instead."""
    capture = written(dialect)
    words = rf"{re.escape(str(capture.data))} is one scene \([a-z-]+-data by "
    with pytest.raises((FileNotFoundError, ValueError), match=words) as error:
        read(parser, capture, "")
    assert str(capture.data) in str(error.value)


def test_the_page_shows_what_is_tested() -> None:
    assert set_table() in DOCUMENT.read_text("utf8"), "write it anew: python tools/dialects_page.py"

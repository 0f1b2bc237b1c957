"""Every dialect by every dataparser: right to .1 pixel and .1 % of depth, or refused with a reason."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from dialect_checks import worst_errors
from dialects import DIALECTS, PARSERS, RIGHT, Written, table

from fewshot_ns.data.dataparsers.automatic import CONFIGS, FewShotAutoDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset

CELLS = [(dialect, parser) for dialect in DIALECTS for parser in PARSERS]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """Writes each dialect once."""
    found: Dict[str, Written] = {}

    def get(name: str) -> Written:
        if name not in found:
            folder = tmp_path_factory.mktemp(name) / "capture"
            folder.mkdir()
            found[name] = DIALECTS[name].write(folder)
        return found[name]

    return get


def read(parser: str, capture: Written) -> List[FewShotDataset]:
    """Both splits as training reads them."""
    config: Any = FewShotAutoDataParserConfig() if parser == PARSERS[0] else CONFIGS[parser]()
    config = replace(config, data=capture.data, **capture.flags)
    built = config.setup()
    splits = [FewShotDataset(built.get_dataparser_outputs(split)) for split in ("train", "test")]
    for dataset in splits:
        validate_dataset(dataset)
    return splits


@pytest.mark.parametrize(("dialect", "parser"), CELLS, ids=[f"{dialect}-{parser}" for dialect, parser in CELLS])
def test_read_right_or_refused(dialect: str, parser: str, written: Callable[[str], Written]) -> None:
    capture, outcome = written(dialect), DIALECTS[dialect].outcomes.get(parser)
    if outcome == RIGHT:
        splits = read(parser, capture)
        pixels_off, depth_off, views = worst_errors(splits, capture)
        assert views == 5 and pixels_off < 0.1 and depth_off < 1e-3
        if capture.depths:
            assert all(splits[0].has_metric_depth(position) for position in range(3))
        return
    with pytest.raises((FileNotFoundError, ValueError), match=None if outcome is None else re.escape(outcome)) as error:
        read(parser, capture)
    assert str(capture.data) in str(error.value)


def test_the_page_shows_what_is_tested() -> None:
    assert table() in DOCUMENT.read_text("utf8"), "write it anew: python tools/dialects_page.py"

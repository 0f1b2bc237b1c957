"""`ns-fewshot retarget` of folders that are no scene."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
from PIL import Image

from fewshot_ns.configs.pixelnerf import pixelnerf_lite
from fewshot_ns.scripts.retarget import RetargetCommand


def test_bare_photos_are_no_set_of_the_run_s_format(tiny_pixelnerf: Callable[..., Any], tmp_path: Path) -> None:
    config: Any = deepcopy(pixelnerf_lite)
    config.pipeline = tiny_pixelnerf()
    bare = tmp_path / "bare"
    bare.mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16)).save(bare / f"{number}.png")
    command = RetargetCommand(tmp_path / "config.yml", tmp_path / "out", data=bare, source_views=(0,))
    with pytest.raises(ValueError, match="found 2 photos, no poses.*`ns-fewshot photo IMAGE`.*`ns-fewshot prepare"):
        command.retargeted(config)

"""nerfstudio's own parser, below ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from fewshot_ns.data.dataparsers.single.nerfstudio_frames import pooled_frames


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cx": None}, "float"),  # TypeError
        ({"frames": []}, "."),
        ({"test_filenames": ["images/none.png"]}, "none.png"),  # RuntimeError
        ({"camera_model": "SQUARE"}, "SQUARE"),  # KeyError
        ({"applied_transform": [[1.0]]}, "."),
    ],
)
def test_what_nerfstudio_raises_names_the_file(tiny_nerfstudio_scene: Path, changes, message: str) -> None:
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = {**json.loads(path.read_text()), **changes}
    with pytest.raises(
        ValueError, match=rf"transforms\.json: expected what nerfstudio's parser reads.*{message}"
    ) as caught:
        pooled_frames(NerfstudioDataParserConfig(downscale_factor=1), meta, path, beside=False)
    assert caught.value.__cause__ is not None

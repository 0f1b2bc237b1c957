"""Photos that are missing, and photos without a pose: LLFF, DTU and Blender."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.llff_rows import _numbered
from fewshot_ns.data.dataparsers.single.multiscale_blender import MultiscaleBlenderDataParserConfig
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata


def parse(config: Any, scene: Path, split: str = "train", **flags: Any) -> Any:
    return config(data=scene, **flags).setup().get_dataparser_outputs(split)


def record_of(outputs: Any) -> FewShotMetadata:
    return get_fewshot_metadata(outputs.metadata)


def said(capsys: pytest.CaptureFixture) -> str:
    return " ".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------- LLFF


def photos_of(scene: Path) -> List[Path]:
    (folder,) = [path for path in scene.iterdir() if path.name.startswith("images")]
    return sorted(folder.iterdir())


def write_model(scene: Path, names: List[str]) -> None:
    """A COLMAP model of these photos, in another order."""
    folder = scene / "sparse" / "0"
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text("1 SIMPLE_PINHOLE 128 96 153.6 64 48\n")
    lines = [f"{7 + number} 1 0 0 0 {number} 0 0 1 {name}\n\n" for number, name in enumerate(reversed(names))]
    (folder / "images.txt").write_text("".join(lines))
    (folder / "points3D.txt").write_text("")


def check_rows(outputs: Any, whole: Any) -> None:
    """Each photo has the camera that it has in the whole scene."""
    views = record_of(whole).image_indices
    for position, view in enumerate(record_of(outputs).image_indices):
        other = views.index(view)
        assert outputs.image_filenames[position].name == whole.image_filenames[other].name
        assert (outputs.cameras.camera_to_worlds[position] == whole.cameras.camera_to_worlds[other]).all()


ALL = {"train_indices": tuple(range(0, 11)), "test_indices": (11,)}


@pytest.mark.parametrize("on_missing", [None, "skip"])
def test_llff_names_of_colmap_tell_which_photos_are_missing(tiny_llff_scene, capsys, on_missing) -> None:
    photos = photos_of(tiny_llff_scene)
    whole = parse(LLFFDataParserConfig, tiny_llff_scene, **ALL)
    write_model(tiny_llff_scene, [photo.name for photo in photos])
    for missing in (1, 8):
        photos[missing].unlink()
    photos[0].with_name("unregistered.png").write_bytes(photos[0].read_bytes())
    outputs = parse(LLFFDataParserConfig, tiny_llff_scene, on_missing=on_missing)
    record = record_of(outputs)
    assert record.left_out == {"frames without a photo": 2, "photos without a pose": 1}
    assert record.test_indices == (0,) and not {1, 8} & {*record.train_indices}
    check_rows(outputs, whole)
    check_rows(parse(LLFFDataParserConfig, tiny_llff_scene, "test", on_missing=on_missing), parse_test(whole))
    assert "of 12 frames, skipped 2 frames without a photo and 1 photos without a pose" in said(capsys)
    with pytest.raises(FileNotFoundError, match="expected the photo of view 8"):
        parse(LLFFDataParserConfig, tiny_llff_scene, train_indices=(3, 8), test_indices=(2,), on_missing=on_missing)
    with pytest.raises(ValueError, match=r"found 12 rows and 11 in .*; COLMAP's model tells which are missing, --on-m"):
        parse(LLFFDataParserConfig, tiny_llff_scene, on_missing="stop")


def parse_test(whole: Any) -> Any:
    return whole


def test_llff_a_scene_of_a_set_stops_at_a_missing_view(tiny_llff_scene) -> None:
    photos = photos_of(tiny_llff_scene)
    write_model(tiny_llff_scene, [photo.name for photo in photos])
    photos[8].unlink()
    with pytest.raises(FileNotFoundError, match="expected the photo of view 8"):
        LLFFDataParserConfig(data=tiny_llff_scene).setup().read_views()
    scene, selection, _ = LLFFDataParserConfig(data=tiny_llff_scene, on_missing="skip").setup().read_views()
    assert selection.test == (0,) and len(scene.images) == 12

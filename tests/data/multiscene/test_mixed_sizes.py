"""Scenes whose photos are of several sizes, for methods that look at source views of one size."""

from __future__ import annotations

from pathlib import Path

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from colmap_models import Lens, write_spheres

from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.multiscene.library import SceneLibrary
from fewshot_ns.data.records.scene import SceneError


def library(folder: Path, *lenses: Lens, **flags: object) -> SceneLibrary:
    write_spheres(folder, lenses, count=6)
    return SceneLibrary(FewShotColmapDataParserConfig(data=folder, num_views=3, **flags).setup())  # type: ignore[arg-type]


def test_photos_of_the_same_proportions_take_the_smallest_size(tmp_path: Path) -> None:
    mixed = library(tmp_path / "mixed", Lens(), Lens(size=(96, 128), focal=120.0))
    scene = mixed.open(mixed.table("train")[0])
    assert set(scene.cameras.height.flatten().tolist()) == {48} and set(scene.cameras.width.flatten().tolist()) == {64}
    assert all(mixed.images.image(scene, view).shape == (48, 64, 3) for view in range(len(scene.image_filenames)))
    alike = library(tmp_path / "alike", Lens())
    expected = alike.open(alike.table("train")[0]).cameras
    for name in ("fx", "fy", "cx", "cy"):
        torch.testing.assert_close(getattr(scene.cameras, name), getattr(expected, name))


def test_upright_photos_among_others_are_named(tmp_path: Path) -> None:
    lenses = Lens(), Lens(), Lens(size=(64, 48))
    mixed = library(tmp_path / "mixed", *lenses)
    with pytest.raises(
        SceneError, match="expected photos of the same proportions, found 64x48 .views .*, 48x64 .views"
    ) as e:
        mixed.open(mixed.table("train")[0])
    # What the message says works.
    words = str(e.value).split("`")[1].split()
    train = tuple(int(word) for word in words[1 : words.index("--test-indices")])
    flags = {"train_indices": train, "test_indices": (int(words[-1]),)}
    parser = FewShotColmapDataParserConfig(data=tmp_path / "mixed", **flags).setup()  # type: ignore[arg-type]
    parser.least_views = 1
    again = SceneLibrary(parser)
    assert len(again.open(again.table("train")[0]).image_filenames) == len(train) + 1

"""Spaces of data: names of one photo, cuts and changes of a point cloud, and matrices that are missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.leakage import without_leakage
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.files.ply_header import count_vertices
from fewshot_ns.data.files.point_cloud import write_ply
from fewshot_ns.data.views.selection import ViewSelection, photos_protocol

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with six photos of their own, and links to it and from it."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        (folder / f"link{number}.png").symlink_to(folder / "images" / f"{number}.png")
        shutil.copy(folder / "images" / f"{number}.png", folder / f"copy{number}.png")
    (folder / "also").symlink_to(folder / "images", target_is_directory=True)
    yield folder


SPELLINGS = ("images/{}.png", "images/../images/{}.png", "also/{}.png", "link{}.png", "images/./../also/{}.png")


def _scene(images: List[Path]) -> SceneFiles:
    count = len(images)
    return SceneFiles(
        images=tuple(images),
        camera_to_worlds=np.tile(np.eye(4)[:3], (count, 1, 1)),
        intrinsics=np.full((count, 4), 0.5),
        protocol=photos_protocol(count, ()),
        geometry=SceneGeometry("metric", 1.0, 2.0),
    )


Names = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([*SPELLINGS, "copy{}.png"])), min_size=1, max_size=4, unique=True
)


@QUICK
@given(train=Names, test=Names)
def test_a_photo_trains_or_is_held_out_however_it_is_spelled(photos: Path, train: List, test: List) -> None:
    names = [*train, *test]
    scene = _scene([photos / spelling.format(number) for number, spelling in names])
    views = tuple(range(len(names)))
    selection = ViewSelection("photos", views[: len(train)], views[len(train) :])

    def one_file(entry: tuple, other: tuple) -> bool:
        return entry[0] == other[0] and (entry[1] == "copy{}.png") == (other[1] == "copy{}.png")

    if any(one_file(entry, other) and entry != other for entry in test for other in train):
        with pytest.raises(ValueError, match="one file under two names"):
            without_leakage(scene, selection, photos)
        return
    # A copy, and one name in both lists, are said.
    found = without_leakage(scene, selection, photos)
    copies = [entry for entry in test if entry[0] in {number for number, _ in train}]
    assert len(found.equal_photos) == len(copies)
    assert len(found.remarks) == bool(copies)


def test_views_that_the_rule_trains_and_tests_on_do_not_count(photos: Path) -> None:
    scene = _scene([photos / "images" / f"{number}.png" for number in range(3)])
    everything = ViewSelection("dtu-all", (0, 1, 2), (0, 1, 2))
    assert without_leakage(scene, everything, photos) is scene
    # What is not there is not of the same file either.
    absent = _scene([photos / "gone1.png", photos / "gone2.png"])
    assert without_leakage(absent, ViewSelection("photos", (0,), (1,)), photos) is absent


@QUICK
@given(data=st.data(), count=st.integers(1, 20))
def test_every_cut_of_a_cloud_is_noticed(tmp_path: Path, data: st.DataObject, count: int) -> None:
    path = tmp_path / "points.ply"
    points = np.random.default_rng(count).normal(size=(count, 3))
    write_ply(path, points, np.full((count, 3), 7, np.uint8))
    whole = path.read_bytes()
    assert count_vertices(path) == count
    # The last byte ends a line, and the one before it is all of a number.
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 3))])
    with pytest.raises(ValueError, match=r"points\.ply: expected"):
        count_vertices(path)
    os.truncate(path, 0)
    with pytest.raises(ValueError, match=r"points\.ply: expected"):
        count_vertices(path)


@QUICK
@given(content=st.binary(max_size=300), starts=st.sampled_from([b"", b"ply\n", b"ply\nelement vertex 3\nend_header\n"]))
def test_bytes_that_are_no_cloud(tmp_path: Path, content: bytes, starts: bytes) -> None:
    path = tmp_path / "points.ply"
    path.write_bytes(starts + content)
    with pytest.raises(ValueError, match=r"points\.ply: expected"):
        count_vertices(path)

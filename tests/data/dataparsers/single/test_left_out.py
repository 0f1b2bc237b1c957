"""Which files beside photos are photos without a pose."""

from pathlib import Path

import pytest

from fewshot_ns.data.dataparsers.single.left_out import photos_without_pose


@pytest.mark.parametrize(
    ("posed", "beside", "count"),
    [
        (("1.png", "2.png"), ("10.png", "25.png"), 2),
        (("photo_000.png",), ("photo_0001.png",), 1),
        (("a.png",), ("b.jpg",), 1),
        (("0005.png",), ("0005_depth.png", "0005.jpg.png", "0005-mask.png", ".0006.png"), 0),
    ],
)
def test_names_that_only_begin_alike(posed: tuple, beside: tuple, count: int, tmp_path: Path) -> None:
    for name in (*posed, *beside):
        (tmp_path / name).touch()
    images = [tmp_path / name for name in posed]
    assert sum(photos_without_pose(images, set(), tmp_path, None).values()) == count
    if count:
        with pytest.raises(ValueError, match="expected a pose of every photo"):
            photos_without_pose(images, set(), tmp_path, "stop")

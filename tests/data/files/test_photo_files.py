"""Names of photos, and the files that belong to them by name."""

from pathlib import Path

import pytest

from fewshot_ns.data.files.photo_files import files_beside, files_of_photos, find_photo, folder_of_maps, photo_names


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_names_are_bare_where_that_tells_photos_apart() -> None:
    root = Path("scene/images")
    names = photo_names([root / "a/1.png", root / "b/1.png", root / "a/2.png", root / "a/3.png", root / "a/3.jpg"])
    assert [name.name for name in names] == ["a/1.png", "b/1.png", "2.png", "a/3.png", "a/3.jpg"]
    assert [name.stem for name in names] == ["a/1", "b/1", "2", "a/3.png", "a/3.jpg"]
    assert names[0].alike == ("b/1.png",) and names[0].file == root / "a/1.png" and names[2].alike == ()
    # In the splits of a layout the same names come again.
    splits = photo_names([Path("train/1.png"), Path("train/2.png"), Path("test/1.png")], (2, 1))
    assert [name.name for name in splits] == ["1.png", "2.png", "1.png"]
    assert photo_names([Path("1.png"), Path("/elsewhere/2.png")])[1].name == "2.png"


def test_the_photo_itself_is_no_map_of_it(tmp_path: Path) -> None:
    touch(tmp_path / "1.png")
    photos = photo_names([tmp_path / "1.png"])
    assert files_of_photos(tmp_path, photos, lambda stem: (stem,), (".png",)).files == (None,)


def test_a_photo_in_the_root_owns_the_bare_name(tmp_path: Path) -> None:
    images, maps = tmp_path / "images", tmp_path / "maps"
    photos = photo_names([images / "1.png", images / "left" / "1.png"])
    touch(maps / "1.npy")
    found = files_of_photos(maps, photos, lambda stem: (stem,), (".npy",))
    assert found.files == (maps / "1.npy", None)
    with pytest.raises(ValueError, match=r"1.npy: expected the map of one photo, found .* 1.png and left/1.png"):
        found.check("map")
    touch(maps / "left" / "1.npy")
    assert files_of_photos(maps, photos, lambda stem: (stem,), (".npy",)).check("map")[1] == maps / "left" / "1.npy"
    assert folder_of_maps(maps / "left" / "1.npy", images / "left" / "1.png") == maps


def test_folders_beside_that_of_the_photos(tmp_path: Path) -> None:
    rgb, depth = tmp_path / "train" / "rgb", tmp_path / "train" / "target_depth"
    images = [rgb / "left" / "1.jpg", rgb / "right" / "1.jpg", rgb / "right" / "2.jpg", rgb / "3.jpg"]
    touch(depth / "left" / "1.png", depth / "right" / "1.png", depth / "2.png", depth / "3.png")
    expected = (depth / "left" / "1.png", depth / "right" / "1.png", depth / "2.png", depth / "3.png")
    assert files_beside(images, "target_depth", lambda stem: f"{stem}.png", "depth map") == expected
    for side in ("left", "right"):
        (depth / side / "1.png").unlink()
    touch(depth / "1.png")
    with pytest.raises(ValueError, match="depth map of one photo, found .* left/1.jpg and right/1.jpg"):
        files_beside(images, "target_depth", lambda stem: f"{stem}.png", "depth map")


@pytest.mark.parametrize(
    "name, found",
    [
        ("frame.0001", "frame.0001.png"),
        ("./r_0", "r_0.png"),
        ("r_1", "r_1.JPG"),
        ("sub\\2", "sub/2.jpg"),
        ("nothing", "nothing.png"),
        ("nothing.0002", "nothing.0002.png"),
        ("nothing.tif", "nothing.tif"),
        ("r_0.jpg", "r_0.jpg"),
    ],
)
def test_photos_without_a_suffix(name: str, found: str, tmp_path: Path) -> None:
    touch(*(tmp_path / file for file in ("frame.0001.png", "r_0.png", "r_1.JPG", "sub/2.jpg")))
    assert find_photo(tmp_path, name) == tmp_path / found
    assert find_photo(tmp_path, "r_0.jpg", other_suffix=True) == tmp_path / "r_0.png"

"""Photos that are missing, and photos without a pose: LLFF, DTU and Blender."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.llff_rows import _numbered
from fewshot_ns.data.dataparsers.single.multiscale_blender import MultiscaleBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.multiscale_conversion import convert_blender
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


def all_views(scene: Path) -> Any:
    return LLFFDataParserConfig(data=scene).setup().outputs_of_views(range(12), "test")


def check_rows(outputs: Any, whole: Any) -> None:
    """Each photo has the camera that it has in the whole scene."""
    views = record_of(whole).image_indices
    for position, view in enumerate(record_of(outputs).image_indices):
        other = views.index(view)
        assert outputs.image_filenames[position].name == whole.image_filenames[other].name
        assert (outputs.cameras.camera_to_worlds[position] == whole.cameras.camera_to_worlds[other]).all()


@pytest.mark.parametrize("on_missing", [None, "skip"])
def test_llff_names_of_colmap_tell_which_photos_are_missing(tiny_llff_scene, capsys, on_missing) -> None:
    photos = photos_of(tiny_llff_scene)
    whole = all_views(tiny_llff_scene)
    write_model(tiny_llff_scene, [photo.name for photo in photos])
    for missing in (1, 8):
        photos[missing].unlink()
    photos[0].with_name("unregistered.png").write_bytes(photos[0].read_bytes())
    outputs = parse(LLFFDataParserConfig, tiny_llff_scene, on_missing=on_missing)
    record = record_of(outputs)
    assert record.left_out == {"frames without a photo": 2, "photos without a pose": 1}
    assert record.test_indices == (0,) and not {1, 8} & {*record.train_indices}
    check_rows(outputs, whole)
    check_rows(parse(LLFFDataParserConfig, tiny_llff_scene, "test", on_missing=on_missing), whole)
    assert "of 12 frames, skipped 2 frames without a photo and 1 photos without a pose" in said(capsys)
    with pytest.raises(FileNotFoundError, match="expected the photo of view 8"):
        parse(LLFFDataParserConfig, tiny_llff_scene, train_indices=(3, 8), test_indices=(2,), on_missing=on_missing)
    with pytest.raises(ValueError, match=r"found 12 rows and 11 in .*; COLMAP's model tells which are missing, --on-m"):
        parse(LLFFDataParserConfig, tiny_llff_scene, on_missing="stop")


def test_llff_a_scene_of_a_set_stops_at_a_missing_view(tiny_llff_scene) -> None:
    photos = photos_of(tiny_llff_scene)
    write_model(tiny_llff_scene, [photo.name for photo in photos])
    photos[8].unlink()
    with pytest.raises(FileNotFoundError, match="expected the photo of view 8"):
        LLFFDataParserConfig(data=tiny_llff_scene).setup().read_views()
    scene, selection, _ = LLFFDataParserConfig(data=tiny_llff_scene, on_missing="skip").setup().read_views()
    assert selection.test == (0,) and len(scene.images) == 12


def test_llff_another_folder_of_photos_tells(tiny_llff_scene) -> None:
    whole = all_views(tiny_llff_scene)
    for photo in photos_of(tiny_llff_scene):
        (tiny_llff_scene / "images").mkdir(exist_ok=True)
        # Full photos often have another suffix.
        (tiny_llff_scene / "images" / photo.name.replace(".png", ".JPG")).write_bytes(photo.read_bytes())
    (tiny_llff_scene / "images_4" / "image000.png").unlink()
    outputs = parse(LLFFDataParserConfig, tiny_llff_scene)
    assert record_of(outputs).left_out == {"frames without a photo": 1} and record_of(outputs).test_indices == (8,)
    check_rows(outputs, whole)


def test_llff_numbers_tell_where_the_user_trusts_them(tiny_llff_scene) -> None:
    whole = all_views(tiny_llff_scene)
    photos = photos_of(tiny_llff_scene)
    photos[5].unlink()
    with pytest.raises(
        ValueError, match=r"12 rows and 11 in .*images_4; numbers in their names tell which .*--on-miss"
    ):
        parse(LLFFDataParserConfig, tiny_llff_scene)
    outputs = parse(LLFFDataParserConfig, tiny_llff_scene, num_views=0, on_missing="skip")
    assert record_of(outputs).train_indices == (1, 2, 3, 4, 6, 7, 9, 10, 11)
    check_rows(outputs, whole)
    # Without the first one nothing says if numbers begin at 0 or at 1.
    photos[0].unlink()
    with pytest.raises(ValueError, match=r"found 12 rows and 10 in .*images_4$"):
        parse(LLFFDataParserConfig, tiny_llff_scene, on_missing="skip")


def test_llff_order_alone_tells_nothing(tiny_llff_scene) -> None:
    photos = photos_of(tiny_llff_scene)
    for number, photo in enumerate(photos):
        photo.rename(photo.with_name(f"{'abcdefghijkl'[number]}.png"))
    (photos[0].parent / "d.png").unlink()
    write_model(tiny_llff_scene, [f"IMG_{number}.JPG" for number in range(12)])
    for on_missing in (None, "skip", "stop"):
        with pytest.raises(ValueError, match=r"expected one row per photo, found 12 rows and 11 in .*images_4$"):
            parse(LLFFDataParserConfig, tiny_llff_scene, on_missing=on_missing)


@given(
    count=st.integers(3, 120),
    first=st.integers(0, 1),
    width=st.sampled_from([0, 3, 4]),
    prefix=st.sampled_from(["", "IMG_", "a1b"]),
    data=st.data(),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_numbers_give_all_names_in_order_or_nothing(count, first, width, prefix, data) -> None:
    stems = [f"{prefix}{number:0{width}d}" for number in range(first, first + count)]
    kept = data.draw(st.sets(st.sampled_from(stems), min_size=1, max_size=count - 1))
    found = _numbered(sorted(kept), count)
    anchor = stems[0] if first == 0 else stems[-1]
    if found is not None:
        assert found == sorted(stems) and anchor in kept
    elif anchor in kept:
        # Neither a leading zero nor a shorter number shows if the others have leading zeros.
        assert all(stem.removeprefix(prefix)[0] != "0" for stem in kept) and len({*map(len, kept)}) == 1


# ---------------------------------------------------------------- DTU


def test_dtu_views_without_a_photo(tiny_dtu_scene, capsys) -> None:
    whole = parse(DTUDataParserConfig, tiny_dtu_scene)
    assert record_of(whole).train_indices == (25, 22, 28)
    for view in (22, 1, 3):
        (tiny_dtu_scene / f"rect_{view + 1:03d}_3_r5000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"rect_\d+_3_r5000\.png: expected the photo of view (1|22)"):
        parse(DTUDataParserConfig, tiny_dtu_scene)
    with pytest.raises(FileNotFoundError, match=r"found no rect_002.*, rect_004.*, rect_023.*--on-missing skip"):
        parse(DTUDataParserConfig, tiny_dtu_scene, on_missing="stop")
    capsys.readouterr()
    outputs = parse(DTUDataParserConfig, tiny_dtu_scene, on_missing="skip")
    record = record_of(outputs)
    assert record.train_indices == (25, 28, 40) and record.left_out == {"frames without a photo": 3}
    assert record.test_indices == tuple(view for view in record_of(whole).test_indices if view != 1)
    assert (outputs.cameras.camera_to_worlds[0] == whole.cameras.camera_to_worlds[0]).all()
    assert (outputs.cameras.camera_to_worlds[1] == whole.cameras.camera_to_worlds[2]).all()
    assert "of 49 frames, skipped 3 frames without a photo" in said(capsys)
    with pytest.raises(ValueError, match=r"--num-views must lie in 2\.\.8"):
        parse(DTUDataParserConfig, tiny_dtu_scene, on_missing="skip", num_views=9)
    # Of a photo that is not in use nothing is said unless the user asks.
    assert (
        record_of(parse(DTUDataParserConfig, tiny_dtu_scene, train_indices=(25, 28), test_indices=(2,))).left_out == {}
    )


# ---------------------------------------------------------------- Blender


def test_blender_frames_without_a_photo(tiny_blender_scene, capsys) -> None:
    flags: Any = {"testskip": 4}
    whole = parse(FewShotBlenderDataParserConfig, tiny_blender_scene, num_views=0, **flags)
    for name in ("train/r_3.png", "train/r_9.png", "test/r_4.png"):
        (tiny_blender_scene / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"train/r_3\.png: expected the photo of view 3"):
        parse(FewShotBlenderDataParserConfig, tiny_blender_scene, num_views=0, **flags)
    with pytest.raises(FileNotFoundError, match=r"19 frames, found no r_3.png, r_9.png, r_4.png; .*--on-missing skip"):
        parse(FewShotBlenderDataParserConfig, tiny_blender_scene, on_missing="stop", **flags)
    capsys.readouterr()
    for split in ("train", "test"):
        outputs = parse(FewShotBlenderDataParserConfig, tiny_blender_scene, split, on_missing="skip", **flags)
        record = record_of(outputs)
        assert record.train_indices == (0, 1, 2, 4, 5, 6, 7, 8) and record.test_indices == (10, 18)
        assert record.left_out == {"frames without a photo": 2}
    assert record.rendered_indices == (14,)
    shown = said(capsys)
    assert "skipped 2 frames without a photo" in shown and "1 test cameras without a photo (rendered" in shown
    outputs = parse(FewShotBlenderDataParserConfig, tiny_blender_scene, num_views=0, on_missing="skip", **flags)
    for position, view in enumerate(record_of(outputs).image_indices):
        assert (outputs.cameras.camera_to_worlds[position] == whole.cameras.camera_to_worlds[view]).all()
    # Indices count frames of the file, with or without a photo; one that the user names has to be there.
    listed: Any = {"train_indices": (0, 9), "test_indices": (0,), "on_missing": "skip"}
    with pytest.raises(FileNotFoundError, match=r"train/r_9\.png: expected the photo of view 9"):
        parse(FewShotBlenderDataParserConfig, tiny_blender_scene, **listed)


def test_multiscale_scenes_have_all_their_photos(tmp_path, tiny_blender_scene) -> None:
    convert_blender(tiny_blender_scene, tmp_path / "scales")
    assert record_of(parse(MultiscaleBlenderDataParserConfig, tmp_path / "scales")).train_indices
    with pytest.raises(ValueError, match="--on-missing is not for multi-scale scenes"):
        parse(MultiscaleBlenderDataParserConfig, tmp_path / "scales", on_missing="skip")

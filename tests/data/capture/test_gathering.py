"""What a folder of photos becomes, and what a second call finds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, Tuple

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import ExifTags, Image

from fewshot_ns.data.capture import photos as module
from fewshot_ns.data.capture.photos import RECORD, Photo, gather_photos, warnings_of


def noise(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(3):
        noise(seed=number).save(tmp_path / "in" / f"IMG_{8 + number}.png")
    return tmp_path / "in"


def states(output: Path) -> Dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in output.iterdir()}


def test_natural_order_and_files_beside_the_photos(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "IMG_9.mov").write_bytes(b"of a live photo")
    (folder / "more").mkdir()
    noise(seed=9).save(folder / "more" / "IMG_1.png")
    photos = gather_photos(folder, tmp_path / "out")
    assert [photo.name for photo in photos] == ["IMG_8.png", "IMG_9.png", "IMG_10.png"]
    assert [photo.source for photo in photos] == [str(folder / photo.name) for photo in photos]


def test_a_list_keeps_its_order(folder: Path, tmp_path: Path) -> None:
    given = [folder / "IMG_10.png", folder / "IMG_8.png"]
    assert [photo.name for photo in gather_photos(given, tmp_path / "out")] == ["IMG_10.png", "IMG_8.png"]
    with pytest.raises(FileNotFoundError, match="IMG_7.png: expected a photo, found no such file"):
        gather_photos([*given, folder / "IMG_7.png"], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="empty list"):
        gather_photos([], tmp_path / "out")


def test_photos_of_one_name_are_all_kept(tmp_path: Path) -> None:
    for number, name in enumerate(("a/x 1.png", "a/X_1.bmp", "a/x_1_2.png", "b/x 1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise(seed=number).save(tmp_path / name)
    files = sorted(tmp_path.glob("?/*"))
    photos = gather_photos(files, tmp_path / "out")
    assert len({Path(photo.name).stem.lower() for photo in photos}) == 4
    for file, photo in zip(files, photos, strict=True):
        with Image.open(file) as source, Image.open(tmp_path / "out" / photo.name) as written:
            np.testing.assert_array_equal(np.asarray(source), np.asarray(written))
        assert photo.name.startswith(file.stem.replace(" ", "_"))


def test_copies_are_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    noise(seed=1).save(folder / "copy.bmp")
    photos = gather_photos(folder, tmp_path / "out")
    assert [photo.duplicates for photo in photos] == [("IMG_9.png",), (), ()]
    assert any("left out IMG_9.png" in line for line in warnings_of(photos))
    assert gather_photos(folder, tmp_path / "out") == photos


def test_one_phone_upright_and_on_its_side_is_two_cameras(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, orientation in (("a", 1), ("b", 3), ("c", 6)):
        exif = Image.Exif()
        exif[ExifTags.Base.Model], exif[ExifTags.Base.Orientation] = "Phone", orientation
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
        noise(150, 200, seed=orientation).save(tmp_path / "in" / f"{name}.jpg", exif=exif)
    first, second, turned = gather_photos(tmp_path / "in", tmp_path / "out", max_side=100)
    assert (first.height, first.width, turned.height, turned.width) == (75, 100, 100, 75)
    assert first.camera == second.camera != turned.camera
    # 26 mm of a diagonal of 43.27 mm, which is 125 pixels in what is written.
    assert [photo.focal for photo in (first, turned)] == pytest.approx([26 * 125 / math.hypot(36, 24)] * 2)
    assert any("2 cameras" in line for line in warnings_of([first, second, turned]))


def test_what_is_written_has_no_tags_left(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Maker"
    for name in ("a.jpg", "b.png"):
        noise().save(tmp_path / "in" / name, exif=exif, icc_profile=b"a profile")
    for photo in gather_photos(tmp_path / "in", tmp_path / "out"):
        with Image.open(tmp_path / "out" / photo.name) as image:
            assert not dict(image.getexif()) and "icc_profile" not in image.info and image.size == (40, 60)


def test_a_second_call_does_no_work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    progress = lambda done, total: calls.append((done, total))  # noqa: E731
    photos = gather_photos(folder, tmp_path / "out", progress=progress)
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    before = states(tmp_path / "out")
    monkeypatch.setattr(module, "decode_photo", lambda file: pytest.fail(f"{file} was read again"))
    assert gather_photos(folder, tmp_path / "out") == photos and states(tmp_path / "out") == before


def test_an_interrupted_call_is_done_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather_photos(folder, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out" / RECORD).exists()
    assert len(gather_photos(folder, tmp_path / "out")) == 3


@pytest.mark.parametrize("damage", ["missing", "changed", "record", "record of another kind"])
def test_what_was_changed_in_the_output_is_made_again(folder: Path, tmp_path: Path, damage: str) -> None:
    output = tmp_path / "out"
    photos = gather_photos(folder, output)
    content = (output / "IMG_9.png").read_bytes()
    if damage == "missing":
        (output / "IMG_9.png").unlink()
    elif damage == "changed":
        noise(seed=7).save(output / "IMG_9.png")
    else:
        (output / RECORD).write_text("{" if damage == "record" else '{"pictures": {}, "photos": 3}')
    assert gather_photos(folder, output) == photos
    assert (output / "IMG_9.png").read_bytes() == content


def test_other_photos_replace_those_of_the_earlier_call_alone(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    gather_photos(folder, output)
    (output / "own.txt").write_text("the user's")
    (folder / "IMG_8.png").unlink()
    noise(seed=5).save(folder / "IMG_9.png")
    photos = gather_photos(folder, output)
    assert [photo.name for photo in photos] == ["IMG_9.png", "IMG_10.png"]
    assert set(states(output)) == {"IMG_9.png", "IMG_10.png", "own.txt", RECORD}
    with Image.open(output / "IMG_9.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(noise(seed=5)))


def test_a_record_cannot_remove_files_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious.png").write_bytes(b"x")
    (tmp_path / "out" / RECORD).write_text('{"key": "", "pictures": {"../precious.png": ""}, "photos": []}')
    gather_photos(folder, tmp_path / "out")
    assert (tmp_path / "precious.png").exists()


def test_another_size_is_another_set(folder: Path, tmp_path: Path) -> None:
    gather_photos(folder, tmp_path / "out")
    assert {photo.width for photo in gather_photos(folder, tmp_path / "out", max_side=48)} == {48}
    with pytest.raises(ValueError, match="--max-side: expected at least 32 pixels"):
        gather_photos(folder, tmp_path / "out", max_side=20)


def test_photos_are_not_written_beside_themselves(folder: Path) -> None:
    before = states(folder)
    with pytest.raises(ValueError, match="expected another folder than the photos' own"):
        gather_photos(folder, folder / "." / ".." / folder.name)
    assert states(folder) == before


def test_a_folder_without_photos_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "in" / "day 1").mkdir(parents=True)
    (tmp_path / "in" / "a.nef").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"found files \['.nef'\] and folders \['day 1'\]"):
        gather_photos(tmp_path / "in", tmp_path / "out")
    for name in ("b.mp4", "c.mp4"):
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="found 2 videos; name one of them"):
        gather_photos(tmp_path / "in", tmp_path / "out")


def test_frames_of_the_one_video_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    writer = imageio_ffmpeg.write_frames(str(tmp_path / "in" / "walk.mp4"), (64, 48), fps=30, macro_block_size=16)
    writer.send(None)
    wide = np.asarray(noise(6, 60).resize((480, 48), Image.Resampling.NEAREST))
    for number in range(60):
        writer.send(np.ascontiguousarray(wide[:, 4 * number : 4 * number + 64]))
    writer.close()
    photos = gather_photos(tmp_path / "in", tmp_path / "out", frames=4)
    assert [photo.name for photo in photos] == [f"walk_{number:03d}.jpg" for number in range(4)]
    times = [photo.time for photo in photos]
    assert None not in times and times == sorted(set(times), key=lambda time: time or 0.0)
    assert {photo.camera for photo in photos} == {"video, 64x48"} and {photo.focal for photo in photos} == {None}
    assert gather_photos(tmp_path / "in" / "walk.mp4", tmp_path / "out", frames=4) == photos
    assert len(gather_photos(tmp_path / "in", tmp_path / "out", frames=3)) == 3


def photo(name: str, sharpness: float = 100, contrast: float = 50, brightness: float = 120, side: int = 800) -> Photo:
    return Photo(name, name, side, side, None, "", "camera", sharpness, contrast, brightness)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (photo("odd", sharpness=10), ("odd: blurred",)),
        (photo("odd", sharpness=10, contrast=2), ("odd: nearly one colour",)),
        (photo("odd", brightness=30), ("odd: exposed otherwise",)),
        (photo("odd", brightness=200, side=200), ("odd: exposed otherwise", "odd: only 200x200 pixels")),
        (photo("odd"), ()),
    ],
)
def test_warnings_name_the_odd_one(odd: Photo, words: Tuple[str, ...]) -> None:
    said = warnings_of([photo("a"), photo("b"), odd])
    assert len(said) == len(words) and all(line.startswith(start) for line, start in zip(said, words, strict=True))
    assert warnings_of([]) == ()

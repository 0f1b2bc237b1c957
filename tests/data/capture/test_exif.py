"""Focal lengths and cameras by EXIF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from fewshot_ns.data.capture.exif import Exif, read_exif

Base = ExifTags.Base
SENSOR = {Base.FocalLength: IFDRational(50), Base.FocalPlaneXResolution: IFDRational(400), 0xA210: 3}
"""50 mm and 400 pixels a centimetre: 2000 pixels."""


Tags = Mapping[Any, Any]


def exif_of(tmp_path: Path, tags: Tags, size: Tuple[int, int] = (400, 300), base: Optional[Tags] = None) -> Exif:
    exif = Image.Exif()
    for tag, value in (base or {}).items():
        exif[tag] = value
    exif.get_ifd(ExifTags.IFD.Exif).update(tags)
    Image.new("RGB", size).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        return read_exif(image)


def test_the_equivalent_focal_length_compares_diagonals(tmp_path: Path) -> None:
    found = exif_of(tmp_path, {**SENSOR, Base.FocalLengthIn35mmFilm: 26})
    assert found.focal == pytest.approx(26 * 500 / math.hypot(36, 24))
    assert found.focal_source == "FocalLengthIn35mmFilm"


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 1016.0), (3, 400.0), (4, 40.0), (None, 1016.0)])
def test_the_pitch_of_the_sensor_in_each_unit(tmp_path: Path, unit: Any, per_unit: float) -> None:
    tags = {Base.FocalLength: IFDRational(50), Base.FocalPlaneXResolution: IFDRational(per_unit)}
    found = exif_of(tmp_path, tags if unit is None else {**tags, Base.FocalPlaneResolutionUnit: unit})
    assert found.focal == pytest.approx(2000.0) and found.focal_source == "FocalPlaneXResolution"


def test_a_photo_that_was_made_smaller_or_turned(tmp_path: Path) -> None:
    written = {Base.ExifImageWidth: 1600, Base.ExifImageHeight: 1200}
    assert exif_of(tmp_path, {**SENSOR, **written}).focal == pytest.approx(500.0)
    assert exif_of(tmp_path, {**SENSOR, **written}, (300, 400)).focal == pytest.approx(500.0)


def test_a_cropped_photo_has_no_focal_length_and_a_camera_of_its_own(tmp_path: Path) -> None:
    written = {Base.ExifImageWidth: 1600, Base.ExifImageHeight: 1200, Base.FocalLengthIn35mmFilm: 26}
    whole, cropped = exif_of(tmp_path, written), exif_of(tmp_path, written, (400, 225))
    assert whole.focal is not None and cropped.focal is None and cropped.focal_source == ""
    assert cropped.camera == f"{whole.camera} cropped"


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {Base.FocalLengthIn35mmFilm: 0},
        {Base.FocalLengthIn35mmFilm: 60000},
        {Base.FocalLength: IFDRational(50)},
        {**SENSOR, Base.FocalLength: IFDRational(0, 0)},
        {**SENSOR, Base.FocalPlaneXResolution: IFDRational(5, 0)},
        {**SENSOR, Base.FocalPlaneResolutionUnit: 9},
    ],
)
def test_what_is_missing_or_impossible_is_unknown(tmp_path: Path, tags: Tags) -> None:
    found = exif_of(tmp_path, tags)
    assert found.focal is None and found.focal_source == ""


def test_cameras_differ_by_model_lens_and_zoom(tmp_path: Path) -> None:
    base = {Base.Make: "Maker", Base.Model: "Phone"}
    tags = {Base.LensModel: "back", Base.FocalLength: IFDRational(4), Base.FocalLengthIn35mmFilm: 26}
    plain = exif_of(tmp_path, tags, base=base)
    assert plain.camera == "Maker Phone back 4 mm (26 mm of 35 mm film)"
    assert exif_of(tmp_path, tags, base=base).camera == plain.camera
    for other in ({Base.LensModel: "front"}, {Base.FocalLengthIn35mmFilm: 52}, {Base.FocalLength: IFDRational(5)}):
        assert exif_of(tmp_path, {**tags, **other}, base=base).camera != plain.camera
    assert exif_of(tmp_path, {}).camera == ""

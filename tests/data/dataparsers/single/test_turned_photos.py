"""Photos that viewers turn are said where nothing shows if their cameras are of the photos as they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig

CONFIGS = {
    "transforms.json": FewShotNerfstudioDataParserConfig,
    "transforms_train.json": FewShotBlenderDataParserConfig,
}
SIZES = ("w", "h")


def write(scene: Path, file: str, orientation: int, stated: tuple) -> None:
    """Reads the capture with JPEG photos of an orientation, and with what is `stated` of their camera."""
    meta = json.loads((scene / "transforms.json").read_text())
    exif = Image.Exif()
    exif[0x0112] = orientation
    for frame in meta["frames"]:
        name = Path(frame["file_path"]).with_suffix(".jpg")
        with Image.open(scene / frame["file_path"]) as photo:
            photo.convert("RGB").save(scene / name, exif=exif)
        frame["file_path"] = name.as_posix()
        frame.pop("depth_file_path", None)
    kept = {key: meta[key] for key in ("fl_x", *SIZES) if key in stated}
    angle = {"camera_angle_x": 0.8} if "camera_angle_x" in stated else {}
    (scene / file).write_text(json.dumps({**kept, **angle, "frames": meta["frames"]}))
    outputs = CONFIGS[file](data=scene, near=1.0, far=9.0).setup().get_dataparser_outputs("train")
    assert (int(outputs.cameras.width[0]), int(outputs.cameras.height[0])) == (32, 24)


@pytest.mark.parametrize("file", CONFIGS)
@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize("stated", [("camera_angle_x",), ("fl_x",), ("fl_x", *SIZES), ("camera_angle_x", *SIZES)])
def test_a_photo_on_its_side(tiny_nerfstudio_scene: Path, capsys, file: str, orientation: int, stated: tuple) -> None:
    write(tiny_nerfstudio_scene, file, orientation, stated)
    said = "have an EXIF orientation by which viewers turn them" in " ".join(capsys.readouterr().out.split())
    assert said == (not {*SIZES} <= {*stated})


@pytest.mark.parametrize("file", CONFIGS)
def test_an_upright_photo(tiny_nerfstudio_scene: Path, capsys, file: str) -> None:
    write(tiny_nerfstudio_scene, file, 1, ("camera_angle_x",))
    assert "EXIF" not in capsys.readouterr().out

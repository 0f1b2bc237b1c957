"""`ns-fewshot photo` on a run whose data is gone, and everything that it says no to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import trimesh
import yaml
from PIL import Image
from torchvision.models import resnet34

from fewshot_ns.scripts.cli import main

pytestmark = pytest.mark.end_to_end

SMALL = ("--frames", "2", "--min-height", "16")


def save_cut_out(path: Path, turned: bool = False) -> Path:
    """A dark box with a transparent surrounding, 60x40; `turned`: lying on its side, and an EXIF tag that says so."""
    image = np.zeros((40, 60, 4), np.uint8)
    image[12:28, 15:47] = (90, 30, 20, 255)
    if not turned:
        Image.fromarray(image).save(path)
        return path
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(image, 1)).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def moved_run(scenes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run in another place, whose scenes are nowhere."""
    folder = Path(shutil.copytree(scenes_run, tmp_path_factory.mktemp("moved") / "run"))
    config: Any = yaml.load((folder / "config.yml").read_text(), Loader=yaml.Loader)
    nowhere = tmp_path_factory.mktemp("away") / "deleted"
    config.data = config.pipeline.datamanager.data = config.pipeline.datamanager.dataparser.data = nowhere
    config.output_dir = nowhere
    (folder / "config.yml").write_text(yaml.dump(config))
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cut_out(tmp_path_factory.mktemp("photos") / "box.png")


def failure(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The error of a command that must fail with status 1, on one line."""
    capsys.readouterr()
    assert main(["photo", *map(str, arguments)]) == 1
    return " ".join(capsys.readouterr().err.split())


def test_video_gif_picture_and_mesh_of_a_run_without_its_data(
    run_command: Callable[..., str], moved_run: Path, photo: Path, tmp_path: Path
):
    said = run_command(
        *("ns-fewshot", "photo", photo, "--load-config", moved_run, "--elevation", 20, "--frames", 4, "--fps", 8),
        *("--mesh", tmp_path / "box.obj", "--mesh-resolution", 12, "--mesh-threshold", 1e-6),
    )
    # What the run was trained with, which is not what pixelNeRF has for cars.
    assert "16x16 pixels, focal length 16.4, from a distance of 1.3, near 0.8, far 1.8" in said
    renders = moved_run / "renders"
    assert sorted(path.name for path in renders.iterdir()) == ["box.gif", "box.mp4", "box_input.png"]
    # Strip, colour and depth, each 16 pixels enlarged 15 times.
    frames = iio.imread(renders / "box.mp4", plugin="FFMPEG")
    assert len(frames) == 4 and frames.shape[1] == 240 and abs(frames.shape[2] - 3 * 240) <= 24
    assert len(iio.imread(renders / "box.gif")) == 4
    picture = np.asarray(Image.open(renders / "box_input.png"))
    assert picture.shape == (16, 16, 3) and (picture[0] == 255).all()
    # 4.37 axes of the ellipse, some 18 of 16 rows and 32 columns: 32 of some 80 columns are seen.
    assert 5 <= (picture[8, :, 1] < 128).sum() <= 8 and (picture[:, 8, 1] < 128).sum() in (3, 4)
    mesh: Any = trimesh.load(tmp_path / "box.obj", process=False)
    assert len(mesh.faces) > 10 and np.abs(mesh.vertices).max() <= 0.5
    assert mesh.visual.vertex_colors.shape == (len(mesh.vertices), 4)


def test_masks_crops_cameras_and_orientation(moved_run: Path, tmp_path: Path):
    upright = save_cut_out(tmp_path / "up.png")
    image = np.asarray(Image.open(upright))
    Image.fromarray(image[..., :3]).save(tmp_path / "plain.png")
    Image.fromarray(image[..., 3]).save(tmp_path / "mask.png")
    save_cut_out(tmp_path / "turned.png", turned=True)
    cases: Dict[str, tuple] = {
        "cut": (upright,),
        "masked": (tmp_path / "plain.png", "--mask", tmp_path / "mask.png"),
        "turned": (tmp_path / "turned.png",),
    }
    flags = ("--load-config", moved_run, *SMALL, "--fill", 0.5, "--size", 32, "--background", "black", "--no-gif")
    seen = {}
    for name, given in cases.items():
        target = tmp_path / name / "out.mp4"
        assert main(["photo", *map(str, (*given, *flags, "--output", target))]) == 0
        assert sorted(path.name for path in target.parent.iterdir()) == ["out.mp4", "out_input.png"]
        seen[name] = np.asarray(Image.open(target.with_name("out_input.png")))
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[12:20, 8:24] = (90, 30, 20)
    for name, picture in seen.items():
        np.testing.assert_array_equal(picture, expected, err_msg=name)


def test_a_retargeted_run_links_to_the_same(scenes_run: Path, photo: Path, tmp_path: Path):
    folder = tmp_path / "retargeted"
    retarget = ("retarget", "--load-config", scenes_run, "--scene", "table_0001", "--source-views", 0)
    assert main([*map(str, retarget), "--output", str(folder)]) == 0
    assert main(["photo", str(photo), "--load-config", str(folder), *SMALL]) == 0
    assert Image.open(folder / "renders" / "box_input.png").size == (16, 16)


def test_a_run_of_an_earlier_version_has_pixelnerfs_camera(moved_run: Path, photo: Path, tmp_path: Path):
    folder = Path(shutil.copytree(moved_run, tmp_path / "old"))
    record = json.loads((folder / "resolved.json").read_text())
    del record["camera"]
    (folder / "resolved.json").write_text(json.dumps(record))
    assert main(["photo", str(photo), "--load-config", str(folder), "--frames", "1", "--no-gif"]) == 0
    assert Image.open(folder / "renders" / "box_input.png").size == (128, 128)


def released_weights(path: Path) -> Path:
    """Random weights with the keys and shapes of the authors' file."""
    torch.manual_seed(0)
    encoder = resnet34(weights=None).state_dict()
    state = {f"encoder.model.{name}": value for name, value in encoder.items() if not name.startswith("fc.")}
    for network in ("mlp_coarse", "mlp_fine"):
        layers = {"lin_in": (512, 42), "lin_out": (4, 512), **{f"lin_z.{i}": (512, 512) for i in range(3)}}
        layers |= {f"blocks.{i}.fc_{j}": (512, 512) for i in range(5) for j in range(2)}
        for name, shape in layers.items():
            state[f"{network}.{name}.weight"] = 0.03 * torch.randn(shape)
            state[f"{network}.{name}.bias"] = torch.zeros(shape[0])
    torch.save({**state, "code._freqs": torch.zeros(1, 12, 1), "code._phases": torch.zeros(1, 12, 1)}, path)
    return path


def test_the_authors_weights_alone(photo: Path, tmp_path: Path):
    weights = released_weights(tmp_path / "pixel_nerf_latest")
    flags = ("--weights", weights, "--method", "pixelnerf-srn", "--size", 16, "--frames", 1, "--no-gif", "--no-strip")
    assert main(["photo", str(photo), *map(str, flags)]) == 0
    frames = iio.imread(tmp_path / "renders" / "box.mp4", plugin="FFMPEG")
    assert frames.shape[1] == 240 and abs(frames.shape[2] - 2 * 240) <= 20


def test_other_methods_are_refused(photo: Path, moved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (weights,) = (moved_run / "nerfstudio_models").iterdir()
    assert "knows the scene alone" in failure(capsys, photo, "--weights", weights, "--method", "sparsenerf-lite")
    assert "ns-fewshot retarget" in failure(capsys, photo, "--weights", weights, "--method", "matchnerf")
    assert "--method: expected one of" in failure(capsys, photo, "--weights", weights, "--method", "nerfacto")
    assert "does not fit the model" in failure(capsys, photo, "--weights", weights, "--method", "pixelnerf")
    assert "expected either a run (--load-config) or a checkpoint" in failure(capsys, photo)
    assert "config.yml of a training run, found no such" in failure(capsys, photo, "--load-config", tmp_path / "no")


def test_one_error_for_each_thing_that_is_wrong(
    photo: Path, moved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("FEWSHOT_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    plain, small, dark = tmp_path / "plain.png", tmp_path / "small.png", tmp_path / "dark.png"
    Image.new("RGB", (60, 40)).save(plain)
    Image.new("L", (30, 20), 255).save(small)
    Image.new("L", (60, 40), 0).save(dark)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    run = ("--load-config", moved_run)
    cases = {
        ("absent.jpg",): "absent.jpg: expected an image file, found none",
        (tmp_path / "broken.jpg",): "broken.jpg: expected a readable image",
        (plain, "--mask", small): "60x40 pixels (width x height), found 30x20",
        (plain, "--mask", dark): "dark.png: expected a mask with an object in it, found none",
        (plain, "--segment.no-download"): "weights not found: torchvision maskrcnn_resnet50_fpn_v2",
        (photo, "--mesh", "box.stl"): "expected a file name ending in .ply or .obj",
        (photo, "--output", "box.avi"): "expected a file name ending in .mp4",
        (photo, "--size", 31): "--size: expected an even number",
        (photo, "--frames", 0): "--frames: expected at least 1",
        (photo, "--elevation", 90): "expected an elevation between",
        (photo, "--fill", 2): "--fill: expected a share",
        (photo, "--radius", 5): "--radius: expected a distance between near and far",
    }
    before = sorted(path.name for path in moved_run.rglob("*"))
    for given, words in cases.items():
        assert words in failure(capsys, *given, *run)
    text = failure(capsys, plain, "--segment.no-download", *run)
    assert all(word in text for word in ("--segment.weights PATH", "transparent background", "--mask FILE", "https://"))
    assert before == sorted(path.name for path in moved_run.rglob("*"))


def test_a_damaged_record_is_named(photo: Path, moved_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = Path(shutil.copytree(moved_run, tmp_path / "damaged"))
    (folder / "resolved.json").write_text("[]")
    assert "resolved.json: expected the values that a run was trained with" in failure(
        capsys, photo, "--load-config", folder
    )


def test_wrong_flags_have_another_status(photo: Path):
    with pytest.raises(SystemExit) as caught:
        main(["photo", str(photo), "--elevatoin", "3"])
    assert caught.value.code == 2

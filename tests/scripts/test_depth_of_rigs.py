"""`ns-fewshot depth` and evaluation masks of photos of one name in two folders."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.scripts.cli import main
from fewshot_ns.scripts.eval import EvalCommand

VIEWS = (0, 3, 6)
NAMES = ("left/0000", "left/0003", "right/0000")


@pytest.fixture
def rig(tiny_nerfstudio_scene: Path) -> Path:
    """Six photos of one camera and six of another, by the same names, in the order of the capture."""
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    for index, frame in enumerate(meta["frames"]):
        name = f"images/{('left', 'right')[index // 6]}/{index % 6:04d}.png"
        (tiny_nerfstudio_scene / name).parent.mkdir(exist_ok=True)
        (tiny_nerfstudio_scene / frame["file_path"]).rename(tiny_nerfstudio_scene / name)
        frame["file_path"] = name
        frame.pop("depth_file_path")
    path.write_text(json.dumps(meta))
    return tiny_nerfstudio_scene


def test_maps_lie_under_the_paths_of_their_photos(rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mono = tmp_path / "mono"
    for number, name in enumerate(NAMES):
        (mono / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(mono / f"{name}_depth.npy", np.full((24, 32), 2.0 + number, np.float32))
    flags = ["fewshot-nerfstudio-data", "--train-indices", *map(str, VIEWS)]
    run = ["depth", "--data", str(rig), "--maps", str(mono), "--polarity", "inverse_depth", *flags]
    assert main(run) == 0
    assert "maps of 3 training views" in " ".join(capsys.readouterr().out.split())
    maps = rig / "depth_maps"
    note = json.loads((maps / "depth.json").read_text())
    assert note["files"] == [f"{name}.npz" for name in NAMES]
    record = get_fewshot_metadata(
        FewShotNerfstudioDataParserConfig(data=rig, train_indices=VIEWS)
        .setup()
        .get_dataparser_outputs("train")
        .metadata
    )
    assert record.depth_prior_filenames == tuple(maps / f"{name}.npz" for name in NAMES)
    assert record.depth_encoding.polarity == "inverse_depth", "the note covers maps in the folders below it"
    for number, file in enumerate(record.depth_prior_filenames or ()):
        assert np.load(file)["depth"][0, 0] == 2.0 + number
    # Other views: what the new note does not cover goes, by its path.
    (mono / "right" / "0000_depth.npy").rename(mono / "right" / "0001_depth.npy")
    assert main([*run[:-1], "7"]) == 0
    assert {path.relative_to(maps).as_posix() for path in maps.rglob("*.npz")} == {
        "left/0000.npz",
        "left/0003.npz",
        "right/0001.npz",
    }
    (mono / "right" / "0001_depth.npy").rename(mono / "0001_depth.npy")
    assert main([*run[:-1], "7"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "0001_depth.npy: expected the depth map (--maps) of one photo, found 2 photos of that name" in said
    assert "left/0001.png and right/0001.png" in said


def test_masks_of_an_evaluation_by_path(rig: Path, tmp_path: Path) -> None:
    parser = FewShotNerfstudioDataParserConfig(data=rig, train_indices=(1, 2), test_indices=(0, 6)).setup()
    dataset = FewShotDataset(parser.get_dataparser_outputs("test"))
    command = EvalCommand(tmp_path, mask_dir=tmp_path / "masks")
    for name in ("left/0000.png", "right/0000.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True)
        Image.new("L", (32, 24), 255).save(tmp_path / "masks" / name)
    expected = tuple(tmp_path / "masks" / name for name in ("left/0000.png", "right/0000.png"))
    assert command._mask_files(dataset, tmp_path / "masks") == expected
    (tmp_path / "masks" / "right" / "0000.png").rename(tmp_path / "masks" / "0000.png")
    with pytest.raises(ValueError, match=r"object mask \(--mask-dir\) of one photo, found .* left/0000.png and right/"):
        command._mask_files(dataset, tmp_path / "masks")

"""Commands that are killed, run twice at once, run out of disk, or find their folders moved."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
from child_actions import command, hold_maps
from forked import Forked, give_back, own_disk, tree
from tiny_training import MODELS, differences, state_of, tiny_config, train

from fewshot_ns.data.capture.photos import gather_photos
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.depth.encoding import read_note
from fewshot_ns.data.depth.map_folder import MapFolder
from fewshot_ns.scripts.cli import main
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene
from fewshot_ns.utils.cache import CACHE_ENV
from fewshot_ns.utils.checkpoints import checkpoints_in, load_checkpoint
from fewshot_ns.utils.disk_space import DiskFullError
from fewshot_ns.utils.locks import FolderBusyError

MOST_ATTEMPTS = 8
LONG = 100_000
SECONDS_OF_A_ROW = ("num_rays_per_sec", "fps")


def words(*parts: object) -> List[str]:
    return [str(part) for part in parts]


def train_quietly(config: Any) -> Path:
    """Trains in this process; gives the folder of the run."""
    train(config)
    return config.get_base_dir()


@pytest.fixture(scope="module")
def scene(make_llff_scene: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a scene of 30 photos of 64x48 pixels without depth maps."""
    folder = make_llff_scene(tmp_path_factory.mktemp("faults") / "scene", count=30, size=(48, 64))
    shutil.rmtree(folder / "depth_maps")
    return folder


@pytest.fixture(scope="module")
def run(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run on it of two steps, which tests on all but its three training views."""
    config = tiny_config(scene, tmp_path_factory.mktemp("runs"), "run", 2)
    config.pipeline.depth.enabled = False
    config.pipeline.datamanager.dataparser = LLFFDataParserConfig(
        data=scene, train_indices=(3, 14, 26), test_indices=tuple(set(range(30)) - {3, 14, 26})
    )
    return train_quietly(config)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    folder = tmp_path / "disk"
    own_disk(folder, "64m")
    yield folder
    give_back(folder)


def fill(disk: Path, leave: int = 0) -> Path:
    """Leaves so many bytes of a disk; gives the file to remove again."""
    filler = disk / "filler"
    filler.write_bytes(bytes(max(shutil.disk_usage(disk).free - leave, 0)))
    return filler


def rows_of(path: Path) -> List[Dict[str, Any]]:
    """Rows of a ledger without what the clock says."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in SECONDS_OF_A_ROW} for row in rows]


def number_of_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def test_an_evaluation_that_is_killed_goes_on(run: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.json", tmp_path / "eval.json"
    flags = words("eval", "--load-config", run, "--output-path")
    assert main([*flags, str(whole)]) == 0
    rows = output.with_suffix(".jsonl")
    process = Forked(command, [*flags, str(output)], tmp_path / "cache", log=tmp_path / "log")
    process.wait_for(lambda: number_of_lines(rows) >= 3)
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    done = rows.read_bytes().rpartition(b"\n")[0]
    assert 3 <= done.count(b"\n") + 1 < 27
    assert main([*flags, str(output)]) == 0
    # What was measured is not measured again, or its seconds would be others.
    assert rows.read_bytes().startswith(done)
    assert rows_of(rows) == rows_of(whole.with_suffix(".jsonl"))
    averages = [json.loads(path.read_text())["results"]["psnr"] for path in (whole, output)]
    assert averages[0] == averages[1]


def depth_words(scene: Path, output: Path, *flags: object) -> List[str]:
    return words("depth", "--data", scene, "--source", "stereo", "--device", "cpu", "--output", output, *flags)


def maps_in(folder: Path) -> Dict[str, Any]:
    read_note(folder)
    return {path.name: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


def same_maps(first: Path, second: Path) -> bool:
    ours, theirs = maps_in(first), maps_in(second)
    return ours.keys() == theirs.keys() and all(
        np.array_equal(values, theirs[name][key]) for name, arrays in ours.items() for key, values in arrays.items()
    )


@pytest.fixture(scope="module")
def depth_maps(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps of the scene that nobody has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(CACHE_ENV, str(folder / "cache"))
        assert main(depth_words(scene, folder / "maps")) == 0
    return folder / "maps"


@pytest.mark.parametrize("moment", ["cache", "maps"])
def test_depth_that_is_killed_is_made_whole(moment: str, scene: Path, depth_maps: Path, tmp_path: Path) -> None:
    for attempt in range(MOST_ATTEMPTS):
        # The moment is short, and on a busy machine not seen each time.
        folder = tmp_path / str(attempt)
        cache, output = folder / "cache", folder / "maps"
        process = Forked(command, depth_words(scene, output), cache, log=tmp_path / "log")
        where, name = {"cache": (cache, "**/.*.partial"), "maps": (output, ".new-maps-*")}[moment]
        while process.process.is_alive() and not any(where.glob(name)):
            pass
        process.send(signal.SIGKILL)
        if process.end() == -signal.SIGKILL:
            break
    else:
        pytest.fail(f"not killed in {MOST_ATTEMPTS} attempts: {process.said}")
    again = Forked(command, depth_words(scene, output), cache, log=tmp_path / "log")
    assert again.end() == 0, again.said
    assert same_maps(output, depth_maps)
    assert not [name for name in tree(folder) if "partial" in name or "new-maps" in name]


def test_two_at_once_share_a_cache(scene: Path, depth_maps: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]
    both = [
        Forked(command, depth_words(scene, output), tmp_path / "cache", log=tmp_path / f"{output.name}.log")
        for output in outputs
    ]
    assert [process.end() for process in both] == [0, 0], both[0].said + both[1].said
    assert all(same_maps(output, depth_maps) for output in outputs)
    assert not [name for name in tree(tmp_path) if "partial" in name]


def test_two_at_once_in_one_folder_of_maps(scene: Path, depth_maps: Path, tmp_path: Path) -> None:
    output = tmp_path / "maps"
    both = [
        Forked(command, depth_words(scene, output), tmp_path / "cache", log=tmp_path / f"{number}.log")
        for number in range(2)
    ]
    statuses = [process.end() for process in both]
    assert 0 in statuses and set(statuses) <= {0, 1}
    for status, process in zip(statuses, both, strict=True):
        # A map that the other has just written is none of its own either.
        refused = "another process" in process.said or "found other files" in process.said
        assert refused == (status == 1), process.said
    assert same_maps(output, depth_maps)
    assert not [name for name in tree(output) if "partial" in name or "new-maps" in name]


def test_a_folder_of_maps_is_one_writer_s(tmp_path: Path) -> None:
    ready, folder = tmp_path / "ready", tmp_path / "maps"
    mine = MapFolder.prepare(folder, ["a.npz"], "ns-fewshot depth", False)
    process = Forked(hold_maps, folder, ready, log=tmp_path / "log")
    process.wait_for(ready.is_file)
    with pytest.raises(FolderBusyError, match="maps: another process is working in this folder"), mine.new_maps():
        pass
    process.send(signal.SIGKILL)
    process.end()
    # Of others that came in between, nobody knows whether they belong to the new ones.
    note = {"written_by": "ns-fewshot depth", "files": ["b.npz"]}
    (folder / "b.npz").write_bytes(b"")
    (folder / "depth.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match=r"maps: expected the maps that were there .* has written since, b\.npz"):
        with mine.new_maps():
            pass
    (folder / "b.npz").rename(folder / "a.npz")
    (folder / "depth.json").write_text(json.dumps({**note, "files": ["a.npz"]}))
    with mine.new_maps() as new:
        assert [path.name for path in folder.glob(".new-maps-*")] == [new.name]


def test_photos_whose_preparation_is_killed_are_prepared_again(scene: Path, tmp_path: Path) -> None:
    source, output = scene / "images_4", tmp_path / "photos"
    expected = gather_photos(source, tmp_path / "whole")
    process = Forked(gather_photos, source, output, log=tmp_path / "log")
    process.wait_for(lambda: len(list(output.glob("*.png"))) >= 3, pause=0.0)
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    assert 3 <= len(list(output.glob("*.png"))) < 30
    assert gather_photos(source, output) == expected
    assert tree(output) == tree(tmp_path / "whole")


@pytest.mark.slow
def test_a_capture_whose_preparation_is_killed_at_any_stage_is_prepared(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'fewshot-ns[photos]'")
    write_demo_scene(tmp_path / "scene", DemoSceneConfig(width=320, height=240, supersample=1, columns=3, rows=1))
    (photos,) = {path.parent for path in (tmp_path / "scene").rglob("images*/*.png")}
    output = tmp_path / "capture"
    flags = words("prepare", "--images", photos, "--output", output, "--no-depth", "--threads", 1)
    stages = ("reading photos", "finding features", "matching all pairs", "registering photos")
    for number, stage in enumerate(stages):
        process = Forked(command, flags, tmp_path / "cache", log=tmp_path / f"{number}.log")
        process.wait_for(lambda process=process, stage=stage: stage in process.said)
        process.send(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL, process.said
    last = Forked(command, flags, tmp_path / "cache", log=tmp_path / "last.log")
    assert last.end() == 0, last.said
    frames = json.loads((output / "transforms.json").read_text())["frames"]
    assert len(frames) == 3 and all((output / frame["file_path"]).is_file() for frame in frames)
    assert not [name for name in tree(output) if "partial" in name]


def test_a_video_that_is_killed_is_written_again(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    flags = words("video", "--load-config", run, "--output", target, "--frames", 4, "--min-height", 48)
    process = Forked(command, flags, tmp_path / "cache", log=tmp_path / "log")
    process.wait_for(lambda: any(tmp_path.glob(".video.mp4.*.partial")))
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL and not target.exists() and any(tmp_path.glob(".video*"))
    again = Forked(command, flags, tmp_path / "cache", log=tmp_path / "log")
    assert again.end() == 0, again.said
    assert target.stat().st_size > 500 and not list(tmp_path.glob(".video*"))


def test_two_trainings_do_not_share_a_folder(tiny_llff_scene: Path, tmp_path: Path) -> None:
    first = Forked(train, tiny_config(tiny_llff_scene, tmp_path, "run", LONG), log=tmp_path / "1.log")
    folder = tmp_path / "faults" / "sparsenerf-lite" / "run"
    first.wait_for(lambda: (folder / "views.json").is_file())
    config = (folder / "config.yml").read_bytes()
    second = Forked(train, tiny_config(tiny_llff_scene, tmp_path, "run", 3), log=tmp_path / "2.log")
    assert second.end() == 1
    said = " ".join(second.said.split())
    assert f"found another training, process {first.process.pid}, writing into it" in said
    assert (folder / "config.yml").read_bytes() == config
    first.send(signal.SIGTERM)
    assert first.end() == 143


def test_a_training_whose_disk_is_full_keeps_its_checkpoint(tiny_llff_scene: Path, disk: Path, tmp_path: Path) -> None:
    changes = {"steps_per_save": 3, "vis": "viewer"}
    config = tiny_config(tiny_llff_scene, disk, "run", LONG, **changes)
    config.viewer.quit_on_train_completion = True
    process = Forked(train, config, log=tmp_path / "log")
    folder = disk / "faults" / "sparsenerf-lite" / "run"
    process.wait_for(lambda: (folder / MODELS).is_dir() and len(checkpoints_in(folder / MODELS)) > 0)
    process.send(signal.SIGSTOP)
    filler = fill(disk)
    process.send(signal.SIGCONT)
    assert process.end() == 1
    last_line = process.said.strip().splitlines()[-1]
    assert last_line.startswith("fewshot_ns.utils.disk_space.DiskFullError: ") and "found the disk full" in last_line
    assert str(folder) in last_line
    (step,) = checkpoints_in(folder / MODELS)
    assert load_checkpoint(folder / MODELS / f"step-{step:09d}.ckpt")["step"] == step
    assert not list(folder.rglob(".*partial"))
    filler.unlink()
    again = tiny_config(tiny_llff_scene, disk, "run", step + 4, folder / MODELS, **{**changes, "vis": "tensorboard"})
    resumed = Forked(train, again, log=tmp_path / "again.log")
    assert resumed.end() == 0, resumed.said
    whole = train_quietly(tiny_config(tiny_llff_scene, tmp_path, "whole", step + 4))
    assert differences(state_of(whole, step + 3), state_of(folder, step + 3)) == []


def test_a_full_disk_stops_an_evaluation_that_goes_on_later(
    run: Path, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = words("eval", "--load-config", run, "--output-path")
    assert main([*flags, str(tmp_path / "whole.json")]) == 0
    capsys.readouterr()
    output = disk / "eval.json"
    rows = output.with_suffix(".jsonl")
    # Some rows have room.
    filler = fill(disk, leave=3 * 4096)
    assert main([*flags, str(output)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "error:" in said and str(rows) in said and "found the disk full" in said
    assert not list(disk.glob(".*partial")) and 0 < number_of_lines(rows) < 27
    filler.unlink()
    assert main([*flags, str(output)]) == 0
    assert rows_of(rows) == rows_of(tmp_path / "whole.jsonl")


@pytest.mark.parametrize("full", ["cache", "maps"])
def test_a_full_disk_stops_depth_with_nothing_half_written(
    full: str,
    scene: Path,
    depth_maps: Path,
    disk: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = {"cache": tmp_path / "cache", "maps": tmp_path / "maps", full: disk / full}
    monkeypatch.setenv(CACHE_ENV, str(folders["cache"]))
    filler = fill(disk, leave=2 * 4096)
    assert main(depth_words(scene, folders["maps"])) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert str(folders[full]) in said and "found the disk full" in said
    assert [name for name in tree(disk) if "partial" in name or "new-maps" in name] == []
    filler.unlink()
    assert main(depth_words(scene, folders["maps"])) == 0
    assert same_maps(folders["maps"], depth_maps)


def test_a_full_disk_stops_a_video(run: Path, disk: Path, capsys: pytest.CaptureFixture) -> None:
    filler = fill(disk)
    target = disk / "video.mp4"
    flags = words("video", "--load-config", run, "--output", target, "--frames", 2, "--min-height", 48)
    assert main(flags) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert str(target) in said and "found the disk full" in said and tree(disk) == ["filler"]
    filler.unlink()
    assert main(flags) == 0


def test_a_full_disk_stops_photos_from_being_prepared(scene: Path, disk: Path) -> None:
    fill(disk, leave=4 * 4096)
    with pytest.raises(DiskFullError, match=r"photos/.*found the disk full"):
        gather_photos(scene / "images_4", disk / "photos")
    assert not list(disk.rglob(".*partial"))


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_run_that_was_moved(relative: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its folder or its config, from anywhere; and a training goes on from where its checkpoints lie now."""
    assert main(words("eval", "--load-config", run, "--output-path", tmp_path / "before.json")) == 0
    moved = shutil.copytree(run, tmp_path / "elsewhere" / "a run")
    monkeypatch.chdir(moved.parent)
    place = Path("a run") if relative else moved
    for given in (place, place / "config.yml"):
        output = tmp_path / "after.json"
        assert main(words("eval", "--load-config", given, "--output-path", output, "--restart")) == 0
        assert rows_of(output.with_suffix(".jsonl")) == rows_of(tmp_path / "before.jsonl")
        results = json.loads(output.read_text())
        assert Path(results["checkpoint"]).resolve().is_relative_to(moved)

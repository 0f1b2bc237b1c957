"""Names in a scene's files that lead out of its folder: refused, unless the user trusts the scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, List, Optional

import json_scenes as scenes
import numpy as np
from corpus import Action, Case, training_inputs

NERFSTUDIO, BLENDER, RGBD = "fewshot-nerfstudio-data", "fewshot-blender-data", "rgbd-data"
OUTSIDE = "outside of it"
Write = Callable[[Path, Optional[scenes.Change]], Any]
SECRET = "do-not-quote-this"


def _case(
    name: str, write: Write, parser: str, change: Callable[[Any, Path], Any], *says: str, allowed: bool = False
) -> Case:
    """A scene below `scene`, with photos, masks, maps and points beside it that its files may name.

    Args:
        name: Of the case.
        write: Writes the scene.
        parser: Reads it.
        change: Has its way with the content of the file of cameras; gets the folder of the case too.
        says: Parts of the error; none where the scene is right.
        allowed: Whether the user allows files outside.
    """

    def prepare(folder: Path) -> Action:
        other = folder / "other"
        for view in range(2):
            scenes.write_photo(other / f"{view}.png", view, channels=4)
        scenes.write_mask(other / "mask.png")
        scenes.write_map(other / "depth.png")
        (other / "secret.txt").write_text(f"{SECRET}\n")
        scene = folder / "scene"
        write(scene, lambda meta: change(meta, folder))
        flags = {"allow_outside": True} if allowed else {}
        return training_inputs(parser, scene, **flags)

    return Case(f"path-{name}", "path", prepare, says or None)


def _frame(key: str, name: str, number: int = 1) -> Callable[[Any, Path], Any]:
    """Puts a name into a frame, in which {} is the folder of the case."""

    def change(meta: Any, folder: Path) -> None:
        if key == "file_path":
            _without_lists(meta)
        meta["frames"][number][key] = name.format(folder)

    return change


def _file(key: str, value: Any) -> Callable[[Any, Path], Any]:
    return lambda meta, folder: meta.update({key: value})


def _capture(name: str, change: Callable[[Any, Path], Any], *says: str, allowed: bool = False) -> Case:
    said = ("transforms.json", *says) if says else ()
    return _case(name, scenes.write_capture, NERFSTUDIO, change, *said, allowed=allowed)


def _all_names(prefix: str) -> Callable[[Any, Path], Any]:
    """Begins the names of all photos with something, and leaves out lists of them."""

    def change(meta: Any, folder: Path) -> None:
        _without_lists(meta)
        for frame in meta["frames"]:
            frame["file_path"] = prefix.format(folder) + frame["file_path"]

    return change


def _linked(folder: Path, name: str) -> None:
    """Moves a folder of the scene away and leaves a link in its place."""
    (folder / "scene" / name).rename(folder / "other" / name)
    (folder / "scene" / name).symlink_to(folder / "other" / name)


def _after(name: str, then: Callable[[Path], Any], change: Callable[[Any, Path], Any], *says: str) -> Case:
    """A capture whose files are moved when it has been written."""
    inner = _capture(name, change, *says)

    def prepare(folder: Path) -> Action:
        action = inner.prepare(folder)
        then(folder)
        return action

    return Case(inner.name, "path", prepare, inner.says)


def _through_link(folder: Path) -> Action:
    """A scene whose --data is a link to its folder, and which names photos by where that is."""
    scenes.write_capture(folder / "scene", lambda meta: _all_names(f"{folder.resolve()}/scene/")(meta, folder))
    (folder / "link").symlink_to(folder / "scene")
    return training_inputs(NERFSTUDIO, folder / "link")


def _file_given(folder: Path) -> Action:
    """A transforms file in a folder of its own, beside that of the photos."""
    scenes.write_capture(folder, _photos_alone)
    (folder / "sparse").mkdir()
    text = (folder / "transforms.json").read_text().replace('"images/', '"../images/')
    (folder / "sparse" / "cameras.json").write_text(text)
    return training_inputs(NERFSTUDIO, folder / "sparse" / "cameras.json")


def _without_lists(meta: Any) -> None:
    """Takes away what names photos besides the frames."""
    for key in ("train_filenames", "val_filenames", "test_filenames", "held_out"):
        meta.pop(key, None)


def _photos_alone(meta: Any) -> None:
    _without_lists(meta)
    meta.pop("ply_file_path")
    for frame in meta["frames"]:
        frame.pop("mask_path")
        frame.pop("depth_file_path")


def _object_set(name: str, file: str, *says: str, allowed: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        scenes.write_photo(folder / "outside_obj.png", channels=4)
        scenes.write_objects(folder / "set", lambda meta: meta["frames"][1].update(file_path=file))
        return scenes.opened_object(folder / "set", allow_outside=allowed)

    return Case(f"path-object-{name}", "path", prepare, says or None)


def _list(name: str, line: str, *says: str) -> Case:
    """A folder of scenes with a list of those that train."""

    def prepare(folder: Path) -> Action:
        scenes.write_capture(folder / "set" / "a")
        scenes.write_capture(folder / "b")
        (folder / "set" / "train.lst").write_text(f"a\n{line}\n")

        def action() -> object:
            from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig

            return SceneFolderDataParserConfig(data=folder / "set").setup().scene_table("train")

        return action

    return Case(f"path-list-{name}", "path", prepare, says)


def _pairs(name: str, text: str, *says: str) -> Case:
    def prepare(folder: Path) -> Action:
        (folder / "pair.txt").write_text(text)

        def action() -> object:
            from fewshot_ns.data.files.mvsnet import read_pairs

            return read_pairs(folder / "pair.txt", 3)

        return action

    return Case(f"path-pairs-{name}", "path", prepare, ("pair.txt", *says))


def _colmap(name: str, photo: str, *says: str, allowed: bool = False) -> Case:
    """COLMAP's model of two photos as text, one of which has another name."""

    def prepare(folder: Path) -> Action:
        model = folder / "scene" / "sparse" / "0"
        model.mkdir(parents=True)
        (model / "cameras.txt").write_text(f"1 SIMPLE_PINHOLE {scenes.WIDTH} {scenes.HEIGHT} 14 8 6\n")
        rows = []
        for number, name in enumerate(("0.png", "1.png", photo)):
            rows += [f"{number + 1} 1 0 0 0 {0.3 * number} 0 4 1 {name}", ""]
        (model / "images.txt").write_text("\n".join(rows) + "\n")
        (model / "points3D.txt").write_text("1 0 0 0 9 9 9 0.1 1 0 2 0\n")
        for file in ("images/0.png", "images/1.png", "2.png"):
            scenes.write_photo(folder / "scene" / file)
        flags = {"allow_outside": True} if allowed else {}
        return training_inputs("fewshot-colmap-data", folder / "scene", near=1.0, far=9.0, num_views=2, **flags)

    return Case(f"path-colmap-{name}", "path", prepare, says or None)


def _maps_note(folder: Path) -> Action:
    """The note of a folder of maps that a command writes, which claims files of other folders."""
    from fewshot_ns.data.depth.map_folder import MapFolder
    from fewshot_ns.data.records.metadata import DepthEncoding

    (folder / "maps").mkdir()
    np.savez(folder / "precious.npz", 1)
    names = ["../precious.npz", f"{folder}/precious.npz", "a" * 3000 + ".npz", "\0.npz"]
    (folder / "maps" / "depth.json").write_text(json.dumps({"written_by": "test", "files": names}))

    def action() -> None:
        maps = MapFolder.prepare(folder / "maps", ["a.npz"], "test", False)
        with maps.new_maps() as new:
            maps.finish(new, DepthEncoding("distance"), [])
        assert (folder / "precious.npz").is_file()

    return action


CASES: List[Case] = [
    # transforms.json
    _capture("up", _frame("file_path", "../other/1.png"), "frame 1", OUTSIDE, "--allow-outside"),
    _capture("up-allowed", _all_names("../scene/../scene/"), allowed=True),
    _capture("absolute", _frame("file_path", "{}/other/1.png"), "frame 1", OUTSIDE),
    _capture("system", _frame("file_path", "/etc/passwd"), "frame 1", OUTSIDE),
    _capture("up-and-away", _frame("file_path", "../../../../../../../../../../etc/passwd"), "frame 1", OUTSIDE),
    _capture("up-without-a-file", _frame("file_path", "../none.png"), "frame 1", OUTSIDE),
    _capture("up-without-suffix", _frame("file_path", "../other/1"), "frame 1", OUTSIDE),
    _capture("backslashes", _frame("file_path", "..\\other\\1.png"), "frame 1", OUTSIDE),
    _capture("drive", _frame("file_path", "C:\\..\\other\\1.png"), "frame 1", OUTSIDE),
    _capture("up-within", _all_names("images/../")),
    _capture("absolute-within", _all_names("{}/scene/")),
    _capture("of-another-machine", _all_names("/home/somebody/capture/")),
    _capture("of-windows", _all_names("C:\\Users\\somebody\\")),
    _capture("mask", _frame("mask_path", "../other/mask.png"), "frame 1", OUTSIDE),
    _capture("mask-absolute", _frame("mask_path", "{}/other/mask.png"), "frame 1", OUTSIDE),
    _capture("mask-allowed", _frame("mask_path", "../other/mask.png"), allowed=True),
    _capture("depth", _frame("depth_file_path", "../other/depth.png"), "frame 1", OUTSIDE),
    _capture("depth-of-ngp", _frame("depth_path", "../other/depth.png"), "frame 1", OUTSIDE),
    _capture("points", _file("ply_file_path", "../other/secret.txt"), OUTSIDE),
    _capture("split", _file("train_filenames", ["../other/0.png"]), "train_filenames", OUTSIDE),
    _capture("held-out", _file("held_out", ["/etc/passwd"]), "held_out", OUTSIDE),
    _case("sensor", scenes.write_capture, RGBD, _frame("depth_file_path", "../other/depth.png"), "frame 1", OUTSIDE),
    _after("linked-folder", lambda folder: _linked(folder, "images"), lambda meta, folder: None),
    _after(
        "up-out-of-a-link",
        lambda folder: _linked(folder, "images"),
        _frame("file_path", "images/../0.png"),
        "frame 1",
        OUTSIDE,
    ),
    Case("path-data-is-a-link", "path", _through_link, None),
    Case("path-cameras-in-a-folder-of-their-own", "path", _file_given, ("cameras.json", "frame 0", OUTSIDE)),
    # Other layouts.
    _case("blender-up", scenes.write_blender, BLENDER, _frame("file_path", "../other/1"), "transforms_train", OUTSIDE),
    _case("blender-absolute", scenes.write_blender, BLENDER, _frame("file_path", "{}/other/1.png"), "frame 1", OUTSIDE),
    _case("blender-allowed", scenes.write_blender, BLENDER, _frame("file_path", "../other/1"), allowed=True),
    _case(
        "blender-depth", scenes.write_blender, BLENDER, _frame("depth_path", "../other/depth.png"), "frame 1", OUTSIDE
    ),
    _case("scannet-up", scenes.write_scannet, RGBD, _frame("file_path", "../other/1.png"), "transforms_train", OUTSIDE),
    _case("scannet-depth", scenes.write_scannet, RGBD, _frame("depth_file_path", "/etc/passwd"), "frame 1", OUTSIDE),
    _case(
        "multiscale-up",
        scenes.write_multiscale,
        "multiscale-blender-data",
        lambda meta, folder: meta["train"]["file_path"].__setitem__(0, "../other/0.png"),
        "metadata.json, train",
        OUTSIDE,
    ),
    _object_set("up", "../../../outside", "frame 1", OUTSIDE, "--allow-outside"),
    _object_set("allowed", "../../../outside", allowed=True),
    _list("up", "../b", "train.lst line 2", "'../b'"),
    _list("absolute", "/etc", "train.lst line 2", "'/etc'"),
    _list("long", "x" * 5000, "train.lst line 2", "..."),
    _list("zero", "b\0", "train.lst line 2"),
    _pairs("negative", "1\n0\n1 -1 0.5\n", "from 0", "-1"),
    _pairs("of-something-else", f"a\n{SECRET * 400}\n{SECRET}\n", "'count view score"),
    _colmap("up", "../2.png", "sparse", "below a folder"),
    _colmap("absolute", "/etc/passwd", "sparse", "below a folder"),
    _colmap("long", "x" * 4000 + ".png", "sparse", "below a folder"),
    _colmap("allowed", "../2.png", allowed=True),
    Case("path-note-of-maps", "path", _maps_note, None, ("maps/depth.json",)),
]

"""JSON of the wrong shape: files that are none, values of another kind, lists that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import json_scenes as scenes
from corpus import Action, Case, training_inputs

TRANSFORMS, TRAIN, METADATA = "transforms.json", "transforms_train.json", "metadata.json"
BLENDER, MULTISCALE = "fewshot-blender-data", "multiscale-blender-data"
HUGE = 10**400
DEEP = "[" * 100_000 + "]" * 100_000


def _capture(name: str, change: scenes.Change, *says: str) -> Case:
    """A transforms.json in which something is changed."""

    def prepare(folder: Path) -> Action:
        scenes.write_capture(folder, change)
        return training_inputs("fewshot-nerfstudio-data", folder)

    return Case(f"json-{name}", "json", prepare, (TRANSFORMS, *says) if says else None)


def _text(name: str, content: bytes, *says: str) -> Case:
    """A transforms.json of other bytes."""

    def prepare(folder: Path) -> Action:
        scenes.write_capture(folder)
        (folder / TRANSFORMS).write_bytes(content)
        return training_inputs("fewshot-nerfstudio-data", folder)

    return Case(f"json-{name}", "json", prepare, (TRANSFORMS, *says))


def _recoded(name: str, encoding: str) -> Case:
    def prepare(folder: Path) -> Action:
        scenes.write_capture(folder)
        path = folder / TRANSFORMS
        path.write_bytes(path.read_text("utf8").encode(encoding))
        return training_inputs("fewshot-nerfstudio-data", folder)

    return Case(f"json-{name}", "json", prepare, None)


def _of(
    name: str,
    write: Callable[[Path, Optional[scenes.Change]], Any],
    parser: str,
    change: scenes.Change,
    *says: str,
) -> Case:
    def prepare(folder: Path) -> Action:
        write(folder, change)
        return training_inputs(parser, folder)

    return Case(f"json-{name}", "json", prepare, says)


def _object_set(name: str, change: scenes.Change, *says: str) -> Case:
    def prepare(folder: Path) -> Action:
        scenes.write_objects(folder, change)
        return scenes.opened_object(folder)

    return Case(f"json-object-{name}", "json", prepare, (TRANSFORMS, *says))


def _note(name: str, content: str, *says: str) -> Case:
    """A folder of depth maps with another note."""

    def prepare(folder: Path) -> Action:
        scenes.write_capture(folder, lambda meta: [frame.pop("depth_file_path") for frame in meta["frames"]])
        (folder / "depth").rename(folder / "depth_maps")
        (folder / "depth_maps" / "depth.json").write_text(content)
        return training_inputs("fewshot-nerfstudio-data", folder)

    return Case(f"json-note-{name}", "json", prepare, ("depth.json", *says))


def _stored(name: str, change: scenes.Change, *says: str) -> Case:
    """The scene.json of a run."""

    def prepare(folder: Path) -> Action:
        from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
        from fewshot_ns.data.dataparsers.single.stored import StoredSceneDataParserConfig, synthetic_scene

        content = synthetic_scene(FewShotBlenderDataParserConfig(), 2)
        content["splits"] = json.loads(json.dumps(content["splits"]))
        change(content)
        (folder / "scene.json").write_text(json.dumps(content))
        return lambda: StoredSceneDataParserConfig(data=folder / "scene.json").setup().get_dataparser_outputs("train")

    return Case(f"json-stored-{name}", "json", prepare, ("scene.json", *says) if says else None)


def _camera_path(name: str, content: Dict[str, Any], *says: str) -> Case:
    def prepare(folder: Path) -> Action:
        (folder / "path.json").write_text(json.dumps(content))

        def action() -> object:
            from fewshot_ns.scripts.video import path_cameras, read_camera_path

            return path_cameras(read_camera_path(folder / "path.json"))

        return action

    return Case(f"json-path-{name}", "json", prepare, ("path.json", *says))


def _set(key: str, value: Any) -> scenes.Change:
    return lambda meta: meta.update({key: value})


def _frame(key: str, value: Any, number: int = 1) -> scenes.Change:
    return lambda meta: meta["frames"][number].update({key: value})


def _without(key: str, frames: Tuple[int, ...]) -> scenes.Change:
    return lambda meta: [meta["frames"][number].pop(key) for number in frames]


def _column(key: str, value: Any) -> scenes.Change:
    return lambda meta: meta["train"][key].__setitem__(0, value)


def _last_rows(meta: Dict[str, Any]) -> None:
    for frame in meta["frames"]:
        frame["transform_matrix"][3] = [0.0, 0.0, 0.0, 7.0]


def _no_splits(meta: Dict[str, Any]) -> None:
    meta.update(train_filenames=[], val_filenames=[], test_filenames=[])


def _numbers_as_text(meta: Dict[str, Any]) -> None:
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        meta[key] = str(meta[key])


_PATH = {"camera_path": [{"camera_to_world": scenes.pose(0).ravel().tolist(), "fov": 50.0}]}
_SIZE = {"render_height": 12, "render_width": 16}

CASES: List[Case] = [
    # Files that are no such JSON.
    _text("empty", b"", "expected JSON"),
    _text("cut", b'{"frames": [', "expected JSON"),
    _text("bytes", b"\xff\xfe\x00\xd8{", "expected JSON"),
    _text("deep", DEEP.encode(), "levels"),
    _text("deep-but-parsed", ('{"frames": [' + "[" * 200 + "]" * 200 + "]}").encode(), "levels"),
    _text("number", b"3", "frames"),
    _text("null", b"null", "frames"),
    _text("digits", b'{"frames": ' + b"9" * 5000 + b"}", "expected JSON"),
    _text("two-values", b'{"w": 16, "w": 32, "frames": []}', "'w' twice"),
    _recoded("utf16", "utf-16"),
    _recoded("utf8-mark", "utf-8-sig"),
    # Values of the file.
    _capture("whole", lambda meta: None),
    _capture("null-focal", lambda meta: meta.update(fl_x=None, fl_y=None), "'fl_x'", "found none"),
    _capture("word-focal", _set("fl_x", "wide"), "expected a number for 'fl_x', found 'wide'"),
    _capture("list-size", _set("w", [16]), "expected a number for 'w', found [16]"),
    _capture("huge-whole-number", _set("cx", HUGE), "expected a number for 'cx'"),
    _capture("true-height", _set("h", True), "expected a number for 'h'"),
    _capture("numbers-as-text", _numbers_as_text),
    _capture("long-word", _set("k1", "x" * 100_000), "'k1'", "..."),
    _capture("null-term-of-lens", _set("k1", None)),
    _capture("model-is-a-list", _set("camera_model", ["OPENCV"]), "'camera_model'"),
    _capture("model-without-distortion", _set("camera_model", "NONE")),
    _capture("numeric-points", _set("ply_file_path", 7), "the name of a file for 'ply_file_path', found 7"),
    _capture("null-points", _set("ply_file_path", None)),
    _capture("orientation", _set("orientation_override", "sideways"), "'orientation_override'", "pca"),
    _capture("applied-square", _set("applied_transform", [[1, 0], [0, 1]]), "applied_transform", "3x4"),
    _capture("applied-word", _set("applied_transform", "none"), "applied_transform"),
    _capture("applied-four-rows", _set("applied_transform", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
    _capture("applied-scale-null", _set("applied_scale", None)),
    _capture("applied-scale-zero", _set("applied_scale", 0), "'applied_scale'"),
    _capture("near-is-a-list", _set("near", [1.0]), "0 <= near < far"),
    _capture("far-is-huge", _set("far", HUGE), "0 <= near < far"),
    _capture("distortion-list", _set("distortion_params", {"k1": 0}), "'distortion_params'"),
    _capture("split-of-strangers", _set("test_filenames", ["images/77.png"]), "'test_filenames'", "77.png"),
    _capture("splits-of-nothing", _no_splits, "'train_filenames'", "found none"),
    _capture("one-split-of-nothing", _set("val_filenames", [])),
    _capture("split-is-a-word", _set("train_filenames", "all"), "'train_filenames'", "list of names"),
    _capture("held-out-numbers", _set("held_out", [0, 8]), "'held_out'", "list of names"),
    _capture("held-out-strangers", _set("held_out", ["images/77.png"]), "'held_out'"),
    _capture("unit-is-a-word", _set("depth_scaling_factor", "mm"), "'depth_scaling_factor'"),
    # Frames.
    _capture("frames-null", _set("frames", None), "frames"),
    _capture("frames-object", _set("frames", {"0": {}}), "frames"),
    _capture("frame-null", lambda meta: meta["frames"].insert(2, None), "frame 2"),
    _capture("frame-is-a-name", lambda meta: meta["frames"].append("images/1.png"), "frame 6"),
    _capture("file-path-null", _frame("file_path", None), "'file_path'", "frame 1"),
    _capture("file-path-number", _frame("file_path", 5), "frame 1", "'file_path', found 5"),
    _capture("file-path-folder", _frame("file_path", ".."), "frame 1", "'file_path'"),
    _capture("file-path-long", _frame("file_path", "x" * 5000), "frame 1", "'file_path'"),
    _capture("file-path-zero", _frame("file_path", "images/\0.png"), "frame 1", "'file_path'"),
    _capture("mask-number", _frame("mask_path", 5), "frame 1 (images/1.png)", "'mask_path'"),
    _capture("masks-of-some", _without("mask_path", (1, 2)), "'mask_path' of every frame or of none"),
    _capture("depth-of-some", _without("depth_file_path", (1, 2))),
    _capture("depth-object", _frame("depth_file_path", {"path": "a"}), "frame 1", "'depth_file_path'"),
    _capture("focal-of-a-frame", _frame("fl_x", "a"), "frame 1 (images/1.png)", "'fl_x'"),
    _capture("matrix-null", _frame("transform_matrix", None), "frame 1", "transform_matrix"),
    _capture("matrix-word", _frame("transform_matrix", "eye"), "frame 1", "transform_matrix"),
    _capture("matrix-of-words", _frame("transform_matrix", [["a"] * 4] * 4), "frame 1", "transform_matrix"),
    _capture("matrix-ragged", _frame("transform_matrix", [[1, 0, 0, 0], [0, 1]]), "frame 1", "transform_matrix"),
    _capture("matrix-huge", _frame("transform_matrix", [[HUGE] * 4] * 4), "frame 1", "transform_matrix"),
    _capture("matrix-three-rows", _frame("transform_matrix", scenes.pose(1)[:3].tolist())),
    _capture("matrix-other-last-row", _last_rows),
    # Other layouts.
    _of("sensor-null", scenes.write_capture, "rgbd-data", _frame("depth_file_path", None, 0), "depth of view 0 (0"),
    _of("blender-angle", scenes.write_blender, BLENDER, _set("camera_angle_x", {}), TRAIN, "'camera_angle_x'"),
    _of("blender-null-angle", scenes.write_blender, BLENDER, _set("camera_angle_x", None), TRAIN, "'camera_angle_x'"),
    _of("blender-name", scenes.write_blender, BLENDER, _frame("file_path", None), TRAIN, "'file_path'", "frame 1"),
    _of("multiscale-null", scenes.write_multiscale, MULTISCALE, _set("test", None), METADATA, "train and test"),
    _of("multiscale-list", scenes.write_multiscale, MULTISCALE, _set("train", [1]), METADATA, "'train'"),
    _of("multiscale-word", scenes.write_multiscale, MULTISCALE, _column("focal", "a"), METADATA, "'focal'"),
    _of("multiscale-name", scenes.write_multiscale, MULTISCALE, _column("file_path", 3), METADATA, "'file_path'"),
    _of("scannet-focal", scenes.write_scannet, "rgbd-data", _frame("fx", [14]), TRAIN, "'fx'"),
    _of("scannet-width", scenes.write_scannet, "rgbd-data", _frame("w", 0), TRAIN, "'w'"),
    _of("scannet-near", scenes.write_scannet, "rgbd-data", _set("near", "0"), TRAIN, "'near'"),
    _object_set("angle", _set("camera_angle_x", [0.9]), "'camera_angle_x'"),
    _object_set("angle-huge", _set("camera_angle_x", HUGE), "'camera_angle_x'"),
    _object_set("name", _frame("file_path", 0), "frame 1", "'file_path'"),
    # Notes of our own.
    _note("list", "[]", "expected a JSON object, found list"),
    _note("deep", DEEP, "levels"),
    _note("polarity", '{"polarity": ["distance"]}', "expected polarity"),
    _note("unit-infinite", '{"unit": Infinity}', "'unit'"),
    _note("unit-huge", f'{{"unit": {HUGE}}}', "'unit'"),
    _note("empty-word", '{"may_be_empty": "no"}', "'may_be_empty'"),
    _stored("whole", lambda content: None),
    _stored("no-splits", lambda content: content.pop("splits"), "'splits'"),
    _stored("focal-null", lambda content: content["splits"]["train"]["cameras"].update(fx=None), "'fx'", "null"),
    _stored("focal-cut", lambda content: content["splits"]["train"]["cameras"]["fx"].pop(), "1 fx"),
    _stored("near-word", lambda content: content["geometry"].update(near="2"), "'near'"),
    _stored("space", lambda content: content["geometry"].update(ray_space="round"), "'ray_space'"),
    _stored("poses-flat", lambda content: content.update(poses=[1.0, 2.0]), "'poses'"),
    _stored("indices", lambda content: content.update(train_indices=[0.5]), "'train_indices'"),
    _stored("files", lambda content: content["splits"]["train"].update(files=3), "'files'"),
    _camera_path("frames", {**_SIZE, "camera_path": {"0": 1}}, "'camera_path'"),
    _camera_path("frame", {**_SIZE, "camera_path": [None]}, "'camera_path'"),
    _camera_path("matrix", {**_SIZE, "camera_path": [{"camera_to_world": [1.0] * 12, "fov": 50}]}, "frame 0", "4x4"),
    _camera_path("angle", {**_SIZE, "camera_path": [{**_PATH["camera_path"][0], "fov": "wide"}]}, "frame 0", "'fov'"),
    _camera_path("size", {**_PATH, "render_height": "tall", "render_width": 16}, "'render_height'"),
]

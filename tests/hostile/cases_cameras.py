"""Cameras whose numbers are none, in every layout, and flags whose numbers are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from camera_scenes import COUNT, HEIGHT, LAYOUTS, UNUSED, WIDTH, read_cameras
from corpus import Action, Case, training_inputs

NAN, INF = float("nan"), float("inf")
Change = Callable[[np.ndarray], np.ndarray]


def _at(place: Any, value: Any) -> Change:
    """Puts a value, or what a function makes of the old one, at a place of an array."""

    def change(array: np.ndarray) -> np.ndarray:
        changed = np.array(array)
        changed[place] = value(changed[place]) if callable(value) else value
        return changed

    return change


def _case(
    name: str, layout: str, says: Optional[Sequence[str]], flags: Optional[Dict[str, Any]] = None, **changes: Any
) -> Case:
    """A scene of a layout with other numbers and flags."""
    made = LAYOUTS[layout]

    def prepare(folder: Path) -> Action:
        data = made.broken(**changes)(folder)
        if made.many:
            return lambda: read_cameras(made, data, **(flags or {}))
        return training_inputs(made.parser, data, **{**made.flags, **(flags or {})})

    kind = "camera" if flags is None else "flag"
    return Case(f"{layout}-{name}", kind, prepare, None if says is None else tuple(says))


def _rows(name: str, place: Any, value: Any, *says: str) -> Case:
    return _case(name, "llff", ("poses_bounds.npy", *says), rows=_at(place, value))


_TRAINED, _TESTED = "photo 2.png", "photo 1.png"
_FOCAL, _SIZE, _BOUND = "expected a positive focal length", "expected a photo of 1 to 1e+06 pixels", "depth bounds"
# Of a row: 3x5 matrix by rows, whose last column is height, width, focal length.
_HEIGHT_AT, _WIDTH_AT, _FOCAL_AT = 4, 9, 14

_LLFF = [
    _rows("focal-zero", (2, _FOCAL_AT), 0.0, _TRAINED, _FOCAL),
    _rows("focal-of-all-zero", (slice(None), _FOCAL_AT), 0.0, _FOCAL),
    _rows("focal-huge", (2, _FOCAL_AT), 1e300, _TRAINED, "focal length in pixels of the photo"),
    _rows("focal-negative", (2, _FOCAL_AT), -9.0, _TRAINED, _FOCAL),
    _rows("focal-infinite", (1, _FOCAL_AT), INF, _TESTED, _FOCAL),
    _rows("focal-nan", (2, _FOCAL_AT), NAN, _TRAINED, _FOCAL),
    _rows("focal-of-first-zero", (0, _FOCAL_AT), 0.0, "photo 0.png", "serves the whole scene"),
    _rows("height-zero", (2, _HEIGHT_AT), 0.0, _TRAINED, _SIZE),
    _rows("width-zero", (2, _WIDTH_AT), 0.0, _TRAINED, _SIZE),
    _rows("height-negative", (2, _HEIGHT_AT), -8.0, _TRAINED, _SIZE),
    _rows("size-nan", (2, _WIDTH_AT), NAN, _TRAINED, _SIZE),
    _rows("near-beyond-far", (2, slice(15, 17)), (6.0, 2.5), _TRAINED, _BOUND, "in row 2"),
    _rows("bound-zero", (2, 15), 0.0, _TRAINED, _BOUND),
    _rows("bound-nan-unused", (UNUSED, 16), NAN, "photo 5.png", _BOUND),
    _rows("bound-infinite", (2, 16), INF, _TRAINED, _BOUND),
    _rows("bounds-tiny", (slice(None), 15), 1e-9, "near the origin", "a unit of the files is 1.33e+09"),
    _rows("bounds-denormal", (slice(None), 15), 1e-310, "a finite transform and a positive scale"),
    _rows("place-huge", (2, 3), 1e300, "2.png", "beyond 1e+15"),
    _rows("place-far", (2, 3), 1e12, "photo 2.png", "near the origin"),
    _rows("pose-nan-unused", (UNUSED, 0), NAN, "5.png", "finite camera poses"),
    _rows("axes-zero", (2, [0, 1, 2, 5, 6, 7, 10, 11, 12]), 0.0, "2.png", "expected a rotation"),
    _rows("axes-doubled-unused", (UNUSED, [0, 5, 10]), lambda axis: 2.0 * axis, "5.png", "expected a rotation"),
    _case("focal-zero-unused", "llff", None, rows=_at((UNUSED, _FOCAL_AT), 0.0)),
    _case("size-nan-unused", "llff", None, rows=_at((UNUSED, slice(_HEIGHT_AT, None, 5)), NAN)),
    _case("bounds-equal", "llff", None, rows=_at((slice(None), 15), 6.0)),
    _case("complex", "llff", ("poses_bounds.npy", "complex128"), rows=lambda rows: rows + 1j),
    _case("strings", "llff", ("poses_bounds.npy", "<U"), rows=lambda rows: rows.astype(str)),
    _case(
        "structured", "llff", ("poses_bounds.npy", "expected a numeric array"), rows=lambda rows: np.zeros(6, "f8,f8")
    ),
    _case("fifteen-columns", "llff", ("poses_bounds.npy", "(N, 17), found (6, 15)"), rows=lambda rows: rows[:, :15]),
    _case("three-axes", "llff", ("poses_bounds.npy", "(N, 17), found (6, 17, 1)"), rows=lambda rows: rows[..., None]),
    _case("rows-too-few", "llff", ("poses_bounds.npy", "one row per photo, found 4 rows"), rows=lambda rows: rows[:4]),
]


def _opposite(rows: np.ndarray) -> np.ndarray:
    """Every second camera turned around its up axis, so that viewing axes cancel."""
    changed = rows.copy()
    matrices = changed[:, :15].reshape(-1, 3, 5)
    matrices[:] = matrices[0]
    matrices[::2, :, 1:3] *= -1.0
    changed[:, :15] = matrices.reshape(-1, 15)
    return changed


_LLFF.append(_case("axes-cancel", "llff", ("poses_bounds.npy", "viewing axes"), rows=_opposite))

_SINGULAR = "projection matrix whose 3x3 part has an inverse"
_DTU = [
    _case(
        "singular", "dtu", ("pos_003.txt", _SINGULAR), projections=_at((2, slice(None), slice(0, 3)), np.ones((3, 3)))
    ),
    _case("zero", "dtu", ("pos_003.txt", _SINGULAR), projections=_at(2, 0.0)),
    # The world is centred on all calibrated views, so one that is not used must be right as well.
    _case("singular-unused", "dtu", ("pos_006.txt", _SINGULAR, "used or not"), projections=_at(UNUSED, 0.0)),
    _case("nan-unused", "dtu", ("pos_006.txt", "finite camera poses"), projections=_at((UNUSED, 0, 0), NAN)),
    _case("huge", "dtu", ("pos_003.txt", "beyond 1e+15"), projections=_at((2, 0, 3), 1e300)),
    _case("tiny", "dtu", ("pos_003.txt", _SINGULAR), projections=_at(2, lambda matrix: 1e-60 * matrix)),
    _case("negative", "dtu", ("cal18", "rect_003", _FOCAL), projections=_at(2, lambda matrix: -matrix)),
    _case(
        "far-off", "dtu", ("cal18", "rect_003", "a principal point"), projections=_at((2, 0), lambda row: row + 400.0)
    ),
    _case("size-zero", "dtu", ("--calibration-size", "1 or more"), {"calibration_size": (0, 0)}),
    _case("size-negative", "dtu", ("--calibration-size", "1 or more"), {"calibration_size": (-8, -10)}),
    _case("max-images", "dtu", ("--max-images", "1 or more"), {"max_images": 0}),
    _case("scaled-by-a-factor", "dtu", None, projections=lambda matrices: 1e-3 * matrices),
]


def _upside_down(poses: np.ndarray) -> np.ndarray:
    """All cameras turned alike, every second one upside down."""
    changed = poses.copy()
    changed[:, :3, :3] = poses[0, :3, :3]
    changed[::2, :3, :2] *= -1.0
    return changed


_STATED = "expected a positive number"
_TRANSFORMS = [
    _case("fl-nan", "transforms", ("transforms.json", "frame 0", "'fl_x'"), fl_x=NAN),
    _case("fl-zero", "transforms", ("transforms.json", "frame 0", _STATED), fl_x=0.0),
    _case("fl-negative", "transforms", ("transforms.json", "frame 0", _STATED), fl_y=-9.0),
    _case("fl-infinite", "transforms", ("transforms.json", "frame 0", "'fl_x'"), fl_x=INF),
    _case("fl-huge", "transforms", ("transforms.json", "photo 0.png", "positive focal length"), fl_x=1e300),
    _case("fl-tiny", "transforms", ("transforms.json", "photo 0.png", "focal length in pixels"), fl_y=1e-3),
    _case("cx-nan", "transforms", ("transforms.json", "frame 0", "'cx'"), cx=NAN),
    _case("cx-zero", "transforms", None, cx=0.0),
    _case("cx-huge", "transforms", ("transforms.json", "photo 0.png", "principal point"), cx=1e9),
    _case("w-negative", "transforms", ("transforms.json", "frame 0", "'w'"), w=-10),
    _case("h-huge", "transforms", ("transforms.json", "frame 0", _SIZE), h=1e300),
    _case("h-below-one", "transforms", ("transforms.json", "frame 0", _SIZE), h=0.5),
    _case("h-zero", "transforms", ("transforms.json", "frame 0", "'h'"), h=0),
    _case("distortion-nan", "transforms", ("transforms.json", "'k1'"), k1=NAN),
    _case("distortion-huge", "transforms", ("transforms.json", "photo 0.png", "finite distortion"), k1=1e300),
    _case("distortion-wild", "transforms", ("transforms.json", "photo 0.png", "can be undone"), k2=-1e4),
    _case("near-beyond-far", "transforms", ("transforms.json", "near < far"), near=9.0),
    _case("stated-far-infinite", "transforms", ("transforms.json", "near < far"), far=INF),
    _case("pose-nan", "transforms", ("transforms.json", "frame 2", "finite"), poses=_at((2, 0, 3), NAN)),
    _case("place-huge", "transforms", ("transforms.json", "frame 2", "1e+15"), poses=_at((2, 0, 3), 1e300)),
    _case("place-far", "transforms", ("transforms.json", "images/2.png", "origin"), poses=_at((2, 0, 3), 1e14)),
    _case(
        "map-coordinates",
        "transforms",
        ("transforms.json", "images/", "subtract a common offset"),
        poses=_at((slice(None), 0, 3), lambda places: places + 5e6),
    ),
    _case(
        "up-cancels",
        "transforms",
        ("transforms.json", "up", "--orientation-method none"),
        poses=_upside_down,
    ),
    *(
        _case(f"applied-scale-{word}", "transforms", ("transforms.json", "'applied_scale'"), applied_scale=value)
        for word, value in (("zero", 0.0), ("negative", -1.0), ("nan", NAN), ("infinite", INF), ("tiny", 1e-300))
    ),
]

_FRAMES = [
    _case("fl-huge", "frames", ("transforms.json", "photo 2.png", "focal length"), inner=_at((2, 0), 1e12)),
    _case("fl-huge-unused", "frames", None, inner=_at((UNUSED, 0), 1e12)),
    _case("distortion-unused", "frames", None, inner=_at((UNUSED, 4), 1e300)),
    _case("cx-huge-test", "frames", ("transforms.json", "photo 1.png", "principal point"), inner=_at((1, 2), -1e6)),
]

_BLENDER = [
    _case("angle-zero", "blender", ("transforms_train.json", "between 0 and pi"), camera_angle_x=0.0),
    _case("angle-degrees", "blender", ("transforms_train.json", "found 40, which in degrees"), camera_angle_x=40.0),
    _case("angle-nan", "blender", ("transforms_train.json", "'camera_angle_x'"), camera_angle_x=NAN),
    _case("angle-negative", "blender", ("transforms_train.json", "between 0 and pi"), camera_angle_x=-0.7),
    _case("angle-tiny", "blender", ("input", "photo train/r_0.png", "focal length"), camera_angle_x=1e-5),
    _case("angle-almost-pi", "blender", ("input", "photo train/r_0.png", "focal length"), camera_angle_x=3.1415),
    _case("place-far", "blender", ("input", "photo train/r_3.png", "near the origin"), poses=_at((3, 0, 3), 1e9)),
    _case("place-huge", "blender", ("transforms_train.json", "frame 3", "1e+15"), poses=_at((3, 0, 3), 1e200)),
]


def _unit(word: str, value: Any) -> Case:
    def prepare(folder: Path) -> Action:
        data = LAYOUTS["transforms"].write(folder, LAYOUTS["transforms"].numbers())
        path = folder / "transforms.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "depth_scaling_factor": value}))
        return training_inputs("fewshot-nerfstudio-data", data)

    return Case(f"depth-scaling-factor-{word}", "depth", prepare, ("transforms.json", "'depth_scaling_factor'"))


def _note(word: str, value: Any) -> Case:
    def prepare(folder: Path) -> Action:
        data = LAYOUTS["rgbd"].write(folder, LAYOUTS["rgbd"].numbers())
        (folder / "train" / "target_depth" / "depth.json").write_text(json.dumps({"unit": value}))
        return training_inputs("rgbd-data", data)

    return Case(f"depth-note-unit-{word}", "depth", prepare, ("depth.json", "'unit'"))


def _limit(word: str, value: Any) -> Case:
    def prepare(folder: Path) -> Action:
        data = LAYOUTS["rgbd"].write(folder, LAYOUTS["rgbd"].numbers())
        (folder / "config.json").write_text(json.dumps({"max_depth": value}))
        return training_inputs("rgbd-data", data)

    return Case(f"max-depth-of-config-{word}", "depth", prepare, ("config.json", "'max_depth'"))


def _mono(folder: Path) -> Action:
    """Maps of unknown scale, and nothing that says near and far."""
    data = LAYOUTS["rgbd"].write(folder, LAYOUTS["rgbd"].numbers())
    for path in folder.glob("transforms_*.json"):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in meta.items() if key not in ("near", "far")}))
    return training_inputs("rgbd-data", data, depth_source="mono")


_RGBD = [
    _case("fx-zero", "rgbd", ("transforms_train.json", "frame 0", "'fx'"), fx=0.0),
    _case("w-zero", "rgbd", ("transforms_train.json", "frame 0", "'w'"), w=0.0),
    _case("cx-nan", "rgbd", ("transforms_train.json", "frame 0", "'cx'"), cx=NAN),
    _case("fy-huge", "rgbd", ("input", "photo train/rgb/0.png", "focal length"), fy=1e30),
    _case("far-infinite", "rgbd", ("input", "far between"), far=INF),
    _case("near-nan", "rgbd", ("input", "0 <= near < far"), near=NAN),
    Case("rgbd-mono-without-far", "camera", _mono, ("input", "give --near and --far")),
    *(_unit(word, value) for word, value in (("zero", 0), ("infinite", INF), ("nan", NAN), ("tiny", 1e-310))),
    *(_note(word, value) for word, value in (("infinite", INF), ("nan", NAN), ("negative", -1))),
    *(_limit(word, value) for word, value in (("nan", NAN), ("negative", -2.0))),
]

_OTHERS = [
    _case("singular", "idr", ("cameras_sphere.npz", "world_mat_2"), worlds=_at((2, slice(0, 3)), 1.0)),
    _case("nan-unused", "idr", ("cameras_sphere.npz", "world_mat_5"), worlds=_at((UNUSED, 0, 0), NAN)),
    _case("huge", "idr", ("cameras_sphere.npz", "world_mat_2", "huge"), worlds=_at((2, 0, 3), 1e300)),
    _case("scale-zero", "idr", ("cameras_sphere.npz", "scale_mat"), scales=0.0),
    _case("scale-huge", "idr", ("cameras_sphere.npz", "huge"), scales=_at((slice(None), 0, 0), 1e300)),
    _case("focal-zero", "multiscale", ("input", "images_train/0_d0.png", _FOCAL), focal=0.0),
    _case("width-zero", "multiscale", ("input", "images_train/0_d0.png"), width=0.0),
    _case("near-nan", "multiscale", ("input", "0 <= near < far"), near=NAN),
    _case("focal-zero", "colmap", ("sparse/0", "positive focal lengths"), inner=_at(0, 0.0)),
    _case("focal-huge", "colmap", ("sparse/0", "photo 0.png", "focal length in pixels"), inner=_at(0, 1e300)),
    _case("cx-huge", "colmap", ("sparse/0", "photo 0.png", "principal point"), inner=_at(2, 1e12)),
    _case("distortion-wild", "colmap", ("sparse/0", "photo 0.png", "can be undone"), inner=_at(5, -1e4)),
    _case("quaternion-nan", "colmap", ("sparse/0", "2.png", "finite camera poses"), images=_at((2, 0), NAN)),
    _case("quaternion-zero", "colmap", ("sparse/0", "2.png", "unit quaternion"), images=_at((2, slice(0, 4)), 0.0)),
    _case("place-huge", "colmap", ("sparse/0", "5.png", "1e+15"), images=_at((UNUSED, 4), 1e20)),
    _case("place-far", "colmap", ("sparse/0", "2.png", "around the origin"), images=_at((2, 4), 1e14)),
]

_MANY = [
    _case("focal-zero", "srn", ("one", "photo 000000.png", "positive focal lengths"), inner=_at(0, 0.0)),
    _case("focal-nan", "srn", ("intrinsics.txt", "finite numbers"), inner=_at(0, NAN)),
    _case("focal-tiny", "srn", ("one", "photo 000000.png", "focal length in pixels"), inner=_at(0, 1e-9)),
    _case("centre-far", "srn", ("one", "photo 000000.png", "principal point"), inner=_at(1, 1e9)),
    _case("size-huge", "srn", ("one", "of 1 to 1e+06 pixels"), inner=_at(slice(3, 5), 1e30)),
    _case("pose-nan", "srn", ("000002.txt", "finite numbers"), poses=_at((2, 0, 3), NAN)),
    _case("pose-zero", "srn", ("one", "000002.png", "expected a rotation"), poses=_at((2, 0, slice(0, 3)), 0.0)),
    _case("place-far", "srn", ("one", "photo 000002.png", "near the origin"), poses=_at((2, 0, 3), 1e9)),
    _case("near-beyond-far", "srn", ("one", "0 <= near < far"), range=np.flip),
    _case("far-huge", "srn", ("one", "far between"), range=_at(1, 1e30)),
    _case("world-scale-zero", "srn", ("--world-scale",), {"world_scale": 0.0}),
    _case("world-scale-infinite", "srn", ("--world-scale",), {"world_scale": INF}),
    _case("far-nan", "srn", ("--far",), {"far": NAN}),
    _case("image-size-zero", "srn", ("--image-size",), {"image_size": (0, 0)}),
    _case("downscale-zero", "srn", ("--downscale-factor",), {"downscale_factor": 0}),
    _case("nan", "nmr", ("cameras.npz", "camera_mat_2"), inner=_at((2, 0, 0), NAN)),
    _case("focal-zero", "nmr", ("one", "photo 0002.png", "positive focal lengths"), inner=_at((2, 0, 0), 0.0)),
    _case("singular", "nmr", ("cameras.npz", "world_mat_2"), worlds=_at((2, slice(0, 3)), 1.0)),
    _case("singular", "dvr-dtu", ("cameras.npz", "world_mat_2", _SINGULAR), worlds=_at((2, slice(0, 3)), 1.0)),
    _case("zero", "dvr-dtu", ("cameras.npz", "world_mat_2", _SINGULAR), worlds=_at((2, slice(0, 3)), 0.0)),
    _case("interval-zero", "mvsnet", ("00000002_cam.txt", "positive interval"), depths=_at((2, 1), 0.0)),
    _case("interval-huge", "mvsnet", ("scan1_train", "far between"), depths=_at((2, 1), 1e30)),
    _case("extrinsic-singular", "mvsnet", ("00000002_cam.txt", "invertible"), extrinsics=_at(2, 0.0)),
    _case("focal-negative", "mvsnet", ("scan1_train", "photo rect_003", "focal"), inner=_at((2, 0, 0), -9.0)),
    _case("scale-zero", "mvsnet", ("--scale",), {"scale": 0.0}),
    _case("size-zero", "mvsnet", ("--calibration-size",), {"calibration_size": (0, 0)}),
    _case("no-views", "mvsnet", ("--num-views",), {"num_views": 0}),
    _case("angle-zero", "multi-object", ("transforms.json", "between 0 and pi"), camera_angle_x=0.0),
    _case("angle-degrees", "multi-object", ("transforms.json", "between 0 and pi"), camera_angle_x=40.0),
    _case("angle-tiny", "multi-object", ("one", "photo r_0_obj.png", "focal length"), camera_angle_x=1e-9),
    _case("place-huge", "multi-object", ("transforms.json", "frame 2", "1e+15"), poses=_at((2, 0, 3), 1e300)),
]

_FLAG_VALUES: Tuple[Tuple[str, str, Any, str], ...] = (
    ("near-nan", "near", NAN, "--near"),
    ("near-infinite", "near", INF, "--near"),
    ("near-negative", "near", -1.0, "--near"),
    ("far-infinite", "far", INF, "--far"),
    ("far-nan", "far", NAN, "--far"),
    ("far-zero", "far", 0.0, "--far"),
    ("far-huge", "far", 1e30, "--near and --far"),
    ("depth-unit-nan", "depth_unit", NAN, "--depth-unit"),
    ("depth-unit-infinite", "depth_unit", INF, "--depth-unit"),
    ("depth-unit-negative", "depth_unit", -0.001, "--depth-unit"),
    ("depth-unit-tiny", "depth_unit", 1e-300, "--depth-unit"),
    ("max-depth-nan", "max_depth", NAN, "--max-depth"),
    ("max-depth-negative", "max_depth", -1.0, "--max-depth"),
    ("downscale-zero", "downscale_factor", 0, "--downscale-factor"),
    ("downscale-negative", "downscale_factor", -2, "--downscale-factor"),
)
_FLAGS = [_case(name, "transforms", (flag,), {field: value}) for name, field, value, flag in _FLAG_VALUES]
_FLAGS.append(_case("far-infinite", "dtu", ("--far",), {"far": INF}))
_FLAGS.append(_case("max-depth-without-limit", "transforms", None, {"max_depth": INF}))


def _folder_of_scenes(folder: Path) -> Action:
    from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig
    from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig

    layout = LAYOUTS["frames"]
    layout.broken(inner=_at((2, 0), 1e12))(folder / "train" / "one")
    config = SceneFolderDataParserConfig(data=folder, parser=FewShotNerfstudioDataParserConfig())
    parser: Any = config.setup()
    return lambda: parser.open_scene(parser.scene_table("train")[0])


def _two_negative_factors(folder: Path) -> Action:
    from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig
    from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig

    layout = LAYOUTS["frames"]
    layout.write(folder / "train" / "one", layout.numbers())
    own = FewShotNerfstudioDataParserConfig(downscale_factor=-1)
    parser: Any = SceneFolderDataParserConfig(data=folder, parser=own, downscale_factor=-1).setup()
    return lambda: parser.open_scene(parser.scene_table("train")[0])


def _found_by_its_files(layout: str, **changes: Any) -> Callable[[Path], Action]:
    def prepare(folder: Path) -> Action:
        return training_inputs("fewshot-data", LAYOUTS[layout].broken(**changes)(folder))

    return prepare


def _stored(folder: Path) -> Action:
    """The scene that a run keeps, with a number that is none."""
    from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
    from fewshot_ns.data.dataparsers.single.stored import StoredSceneDataParserConfig, synthetic_scene

    content = synthetic_scene(FewShotBlenderDataParserConfig(), 2)
    content["splits"]["train"]["cameras"]["fx"][1] = [NAN]
    content["splits"]["train"]["files"] = ["first.png", "second.png"]
    (folder / "scene.json").write_text(json.dumps(content))
    parser = StoredSceneDataParserConfig(data=folder / "scene.json").setup()
    return lambda: parser.get_dataparser_outputs("train")


_SPECIAL: List[Case] = [
    Case("folder-focal-huge", "camera", _folder_of_scenes, ("train/one/transforms.json", "photo 2.png", "focal")),
    Case("folder-negative-factors", "flag", _two_negative_factors, ("--downscale-factor",)),
    Case("auto-llff-focal-zero", "camera", _found_by_its_files("llff", rows=_at((0, 14), 0.0)), ("poses_bounds.npy",)),
    Case("auto-transforms-fl-zero", "camera", _found_by_its_files("transforms", fl_x=0.0), ("transforms.json",)),
    Case("auto-blender-angle", "camera", _found_by_its_files("blender", camera_angle_x=0.0), ("transforms_train",)),
    Case("stored-scene-fx-nan", "camera", _stored, ("scene.json", "photo second.png", "positive focal length")),
]
assert (COUNT, HEIGHT, WIDTH) == (6, 8, 10), "places in the cases are of scenes of this size"

CASES = [*_LLFF, *_DTU, *_TRANSFORMS, *_FRAMES, *_BLENDER, *_RGBD, *_OTHERS, *_MANY, *_FLAGS, *_SPECIAL]

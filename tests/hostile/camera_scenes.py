"""Tiny scenes in every layout, whose every number of a camera can be another one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import look_at

Array = npt.NDArray[np.float64]
Numbers = Dict[str, Array]
COUNT, HEIGHT, WIDTH = 6, 8, 10
FOCAL = 9.0
TRAIN, TEST, UNUSED = (0, 2, 4), (1,), 5
_BOTTOM = np.array([[0.0, 0.0, 0.0, 1.0]])


def opengl_poses(count: int = COUNT) -> Array:
    """(count, 4, 4) cameras on a shallow arc, 4 before what they look at, which is the origin."""
    poses = []
    for angle in np.linspace(-0.3, 0.3, count):
        place = 4.0 * np.array([np.sin(angle), 0.1 * np.cos(5.0 * angle), np.cos(angle)])
        poses.append(np.concatenate([look_at(place, np.zeros(3), np.array([0.0, 1.0, 0.0])), _BOTTOM]))
    return np.stack(poses)


def _opencv_poses() -> Array:
    return opengl_poses() * np.array([1.0, -1.0, -1.0, 1.0])


def _photos(folder: Path, names: Sequence[str], size: Tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*size, 3), 20 + 30 * (number % 7), dtype=np.uint8))


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf8")


def _scalars(numbers: Numbers, but: Sequence[str] = ("poses",)) -> Dict[str, float]:
    return {name: float(values.ravel()[0]) for name, values in numbers.items() if name not in but}


def _llff(folder: Path, numbers: Numbers) -> Path:
    _photos(folder, [f"images/{view}.png" for view in range(COUNT)])
    np.save(folder / "poses_bounds.npy", numbers["rows"])
    return folder


def _llff_numbers() -> Numbers:
    rows = []
    for pose in opengl_poses():
        hwf = np.array([HEIGHT, WIDTH, FOCAL])
        rows.append([*np.stack([-pose[:3, 1], pose[:3, 0], pose[:3, 2], pose[:3, 3], hwf], axis=1).ravel(), 2.5, 6.0])
    return {"rows": np.array(rows)}


def _dtu(folder: Path, numbers: Numbers) -> Path:
    cameras = folder / "cal18"
    cameras.mkdir(parents=True)
    for view, projection in enumerate(numbers["projections"]):
        np.savetxt(cameras / f"pos_{view + 1:03d}.txt", projection)
    _photos(folder / "scan1", [f"rect_{view + 1:03d}_3_r5000.png" for view in range(COUNT)])
    return folder / "scan1"


def _projections(shift: float = 0.0) -> Array:
    """(N, 3, 4) in pixels of the photos."""
    matrix = np.array([[FOCAL, 0.0, 0.5 * WIDTH - shift], [0.0, FOCAL, 0.5 * HEIGHT - shift], [0.0, 0.0, 1.0]])
    return matrix @ np.linalg.inv(_opencv_poses())[:, :3]


def _idr(folder: Path, numbers: Numbers) -> Path:
    _photos(folder, [f"image/{view:03d}.png" for view in range(COUNT)])
    scales = {f"scale_mat_{view}": matrix for view, matrix in enumerate(numbers["scales"])}
    np.savez(
        folder / "cameras_sphere.npz",
        **{f"world_mat_{view}": matrix for view, matrix in enumerate(numbers["worlds"])},
        **scales,
    )
    return folder


def _idr_numbers() -> Numbers:
    worlds = np.concatenate([_projections(0.5), np.tile(_BOTTOM, (COUNT, 1, 1))], axis=1)
    return {"worlds": worlds, "scales": np.tile(np.diag([1.5, 1.5, 1.5, 1.0]), (COUNT, 1, 1))}


def _frames(names: Sequence[str], poses: Array) -> List[Dict[str, Any]]:
    return [{"file_path": name, "transform_matrix": pose.tolist()} for name, pose in zip(names, poses, strict=True)]


def _transforms(folder: Path, numbers: Numbers) -> Path:
    names = [f"images/{view}.png" for view in range(COUNT)]
    _photos(folder, names)
    _json(folder / "transforms.json", {**_scalars(numbers), "frames": _frames(names, numbers["poses"])})
    return folder


def _transforms_numbers() -> Numbers:
    inner = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 0.5 * WIDTH, "cy": 0.5 * HEIGHT, "w": WIDTH, "h": HEIGHT}
    bent = {"k1": -0.05, "k2": 0.01, "p1": 0.001, "p2": -0.001}
    world = {"applied_scale": 2.0, "near": 0.5, "far": 8.0}
    return {name: np.array([value], dtype=np.float64) for name, value in {**inner, **bent, **world}.items()} | {
        "poses": opengl_poses()
    }


def _per_frame(folder: Path, numbers: Numbers) -> Path:
    """Intrinsics of each frame; near and far are a guess."""
    names = [f"images/{view}.png" for view in range(COUNT)]
    _photos(folder, names)
    frames = _frames(names, numbers["poses"])
    keys = ("fl_x", "fl_y", "cx", "cy", "k1", "k2")
    for frame, own in zip(frames, numbers["inner"], strict=True):
        frame.update(zip(keys, own.tolist(), strict=True))
        frame.update(w=WIDTH, h=HEIGHT)
    _json(folder / "transforms.json", {"frames": frames})
    return folder


def _per_frame_numbers() -> Numbers:
    inner = [FOCAL, FOCAL, 0.5 * WIDTH, 0.5 * HEIGHT, -0.02, 0.01]
    return {"poses": opengl_poses(), "inner": np.tile(inner, (COUNT, 1))}


def _blender(folder: Path, numbers: Numbers) -> Path:
    for split, poses in (("train", numbers["poses"]), ("test", opengl_poses(3))):
        names = [f"{split}/r_{view}" for view in range(len(poses))]
        _photos(folder, [f"{name}.png" for name in names])
        _json(folder / f"transforms_{split}.json", {**_scalars(numbers), "frames": _frames(names, poses)})
    return folder


def _blender_numbers() -> Numbers:
    return {"poses": opengl_poses(), "camera_angle_x": np.array([1.0])}


def _rgbd_split(folder: Path, numbers: Numbers) -> Path:
    for split, poses in (("train", numbers["poses"]), ("test", opengl_poses(2))):
        names = [f"{split}/rgb/{view}.png" for view in range(len(poses))]
        _photos(folder, names)
        (folder / split / "target_depth").mkdir()
        for view in range(len(poses)):
            depth = np.full((HEIGHT, WIDTH), 4000, dtype=np.uint16)
            cv2.imwrite(str(folder / split / "target_depth" / f"{view}.png"), depth)
        _json(folder / f"transforms_{split}.json", {**_scalars(numbers), "frames": _frames(names, poses)})
    return folder


def _rgbd_numbers() -> Numbers:
    inner = {"fx": FOCAL, "fy": FOCAL, "cx": 0.5 * WIDTH, "cy": 0.5 * HEIGHT, "w": WIDTH, "h": HEIGHT}
    return {name: np.array([value], dtype=np.float64) for name, value in {**inner, "near": 0.5, "far": 9.0}.items()} | {
        "poses": opengl_poses()
    }


def _multiscale(folder: Path, numbers: Numbers) -> Path:
    content: Dict[str, Any] = {}
    for split, poses in (("train", numbers["poses"]), ("test", opengl_poses(2))):
        names = [f"images_{split}/{view}_d0.png" for view in range(len(poses))]
        _photos(folder, names)
        own: Dict[str, List[Any]] = {"file_path": list(names), "cam2world": poses.tolist()}
        for name in ("width", "height", "focal", "near", "far", "label", "lossmult"):
            own[name] = numbers[name][: len(poses)].tolist()
        content[split] = own
    _json(folder / "metadata.json", content)
    return folder


def _multiscale_numbers() -> Numbers:
    same = {"width": WIDTH, "height": HEIGHT, "focal": FOCAL, "near": 2.0, "far": 6.0, "label": 0.0, "lossmult": 1.0}
    return {name: np.full(COUNT, float(value)) for name, value in same.items()} | {"poses": opengl_poses()}


def _colmap(folder: Path, numbers: Numbers) -> Path:
    names = [f"{view}.png" for view in range(COUNT)]
    _photos(folder / "images", names)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    fx, fy, cx, cy, *bent = (repr(float(value)) for value in numbers["inner"])
    (model / "cameras.txt").write_text(f"1 OPENCV {WIDTH} {HEIGHT} {fx} {fy} {cx} {cy} {' '.join(bent)}\n")
    lines = []
    for view, (name, pose) in enumerate(zip(names, numbers["images"], strict=True)):
        lines.append(f"{view + 1} {' '.join(repr(float(value)) for value in pose)} 1 {name}\n\n")
    (model / "images.txt").write_text("".join(lines))
    (model / "points3D.txt").write_text("")
    return folder


def _colmap_numbers() -> Numbers:
    from scipy.spatial.transform import Rotation

    world_to_camera = np.linalg.inv(_opencv_poses())
    quaternions = Rotation.from_matrix(world_to_camera[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    inner = np.array([FOCAL, FOCAL, 0.5 * WIDTH, 0.5 * HEIGHT, -0.02, 0.01, 0.001, 0.001])
    return {"images": np.concatenate([quaternions, world_to_camera[:, :3, 3]], axis=1), "inner": inner}


def _srn(folder: Path, numbers: Numbers) -> Path:
    scene = folder / "cars_train" / "one"
    _photos(scene, [f"rgb/{view:06d}.png" for view in range(COUNT)])
    focal, across, down, height, width = (repr(float(value)) for value in numbers["inner"])
    (scene / "intrinsics.txt").write_text(f"{focal} {across} {down} 0.\n0. 0. 0.\n1.\n{height} {width}\n")
    (scene / "pose").mkdir()
    for view, pose in enumerate(numbers["poses"]):
        (scene / "pose" / f"{view:06d}.txt").write_text(" ".join(repr(float(value)) for value in pose.ravel()))
    (folder / "cars_train" / "near_far.txt").write_text(" ".join(repr(float(value)) for value in numbers["range"]))
    return folder / "cars"


def _srn_numbers() -> Numbers:
    inner = np.array([FOCAL, 0.5 * WIDTH, 0.5 * HEIGHT, HEIGHT, WIDTH])
    return {"inner": inner, "poses": _opencv_poses(), "range": np.array([2.0, 6.0])}


def _nmr(folder: Path, numbers: Numbers) -> Path:
    scene = folder / "chairs" / "one"
    _photos(scene, [f"image/{view:04d}.png" for view in range(COUNT)])
    arrays = {f"camera_mat_{view}": matrix for view, matrix in enumerate(numbers["inner"])}
    np.savez(
        scene / "cameras.npz", **arrays, **{f"world_mat_{view}": one for view, one in enumerate(numbers["worlds"])}
    )
    (folder / "chairs" / "softras_train.lst").write_text("one\n")
    return folder


def _nmr_numbers() -> Numbers:
    return {
        "inner": np.tile(np.diag([1.8, 1.8, 1.0, 1.0]), (COUNT, 1, 1)),
        "worlds": np.linalg.inv(_opencv_poses()),
    }


def _dvr_dtu(folder: Path, numbers: Numbers) -> Path:
    scene = folder / "scan1"
    _photos(scene, [f"image/{view:06d}.png" for view in range(COUNT)])
    arrays = {f"world_mat_{view}": matrix for view, matrix in enumerate(numbers["worlds"])}
    np.savez(
        scene / "cameras.npz", **arrays, **{f"scale_mat_{view}": one for view, one in enumerate(numbers["scales"])}
    )
    (folder / "new_train.lst").write_text("scan1\n")
    return folder


def _multi_object(folder: Path, numbers: Numbers) -> Path:
    scene = folder / "train" / "one"
    names = [f"r_{view}" for view in range(COUNT)]
    _photos(scene, [f"{name}_obj.png" for name in names])
    _json(scene / "transforms.json", {**_scalars(numbers), "frames": _frames(names, numbers["poses"])})
    return folder


def _mvsnet(folder: Path, numbers: Numbers) -> Path:
    for view in range(COUNT):
        extrinsic, intrinsic, depth = (
            " ".join(repr(float(value)) for value in numbers[name][view].ravel())
            for name in ("extrinsics", "inner", "depths")
        )
        path = folder / "Cameras" / "train" / f"{view:08d}_cam.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"extrinsic\n{extrinsic}\n\nintrinsic\n{intrinsic}\n\n{depth}\n")
    _photos(folder / "Rectified" / "scan1_train", [f"rect_{view + 1:03d}_3_r5000.png" for view in range(COUNT)])
    (folder / "dtu_train_all.txt").write_text("scan1\n")
    return folder


def _mvsnet_numbers() -> Numbers:
    world_to_camera = np.linalg.inv(_opencv_poses() * np.array([1.0, 1.0, 1.0, 200.0]) + np.zeros((4, 4)))
    world_to_camera[:, 3] = _BOTTOM
    inner = np.array([[FOCAL, 0.0, 4.5], [0.0, FOCAL, 3.5], [0.0, 0.0, 1.0]])
    return {
        "extrinsics": world_to_camera,
        "inner": np.tile(inner, (COUNT, 1, 1)),
        "depths": np.tile([500.0, 2.5], (COUNT, 1)),
    }


@dataclass(frozen=True)
class Layout:
    """A layout of scenes."""

    parser: str
    """Name of its dataparser."""
    numbers: Callable[[], Numbers]
    """What cameras are made of, as it is stored."""
    write: Callable[[Path, Numbers], Path]
    """Writes a scene of such numbers into a folder; what --data is given."""
    flags: Mapping[str, Any] = field(default_factory=lambda: {"train_indices": TRAIN, "test_indices": TEST})
    """Flags of the dataparser."""
    many: bool = False
    """Whether it holds many scenes."""

    def broken(self, **changes: Any) -> Callable[[Path], Path]:
        """Writer of a scene with other numbers: by name one for all entries of the array, or a function of it."""

        def write(folder: Path) -> Path:
            numbers = self.numbers()
            for name, change in changes.items():
                new: Any = change(numbers[name]) if callable(change) else np.full_like(numbers[name], change)
                numbers[name] = new
            return self.write(folder, numbers)

        return write


_FEW = {"train_indices": (0, 2, 4), "test_indices": (0,)}
_MVSNET = {"calibration_size": (HEIGHT, WIDTH), "num_views": COUNT, "train_lights": (3,)}
LAYOUTS: Dict[str, Layout] = {
    "llff": Layout("llff-data", _llff_numbers, _llff),
    "dtu": Layout(
        "dtu-data",
        lambda: {"projections": _projections()},
        _dtu,
        {"calibration_size": (HEIGHT, WIDTH), "train_indices": TRAIN, "test_indices": TEST},
    ),
    "idr": Layout("idr-data", _idr_numbers, _idr),
    "transforms": Layout("fewshot-nerfstudio-data", _transforms_numbers, _transforms),
    "frames": Layout("fewshot-nerfstudio-data", _per_frame_numbers, _per_frame),
    "blender": Layout("fewshot-blender-data", _blender_numbers, _blender, _FEW),
    "rgbd": Layout("rgbd-data", _rgbd_numbers, _rgbd_split, {"train_indices": TRAIN, "test_indices": (6,)}),
    "multiscale": Layout("multiscale-blender-data", _multiscale_numbers, _multiscale, _FEW),
    "colmap": Layout("fewshot-colmap-data", _colmap_numbers, _colmap),
    "srn": Layout("srn-data", _srn_numbers, _srn, {}, many=True),
    "nmr": Layout("nmr-data", _nmr_numbers, _nmr, {}, many=True),
    "dvr-dtu": Layout("dvr-dtu-data", _idr_numbers, _dvr_dtu, {"average_intrinsics": False}, many=True),
    "multi-object": Layout("multi-object-data", _blender_numbers, _multi_object, {}, many=True),
    "mvsnet": Layout("mvsnet-dtu-data", _mvsnet_numbers, _mvsnet, _MVSNET, many=True),
}
"""Every layout by a short name."""


def read_cameras(layout: Layout, data: Path, **flags: Any) -> List[Any]:
    """nerfstudio's cameras of the training and the test views of a scene, and its near and far.

    Returns:
        [cameras of training views, cameras of test views, (near, far)].
    """
    from fewshot_ns.data.dataparsers.automatic import CONFIGS
    from fewshot_ns.data.records.metadata import get_fewshot_metadata

    config: Any = replace(CONFIGS[layout.parser](), data=data, **{**layout.flags, **flags})  # type: ignore[arg-type]
    parser = config.setup()
    if layout.many:
        scene = parser.open_scene(parser.scene_table("train")[0])
        return [scene.cameras, scene.cameras, (scene.near, scene.far)]
    train, test = (parser.get_dataparser_outputs(split) for split in ("train", "test"))
    geometry = get_fewshot_metadata(train.metadata).geometry
    return [train.cameras, test.cameras, (geometry.near, geometry.far)]

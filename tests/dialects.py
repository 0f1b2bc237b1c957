"""The same few spheres in every dialect in which people store captures, and what each dataparser makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np
import numpy.typing as npt
from colmap_models import Lens, Spheres, planar_depth, write_spheres
from PIL import Image

from fewshot_ns.cameras.poses import flip_camera_axes

CENTRED = Lens("SIMPLE_PINHOLE", middle=(0.5, 0.5), aspect=1.0)
"""What formats can say that know a focal length alone."""
COUNT = 8
TRAIN, TEST = (0, 3, 6), (1, 4)

PARSERS = (
    "fewshot-data",
    "llff-data",
    "dtu-data",
    "fewshot-blender-data",
    "fewshot-nerfstudio-data",
    "rgbd-data",
    "fewshot-colmap-data",
    "idr-data",
)
"""Dataparsers of the matrix; the first goes by the files."""
RIGHT = "right"


@dataclass
class Written:
    """A capture on disk, and the truth about it in the world of its files."""

    data: Path
    """What --data is given."""
    pixels: Dict[str, npt.NDArray[np.float64]]
    """(P, 2) column and row of the points in each photo, by the end of its path."""
    points: npt.NDArray[np.float64]
    """(P, 3)."""
    depths: Dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """(H, W) planar depth, 0 where nothing is seen, of formats that hold it."""
    flags: Dict[str, Any] = field(default_factory=lambda: {"train_indices": TRAIN, "test_indices": TEST})
    """Flags of the dataparser."""


@dataclass(frozen=True)
class Dialect:
    """A way of storing captures."""

    title: str
    """For the documentation."""
    write: Callable[[Path], Written]
    outcomes: Mapping[str, str]
    """By dataparser: RIGHT, or a part of the error. Dataparsers that are not named here do not know the files, and
    say so."""


def _scene(folder: Path, lens: Lens = CENTRED, **options: Any) -> Spheres:
    """Photos in `folder`; COLMAP's files, which most dialects do not have, go elsewhere."""
    model = options.pop("model", "../model")
    return write_spheres(folder, (lens,), count=COUNT, model=model, **options)


def _poses(scene: Spheres) -> npt.NDArray[np.float64]:
    """(N, 4, 4) camera to world, OpenGL axes."""
    turned = scene.rotations.transpose(0, 2, 1)
    places = -np.einsum("nij,nj->ni", turned, scene.translations)
    poses = flip_camera_axes(np.concatenate([turned, places[..., None]], axis=2))
    return np.concatenate([poses, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(poses), 1, 1))], axis=1)


def _written(data: Path, scene: Spheres, names: Optional[Sequence[str]] = None, **more: Any) -> Written:
    names = scene.names if names is None else names
    pixels = {name: scene.lenses[view].project(scene.local(view)) for view, name in enumerate(names)}
    return Written(data, pixels, scene.points, **more)


def _frames(scene: Spheres, folder: str = "images") -> List[Dict[str, Any]]:
    return [
        {"file_path": f"{folder}/{name}", "transform_matrix": pose.tolist()}
        for name, pose in zip(scene.names, _poses(scene), strict=True)
    ]


def _intrinsics(lens: Lens) -> Dict[str, Any]:
    numbers = lens.parameters
    fx, fy, cx, cy = [numbers[0], *numbers[:3]] if lens.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL") else numbers[:4]
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": lens.size[1], "h": lens.size[0]}


def _angle(lens: Lens) -> float:
    return 2.0 * float(np.arctan(0.5 * lens.size[1] / lens.focal))


Change = Callable[[Dict[str, Any], Spheres, Path], Any]


def _transforms(change: Change = lambda meta, scene, folder: None, lens: Optional[Lens] = None, mark: str = "") -> Any:
    """Writer of a transforms.json that `change` has its way with."""

    def write(folder: Path) -> Written:
        scene = _scene(folder, lens or Lens())
        meta = {**_intrinsics(scene.lenses[0]), "frames": _frames(scene)}
        change(meta, scene, folder)
        (folder / "transforms.json").write_text(mark + json.dumps(meta), encoding="utf8")
        return _written(folder, scene)

    return write


def _each(**entries: Any) -> Change:
    """Puts entries into the file."""
    return lambda meta, scene, folder: meta.update(entries)


def _per_frame(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    own = {name: meta.pop(name) for name in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    for frame in meta["frames"]:
        frame.update(own)


def _angle_alone(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        meta.pop(name)
    meta["camera_angle_x"] = _angle(scene.lenses[0])


def _instant_ngp(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for frame in meta["frames"]:
        frame["file_path"] = "./" + frame["file_path"].rpartition(".")[0]
        frame["sharpness"] = 30.0
    (folder / "images" / scene.names[7]).unlink()
    meta.update(aabb_scale=4, camera_angle_x=_angle(scene.lenses[0]))


def _backslashes(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for frame in meta["frames"]:
        frame["file_path"] = "C:\\Users\\me\\capture\\" + frame["file_path"].replace("/", "\\")


def _three_rows(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for frame in meta["frames"]:
        frame["transform_matrix"] = frame["transform_matrix"][:3]


def _scaled(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for frame in meta["frames"]:
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, :3] *= 1.7
        frame["transform_matrix"] = matrix.tolist()


def _opencv_axes(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for frame in meta["frames"]:
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, 1:3] *= -1
        frame["transform_matrix"] = matrix.tolist()


def _one_place(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    for frame in meta["frames"]:
        frame["transform_matrix"] = meta["frames"][0]["transform_matrix"]


def _twice(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    meta["frames"][2]["file_path"] = meta["frames"][1]["file_path"]


def _other_focal(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    _angle_alone(meta, scene, folder)
    meta["fl_x"] = 2.0 * scene.lenses[0].focal


def _some_masks(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    _wrong_mask(meta, scene, folder)
    meta["frames"][1].pop("mask_path")
    meta["frames"][4]["mask_path"] = None


def _one_frame(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    meta["frames"] = meta["frames"][:1]


def _depth_pngs(unit: float, name: str = "depth_file_path", **entries: Any) -> Change:
    """16-bit depth whose numbers count `unit`."""

    def change(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
        (folder / "depth").mkdir()
        for view, frame in enumerate(meta["frames"]):
            frame[name] = f"depth/{Path(scene.names[view]).stem}.png"
            stored = np.round(planar_depth(scene, view) / unit).astype(np.uint16)
            Image.fromarray(stored).save(folder / frame[name])
        meta.update(entries)

    return change


def _depth_folder(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    """The maps that no frame names."""
    _depth_pngs(0.0002, depth_scaling_factor=5000)(meta, scene, folder)
    (folder / "depth").rename(folder / "depth_maps")
    for frame in meta["frames"]:
        frame.pop("depth_file_path")


def _depth_of_frames(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    _depth_pngs(0.0002)(meta, scene, folder)
    for frame in meta["frames"]:
        frame["depth_scaling_factor"] = 5000


def _with_depths(write: Callable[[Path], Written], lens: Lens) -> Callable[[Path], Written]:
    def both(folder: Path) -> Written:
        written = write(folder)
        scene = _scene(folder.parent / "again", lens, model="model")
        written.depths = {name: planar_depth(scene, view) for view, name in enumerate(scene.names)}
        return written

    return both


def _wrong_mask(meta: Dict[str, Any], scene: Spheres, folder: Path) -> None:
    (folder / "masks").mkdir()
    for view, frame in enumerate(meta["frames"]):
        frame["mask_path"] = f"masks/{view}.png"
        Image.fromarray(np.full((64, 48), 255, dtype=np.uint8)).save(folder / frame["mask_path"])


def _llff(folder: Path) -> Written:
    scene = _scene(folder)
    rows = []
    for view, pose in enumerate(_poses(scene)):
        height, width = scene.lenses[view].size
        hwf = np.array([height, width, scene.lenses[view].focal])
        matrix = np.stack([-pose[:3, 1], pose[:3, 0], pose[:3, 2], pose[:3, 3], hwf], axis=1)
        rows.append([*matrix.ravel(), 2.5, 6.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return _written(folder, scene)


def _dtu(folder: Path) -> Written:
    data, cameras = folder / "Rectified" / "scan1", folder / "SampleSet" / "MVS Data" / "Calibration" / "cal18"
    cameras.mkdir(parents=True)
    scene = _scene(data, Lens(), images=".", name_of=lambda view: f"rect_{view + 1:03d}_3_r5000.png")
    for view, projection in enumerate(_projections(scene, 25.0)):
        np.savetxt(cameras / f"pos_{view + 1:03d}.txt", projection)
    return _written(data, scene)


def _projections(scene: Spheres, enlarged: float = 1.0, shift: float = 0.0) -> npt.NDArray[np.float64]:
    """(N, 3, 4) projections to pixels of a photo that is `enlarged`, whose first pixel's corner is at `-shift`."""
    entries = _intrinsics(scene.lenses[0])
    matrix = np.diag([entries["fl_x"], entries["fl_y"], 1.0])
    matrix[:2, 2] = entries["cx"] - shift, entries["cy"] - shift
    poses = np.concatenate([scene.rotations, scene.translations[..., None]], axis=2)
    return np.diag([enlarged, enlarged, 1.0]) @ matrix @ poses


def _idr(folder: Path) -> Written:
    scene = _scene(folder, Lens(), images="image")
    scale = np.diag([2.0, 2.0, 2.0, 1.0])
    scale[:3, 3] = [0.05, 0.02, 0.1]
    arrays: Dict[str, npt.NDArray[np.float64]] = {}
    (folder / "mask").mkdir()
    for view, projection in enumerate(_projections(scene, shift=0.5)):
        arrays[f"world_mat_{view}"] = np.concatenate([projection, [[0.0, 0.0, 0.0, 1.0]]])
        arrays[f"scale_mat_{view}"] = scale
        mask = (planar_depth(scene, view) > 0).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "mask" / scene.names[view])
    np.savez(folder / "cameras_sphere.npz", **arrays)
    return _written(folder, scene)


def _blender(change: Callable[[Dict[str, Any], Lens], Any], lens: Lens = CENTRED) -> Callable[[Path], Written]:
    """Writer of a training and a test split, each in a file of its own."""

    def write(folder: Path) -> Written:
        scene = _scene(folder, lens, images="all")
        names: List[str] = []
        for split, views in (("train", TRAIN), ("test", TEST)):
            (folder / split).mkdir()
            frames = []
            for number, view in enumerate(views):
                (folder / "all" / scene.names[view]).rename(folder / split / f"r_{number}.png")
                frames.append({"file_path": f"./{split}/r_{number}", "transform_matrix": _poses(scene)[view].tolist()})
                names.append(f"{split}/r_{number}.png")
            meta: Dict[str, Any] = {"frames": frames}
            change(meta, lens)
            (folder / f"transforms_{split}.json").write_text(json.dumps(meta), encoding="utf8")
        kept = [*TRAIN, *TEST]
        pixels = {name: scene.lenses[0].project(scene.local(view)) for name, view in zip(names, kept, strict=True)}
        # Every eighth test frame is measured; near and far as these cameras have them.
        flags = {"train_indices": tuple(range(len(TRAIN))), "test_indices": tuple(range(len(TEST)))}
        return Written(folder, pixels, scene.points, flags=flags)

    return write


def _own_angles(meta: Dict[str, Any], lens: Lens) -> None:
    for frame in meta["frames"]:
        frame["camera_angle_x"] = _angle(lens)


def _colmap(lens: Lens, suffix: str = ".bin", **options: Any) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        return _written(folder, _scene(folder, lens, model="sparse/0", suffix=suffix, **options))

    return write


def _colmap_twice(folder: Path) -> Written:
    written = _colmap(Lens(), ".txt")(folder)
    images = folder / "sparse" / "0" / "images.txt"
    images.write_text(images.read_text().replace("photo_002.png", "photo_001.png"))
    return written


def _rig(view: int) -> str:
    return f"{('left', 'right')[view % 2]}/{view // 2:04d}.png"


_FILE = {"fewshot-data": RIGHT, "fewshot-nerfstudio-data": RIGHT}


def _refused(message: str, *parsers: str) -> Dict[str, str]:
    return dict.fromkeys(("fewshot-data", *parsers), message)


def _file_refused(message: str) -> Dict[str, str]:
    return _refused(message, "fewshot-nerfstudio-data", "rgbd-data")


_NO_DEPTH = {"rgbd-data": "depth"}

DIALECTS: Dict[str, Dialect] = {
    "llff": Dialect("LLFF: `poses_bounds.npy`", _llff, {"fewshot-data": RIGHT, "llff-data": RIGHT}),
    "dtu": Dialect("DTU: `rect_001_*.png` and projections", _dtu, {"fewshot-data": RIGHT, "dtu-data": RIGHT}),
    "idr": Dialect(
        "IDR and NeuS: `cameras_sphere.npz`, `image/`, `mask/`", _idr, {"fewshot-data": RIGHT, "idr-data": RIGHT}
    ),
    "blender": Dialect(
        "Blender: `transforms_train.json` with `camera_angle_x`",
        _blender(lambda meta, lens: meta.update(camera_angle_x=_angle(lens))),
        {"fewshot-data": RIGHT, "fewshot-blender-data": RIGHT},
    ),
    "blender-intrinsics": Dialect(
        "the same with `fl_x`, `fl_y`, `cx`, `cy`",
        _blender(lambda meta, lens: meta.update(_intrinsics(lens)), Lens()),
        {"fewshot-data": RIGHT, "fewshot-blender-data": RIGHT},
    ),
    "blender-angles": Dialect(
        "the same with `camera_angle_x` in each frame",
        _blender(_own_angles),
        {"fewshot-data": RIGHT, "fewshot-blender-data": RIGHT},
    ),
    "transforms": Dialect("nerfstudio: `transforms.json`", _transforms(), _FILE | _NO_DEPTH),
    "transforms-frames": Dialect("the same with intrinsics in each frame", _transforms(_per_frame), _FILE | _NO_DEPTH),
    "transforms-angle": Dialect(
        "the same with `camera_angle_x` alone", _transforms(_angle_alone, CENTRED), _FILE | _NO_DEPTH
    ),
    "transforms-distorted": Dialect(
        "the same with the distortion k1, k2, p1, p2",
        _transforms(_each(camera_model="OPENCV", k1=-0.05, k2=0.01, p1=0.002, p2=-0.003), Lens("OPENCV")),
        _FILE | _NO_DEPTH,
    ),
    "transforms-rows": Dialect("the same with matrices of three rows", _transforms(_three_rows), _FILE | _NO_DEPTH),
    "transforms-bom": Dialect("the same with the mark of UTF-8", _transforms(mark="\ufeff"), _FILE | _NO_DEPTH),
    "instant-ngp": Dialect(
        "instant-ngp: names without suffix, a photo that is not there", _transforms(_instant_ngp), _FILE | _NO_DEPTH
    ),
    "windows": Dialect("paths of another machine, with backslashes", _transforms(_backslashes), _FILE | _NO_DEPTH),
    "depth-mm": Dialect(
        "`depth_file_path`: 16-bit depth in millimetres",
        _with_depths(_transforms(_depth_pngs(0.001)), Lens()),
        _FILE | {"rgbd-data": RIGHT},
    ),
    "depth-5000": Dialect(
        "the same with `depth_scaling_factor` 5000",
        _with_depths(_transforms(_depth_pngs(0.0002, depth_scaling_factor=5000)), Lens()),
        _FILE | {"rgbd-data": RIGHT},
    ),
    "depth-ngp": Dialect(
        "instant-ngp's `depth_path` with `integer_depth_scale`",
        _with_depths(_transforms(_depth_pngs(0.0002, "depth_path", integer_depth_scale=0.0002)), Lens()),
        _FILE | {"rgbd-data": RIGHT},
    ),
    "depth-folder": Dialect(
        "the same in a folder `depth_maps`, named by no frame",
        _with_depths(_transforms(_depth_folder), Lens()),
        _FILE | {"rgbd-data": RIGHT},
    ),
    "depth-frames": Dialect(
        "the same with the factor in each frame",
        _with_depths(_transforms(_depth_of_frames), Lens()),
        _FILE | {"rgbd-data": RIGHT},
    ),
    "fisheye": Dialect("`is_fisheye`", _transforms(_each(is_fisheye=True)), _file_refused("is_fisheye")),
    "fisheye-model": Dialect(
        "`camera_model: OPENCV_FISHEYE`",
        _transforms(_each(camera_model="OPENCV_FISHEYE")),
        _file_refused("OPENCV_FISHEYE"),
    ),
    "rolling-shutter": Dialect(
        "a rolling shutter", _transforms(_each(rolling_shutter=[0.0, 0.0, 0.01, 0.0])), _file_refused("rolling_shutter")
    ),
    "distortion-model": Dialect(
        "`distortion_model: equidistant`",
        _transforms(_each(distortion_model="equidistant")),
        _file_refused("equidistant"),
    ),
    "other-focal": Dialect(
        "`fl_x` of an image of another size beside `camera_angle_x`",
        _transforms(_other_focal, CENTRED),
        _file_refused("one focal length"),
    ),
    "scaled": Dialect("rotations times 1.7", _transforms(_scaled), _file_refused("1.7")),
    "opencv-axes": Dialect("poses with OpenCV's axes", _transforms(_opencv_axes), _file_refused("axes")),
    "one-place": Dialect("all cameras in one place", _transforms(_one_place), _file_refused("place")),
    "one-frame": Dialect("one frame", _transforms(_one_frame), _file_refused("at least 2 frames")),
    "twice": Dialect("one photo with two poses", _transforms(_twice), _file_refused("photo_001")),
    "mask-turned": Dialect(
        "masks of other proportions than the photos",
        _transforms(_wrong_mask),
        _refused("proportions", "fewshot-nerfstudio-data"),
    ),
    "mask-some": Dialect(
        "masks of some frames", _transforms(_some_masks), _refused("mask_path", "fewshot-nerfstudio-data", "rgbd-data")
    ),
    "colmap-bin": Dialect(
        "COLMAP: `sparse/0`, binary, PINHOLE", _colmap(Lens()), {"fewshot-data": RIGHT, "fewshot-colmap-data": RIGHT}
    ),
    "colmap-txt": Dialect(
        "the same as text, SIMPLE_RADIAL",
        _colmap(Lens("SIMPLE_RADIAL"), ".txt"),
        {"fewshot-data": RIGHT, "fewshot-colmap-data": RIGHT},
    ),
    "colmap-opencv": Dialect(
        "the same, OPENCV", _colmap(Lens("OPENCV")), {"fewshot-data": RIGHT, "fewshot-colmap-data": RIGHT}
    ),
    "colmap-rig": Dialect(
        "the same, a rig with photos of one name in two folders",
        _colmap(Lens(), name_of=_rig),
        {"fewshot-data": RIGHT, "fewshot-colmap-data": RIGHT},
    ),
    "colmap-twice": Dialect(
        "the same, one photo with two poses", _colmap_twice, _refused("two of photo_001", "fewshot-colmap-data")
    ),
    "colmap-full": Dialect(
        "the same, FULL_OPENCV", _colmap(Lens("FULL_OPENCV")), _refused("FULL_OPENCV", "fewshot-colmap-data")
    ),
    "colmap-fisheye": Dialect(
        "the same, OPENCV_FISHEYE", _colmap(Lens("OPENCV_FISHEYE")), _refused("OPENCV_FISHEYE", "fewshot-colmap-data")
    ),
}
"""Every dialect by a short name; the order is that of the documentation's table."""


def table() -> str:
    """The documentation's table of dialects, Markdown."""
    named = [parser for parser in PARSERS if parser != "fewshot-data"]
    lines = ["| what lies in the folder | read by | by `--data` alone |", "| --- | --- | --- |"]
    for dialect in DIALECTS.values():
        readers = [f"`{parser}`" for parser in named if dialect.outcomes.get(parser) == RIGHT]
        alone = "read" if dialect.outcomes["fewshot-data"] == RIGHT else "refused, with the reason"
        lines.append(f"| {dialect.title} | {', '.join(readers) or '-'} | {alone} |")
    return "\n".join(lines) + "\n"

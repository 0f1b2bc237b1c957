"""The same few spheres in the layouts of data sets of many scenes, and what each dataparser makes of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt
from colmap_models import Lens, Spheres, planar_depth, write_spheres
from dialects import DIALECTS, RIGHT, TEST, TRAIN, Written, _angle, _poses, _projections, _scene, _written
from PIL import Image

from fewshot_ns.cameras.poses import flip_camera_axes

SET_PARSERS = (
    "fewshot-data",
    "srn-data",
    "nmr-data",
    "dvr-dtu-data",
    "multi-object-data",
    "mvsnet-dtu-data",
    "scene-folder-data",
)
"""Dataparsers of data sets; the first goes by the files, as in methods that train across scenes."""
_SHIFTED = Lens("SIMPLE_PINHOLE", middle=(0.5 + 0.5 / 64, 0.5 + 0.5 / 48), aspect=1.0)
"""Half the sides, counted from the centre of the first pixel: what formats without a principal point mean."""
_SQUARE = Lens("SIMPLE_PINHOLE", middle=(0.52, 0.49), aspect=1.0)
SCENES = ("a", "b")


@dataclass(frozen=True)
class SetDialect:
    """A layout of many scenes."""

    title: str
    """For the documentation."""
    write: Callable[[Path], Written]
    """Writes scenes into an empty folder; what it gives is the first one's truth, and --data of them all."""
    outcomes: Mapping[str, str]
    """By dataparser: RIGHT, or a part of the error. Those that are not named do not know the files, and say so."""
    scenes: str = ""
    """Of folders of scenes: the dataparser of the scenes."""
    views: Tuple[Tuple[int, ...], Tuple[int, ...]] = (TRAIN, TEST)
    """Views that train and that test, by their place in the scene."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Flags of the dataparser beside these."""


def _opencv(scene: Spheres) -> npt.NDArray[np.float64]:
    """(N, 4, 4) camera to world, OpenCV axes."""
    poses = _poses(scene)
    poses[:, :3] = flip_camera_axes(poses[:, :3])
    return poses


def _each(folder: Path, write: Callable[[Path], Written], names: Sequence[str] = SCENES) -> Written:
    """Scenes in sub-folders, alike; without what their writers put beside them: COLMAP's files, and a second scene that
    gives true depth."""
    written = [write(_made(folder / name)) for name in names]
    for beside in ("model", "again"):
        shutil.rmtree(folder / beside, ignore_errors=True)
    return replace(written[0], data=folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _srn(scale: float = 1.0) -> Callable[[Path], Written]:
    def one(folder: Path) -> Written:
        scene = _scene(folder, _SQUARE, images="rgb")
        (folder / "pose").mkdir()
        for name, pose in zip(scene.names, _opencv(scene), strict=True):
            pose[:3, :3] *= scale
            np.savetxt(folder / "pose" / f"{Path(name).stem}.txt", pose.reshape(1, 16))
        focal, cx, cy = _SQUARE.parameters
        text = f"{focal} {cx - 0.5} {cy - 0.5} 0.\n0. 0. 0.\n1.\n48 64\n"
        (folder / "intrinsics.txt").write_text(text, "utf8")
        return _written(folder, scene)

    def write(folder: Path) -> Written:
        written = _each(folder / "things_train", one)
        (folder / "things_train" / "near_far.txt").write_text("2.5 6.0", "utf8")
        shutil.copytree(folder / "things_train", folder / "things_test")
        return replace(written, data=folder)

    return write


def _lists(folder: Path, prefix: str, names: Sequence[str] = SCENES) -> None:
    for split in ("train", "val", "test"):
        (folder / f"{prefix}{split}.lst").write_text("\n".join(names), "utf8")


def _nmr(folder: Path) -> Written:
    def one(scene_folder: Path) -> Written:
        scene = _scene(scene_folder, _SHIFTED, images="image")
        arrays: Dict[str, npt.NDArray[np.float64]] = {}
        (scene_folder / "mask").mkdir()
        for view, pose in enumerate(_opencv(scene)):
            arrays[f"camera_mat_{view}"] = np.diag([2 * _SHIFTED.focal / 64, 2 * _SHIFTED.focal / 48, 1.0, 1.0])
            arrays[f"world_mat_inv_{view}"] = pose
            arrays[f"world_mat_{view}"] = np.linalg.inv(pose)
            mask = (planar_depth(scene, view) > 0).astype(np.uint8) * 255
            Image.fromarray(mask).save(scene_folder / "mask" / scene.names[view])
        np.savez(scene_folder / "cameras.npz", **arrays)
        return _written(scene_folder, scene)

    written = _each(folder / "things", one)
    _lists(folder / "things", "softras_")
    return replace(written, data=folder)


def _dvr(folder: Path) -> Written:
    def one(scene_folder: Path) -> Written:
        scene = _scene(scene_folder, Lens(), images="image")
        bottom = [[0.0, 0.0, 0.0, 1.0]]
        matrices = [np.concatenate([matrix, bottom]) for matrix in _projections(scene, shift=0.5)]
        arrays = {f"world_mat_{view}": matrix for view, matrix in enumerate(matrices)}
        np.savez(scene_folder / "cameras.npz", **arrays)
        return _written(scene_folder, scene)

    written = _each(folder, one)
    _lists(folder, "new_")
    return written


def _dvr_short(folder: Path) -> Written:
    written = _dvr(folder)
    with np.load(folder / "a" / "cameras.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if name != "world_mat_2"}
    np.savez(folder / "a" / "cameras.npz", **arrays)
    return written


def _idr_set(folder: Path) -> Written:
    """Scans of IDR and NeuS, listed as in DVR's sets."""
    written = _each(folder, DIALECTS["idr"].write)
    for name in SCENES:
        (folder / name / "cameras_sphere.npz").rename(folder / name / "cameras.npz")
    _lists(folder, "new_")
    return written


def _multi_object(**entries: Any) -> Callable[[Path], Written]:
    def one(folder: Path) -> Written:
        scene = _scene(folder, _SHIFTED, images=".", name_of=lambda view: f"{view:03d}_obj.png")
        frames = [
            {"file_path": f"./{view:03d}", "transform_matrix": pose.tolist()} for view, pose in enumerate(_poses(scene))
        ]
        meta = {"camera_angle_x": _angle(_SHIFTED), "frames": frames, **entries}
        (folder / "transforms.json").write_text(json.dumps(meta), "utf8")
        return _written(folder, scene)

    def write(folder: Path) -> Written:
        written = _each(folder / "train", one)
        shutil.copytree(folder / "train", folder / "test")
        return replace(written, data=folder)

    return write


def _mvsnet(folder: Path) -> Written:
    lens = Lens(size=(32, 40), focal=38.0)
    scans = folder / "Rectified" / "scan1_train"
    scene = write_spheres(
        scans, (lens,), count=49, images=".", model="../../../model", name_of=lambda v: f"rect_{v + 1:03d}_3_r5000.png"
    )
    larger = 160 / 40
    entries = [lens.focal, lens.aspect * lens.focal, lens.middle[0] * 40 - 0.5, lens.middle[1] * 32 - 0.5]
    fx, fy, cx, cy = (larger * value for value in entries)
    depths = {}
    _made(folder / "Cameras" / "train")
    _made(folder / "Depths" / "scan1")
    for view, name in enumerate(scene.names):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = scene.rotations[view], scene.translations[view]
        rows = "\n".join(" ".join(map(repr, map(float, row))) for row in matrix)
        (folder / "Cameras" / "train" / f"{view:08d}_cam.txt").write_text(
            f"extrinsic\n{rows}\n\nintrinsic\n{fx} 0 {cx}\n0 {fy} {cy}\n0 0 1\n\n2.5 0.02\n", "utf8"
        )
        for light in (0, 1, 2, 4, 5, 6):
            shutil.copyfile(scans / name, scans / name.replace("_3_", f"_{light}_"))
        depth = planar_depth(scene, view)
        depths |= {name: depth, name.replace("_3_", "_0_"): depth}
        # Twice the size, of which every second pixel is the photo's.
        rows_up = np.repeat(np.repeat(depth, 2, axis=0), 2, axis=1)[::-1].astype("<f4")
        content = b"Pf\n80 64\n-1.0\n" + rows_up.tobytes()
        (folder / "Depths" / "scan1" / f"depth_map_{view:04d}.pfm").write_bytes(content)
    for split in ("train", "test"):
        (folder / f"{split}.lst").write_text("scan1\n", "utf8")
    own = _written(folder, scene, depths=depths)
    own.pixels |= {name.replace("_3_", "_0_"): pixels for name, pixels in own.pixels.items()}
    return own


def _mvsnet_lacking(folder: Path) -> Written:
    written = _mvsnet(folder)
    (folder / "Rectified" / "scan1_train" / "rect_005_0_r5000.png").unlink()
    return written


def _folders(dialect: str) -> Callable[[Path], Written]:
    return lambda folder: _each(folder, DIALECTS[dialect].write)


def _mixed(folder: Path) -> Written:
    written = _each(folder, DIALECTS["llff"].write, ("a",))
    DIALECTS["transforms"].write(_made(folder / "b"))
    shutil.rmtree(folder / "model")
    return written


def _both(parser: str) -> Dict[str, str]:
    return {"fewshot-data": RIGHT, parser: RIGHT}


_FOLDER = _both("scene-folder-data")

SET_DIALECTS: Dict[str, SetDialect] = {
    "srn": SetDialect("SRN: `NAME_train/OBJECT` with `rgb/`, `pose/`, `intrinsics.txt`", _srn(), _both("srn-data")),
    "nmr": SetDialect("NMR in DVR's format: `softras_*.lst`, `cameras.npz`", _nmr, _both("nmr-data")),
    "dvr-dtu": SetDialect(
        "DTU in DVR's format: `new_*.lst`, whole projections in `cameras.npz`", _dvr, _both("dvr-dtu-data")
    ),
    "idr-set": SetDialect(
        "scans of IDR and NeuS with such lists",
        _idr_set,
        {**_both("dvr-dtu-data"), "scene-folder-data": RIGHT},
        "idr-data",
    ),
    "multi-object": SetDialect(
        "`train/SCENE/transforms.json` beside `*_obj.png`", _multi_object(), _both("multi-object-data")
    ),
    "mvsnet": SetDialect("MVSNet's DTU: `Cameras/train/`, `Rectified/`, `Depths/`", _mvsnet, _both("mvsnet-dtu-data")),
    "folder-llff": SetDialect("a folder of scenes in LLFF's format", _folders("llff"), _FOLDER, "llff-data"),
    "folder-blender": SetDialect(
        "the same of Blender scenes", _folders("blender"), _FOLDER, "fewshot-blender-data", ((0, 1, 2), (3,))
    ),
    "folder-transforms": SetDialect(
        "the same of `transforms.json`", _folders("transforms-distorted"), _FOLDER, "fewshot-nerfstudio-data"
    ),
    "folder-rgbd": SetDialect("the same with depth maps", _folders("depth-5000"), _FOLDER, "rgbd-data"),
    "folder-colmap": SetDialect("the same of COLMAP's", _folders("colmap-bin"), _FOLDER, "fewshot-colmap-data"),
    "srn-scaled": SetDialect("SRN, rotations times 1.7", _srn(1.7), {"fewshot-data": "1.7", "srn-data": "1.7"}),
    "dvr-lacking": SetDialect(
        "DVR's format, one matrix missing",
        _dvr_short,
        {"fewshot-data": "world_mat_2", "dvr-dtu-data": "world_mat_2"},
    ),
    "multi-object-fisheye": SetDialect(
        "`*_obj.png` with `is_fisheye`",
        _multi_object(is_fisheye=True),
        {"fewshot-data": "is_fisheye", "multi-object-data": "is_fisheye"},
    ),
    "mvsnet-lacking": SetDialect(
        "MVSNet's DTU, one photo missing",
        _mvsnet_lacking,
        {"fewshot-data": "rect_005_0", "mvsnet-dtu-data": "rect_005_0"},
    ),
    "folder-mixed": SetDialect(
        "a folder of scenes in several formats",
        _mixed,
        {"fewshot-data": "expected scenes of one format", "scene-folder-data": "b/poses_bounds.npy"},
    ),
}
"""Every layout by a short name; the order is that of the documentation's table."""


def set_table() -> str:
    """The documentation's table of data sets, Markdown."""
    named = [parser for parser in SET_PARSERS if parser != "fewshot-data"]
    lines = ["| what lies in the folder | read by | by `--data` alone |", "| --- | --- | --- |"]
    for dialect in SET_DIALECTS.values():
        of = f" {dialect.scenes}" if dialect.scenes else ""
        readers = [
            f"`{parser}{of if parser == 'scene-folder-data' else ''}`"
            for parser in named
            if dialect.outcomes.get(parser) == RIGHT
        ]
        alone = "read" if dialect.outcomes.get("fewshot-data", RIGHT) == RIGHT else "refused, with the reason"
        lines.append(f"| {dialect.title} | {', '.join(readers) or '-'} | {alone} |")
    return "\n".join(lines) + "\n"

"""Data that was silently replaced, left out, or found damaged after training: everything is checked before it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np
from corpus import Action, Case
from dialects import DIALECTS
from PIL import Image

Change = Callable[[Path], Any]


def ready_to_train(parser: str, data: Path, metrics: Tuple[str, ...] = ("psnr",), **flags: Any) -> Action:
    """Does what training does before its first step, and what says how measuring will go."""

    def action() -> None:
        from dataclasses import replace

        from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
        from fewshot_ns.data.dataparsers.automatic import CONFIGS
        from fewshot_ns.evaluation.metrics.config import EvaluationConfig
        from fewshot_ns.evaluation.metrics.suite import MetricSuite

        config: Any = CONFIGS[parser]()
        manager = FewShotDataManagerConfig(dataparser=replace(config, data=data, **flags)).setup(device="cpu")
        MetricSuite(EvaluationConfig(metrics=metrics)).prepare_for(manager.check_files())

    return action


def scene(dialect: str, parser: str, change: Change = lambda folder: None, **more: Any) -> Callable[[Path], Action]:
    """Writer of a scene that `change` has its way with; it is given what --data is."""

    def prepare(folder: Path) -> Action:
        written = DIALECTS[dialect].write(folder)
        change(written.data)
        return ready_to_train(parser, written.data, **{**written.flags, **more})

    return prepare


def transforms(change: Callable[[Dict[str, Any], Path], Any], **more: Any) -> Callable[[Path], Action]:
    """Writer of a transforms.json, without flags that choose views: every eighth of 8 frames tests, the first."""

    def edit(folder: Path) -> None:
        path = folder / "transforms.json"
        meta = json.loads(path.read_text(encoding="utf8"))
        change(meta, folder)
        path.write_text(json.dumps(meta), encoding="utf8")

    def prepare(folder: Path) -> Action:
        written = DIALECTS["transforms"].write(folder)
        edit(written.data)
        return ready_to_train("fewshot-nerfstudio-data", written.data, **more)

    return prepare


# Calibration of DTU.


def _cal18(scan: Path) -> Path:
    return scan.parents[1] / "SampleSet" / "MVS Data" / "Calibration" / "cal18"


def _without_matrix(number: int) -> Change:
    return lambda scan: (_cal18(scan) / f"pos_{number:03d}.txt").unlink()


def _without_matrix_and_photo(scan: Path) -> None:
    _without_matrix(4)(scan)
    (scan / "rect_004_3_r5000.png").unlink()


# One photo that trains and tests.


def _spelled(meta: Dict[str, Any], folder: Path) -> None:
    first, name = meta["frames"][0], Path(meta["frames"][0]["file_path"]).name
    meta["frames"].append({**first, "file_path": f"images/../images/{name}"})
    meta["held_out"] = [first["file_path"]]


def _linked(hard: bool) -> Callable[[Dict[str, Any], Path], Any]:
    def change(meta: Dict[str, Any], folder: Path) -> None:
        first = meta["frames"][0]
        target = folder / "images" / "zz.png"
        (os.link if hard else os.symlink)(folder / first["file_path"], target)
        meta["frames"].append({**first, "file_path": "images/zz.png"})
        meta["held_out"] = [first["file_path"]]

    return change


def _folder_linked(meta: Dict[str, Any], folder: Path) -> None:
    (folder / "same").symlink_to(folder / "images", target_is_directory=True)
    first = meta["frames"][0]
    meta["frames"].append({**first, "file_path": first["file_path"].replace("images", "same")})
    meta["held_out"] = ["same/" + Path(first["file_path"]).name]


def _copied(meta: Dict[str, Any], folder: Path) -> None:
    first, other = meta["frames"][0], meta["frames"][1]
    shutil.copy(folder / first["file_path"], folder / other["file_path"])
    meta["held_out"] = [other["file_path"]]


def _test_names_a_training_photo(folder: Path) -> None:
    path = folder / "transforms_test.json"
    meta, train = (json.loads((folder / f"transforms_{split}.json").read_text()) for split in ("test", "train"))
    meta["frames"][0] = train["frames"][0]
    path.write_text(json.dumps(meta))


def _validation_is_training(folder: Path) -> None:
    shutil.copy(folder / "transforms_train.json", folder / "transforms_val.json")


# Sparse points that a file names.


def _points(content: bytes, name: str = "points.ply") -> Callable[[Dict[str, Any], Path], Any]:
    def change(meta: Dict[str, Any], folder: Path) -> None:
        meta["ply_file_path"] = name
        (folder / name).write_bytes(content)

    return change


def _ply(rows: str, count: int, axes: str = "xyz", kind: str = "ascii") -> bytes:
    names = "".join(f"property float {axis}\n" for axis in axes)
    return f"ply\nformat {kind} 1.0\nelement vertex {count}\n{names}end_header\n{rows}".encode()


def _no_points(meta: Dict[str, Any], folder: Path) -> None:
    meta["ply_file_path"] = "sparse_pc.ply"


_ROWS = "0.1 0.2 0.3\n-0.1 0.1 0.2\n0.3 -0.2 0.1\n"
_SPHERE_AXES = np.array([[0.1, 0.2, 0.3], [-0.1, 0.1, 0.2], [0.3, -0.2, 0.1]], np.float32)

# What evaluation reads.


def _damaged(name: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def _with_val(folder: Path) -> None:
    """A validation split of its own photos, beside which the test photos are cut."""
    meta = json.loads((folder / "transforms_test.json").read_text())
    (folder / "val").mkdir()
    for frame in meta["frames"]:
        name = frame["file_path"].replace("test", "val")
        image = np.array(Image.open(folder / f"{frame['file_path']}.png")) // 2
        Image.fromarray(image).save(folder / f"{name}.png")
        frame["file_path"] = name
    (folder / "transforms_val.json").write_text(json.dumps(meta))
    _damaged("test/r_1.png")(folder)


def _masks(values: Callable[[np.ndarray], np.ndarray], shape: Tuple[int, int] = (48, 64)) -> Change:
    """Object masks beside a DTU scan, of a box in the middle."""

    def change(scan: Path) -> None:
        folder = scan.parents[1] / "idrmasks" / scan.name
        folder.mkdir(parents=True)
        box = np.zeros(shape, np.uint8)
        box[shape[0] // 4 : -(shape[0] // 4), shape[1] // 4 : -(shape[1] // 4)] = 1
        for view in range(8):
            Image.fromarray(values(box).astype(np.uint8)).save(folder / f"{view:03d}.png")

    return change


def _one_mask_empty(scan: Path) -> None:
    _masks(lambda box: box * 255)(scan)
    Image.new("L", (64, 48)).save(scan.parents[1] / "idrmasks" / scan.name / "004.png")


def _mask_of_idr_empty(folder: Path) -> None:
    path = folder / "mask" / "photo_001.png"
    Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)


def _mask_of_idr_cut(folder: Path) -> None:
    _damaged("mask/photo_001.png")(folder)


def _weights(content: bytes) -> Callable[[Path], Action]:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.evaluation.metrics.config import EvaluationConfig

        path = folder / "vgg16.pth"
        path.write_bytes(content)
        config = EvaluationConfig(metrics=("lpips",), lpips_weights=path)

        def action() -> None:
            from fewshot_ns.evaluation.metrics.suite import MetricSuite

            MetricSuite(config).prepare_for([(64, 64)])

        return action

    return prepare


# Folders and files that a user names.


def _named(parser: str, dialect: str, **flags: Any) -> Callable[[Path], Action]:
    """A scene with an empty folder `empty` beside its files, and a file `broken`."""

    def prepare(folder: Path) -> Action:
        written = DIALECTS[dialect].write(folder)
        (written.data / "empty").mkdir()
        own = {name: written.data / value if name.endswith("dir") else value for name, value in flags.items()}
        return ready_to_train(parser, written.data, **{**written.flags, **own})

    return prepare


_MIXED = json.dumps({"incomplete": True, "written_by": "ns-fewshot depth", "files": ["photo_001.npz"]})


def _interrupted_maps(folder: Path) -> None:
    (folder / "depth_maps").mkdir()
    for view in range(8):
        np.savez(folder / "depth_maps" / f"photo_{view:03d}.npz", depth=np.ones((48, 64), np.float32))
    (folder / "depth_maps" / "depth.json").write_text(_MIXED)


_FRAMES = "fewshot-nerfstudio-data"

CASES = [
    Case("dtu-first-matrix-missing", "calibration", scene("dtu", "dtu-data", _without_matrix(1)), ("pos_001.txt",)),
    Case("dtu-matrix-missing", "calibration", scene("dtu", "dtu-data", _without_matrix(4)), ("pos_004.txt", "--max-")),
    Case("dtu-last-matrix-missing", "calibration", scene("dtu", "dtu-data", _without_matrix(8)), ("pos_008.txt",)),
    Case("dtu-view-missing", "calibration", scene("dtu", "dtu-data", _without_matrix_and_photo), ("pos_004.txt",)),
    Case("dtu-fewer-views-wanted", "calibration", scene("dtu", "dtu-data", _without_matrix(8), max_images=7), None),
    Case("photo-spelled-twice", "leakage", transforms(_spelled), ("images/photo_000.png", "one file under two names")),
    Case("photo-linked", "leakage", transforms(_linked(hard=False)), ("zz.png", "one file under two names")),
    Case("photo-folder-linked", "leakage", transforms(_folder_linked), ("same/photo_000.png", "one file")),
    Case("photo-hard-linked", "leakage", transforms(_linked(hard=True)), ("zz.png", "one file under two names")),
    Case("photo-copied", "leakage", transforms(_copied), None),
    Case(
        "blender-test-names-a-training-photo",
        "leakage",
        scene("blender", "fewshot-blender-data", _test_names_a_training_photo),
        None,
    ),
    Case(
        "blender-validates-on-training-photos",
        "leakage",
        scene("blender", "fewshot-blender-data", _validation_is_training, test_indices=None, testskip=1),
        None,
    ),
    Case("points-absent", "points", transforms(_no_points), ("sparse_pc.ply", "no such file")),
    Case("points-no-ply", "points", transforms(_points(b"hello")), ("points.ply", "header")),
    Case("points-empty-file", "points", transforms(_points(b"")), ("points.ply", "header")),
    Case("points-cut", "points", transforms(_points(_ply(_ROWS, 30))), ("points.ply", "30 points", "cut")),
    Case("points-huge", "points", transforms(_points(_ply(_ROWS, 10**13))), ("points.ply", "cut or damaged")),
    Case("points-without-z", "points", transforms(_points(_ply("1 2\n3 4\n", 2, "xy"))), ("points.ply", "x, y and z")),
    Case(
        "points-nan", "points", transforms(_points(_ply(_ROWS.replace("0.3", "nan"), 3))), ("points.ply", "not", "of 3")
    ),
    Case("points-of-words", "points", transforms(_points(_ply("a b c\n" * 3, 3))), ("points.ply", "numbers")),
    Case(
        "points-end-in-words",
        "points",
        transforms(_points(_ply(_ROWS + "0.1 x 0.3\n", 4))),
        ("points.ply", "12 numbers"),
    ),
    Case("points-other-suffix", "points", transforms(_points(b"1 2", "points.txt")), ("points.txt", "none")),
    Case("points-none-listed", "points", transforms(_points(_ply("", 0))), None),
    Case("points-right", "points", transforms(_points(_ply(_ROWS, 3))), None),
    Case(
        "points-binary-right",
        "points",
        transforms(_points(_ply("", 3, kind="binary_little_endian") + _SPHERE_AXES.tobytes())),
        None,
    ),
    Case(
        "points-binary-cut",
        "points",
        transforms(_points(_ply("", 3, kind="binary_little_endian") + _SPHERE_AXES.tobytes()[:-5])),
        ("points.ply", "3 points"),
    ),
    Case(
        "test-photo-cut-beside-val",
        "evaluation",
        scene("blender", "fewshot-blender-data", _with_val, test_indices=None, testskip=1),
        ("test/r_1.png", "damaged or cut"),
    ),
    Case(
        "test-photo-cut",
        "evaluation",
        scene("dtu", "dtu-data", _damaged("rect_005_3_r5000.png")),
        ("rect_005_3_r5000.png", "damaged or cut"),
    ),
    Case("masks-zero-one", "evaluation", scene("dtu", "dtu-data", _masks(lambda box: box)), None),
    Case("masks-white", "evaluation", scene("dtu", "dtu-data", _masks(lambda box: box * 255)), None),
    Case("masks-empty", "evaluation", scene("dtu", "dtu-data", _masks(lambda box: box * 0)), ("001.png", "none")),
    Case(
        "masks-nearly-white",
        "evaluation",
        scene("dtu", "dtu-data", _masks(lambda box: box * 250)),
        ("001.png", "from 255 on"),
    ),
    Case("mask-empty-of-one-view", "evaluation", scene("dtu", "dtu-data", _one_mask_empty), ("004.png", "object mask")),
    Case(
        "masks-turned",
        "evaluation",
        scene("dtu", "dtu-data", _masks(lambda box: box * 255, (64, 48))),
        ("000.png", "proportions"),
    ),
    Case(
        "masks-of-a-pixel",
        "evaluation",
        scene("dtu", "dtu-data", _masks(lambda box: box * np.eye(48, 64) * 255), downscale_factor=4),
        ("001.png", "16x12"),
    ),
    Case(
        "idr-test-mask-empty",
        "evaluation",
        scene("idr", "idr-data", _mask_of_idr_empty),
        ("mask/photo_001.png", "none"),
    ),
    Case("idr-test-mask-cut", "evaluation", scene("idr", "idr-data", _mask_of_idr_cut), ("mask/photo_001.png", "cut")),
    Case(
        "photos-below-the-window-of-ssim",
        "evaluation",
        scene("transforms", _FRAMES, metrics=("psnr", "ssim", "avg_error"), downscale_factor=8),
        None,
    ),
    Case("lpips-weights-garbage", "named", _weights(b"garbage"), ("vgg16.pth", "checkpoint")),
    Case("lpips-weights-empty", "named", _weights(b""), ("vgg16.pth", "checkpoint")),
    Case("depth-dir-empty", "named", _named(_FRAMES, "transforms", depth_dir="empty"), ("empty", "depth priors")),
    Case("depth-dir-absent", "named", _named(_FRAMES, "transforms", depth_dir="gone"), ("gone", "depth priors")),
    Case("mask-dir-empty", "named", _named(_FRAMES, "transforms", training_mask_dir="empty"), ("empty/", "mask")),
    Case("mask-dir-absent", "named", _named(_FRAMES, "transforms", training_mask_dir="gone"), ("gone", "masks")),
    Case("dtu-mask-dir-empty", "named", _named("dtu-data", "dtu", mask_dir="empty"), ("empty", "object masks")),
    Case("dtu-calibration-dir-empty", "named", _named("dtu-data", "dtu", calibration_dir="empty"), ("pos_001.txt",)),
    Case("colmap-dir-empty", "named", _named("fewshot-colmap-data", "colmap-txt", colmap_dir="empty"), ("empty",)),
    Case("colmap-images-empty", "named", _named("fewshot-colmap-data", "colmap-txt", images_dir="empty"), ("empty",)),
    Case("llff-images-empty", "named", _named("llff-data", "llff", images_dir="empty"), ("empty", "images")),
    Case("idr-cameras-absent", "named", _named("idr-data", "idr", cameras_file=Path("gone.npz")), ("gone.npz",)),
    Case(
        "depth-maps-half-replaced",
        "depth",
        scene("transforms", _FRAMES, _interrupted_maps),
        ("depth.json", "interrupted"),
    ),
]

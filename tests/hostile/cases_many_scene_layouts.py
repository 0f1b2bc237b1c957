"""Data sets of many scenes with one damaged, missing or contradictory file; and one scene in the place of a set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from corpus import Action, Case, training_inputs
from dialects import DIALECTS
from PIL import Image
from scene_dialects import SET_DIALECTS

PARSER_OF = {
    "srn": "srn-data",
    "nmr": "nmr-data",
    "dvr-dtu": "dvr-dtu-data",
    "idr-set": "dvr-dtu-data",
    "multi-object": "multi-object-data",
    "folder-transforms": "scene-folder-data",
    "folder-colmap": "scene-folder-data",
}
Break = Callable[[Path], object]


def _read(dialect: str, data: Path) -> Action:
    """Opens every scene, and reads the views of the first as a test run does."""

    def action() -> object:
        from fewshot_ns.data.dataparsers.automatic import CONFIGS
        from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
        from fewshot_ns.data.multiscene.images import SceneImages

        parser = PARSER_OF[dialect]
        config: Any = CONFIGS[parser](data=data, train_indices=(0, 3), test_indices=(1, 4))  # type: ignore[call-arg]
        if parser == "scene-folder-data":
            config = replace(config, parser=CONFIGS[SET_DIALECTS[dialect].scenes]())
        built, images = config.setup(), SceneImages()
        for entry in built.scene_table("train"):
            scene = built.open_scene(entry)
            for view in (0, 1):
                images.image(scene, view)
                images.mask(scene, view)
        dataset = FewShotDataset(built.get_dataparser_outputs("test"))
        return validate_dataset(dataset)

    return action


def _case(name: str, dialect: str, kind: str, damage: Break, says: Optional[Tuple[str, ...]]) -> Case:
    def prepare(folder: Path) -> Action:
        data = SET_DIALECTS[dialect].write(folder).data
        damage(data)
        return _read(dialect, data)

    return Case(f"{dialect}-{name}", kind, prepare, says)


def _text(path: str, text: str) -> Break:
    return lambda data: (data / path).write_text(text, "utf8")


def _bytes(path: str, content: bytes) -> Break:
    return lambda data: (data / path).write_bytes(content)


def _without(path: str) -> Break:
    return lambda data: (data / path).unlink()


def _cut(path: str) -> Break:
    return lambda data: (data / path).write_bytes((data / path).read_bytes()[:60])


def _arrays(path: str, **changes: Any) -> Break:
    """Changes arrays of an archive; None removes one."""

    def damage(data: Path) -> None:
        with np.load(data / path) as stored:
            arrays: Dict[str, Any] = {name: stored[name] for name in stored.files}
        arrays.update(changes)
        np.savez(data / path, **{name: value for name, value in arrays.items() if value is not None})

    return damage


def _json(path: str, change: Callable[[Dict[str, Any]], Any]) -> Break:
    def damage(data: Path) -> None:
        meta = json.loads((data / path).read_text("utf8"))
        change(meta)
        (data / path).write_text(json.dumps(meta), "utf8")

    return damage


def _image(path: str, size: Tuple[int, int]) -> Break:
    return lambda data: Image.fromarray(np.full(size, 255, np.uint8)).save(data / path)


def _matrix(value: float) -> np.ndarray:
    return np.full((4, 4), value)


SRN, NMR, DVR = "things_train/a", "things/a", "a"
CASES = [
    _case("no-intrinsics", "srn", "camera", _without(f"{SRN}/intrinsics.txt"), ("intrinsics.txt", "no such file")),
    _case("word-for-focal", "srn", "camera", _text(f"{SRN}/intrinsics.txt", "f 1 2 0\n48 64"), ("intrinsics.txt",)),
    _case(
        "nan-focal", "srn", "camera", _text(f"{SRN}/intrinsics.txt", "nan 1 2 0\n48 64"), ("intrinsics.txt", "finite")
    ),
    _case("one-line", "srn", "camera", _text(f"{SRN}/intrinsics.txt", "60 32 24 0."), ("intrinsics.txt", "1 lines")),
    _case("size-zero", "srn", "camera", _text(f"{SRN}/intrinsics.txt", "60 32 24 0\n0 64"), ("intrinsics.txt", "0 64")),
    _case("no-text", "srn", "camera", _bytes(f"{SRN}/intrinsics.txt", b"\xff\xfe\x00"), ("intrinsics.txt", "text")),
    _case("negative-focal", "srn", "camera", _text(f"{SRN}/intrinsics.txt", "-9 9 9 0\n48 64"), ("/a", "focal")),
    _case("short-pose", "srn", "pose", _text(f"{SRN}/pose/photo_002.txt", "1 0 0 0"), ("photo_002.txt", "4x4")),
    _case("nan-pose", "srn", "pose", _text(f"{SRN}/pose/photo_002.txt", "nan " * 16), ("photo_002.txt", "finite")),
    _case(
        "pose-of-zeros", "srn", "pose", _text(f"{SRN}/pose/photo_002.txt", "0 " * 16), ("/a", "photo_002", "rotation")
    ),
    _case("no-pose", "srn", "pose", _without(f"{SRN}/pose/photo_002.txt"), ("pose", "photo_002")),
    _case("bad-range", "srn", "bounds", _text("things_train/near_far.txt", "6 2"), ("near", "far")),
    _case("range-of-words", "srn", "bounds", _text("things_train/near_far.txt", "a b"), ("near_far.txt",)),
    _case("cut-photo", "srn", "photo", _cut(f"{SRN}/rgb/photo_001.png"), ("photo_001.png",)),
    _case(
        "other-proportions", "srn", "photo", _image(f"{SRN}/rgb/photo_000.png", (64, 48)), ("photo_000.png", "48x64")
    ),
    _case(
        "no-camera", "nmr", "camera", _arrays(f"{NMR}/cameras.npz", camera_mat_3=None), ("cameras.npz", "camera_mat_3")
    ),
    _case(
        "flat-pose",
        "nmr",
        "pose",
        _arrays(f"{NMR}/cameras.npz", world_mat_inv_3=None, world_mat_3=_matrix(0.0)),
        ("cameras.npz", "world_mat_3"),
    ),
    _case(
        "nan-pose", "nmr", "pose", _arrays(f"{NMR}/cameras.npz", world_mat_inv_3=_matrix(np.nan)), ("world_mat_inv_3",)
    ),
    _case("cut-archive", "nmr", "camera", _cut(f"{NMR}/cameras.npz"), ("cameras.npz", "damaged")),
    _case("empty-archive", "nmr", "camera", _bytes(f"{NMR}/cameras.npz", b""), ("cameras.npz", "damaged")),
    _case("no-archive", "nmr", "camera", _without(f"{NMR}/cameras.npz"), ("cameras.npz", "no such file")),
    _case("mask-lacking", "nmr", "mask", _without(f"{NMR}/mask/photo_003.png"), ("/a", "7 for 8")),
    _case(
        "mask-turned", "nmr", "mask", _image(f"{NMR}/mask/photo_001.png", (64, 48)), ("photo_001.png", "proportions")
    ),
    _case(
        "outside", "nmr", "list", _text("things/softras_train.lst", "../../other"), ("softras_train.lst line 1", "..")
    ),
    _case("of-bytes", "nmr", "list", _bytes("things/softras_train.lst", b"\xff\xfe"), ("softras_train.lst",)),
    _case("names-none", "nmr", "list", _text("things/softras_train.lst", "c"), ("things/c",)),
    _case("empty", "nmr", "list", _text("things/softras_train.lst", "\n"), ("'train'", "found none")),
    _case("windows-lines", "nmr", "list", _text("things/softras_train.lst", "a\r\nb\r\n\r\n"), None),
    _case("no-list", "dvr-dtu", "list", _without("new_train.lst"), ("new_train.lst",)),
    _case(
        "nan",
        "dvr-dtu",
        "camera",
        _arrays(f"{DVR}/cameras.npz", world_mat_1=_matrix(np.nan)),
        ("world_mat_1", "finite"),
    ),
    _case(
        "zeros",
        "dvr-dtu",
        "camera",
        _arrays(f"{DVR}/cameras.npz", world_mat_1=_matrix(0.0)),
        ("cameras.npz, world_mat_1",),
    ),
    _case(
        "shape", "dvr-dtu", "camera", _arrays(f"{DVR}/cameras.npz", world_mat_1=np.eye(3)), ("world_mat_1", "(3, 3)")
    ),
    _case("scale-zero", "dvr-dtu", "camera", _arrays(f"{DVR}/cameras.npz", scale_mat_1=_matrix(0.0)), ("scale_mat_1",)),
    _case("words", "dvr-dtu", "camera", _arrays(f"{DVR}/cameras.npz", world_mat_1=np.array(["a"])), ("world_mat_1",)),
    _case("three-rows", "dvr-dtu", "camera", _arrays(f"{DVR}/cameras.npz", scale_mat_1=np.eye(4)[:3]), None),
    _case("mask-lacking", "idr-set", "mask", _without("a/mask/photo_001.png"), ("photo_001.png", "mask")),
    _case("mask-cut", "idr-set", "mask", _cut("a/mask/photo_001.png"), ("photo_001.png",)),
    _case("mask-turned", "idr-set", "mask", _image("a/mask/photo_001.png", (64, 48)), ("photo_001.png", "proportions")),
    _case(
        "no-angle",
        "multi-object",
        "camera",
        _json("train/a/transforms.json", lambda meta: meta.pop("camera_angle_x")),
        ("transforms.json", "camera_angle_x"),
    ),
    _case(
        "panorama",
        "multi-object",
        "lens",
        _json("train/a/transforms.json", lambda meta: meta.update(latlong=True)),
        ("transforms.json", "latlong"),
    ),
    _case("no-photo", "multi-object", "photo", _without("train/a/001_obj.png"), ("001_obj.png",)),
    _case("damaged", "multi-object", "json", _cut("train/a/transforms.json"), ("transforms.json", "JSON")),
    _case(
        "no-frames",
        "multi-object",
        "json",
        _json("train/a/transforms.json", lambda meta: meta.update(frames=[])),
        ("transforms.json", "frames"),
    ),
    _case("no-split", "multi-object", "list", lambda data: (data / "train").rename(data / "training"), ("/train",)),
    _case("one-scene-damaged", "folder-transforms", "json", _cut("b/transforms.json"), ("b/transforms.json", "JSON")),
    _case("listed-one-is-gone", "folder-transforms", "list", _text("train.lst", "a\nc\n"), ("/c", "found nothing")),
    _case("one-listed", "folder-transforms", "list", _text("train.lst", "a\n"), None),
    _case(
        "lens-of-one",
        "folder-transforms",
        "lens",
        _json("b/transforms.json", lambda meta: meta.update(is_fisheye=1)),
        ("b/transforms.json", "is_fisheye"),
    ),
    _case("model-cut", "folder-colmap", "colmap", _cut("b/sparse/0/images.bin"), ("images.bin",)),
    _case("photo-gone", "folder-colmap", "photo", _without("b/images/photo_001.png"), ("b/images", "photo_001.png")),
]


def _one_for_many(dialect: str, parser: str, part: str) -> Case:
    def prepare(folder: Path) -> Action:
        (folder / "scene").mkdir()
        data = DIALECTS[dialect].write(folder / "scene").data

        def action() -> object:
            from fewshot_ns.data.dataparsers.automatic import CONFIGS

            built: Any = CONFIGS[parser](data=data).setup()  # type: ignore[call-arg]
            return [built.open_scene(entry) for entry in built.scene_table("train")]

        return action

    return Case(f"{dialect}-given-to-{parser}", "dataparser", prepare, ("scene", part))


def _flat_projection(folder: Path) -> Action:
    data = DIALECTS["dtu"].write(folder / "scans").data
    np.savetxt(next(folder.rglob("pos_002.txt")), np.zeros((3, 4)))
    return training_inputs("dtu-data", data)


CASES += [
    Case("dtu-projection-of-zeros", "camera", _flat_projection, ("pos_002.txt", "expected a projection matrix")),
    _one_for_many("llff", "scene-folder-data", "is one scene (llff-data by poses_bounds.npy)"),
    _one_for_many("blender", "multi-object-data", "is one scene (fewshot-blender-data"),
    _one_for_many("transforms", "srn-data", "is one scene (fewshot-nerfstudio-data"),
]

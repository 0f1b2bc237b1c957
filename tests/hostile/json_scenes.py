"""Small right scenes of every layout whose cameras lie in JSON, for cases that break them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH, HEIGHT, COUNT = 16, 12, 6
Change = Callable[[Dict[str, Any]], Any]


def pose(view: int) -> npt.NDArray[np.float64]:
    """(4, 4) of a camera on an arc that looks at the origin from a distance of 4; OpenGL axes."""
    angle = 0.2 * view
    backward = np.array([np.sin(angle), -np.cos(angle), 0.3])
    backward /= np.linalg.norm(backward)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :4] = np.stack([right, np.cross(backward, right), backward, 4.0 * backward], axis=1)
    return matrix


def write_photo(path: Path, view: int = 0, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(view).integers(0, 255, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_map(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), 4000, dtype=np.uint16)).save(path)
    return path


def write_mask(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)).save(path)
    return path


def _written(path: Path, meta: Dict[str, Any], change: Optional[Change]) -> Dict[str, Any]:
    if change is not None:
        change(meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(meta), encoding="utf8")
    return meta


def _frames(names: List[str], first: int = 0) -> List[Dict[str, Any]]:
    return [{"file_path": name, "transform_matrix": pose(first + view).tolist()} for view, name in enumerate(names)]


def write_capture(folder: Path, change: Optional[Change] = None) -> Dict[str, Any]:
    """A transforms.json with photos, masks, depth maps and sparse points that it names."""
    names = [f"images/{view}.png" for view in range(COUNT)]
    frames = _frames(names)
    for view, frame in enumerate(frames):
        write_photo(folder / names[view], view)
        frame["mask_path"] = f"masks/{view}.png"
        frame["depth_file_path"] = f"depth/{view}.png"
        write_mask(folder / frame["mask_path"])
        write_map(folder / frame["depth_file_path"])
    rows = "".join(f"{0.1 * number} 0.1 {-0.1 * number} 200 100 0\n" for number in range(-4, 5))
    kinds = "".join(f"property {kind}\n" for kind in ("float x", "float y", "float z"))
    kinds += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    (folder / "points.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 9\n{kinds}end_header\n{rows}")
    meta = {
        **{"fl_x": 14.0, "fl_y": 14.0, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT},
        **{"k1": 0.0, "camera_model": "OPENCV", "near": 1.0, "far": 8.0, "ply_file_path": "points.ply"},
        "applied_transform": np.eye(4)[:3].tolist(),
        "applied_scale": 1.0,
        "orientation_override": "up",
        "train_filenames": names[:4],
        "val_filenames": names[4:],
        "test_filenames": names[4:],
        "held_out": names[5:],
        "frames": frames,
    }
    return _written(folder / "transforms.json", meta, change)


def write_blender(folder: Path, change: Optional[Change] = None) -> Dict[str, Any]:
    """`transforms_train.json`, which `change` has its way with, and `transforms_test.json`."""
    for split, first, count in (("train", 0, 4), ("test", 4, 2)):
        for view in range(count):
            write_photo(folder / split / f"r_{view}.png", first + view, channels=4)
        frames = _frames([f"./{split}/r_{view}" for view in range(count)], first)
        meta: Dict[str, Any] = {"camera_angle_x": 0.9, "frames": frames}
        _written(folder / f"transforms_{split}.json", meta, change if split == "train" else None)
    return meta


def write_scannet(folder: Path, change: Optional[Change] = None) -> Dict[str, Any]:
    """The layout of depth-mipnerf's ScanNet scenes; `change` has its way with `transforms_train.json`."""
    for split, first, count in (("train", 0, 4), ("test", 4, 2)):
        names = [f"{split}/rgb/{view}.png" for view in range(count)]
        for view, name in enumerate(names):
            write_photo(folder / name, first + view)
            write_map(folder / split / "target_depth" / f"{view}.png")
        frames = [{**frame, "fx": 14.0, "w": WIDTH, "h": HEIGHT} for frame in _frames(names, first)]
        meta: Dict[str, Any] = {"near": 0.5, "far": 9.0, "frames": frames}
        _written(folder / f"transforms_{split}.json", meta, change if split == "train" else None)
    (folder / "config.json").write_text('{"max_depth": 9.0}')
    return meta


def write_objects(folder: Path, change: Optional[Change] = None) -> Dict[str, Any]:
    """A set of one training scene in pixelNeRF's multi-object layout."""
    scene = folder / "train" / "a"
    for view in range(3):
        write_photo(scene / f"r_{view}_obj.png", view, channels=4)
    meta = {"camera_angle_x": 0.9, "frames": _frames([f"./r_{view}" for view in range(3)])}
    return _written(scene / "transforms.json", meta, change)


def write_multiscale(folder: Path, change: Optional[Change] = None) -> Dict[str, Any]:
    """A multi-scale scene in mip-NeRF's layout, of one scale."""
    meta: Dict[str, Any] = {}
    for split, first, count in (("train", 0, 4), ("test", 4, 2)):
        names = [f"images_{split}/{view}.png" for view in range(count)]
        for view, name in enumerate(names):
            write_photo(folder / name, first + view)
        meta[split] = {
            "file_path": names,
            "cam2world": [pose(first + view).tolist() for view in range(count)],
            **{key: [value] * count for key, value in (("width", WIDTH), ("height", HEIGHT), ("focal", 14.0))},
            **{key: [value] * count for key, value in (("label", 0), ("near", 2.0), ("far", 6.0), ("lossmult", 1.0))},
        }
    return _written(folder / "metadata.json", meta, change)


def opened_object(data: Path, **flags: Any) -> Callable[[], object]:
    """Opens the first training scene of a multi-object set."""

    def action() -> object:
        from fewshot_ns.data.dataparsers.multi.multi_object import MultiObjectDataParserConfig

        parser = MultiObjectDataParserConfig(data=data, **flags).setup()
        return parser.open_scene(parser.scene_table("train")[0])

    return action

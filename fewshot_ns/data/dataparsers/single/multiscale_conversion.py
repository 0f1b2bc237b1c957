"""Multi-scale Blender scenes (mip-NeRF): every frame at full, 1/2, 1/4 and 1/8 size, each pixel weighing its area.

The files are those of mip-NeRF's own conversion, so scenes made elsewhere can be read and ours can be used elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
import numpy.typing as npt
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from rich.markup import escape

from fewshot_ns.data.dataparsers.single.unread_keys import unread_files
from fewshot_ns.data.files.images import read_image
from fewshot_ns.data.files.inside import lies_inside, outside_words
from fewshot_ns.data.files.transforms_camera import StatedCamera, check_lens
from fewshot_ns.data.files.transforms_json import frame_poses, read_transforms
from fewshot_ns.utils.files import replacing, write_json
from fewshot_ns.utils.json_files import FILE_NAME, OBJECT, checked, list_of, numbers, read_json_object, shown_keys

METADATA_NAME = "metadata.json"
SPLITS = ("train", "val", "test")
COLUMNS = ("file_path", "cam2world", "width", "height", "focal", "label", "near", "far", "lossmult")
NEAR, FAR = 2.0, 6.0
_UNREAD = {"mask": "masks go by --training-mask-dir", "depth": "multi-scale scenes train without"}
"""Files that a scene may have beside its photos, and what is to be said of them."""
_UNCONVERTED = {"mask": "metadata.json has no place for masks", "depth": "metadata.json has no place for depth"}
"""The same of the scene that is converted."""
_COLUMNS = {
    **dict.fromkeys(COLUMNS, numbers("a list of numbers", (-1,))),
    "file_path": list_of(FILE_NAME, "a list of names of images"),
    "cam2world": numbers("numbers and 4x4 matrices", (-1, 3, 4), (-1, 4, 4)),
}


@dataclass(frozen=True)
class MultiscaleSplit:
    """One split: N images, in the order frame by frame and within a frame from large to small."""

    files: Tuple[str, ...]
    """(N) relative to the scene's folder."""
    poses: npt.NDArray[np.float64]
    """(N, 3, 4) OpenGL camera-to-world."""
    sizes: npt.NDArray[np.int64]
    """(N, 2) height, width."""
    focal: npt.NDArray[np.float64]
    """(N,) in pixels of the image."""
    label: npt.NDArray[np.int64]
    """(N,) how often the image was halved."""
    loss_weight: npt.NDArray[np.float64]
    """(N,) weight of a pixel's loss: pixels of the full-size image that it covers."""
    near: float
    far: float
    remarks: Tuple[str, ...] = ()
    """What the file has that is not read."""


def halve(image: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Mean of each 2x2 box of (H, W, C); an odd last row or column is left out."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    boxes = image[:height, :width].reshape(height // 2, 2, width // 2, 2, image.shape[2])
    return boxes.mean(axis=(1, 3))


def convert_blender(
    source: Path,
    target: Path,
    levels: int = 4,
    splits: Tuple[str, ...] = SPLITS,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Makes a multi-scale scene of a Blender scene. The boxes are taken of RGBA, before any background.

    Args:
        source: Folder with transforms_{train,val,test}.json.
        target: Folder to write; images that are already in it are replaced.
        levels: Sizes per frame.
        splits: Which splits; those without a transforms file are passed over, but for 'train'.
        advance: Called with frames done and frames in all.

    Returns:
        Images written.

    Raises:
        FileNotFoundError: no transforms_train.json, or a frame's image is missing.
        ValueError: a damaged file, or frames too small for so many levels.
    """
    if levels < 1:
        raise ValueError(f"--levels: expected at least 1, got {levels}")
    found = [split for split in splits if split == "train" or (source / f"transforms_{split}.json").is_file()]
    metas = {split: read_transforms(source / f"transforms_{split}.json") for split in found}
    total = sum(len(meta["frames"]) for meta in metas.values())
    done, written = 0, 0
    everything: Dict[str, Any] = {}
    for split, meta in metas.items():
        path = source / f"transforms_{split}.json"
        if "camera_angle_x" not in meta:
            raise ValueError(f"{path}: expected 'camera_angle_x', found {shown_keys(meta)}")
        check_lens(meta, path)
        for remark in unread_files((meta, *meta["frames"]), path, source, _UNCONVERTED).values():
            CONSOLE.print(f"[yellow]{escape(remark)}[/yellow]", highlight=False, soft_wrap=True)
        poses = frame_poses(meta["frames"], path)
        columns: Dict[str, List[Any]] = {name: [] for name in (*COLUMNS, "pix2cam")}
        for number, frame in enumerate(meta["frames"]):
            if not lies_inside(source, frame["file_path"]):
                raise ValueError(f"{path}, frame {number}: {outside_words(source, frame['file_path'], flag=False)}")
            file = source / frame["file_path"]
            file = file if file.suffix else file.with_name(file.name + ".png")
            image = read_image(file).astype(np.float64) / 255
            height, width = image.shape[:2]
            if min(height, width) >> (levels - 1) < 2:
                raise ValueError(f"{file}: {width}x{height} pixels cannot be halved {levels - 1} times")
            camera = StatedCamera.of_frame(meta, number, path)
            fx, fy, cx, cy = camera.fractions((width, height))
            square = bool(np.isclose(fx * width, fy * height, rtol=1e-6))
            if any(camera.distortion) or not square or max(abs(cx - 0.5), abs(cy - 0.5)) > 1e-6:
                raise ValueError(
                    f"{path}, frame {number}: expected a camera of one focal length, its principal point in the "
                    "centre, without distortion, which is all that metadata.json can say; found another"
                )
            focal = fx * width
            for level in range(levels):
                name = f"images_{split}/{number:03d}_d{level}.png"
                with replacing(target / name) as temporary:
                    Image.fromarray(np.round(255 * image).astype(np.uint8)).save(temporary, format="PNG")
                _append(columns, name, poses[number], (image.shape[0], image.shape[1]), focal / 2**level, level)
                written += 1
                image = halve(image)
            done += 1
            advance(done, total)
        everything[split] = columns
    write_json(target / METADATA_NAME, everything)
    return written


def _append(
    columns: Dict[str, List[Any]], name: str, pose: npt.NDArray, size: Tuple[int, int], focal: float, level: int
) -> None:
    height, width = size
    values = (name, pose.tolist(), width, height, focal, level, NEAR, FAR, 4.0**level)
    for key, value in zip(COLUMNS, values, strict=True):
        columns[key].append(value)
    columns["pix2cam"].append(
        [[1 / focal, 0.0, -0.5 * width / focal], [0.0, -1 / focal, 0.5 * height / focal], [0.0, 0.0, -1.0]]
    )


def read_multiscale(scene: Path, allow_outside: bool = False) -> Dict[str, MultiscaleSplit]:
    """Reads the cameras of a multi-scale scene; `pix2cam` follows from the others and is not needed.

    Args:
        scene: Folder of the scene.
        allow_outside: Whether images may lie outside of it.

    Raises:
        FileNotFoundError: there is no metadata.json.
        ValueError: it is damaged or incomplete.
    """
    path = scene / METADATA_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the cameras of a multi-scale scene, found no such file; "
            "`ns-fewshot convert multiscale-blender` makes one of a Blender scene"
        )
    meta = checked(read_json_object(path), dict.fromkeys(SPLITS, OBJECT), str(path))
    if not {"train", "test"} <= set(meta):
        raise ValueError(f"{path}: expected the splits train and test, found {shown_keys(meta)}")
    return {split: _read_split(meta[split], split, path, allow_outside) for split in SPLITS if split in meta}


def _read_split(columns: Dict[str, List[Any]], split: str, path: Path, allow_outside: bool) -> MultiscaleSplit:
    columns = checked(columns, _COLUMNS, f"{path}, {split}")
    lacking = [name for name in COLUMNS if name not in columns]
    lengths = {len(columns[name]) for name in COLUMNS if name in columns}
    if lacking or len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"{path}: expected equally long lists {', '.join(COLUMNS)} for {split}, lacking {lacking}")
    for name in () if allow_outside else columns["file_path"]:
        if not lies_inside(path.parent, name):
            raise ValueError(f"{path}, {split}: {outside_words(path.parent, name)}")
    poses = np.asarray(columns["cam2world"], dtype=np.float64)[:, :3]
    values = {name: np.asarray(columns[name], dtype=np.float64) for name in COLUMNS[2:]}
    for name, least in (("width", 1.0), ("height", 1.0), ("focal", 1e-6)):
        if values[name].min() < least:
            raise ValueError(f"{path}, {split}: expected positive numbers for {name!r}, found {values[name].min()}")
    if not 0 <= values["near"].min() < values["far"].max():
        raise ValueError(f"{path}, {split}: expected numbers 0 <= near < far, found others")
    return MultiscaleSplit(
        files=tuple(columns["file_path"]),
        poses=poses,
        sizes=np.stack([values["height"], values["width"]], axis=1).astype(np.int64),
        focal=values["focal"],
        label=values["label"].astype(np.int64),
        loss_weight=values["lossmult"],
        near=float(values["near"].min()),
        far=float(values["far"].max()),
        remarks=_unread_columns(columns, path),
    )


def _unread_columns(columns: Mapping[str, Any], path: Path) -> Tuple[str, ...]:
    """Remarks about columns of the file that name masks and depth maps."""
    lists = {key: entries for key, entries in columns.items() if key not in COLUMNS and isinstance(entries, list)}
    named = ({key: entry} for key, entries in lists.items() for entry in entries)
    return tuple(unread_files(named, path, path.parent, _UNREAD).values())

"""A capture as a scene on disk, which every per-scene method reads: transforms.json, images, sparse points, depth."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.capture.poses import CapturedPoses
from fewshot_ns.data.dataparsers.single.nerfstudio import HELD_OUT
from fewshot_ns.data.depth.encoding import write_note
from fewshot_ns.data.files.images import read_image
from fewshot_ns.data.files.point_cloud import write_ply
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.utils.files import replacing_folder, write_json

TRANSFORMS = "transforms.json"
POINTS = "sparse_pc.ply"
IMAGES = "images"
DEPTHS = "depth_maps"


def write_scene(poses: CapturedPoses, images: Path, scene: Path, held_out: Sequence[str] = ()) -> Path:
    """Writes the scene of pinhole cameras.

    Args:
        poses: The cameras; each photo is in `images`.
        images: Folder of the photos.
        scene: Folder to write to; what an earlier call wrote is replaced.
        held_out: Names of photos that are not trained on.

    Returns:
        The transforms file, which is written last.

    Raises:
        ValueError: a camera that is no pinhole.
    """
    if poses.distorted:
        raise ValueError(f"{images}: expected photos of pinhole cameras, found {sorted(set(poses.models))}")
    path = scene / TRANSFORMS
    path.unlink(missing_ok=True)
    with replacing_folder(scene / IMAGES) as folder:
        for name in poses.names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _link(images / name, folder / name)
    colours = _colours(poses, images) if len(poses.points) else poses.colours
    frames: List[Dict[str, Any]] = []
    for index, name in enumerate(poses.names):
        height, width = (int(value) for value in poses.sizes[index])
        fx, fy, cx, cy = (float(value) for value in poses.intrinsics[index])
        matrix = np.eye(4)
        matrix[:3] = flip_camera_axes(poses.camera_to_worlds[index])
        entry = {"file_path": f"{IMAGES}/{name}", "w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
        frames.append({**entry, "transform_matrix": matrix.tolist()})
    meta: Dict[str, Any] = {
        "camera_model": "OPENCV",
        "frames": frames,
        HELD_OUT: [f"{IMAGES}/{name}" for name in held_out],
    }
    if len(poses.points):
        write_ply(scene / POINTS, poses.points, colours)
        meta["ply_file_path"] = POINTS
    if poses.depths is not None:
        _write_depths(poses, scene / DEPTHS)
    write_json(path, meta)
    return path


def _write_depths(poses: CapturedPoses, folder: Path) -> None:
    assert poses.depths is not None
    with replacing_folder(folder) as new:
        for name, depth in zip(poses.names, poses.depths, strict=True):
            np.save(new / f"{Path(name).stem}.npy", np.nan_to_num(depth, nan=0.0))
        encoding = DepthEncoding(polarity="distance", meaning="z_depth", unit=1.0, may_be_empty=True)
        write_note(new, encoding, source=poses.source)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or a file system without links.
        shutil.copyfile(source, target)


def _colours(poses: CapturedPoses, images: Path) -> npt.NDArray[np.uint8]:
    """Colours of the points; those of a network's depth are looked up in the photos."""
    if poses.depths is None:
        return poses.colours
    colours = poses.colours.copy()
    for index, name in enumerate(poses.names):
        pixels = read_image(images / name)[..., :3]
        pose = poses.camera_to_worlds[index]
        local = (poses.points - pose[:, 3]) @ pose[:, :3]
        ahead = local[:, 2] > 0
        depth = np.where(ahead, local[:, 2], 1.0)
        fx, fy, cx, cy = poses.intrinsics[index]
        column, row = (np.floor(cx + fx * local[:, 0] / depth), np.floor(cy + fy * local[:, 1] / depth))
        inside = ahead & (column >= 0) & (row >= 0) & (column < pixels.shape[1]) & (row < pixels.shape[0])
        colours[inside] = pixels[row[inside].astype(int), column[inside].astype(int)]
    return colours

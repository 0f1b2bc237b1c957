"""Cameras of a capture, whoever found them: a COLMAP model, or an .npz of a geometry network."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import check_finite_poses, check_rotations
from fewshot_ns.data.capture.exports import (
    CONFIDENCES,
    DEPTHS,
    EXTRINSICS,
    INTRINSICS,
    find_array,
    sizes_of_intrinsics,
)
from fewshot_ns.data.files.colmap import find_points_file, read_colmap
from fewshot_ns.utils.arrays import array_names, read_arrays

PINHOLE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE")
DEPTH_ANYTHING_3 = "depth-anything-3"
"""What `--poses` takes in place of a file, where that package is installed."""
DEPTH_ANYTHING_3_WEIGHTS = "depth-anything/DA3-BASE"
"""The largest of its networks under Apache-2.0."""
MIN_CONFIDENCE_SHARE = 0.5
"""Share of a depth map's pixels, the surest ones, that become points."""
MAX_POINTS = 50_000
MODEL_FILES = ("cameras", "images", "points3D", "rigs", "frames")
"""What COLMAP writes of a model, each as .bin or .txt."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CapturedPoses:
    """N cameras and P points of a capture, in a world of unknown scale."""

    names: Tuple[str, ...]
    """(N) names of the photos."""
    camera_to_worlds: Array
    """(N, 3, 4) with OpenCV's axes: right, down, forward."""
    sizes: npt.NDArray[np.int64]
    """(N, 2) height and width that the intrinsics are for."""
    intrinsics: Array
    """(N, 4) fx, fy, cx, cy in pixels."""
    models: Tuple[str, ...]
    """(N) COLMAP's name of the camera model."""
    points: Array
    """(P, 3)."""
    colours: npt.NDArray[np.uint8]
    """(P, 3) red, green, blue."""
    observations: Tuple[Tuple[npt.NDArray[np.int64], Array], ...] = ()
    """Of each photo (K,) points that it shows and (K, 2) where, column and row in pixels; empty where not known."""
    depths: Optional[npt.NDArray[np.float32]] = None
    """(N, H, W) planar depth, NaN where it is unknown; None without."""
    source: str = ""
    """Where all this comes from."""
    confidences: Optional[npt.NDArray[np.float32]] = field(default=None, repr=False)
    """(N, H, W) of the depth, larger is surer; None without."""

    @property
    def distorted(self) -> bool:
        """Whether some photo has to be straightened before it is one of a pinhole camera."""
        return any(model not in PINHOLE_MODELS for model in self.models)


def model_folder(path: Path) -> Optional[Path]:
    """The folder of a COLMAP model that a path names or holds (as sparse/0 and the like); None where there is none."""
    points = find_points_file(path, path) or find_points_file(path)
    return None if points is None else points.parent


def copy_model(model: Path, folder: Path) -> None:
    """Copies the files of a COLMAP model, and nothing that lies beside them; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        for file in (model / f"{name}.bin", model / f"{name}.txt"):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def gives_depth(poses: Optional[str]) -> bool:
    """Whether what `--poses` names has depth maps as well; False where it cannot be read."""
    if poses is None or poses == DEPTH_ANYTHING_3:
        return poses is not None
    try:
        return bool(set(DEPTHS) & set(array_names(Path(poses), "poses")))
    except (OSError, ValueError):
        return False


def read_poses(
    path: Path,
    names: Sequence[str],
    sizes: Sequence[Tuple[int, int]],
    taken: Optional[Sequence[Tuple[int, int]]] = None,
) -> CapturedPoses:
    """Reads poses that something else has found.

    Args:
        path: Folder of a COLMAP model (or one that holds it as sparse/0), or an .npz.
        names: Names of the photos in order, which an .npz without `names` follows.
        sizes: (height, width) of the photos.
        taken: The same before they were made smaller; None: they were not.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something else, or numbers that are no cameras.
    """
    if path.is_dir():
        model = model_folder(path)
        if model is None:
            raise FileNotFoundError(f"{path}: expected a COLMAP model (cameras, images, points3D; --poses), found none")
        return read_colmap_poses(model)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: expected the folder of a COLMAP model or an .npz (--poses), found neither")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected poses (--poses), found no such file")
    arrays = read_arrays(path, "a readable .npz")
    return poses_of_arrays(arrays, names, sizes, str(path), taken)


def read_colmap_poses(folder: Path) -> CapturedPoses:
    """Reads a COLMAP model, binary or text.

    Raises:
        FileNotFoundError: no points, cameras or images.
        ValueError: a damaged file.
    """
    points_file = find_points_file(folder, folder)
    if points_file is None:
        raise FileNotFoundError(f"{folder}: expected COLMAP's points3D.bin or points3D.txt, found neither")
    model = read_colmap(points_file)
    if not model.images:
        raise FileNotFoundError(f"{folder}: expected COLMAP's cameras and images beside its points, found none")
    images = sorted(model.images.values(), key=lambda image: image.name)
    row = {int(number): index for index, number in enumerate(model.ids)}
    poses, intrinsics, sizes, kinds, observations = [], [], [], [], []
    for image in images:
        rotation = image.qvec2rotmat()
        poses.append(np.concatenate([rotation.T, (-rotation.T @ image.tvec)[:, None]], axis=1))
        camera = model.cameras[image.camera_id]
        intrinsics.append(_pinhole(camera))
        sizes.append((camera.height, camera.width))
        kinds.append(camera.model)
        seen = np.array([number in row for number in image.point3D_ids], dtype=bool)
        numbers = np.array([row[number] for number in image.point3D_ids[seen]], dtype=np.int64)
        observations.append((numbers, np.asarray(image.xys, dtype=np.float64).reshape(-1, 2)[seen]))
    return CapturedPoses(
        names=tuple(image.name for image in images),
        camera_to_worlds=np.stack(poses),
        sizes=np.array(sizes, dtype=np.int64),
        intrinsics=np.array(intrinsics, dtype=np.float64),
        models=tuple(kinds),
        points=model.positions,
        colours=model.colours,
        observations=tuple(observations),
        source="COLMAP",
    )


def _pinhole(camera: Any) -> Tuple[float, float, float, float]:
    """fx, fy, cx, cy; of models with one focal length it comes twice."""
    params = [float(value) for value in camera.params]
    single = camera.model.startswith("SIMPLE") or camera.model in ("RADIAL", "RADIAL_FISHEYE", "FOV1")
    if single:
        return params[0], params[0], params[1], params[2]
    return params[0], params[1], params[2], params[3]


def poses_of_arrays(
    arrays: Dict[str, npt.NDArray],
    names: Sequence[str],
    sizes: Sequence[Tuple[int, int]],
    where: str,
    taken: Optional[Sequence[Tuple[int, int]]] = None,
) -> CapturedPoses:
    """Cameras of the arrays that geometry networks export.

    Args:
        arrays: `extrinsics` (N, 3 or 4, 4) world to camera with OpenCV's axes and `intrinsics` (N, 3, 3) in pixels of
            the depth maps or of the photos; optionally `depth` (N, H, W) planar, `conf` (N, H, W), `names` (N). Other
            names of these are those of `exports`; a leading batch of one and a trailing channel of one are dropped.
        names: Names of the photos, which the arrays follow where they have none.
        sizes: (height, width) of the photos.
        where: Name of the source, for messages.
        taken: (height, width) of the photos before they were made smaller; None: they were not.

    Raises:
        ValueError: an array is missing, of another shape, or holds no cameras.
    """
    listed = tuple(str(name) for name in arrays["names"].reshape(-1)) if "names" in arrays else tuple(names)
    count = len(listed)
    extrinsics = find_array(arrays, EXTRINSICS, 3, count, where)
    matrices = find_array(arrays, INTRINSICS, 3, count, where)
    if extrinsics is None or matrices is None:
        raise ValueError(f"{where}: expected the arrays extrinsics and intrinsics, found {sorted(arrays)}")
    if extrinsics.shape not in ((count, 3, 4), (count, 4, 4)):
        raise ValueError(f"{where}: expected extrinsics of {count} photos, ({count}, 3, 4), found {extrinsics.shape}")
    if matrices.shape != (count, 3, 3):
        raise ValueError(f"{where}: expected intrinsics of {count} photos, ({count}, 3, 3), found {matrices.shape}")
    known = dict(zip(names, zip(sizes, taken or sizes, strict=True), strict=True))
    strangers = [name for name in listed if name not in known]
    if strangers:
        raise ValueError(f"{where}: expected names of the photos {list(names)}, found {strangers}")
    depths = find_array(arrays, DEPTHS, 3, count, where)
    if depths is not None and (depths.ndim != 3 or len(depths) != count):
        raise ValueError(f"{where}: expected depth of {count} photos, ({count}, H, W), found {depths.shape}")
    focals = matrices[:, (0, 1), (0, 1)]
    if not np.isfinite(matrices).all() or focals.min() <= 0:
        raise ValueError(f"{where}: expected positive focal lengths, found {focals.min():g} pixels")
    size, full = (np.array([known[name][index] for name in listed], dtype=np.float64) for index in (0, 1))
    maps = None if depths is None else (depths.shape[1], depths.shape[2])
    of = sizes_of_intrinsics(matrices, listed, size, full, maps, where)
    scale = size / of
    poses = np.zeros((count, 3, 4))
    for index, matrix in enumerate(extrinsics):
        rotation = matrix[:3, :3]
        poses[index] = np.concatenate([rotation.T, -rotation.T @ matrix[:3, 3:]], axis=1)
    check_finite_poses(poses, where)
    check_rotations(poses, list(listed), where)
    intrinsics = np.stack(
        [
            matrices[:, 0, 0] * scale[:, 1],
            matrices[:, 1, 1] * scale[:, 0],
            matrices[:, 0, 2] * scale[:, 1],
            matrices[:, 1, 2] * scale[:, 0],
        ],
        axis=1,
    )
    confidence = find_array(arrays, CONFIDENCES, 3, count, where)
    if depths is not None:
        depths = np.where(np.isfinite(depths) & (depths > 0), depths, np.nan).astype(np.float32)
        if confidence is not None and confidence.shape != depths.shape:
            raise ValueError(
                f"{where}: expected confidence of the depth's shape {depths.shape}, found {confidence.shape}"
            )
    points, colours = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.uint8)
    if depths is not None and maps is not None:
        if (of != maps).any():
            matrices = matrices * np.stack([maps[1] / of[:, 1], maps[0] / of[:, 0], np.ones(count)], axis=1)[:, :, None]
        points = _points_of(depths, confidence, poses, matrices)
        colours = np.full(points.shape, 128, dtype=np.uint8)
    return CapturedPoses(
        names=listed,
        camera_to_worlds=poses,
        sizes=size.astype(np.int64),
        intrinsics=intrinsics,
        models=("PINHOLE",) * count,
        points=points,
        colours=colours,
        depths=depths,
        source=where,
        confidences=None if confidence is None else confidence.astype(np.float32),
    )


def _points_of(depths: npt.NDArray, confidence: Optional[Array], poses: Array, matrices: Array) -> Array:
    """(P, 3) points of the surest pixels."""
    parts: List[Array] = []
    stride = max(1, int(np.ceil(np.sqrt(depths.size * MIN_CONFIDENCE_SHARE / MAX_POINTS))))
    for index, depth in enumerate(depths):
        good = np.isfinite(depth)
        if confidence is not None and good.any():
            good &= confidence[index] >= np.quantile(confidence[index][good], 1 - MIN_CONFIDENCE_SHARE)
        rows, columns = np.nonzero(good[::stride, ::stride])
        pixels = np.stack([columns, rows, np.zeros(len(rows))], axis=1) * stride + np.array([0.5, 0.5, 1.0])
        rays = pixels @ np.linalg.inv(matrices[index]).T
        local = rays * depth[::stride, ::stride][rows, columns].astype(np.float64)[:, None]
        parts.append(local @ poses[index, :, :3].T + poses[index, :, 3])
    return np.concatenate(parts)


def depth_anything_3_poses(
    images: Sequence[Path], names: Sequence[str], sizes: Sequence[Tuple[int, int]], device: str = "cpu"
) -> CapturedPoses:
    """Poses and depth by Depth Anything 3, where its package is installed.

    Raises:
        ValueError: it is not.
    """
    try:
        from depth_anything_3.api import DepthAnything3
    except ImportError as error:
        raise ValueError(
            f"--poses {DEPTH_ANYTHING_3} needs the package depth_anything_3, which is not installed; leave --poses out "
            "to find poses by COLMAP, or give a COLMAP model or an .npz"
        ) from error
    model = DepthAnything3.from_pretrained(DEPTH_ANYTHING_3_WEIGHTS).to(device)
    given = model.inference([str(image) for image in images])
    arrays = {"depth": given.depth, "extrinsics": given.extrinsics, "intrinsics": given.intrinsics}
    if getattr(given, "conf", None) is not None:
        arrays["conf"] = given.conf
    return poses_of_arrays({key: np.asarray(value) for key, value in arrays.items()}, names, sizes, DEPTH_ANYTHING_3)

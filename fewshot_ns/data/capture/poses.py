"""Cameras of a capture, whoever found them: a COLMAP model, or an .npz of a geometry network."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import check_finite_poses, check_rotations
from fewshot_ns.data.files.colmap import find_points_file, read_colmap

PINHOLE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE")
DEPTH_ANYTHING_3 = "depth-anything-3"
"""What `--poses` takes in place of a file, where that package is installed."""
DEPTH_ANYTHING_3_WEIGHTS = "depth-anything/DA3-BASE"
"""The largest of its networks under Apache-2.0."""
MIN_CONFIDENCE_SHARE = 0.5
"""Share of a depth map's pixels, the surest ones, that become points."""
MAX_POINTS = 50_000

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


def read_poses(path: Path, names: Sequence[str], sizes: Sequence[Tuple[int, int]]) -> CapturedPoses:
    """Reads poses that something else has found.

    Args:
        path: Folder of a COLMAP model (or one that holds it as sparse/0), or an .npz.
        names: Names of the photos in order, which an .npz without `names` follows.
        sizes: (height, width) of the photos.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something else, or numbers that are no cameras.
    """
    if path.is_dir():
        points = find_points_file(path, path) or find_points_file(path)
        if points is None:
            raise FileNotFoundError(f"{path}: expected a COLMAP model (cameras, images, points3D; --poses), found none")
        return read_colmap_poses(points.parent)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: expected the folder of a COLMAP model or an .npz (--poses), found neither")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected poses (--poses), found no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(f"{path}: expected a readable .npz, found a damaged file ({error})") from error
    return poses_of_arrays(arrays, names, sizes, str(path))


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
    arrays: Dict[str, npt.NDArray], names: Sequence[str], sizes: Sequence[Tuple[int, int]], where: str
) -> CapturedPoses:
    """Cameras of the arrays that geometry networks export.

    Args:
        arrays: `extrinsics` (N, 3 or 4, 4) world to camera with OpenCV's axes and `intrinsics` (N, 3, 3) in pixels of
            the depth maps; optionally `depth` (N, H, W) planar, `conf` or `confidence` (N, H, W), `names` (N).
        names: Names of the photos, which the arrays follow where they have none.
        sizes: (height, width) of the photos.
        where: Name of the source, for messages.

    Raises:
        ValueError: an array is missing, of another shape, or holds no cameras.
    """
    for key in ("extrinsics", "intrinsics"):
        if key not in arrays:
            raise ValueError(f"{where}: expected the arrays extrinsics and intrinsics, found {sorted(arrays)}")
    extrinsics, matrices = (_floats(arrays[key], where, key) for key in ("extrinsics", "intrinsics"))
    extrinsics, matrices = _without_batch(extrinsics, 3), _without_batch(matrices, 3)
    listed = tuple(str(name) for name in arrays["names"]) if "names" in arrays else tuple(names)
    count = len(listed)
    if extrinsics.shape not in ((count, 3, 4), (count, 4, 4)):
        raise ValueError(f"{where}: expected extrinsics of {count} photos, ({count}, 3, 4), found {extrinsics.shape}")
    if matrices.shape != (count, 3, 3):
        raise ValueError(f"{where}: expected intrinsics of {count} photos, ({count}, 3, 3), found {matrices.shape}")
    known = dict(zip(names, sizes, strict=True))
    strangers = [name for name in listed if name not in known]
    if strangers:
        raise ValueError(f"{where}: expected names of the photos {list(names)}, found {strangers}")
    depths = arrays.get("depth")
    depths = None if depths is None else _without_batch(np.squeeze(_floats(depths, where, "depth")), 3)
    if depths is not None and (depths.ndim != 3 or len(depths) != count):
        raise ValueError(f"{where}: expected depth of {count} photos, ({count}, H, W), found {depths.shape}")
    size = np.array([known[name] for name in listed], dtype=np.float64)
    # Without maps the principal point says what size the intrinsics are for.
    of = (
        np.array([depths.shape[1:]] * count)
        if depths is not None
        else np.stack([2 * matrices[:, 1, 2], 2 * matrices[:, 0, 2]], axis=1)
    )
    scale = size / of
    off = np.abs(scale[:, 0] / scale[:, 1] - 1)
    if off.max() > 0.02:
        worst = int(off.argmax())
        raise ValueError(
            f"{where}: expected intrinsics for the whole photo {listed[worst]} ({size[worst, 1]:.0f}x"
            f"{size[worst, 0]:.0f}), found them for {of[worst, 1]:.0f}x{of[worst, 0]:.0f}; it was cropped or padded"
        )
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
    if not np.isfinite(intrinsics).all() or intrinsics[:, :2].min() <= 0:
        raise ValueError(f"{where}: expected positive focal lengths, found {intrinsics[:, :2].min():g} pixels")
    confidence = arrays.get("conf", arrays.get("confidence"))
    confidence = None if confidence is None else np.squeeze(_floats(confidence, where, "confidence"))
    if depths is not None:
        depths = np.where(np.isfinite(depths) & (depths > 0), depths, np.nan).astype(np.float32)
        if confidence is not None and confidence.shape != depths.shape:
            raise ValueError(
                f"{where}: expected confidence of the depth's shape {depths.shape}, found {confidence.shape}"
            )
    points, colours = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.uint8)
    if depths is not None:
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


def _floats(array: npt.NDArray, where: str, key: str) -> Array:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{where}: expected numbers in {key}, found {array.dtype}")
    return np.asarray(array, dtype=np.float64)


def _without_batch(array: Array, dims: int) -> Array:
    """Networks often export a leading batch of one."""
    return array[0] if array.ndim == dims + 1 and array.shape[0] == 1 else array


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

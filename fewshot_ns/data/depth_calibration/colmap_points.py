"""Points of a COLMAP reconstruction as each view sees them: where in the image, how deep, how well known."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

COLMAP_FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse", "colmap")
"""Where a reconstruction lies in a scene's folder."""
_GRID = 24
_OCCLUSION = 0.9


@dataclass(frozen=True)
class SparseModel:
    """A reconstruction in the frame of COLMAP's files."""

    path: Path
    """File of the points."""
    ids: npt.NDArray[np.int64]
    """(P,) COLMAP's numbers of the points."""
    positions: npt.NDArray[np.float64]
    """(P, 3)."""
    errors: npt.NDArray[np.float64]
    """(P,) mean reprojection errors, pixels."""
    tracks: List[npt.NDArray[np.int64]]
    """COLMAP's numbers of the images that see each point."""
    images: Dict[str, Any]
    """COLMAP's images by the stem of their name; empty where only the points were kept."""
    cameras: Dict[int, Any]
    """COLMAP's cameras by number."""

    def seen_by(self, number: int) -> npt.NDArray[np.bool_]:
        """(P,) whether the track of each point names an image."""
        rows = np.repeat(np.arange(len(self.tracks)), [len(track) for track in self.tracks])
        return np.bincount(rows[np.concatenate(self.tracks) == number], minlength=len(self.tracks)) > 0


@dataclass(frozen=True)
class ViewPoints:
    """Points that one view sees."""

    position: npt.NDArray[np.float64]
    """(N, 2) column / W and row / H in [0, 1)."""
    z_depth: npt.NDArray[np.float64]
    """(N,) planar depth, units of COLMAP's files times `scale`."""
    weight: npt.NDArray[np.float64]
    """(N,) in (0, 1], less for points with a large reprojection error."""


def find_colmap(scene: Path, given: Optional[Path] = None) -> SparseModel:
    """Reads the reconstruction of a scene.

    Args:
        scene: Folder of the scene.
        given: The user's folder with points3D.bin or .txt; None looks in the usual places.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a damaged one.
    """
    folders = [given] if given is not None else [scene / name for name in COLMAP_FOLDERS]
    for folder in folders:
        for suffix in (".bin", ".txt"):
            if (folder / f"points3D{suffix}").is_file():
                return _read_colmap(folder, suffix)
    where = given or f"{scene}/{{{','.join(COLMAP_FOLDERS)}}}"
    raise FileNotFoundError(f"{where}: expected COLMAP's points3D.bin or points3D.txt (--colmap-dir), found neither")


def _read_colmap(folder: Path, suffix: str) -> SparseModel:
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    kind = "binary" if suffix == ".bin" else "text"

    def read(name: str) -> Dict[Any, Any]:
        path = folder / f"{name}{suffix}"
        try:
            return getattr(colmap, f"read_{name}_{kind}")(str(path))
        except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError, MemoryError) as error:
            raise ValueError(f"{path}: expected a COLMAP file, found a damaged one ({error})") from error

    points = read("points3D")
    if not points:
        raise ValueError(f"{folder / f'points3D{suffix}'}: expected points, found none")
    complete = all((folder / f"{name}{suffix}").is_file() for name in ("images", "cameras"))
    images = {Path(image.name).stem: image for image in read("images").values()} if complete else {}
    return SparseModel(
        path=folder / f"points3D{suffix}",
        ids=np.array(list(points), dtype=np.int64),
        positions=np.array([point.xyz for point in points.values()], dtype=np.float64),
        errors=np.array([point.error for point in points.values()], dtype=np.float64),
        tracks=[np.unique(point.image_ids) for point in points.values()],
        images=images,
        cameras=read("cameras") if complete else {},
    )


def points_of_views(
    model: SparseModel,
    stems: Sequence[str],
    indices: Sequence[int],
    num_images: int,
    poses: npt.NDArray[np.floating],
    intrinsics: npt.NDArray[np.floating],
    transform: npt.NDArray[np.floating],
    scale: float,
) -> List[ViewPoints]:
    """The points that each view sees.

    COLMAP's own record of what each photo sees is used where it lies there. Where only the points were kept (LLFF),
    they are projected with the scene's cameras, and visible are those whose track names the view, if the numbers in
    the tracks prove to be those of the sorted photos; otherwise those that no nearer point hides.

    Args:
        model: The reconstruction.
        stems: Names of the V views without suffix.
        indices: (V,) their places among the scene's sorted photos.
        num_images: Photos of the scene.
        poses: (V, 3, 4) OpenGL poses in the scene's world.
        intrinsics: (V, 4) fx / W, fy / H, cx / W, cy / H.
        transform: (3, 4) from COLMAP's frame to the scene's world, before scaling.
        scale: From COLMAP's units to the scene's.
    """
    weight = np.exp(-((model.errors / max(float(model.errors.mean()), 1e-9)) ** 2)).clip(1e-3)
    if model.images and all(stem in model.images for stem in stems):
        return [_recorded(model, stem, weight, scale) for stem in stems]
    world = scale * (model.positions @ transform[:, :3].T + transform[:, 3])
    projected = [project(world, pose, camera) for pose, camera in zip(poses, intrinsics, strict=True)]
    numbers = _track_numbers(model, indices, num_images, [inside for _, _, inside in projected])
    found = []
    for view, (position, depth, inside) in enumerate(projected):
        if numbers is not None:
            seen = inside & model.seen_by(numbers[view])
        else:
            seen = inside.copy()
            seen[inside] = unhidden(position[inside], depth[inside])
        found.append(ViewPoints(position[seen], depth[seen], weight[seen]))
    return found


def _recorded(model: SparseModel, stem: str, weight: npt.NDArray, scale: float) -> ViewPoints:
    image = model.images[stem]
    camera = model.cameras[image.camera_id]
    row = {number: position for position, number in enumerate(model.ids.tolist())}
    kept = np.array([number in row for number in image.point3D_ids.tolist()], dtype=bool)
    index = np.array([row[number] for number in image.point3D_ids[kept].tolist()], dtype=np.int64)
    position = image.xys[kept] / np.array([camera.width, camera.height])
    depth = model.positions[index] @ image.qvec2rotmat()[2] + image.tvec[2]
    usable = (depth > 0) & ((position >= 0) & (position < 1)).all(axis=1)
    return ViewPoints(position[usable], scale * depth[usable], weight[index][usable])


def project(
    points: npt.NDArray[np.floating], pose: npt.NDArray[np.floating], intrinsics: npt.NDArray[np.floating]
) -> Tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Projects points into a pinhole camera.

    Args:
        points: (P, 3) in the world.
        pose: (3, 4) OpenGL camera-to-world.
        intrinsics: (4,) fx / W, fy / H, cx / W, cy / H.

    Returns:
        (P, 2) column / W and row / H, (P,) planar depth, and (P,) which points lie before the camera and in the image.
    """
    local = (points - pose[:, 3]) @ pose[:, :3]
    depth = -local[:, 2]
    ahead = np.where(depth > 0, depth, 1.0)
    fx, fy, cx, cy = intrinsics
    position = np.stack([cx + fx * local[:, 0] / ahead, cy - fy * local[:, 1] / ahead], axis=1)
    return position, depth, (depth > 0) & ((position >= 0) & (position < 1)).all(axis=1)


def _track_numbers(
    model: SparseModel, indices: Sequence[int], num_images: int, inside: List[npt.NDArray[np.bool_]]
) -> Optional[List[int]]:
    """COLMAP's number of each view, if it counted the photos in their order; None where it did not."""
    numbers = np.unique(np.concatenate(model.tracks)) if model.tracks else np.zeros(0)
    if len(numbers) != num_images or numbers[0] != 1 or numbers[-1] != num_images:
        return None
    for index, seen in zip(indices, inside, strict=True):
        tracked = model.seen_by(index + 1)
        # A photo sees every point of its tracks; under another order some would lie outside the image.
        if not tracked.any() or seen[tracked].mean() < 0.995:
            return None
    return [index + 1 for index in indices]


def unhidden(position: npt.NDArray[np.floating], depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which points no clearly nearer point hides, on a grid of cells and their neighbours.

    Args:
        position: (N, 2) in [0, 1).
        depth: (N,).

    Returns:
        (N,) False where a point in the same or a neighbouring cell is nearer than 0.9 times this depth.
    """
    cell = np.minimum((position * _GRID).astype(int), _GRID - 1) + 1
    nearest = np.full((_GRID + 2, _GRID + 2), np.inf)
    np.minimum.at(nearest, (cell[:, 0], cell[:, 1]), depth)
    around = np.min([np.roll(nearest, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    return around[cell[:, 0], cell[:, 1]] >= _OCCLUSION * depth

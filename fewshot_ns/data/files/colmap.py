"""COLMAP's reconstructions on disk: points, who sees them, and the cameras where they were kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.colmap_counts import check_counts
from fewshot_ns.data.files.photo_files import photo_names
from fewshot_ns.data.records.photo_name import PhotoName
from fewshot_ns.utils.reading import reading

COLMAP_FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse", "colmap")
"""Where a reconstruction lies in a scene's folder."""
_MIN_INSIDE = 0.995
"""Share of a view's tracked points that have to lie in its image."""


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
    colours: npt.NDArray[np.uint8]
    """(P, 3) red, green, blue."""
    tracks: List[npt.NDArray[np.int64]]
    """COLMAP's numbers of the images that see each point."""
    images: Dict[str, Any]
    """COLMAP's images by their name, which may have folders, apart by slashes; empty where only the points were
    kept."""
    cameras: Dict[int, Any]
    """COLMAP's cameras by number."""

    def image_of(self, photo: Path, alone: bool = True) -> Optional[Any]:
        """COLMAP's image of a photo: that whose name ends the photo's path, suffixes aside if no other fits; of several
        the one with the longest name. None where there is none, or where several of the same name lie in other folders.

        Args:
            photo: Its file.
            alone: Whether no other photo of the scene has its bare name, so that the folders of COLMAP's name need not
                be those of the photo.
        """
        parts, plain = photo.parts, photo.with_suffix("").parts
        for first in range(len(parts)):
            if first == len(parts) - 1 and not alone:
                return None
            # A name may have had no suffix, and a number after a dot is none.
            found = self.images.get("/".join(parts[first:])) or self.images.get("/".join(plain[first:]))
            alike = self._plain_images.get("/".join(plain[first:]), [])
            if found is not None or len(alike) == 1:
                return alike[0] if found is None else found
        alike = self._images_by_stem.get(photo.stem, [])
        return alike[0] if len(alike) == 1 and alone else None

    def images_of(self, photos: Sequence[Path], names: Sequence[PhotoName] = ()) -> List[Optional[Any]]:
        """COLMAP's image of each of a scene's photos, see `image_of`.

        Args:
            photos: Their files.
            names: What they are called in the whole scene; none: `photos` are all of it.
        """
        found = []
        for photo, name in zip(photos, names or photo_names(photos), strict=True):
            exact = self.images.get(name.path) if name.alike else None
            found.append(exact or self.image_of(photo, not name.alike))
        return found

    @cached_property
    def _plain_images(self) -> Dict[str, List[Any]]:
        """Images by their name without its suffix."""
        found: Dict[str, List[Any]] = {}
        for name, image in self.images.items():
            plain = PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else name
            found.setdefault(plain, []).append(image)
        return found

    @cached_property
    def _images_by_stem(self) -> Dict[str, List[Any]]:
        """Images by the last part of their name."""
        found: Dict[str, List[Any]] = {}
        for name, images in self._plain_images.items():
            found.setdefault(name.rpartition("/")[2], []).extend(images)
        return found

    def seen_by(self, number: int) -> npt.NDArray[np.bool_]:
        """(P,) whether the track of each point names an image."""
        rows, numbers = self._track_entries
        return np.bincount(rows[numbers == number], minlength=len(self.tracks)) > 0

    @cached_property
    def _track_entries(self) -> Tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Point and image number of each entry of all tracks."""
        rows = np.repeat(np.arange(len(self.tracks)), [len(track) for track in self.tracks])
        return rows, np.concatenate([np.zeros(0, dtype=np.int64), *self.tracks])


def find_points_file(scene: Path, given: Optional[Path] = None) -> Optional[Path]:
    """points3D.bin or points3D.txt of a scene; None where there is neither.

    Args:
        scene: Folder of the scene.
        given: The user's folder with the file; None looks in the usual folders.
    """
    folders = [given] if given is not None else [scene / name for name in COLMAP_FOLDERS]
    candidates = (folder / f"points3D{suffix}" for folder in folders for suffix in (".bin", ".txt"))
    return next((path for path in candidates if path.is_file()), None)


def find_colmap(scene: Path, given: Optional[Path] = None) -> SparseModel:
    """Reads the reconstruction of a scene.

    Args:
        scene: Folder of the scene.
        given: The user's folder with points3D.bin or .txt; None looks in the usual folders.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a damaged one.
    """
    path = find_points_file(scene, given)
    if path is None:
        where = given or f"{scene}/{{{','.join(COLMAP_FOLDERS)}}}"
        raise FileNotFoundError(
            f"{where}: expected COLMAP's points3D.bin or points3D.txt (--colmap-dir), found neither"
        )
    return read_colmap(path)


def find_model(scene: Path, given: Optional[Path] = None) -> Optional[Path]:
    """Folder of a reconstruction whose images and cameras were kept; None where there is none.

    Args:
        scene: Folder of the scene.
        given: The user's folder with the files; None looks in the usual folders.
    """
    folders = [given] if given is not None else [scene / name for name in COLMAP_FOLDERS]
    return next((folder for folder in folders if _model_suffix(folder) is not None), None)


def _model_suffix(folder: Path) -> Optional[str]:
    """Suffix of the files of a reconstruction, of which binary ones go first; None where it is not whole."""
    kinds = (".bin", ".txt")
    return next(
        (kind for kind in kinds if all((folder / f"{name}{kind}").is_file() for name in ("images", "cameras"))), None
    )


def read_model(folder: Path) -> SparseModel:
    """Reads images and cameras of a reconstruction, and its points where there are any.

    Raises:
        FileNotFoundError: images or cameras are missing.
        ValueError: a damaged file, no images, or an image without its camera.
    """
    suffix = _model_suffix(folder)
    if suffix is None:
        raise FileNotFoundError(f"{folder}: expected COLMAP's images and cameras (.bin or .txt), found no such files")
    points = folder / f"points3D{suffix}"
    model = _read_files(points if points.is_file() else None, folder, suffix)
    if not model.images:
        raise ValueError(f"{folder / f'images{suffix}'}: expected images with a pose, found none")
    lost = sorted({image.camera_id for image in model.images.values()} - set(model.cameras))
    if lost:
        raise ValueError(f"{folder / f'cameras{suffix}'}: expected the cameras of all images, found none for {lost}")
    return model


def read_colmap(path: Path) -> SparseModel:
    """Reads points3D.bin or .txt, and images and cameras where they lie beside it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or no points.
    """
    model = _read_files(path, path.parent, path.suffix)
    if not len(model.ids):
        raise ValueError(f"{path}: expected points, found none")
    return model


def _read_files(path: Optional[Path], folder: Path, suffix: str) -> SparseModel:
    """Reads the points of `path`, and images and cameras of the same suffix where both are there."""
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    if suffix == ".bin":
        read_points, read_images = colmap.read_points3D_binary, colmap.read_images_binary
        read_cameras = colmap.read_cameras_binary
    else:
        read_points, read_images = colmap.read_points3D_text, _read_images_text
        read_cameras = colmap.read_cameras_text
    points = {} if path is None else _read(path, read_points)
    images_file, cameras_file = folder / f"images{suffix}", folder / f"cameras{suffix}"
    complete = images_file.is_file() and cameras_file.is_file()
    images = _by_name(_read(images_file, read_images).values(), images_file) if complete else {}
    cameras = _read(cameras_file, read_cameras) if complete else {}
    points_file = folder / f"points3D{suffix}"
    with reading(points_file, "a COLMAP file", "a damaged one"):
        _check_points(points)
        return SparseModel(
            path=points_file,
            ids=np.array(list(points), dtype=np.int64),
            positions=np.array([point.xyz for point in points.values()], dtype=np.float64).reshape(-1, 3),
            errors=np.array([point.error for point in points.values()], dtype=np.float64),
            colours=np.array([point.rgb for point in points.values()], dtype=np.uint8).reshape(-1, 3),
            tracks=[np.unique(point.image_ids) for point in points.values()],
            images=images,
            cameras=cameras,
        )


def _by_name(entries: Iterable[Any], path: Path) -> Dict[str, Any]:
    """Images of a reconstruction by their names, with slashes of one kind.

    Raises:
        ValueError: one name comes twice.
    """
    images: Dict[str, Any] = {}
    for entry in entries:
        name = entry.name.replace("\\", "/")
        if name in images:
            raise ValueError(
                f"{path}: expected one pose for each photo, found two of {name}: of image {images[name].id} and of "
                f"image {entry.id}; remove one of them"
            )
        images[name] = entry
    return images


def _read_images_text(path: str) -> Dict[int, Any]:
    """images.txt, as nerfstudio reads it, but for names with spaces in them."""
    from nerfstudio.data.utils.colmap_parsing_utils import Image

    images = {}
    lines = iter(Path(path).read_text(encoding="utf-8-sig").split("\n"))
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        number, *pose, camera, name = line.strip().split(maxsplit=9)
        if len(pose) != 7:
            raise ValueError(f"expected ten entries for an image, found {line.strip()[:60]!r}")
        seen = next(lines, "").split()
        images[int(number)] = Image(
            id=int(number),
            qvec=np.array([float(value) for value in pose[:4]]),
            tvec=np.array([float(value) for value in pose[4:]]),
            camera_id=int(camera),
            name=name,
            xys=np.array([[float(value) for value in seen[axis::3]] for axis in range(2)]).T.reshape(-1, 2),
            point3D_ids=np.array([int(value) for value in seen[2::3]], dtype=np.int64),
        )
    return images


def _read(path: Path, read: Callable[[str], Dict[Any, Any]]) -> Dict[Any, Any]:
    with reading(path, "a COLMAP file", "a damaged one"):
        check_counts(path)
        return read(str(path))


def _check_points(points: Mapping[Any, Any]) -> None:
    """Checks what the arrays below would round, or take for something else."""
    for number, point in points.items():
        if not np.isfinite(point.xyz).all() or not np.isfinite(point.error):
            raise ValueError(f"point {number} has no finite position and error")
        if not (0 <= np.min(point.rgb) and np.max(point.rgb) <= 255):
            raise ValueError(f"point {number} has a colour that is not in 0 to 255")


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


def track_numbers(
    model: SparseModel, indices: Sequence[int], num_images: int, inside: List[npt.NDArray[np.bool_]]
) -> Optional[List[int]]:
    """COLMAP's number of each view, if it counted the images in their order; None where it did not.

    Args:
        model: The reconstruction.
        indices: (V,) views among the scene's sorted images.
        num_images: Images of the scene.
        inside: Of each view (P,) which points lie before its camera and in its image.
    """
    numbers = np.unique(np.concatenate(model.tracks)) if model.tracks else np.zeros(0)
    if len(numbers) != num_images or numbers[0] != 1 or numbers[-1] != num_images:
        return None
    for index, seen in zip(indices, inside, strict=True):
        tracked = model.seen_by(index + 1)
        # An image shows every point of its tracks; under another order some would lie outside the image.
        if not tracked.any() or seen[tracked].mean() < _MIN_INSIDE:
            return None
    return [index + 1 for index in indices]

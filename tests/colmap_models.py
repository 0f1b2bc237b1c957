"""COLMAP's reconstructions of a few coloured spheres, written by hand in its two file formats."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
from PIL import Image

IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "OPENCV_FISHEYE": 5}
"""COLMAP's numbers of the camera models."""
IDS |= {"FULL_OPENCV": 6}
LENSES: Dict[str, Tuple[float, ...]] = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": (-0.05,),
    "RADIAL": (-0.05, 0.01),
    "OPENCV": (-0.05, 0.01, 0.002, -0.003),
    "OPENCV_FISHEYE": (0.01, 0.0, 0.0, 0.0),
    "FULL_OPENCV": (-0.05, 0.01, 0.002, -0.003, 0.0, 0.0, 0.0, 0.0),
}
CENTRES = np.array([[0.0, 0.0, 0.0], [0.9, 0.3, -0.2], [-0.8, -0.2, 0.4]])
RADII = np.array([0.5, 0.35, 0.4])
COLOURS = np.array([[220, 60, 40], [40, 200, 80], [60, 80, 230]], dtype=np.uint8)


@dataclass
class Lens:
    """One of COLMAP's cameras, `size` = (height, width); the principal point is not the middle unless told so."""

    model: str = "PINHOLE"
    size: Tuple[int, int] = (48, 64)
    focal: float = 60.0
    aspect: float = 1.02
    """fy / fx, where the model has two."""
    middle: Tuple[float, float] = (0.52, 0.49)
    """Principal point as a fraction of width and height."""

    @property
    def parameters(self) -> List[float]:
        """In COLMAP's order."""
        height, width = self.size
        single = self.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
        focal = [self.focal] if single else [self.focal, self.aspect * self.focal]
        return [*focal, self.middle[0] * width, self.middle[1] * height, *LENSES[self.model]]

    def project(self, local: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Pixels (P, 2) of points (P, 3) in the axes of COLMAP's camera, by its manual."""
        x, y = (local[:, :2] / local[:, 2:]).T
        k1, k2, p1, p2 = ([*LENSES[self.model], 0.0, 0.0, 0.0, 0.0])[:4]
        square = x * x + y * y
        bent = 1.0 + k1 * square + k2 * square**2
        u = x * bent + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x)
        v = y * bent + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y
        numbers = self.parameters
        single = self.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
        fx, fy, cx, cy = [numbers[0], *numbers[:3]] if single else numbers[:4]
        return np.stack([fx * u + cx, fy * v + cy], axis=1)


@dataclass
class Spheres:
    """A written scene: N views and P points in COLMAP's world."""

    names: List[str]
    lenses: List[Lens]
    rotations: npt.NDArray[np.float64]
    """(N, 3, 3) world to camera."""
    translations: npt.NDArray[np.float64]
    """(N, 3) world to camera."""
    points: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    sees: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """(N, P)."""

    def local(self, view: int) -> npt.NDArray[np.float64]:
        """(P, 3) points in the axes of a camera."""
        return self.points @ self.rotations[view].T + self.translations[view]


def _quaternion(rotation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(w, x, y, z) with w > 0; the cameras turn by less than 180 degrees."""
    w = 0.5 * np.sqrt(max(1.0 + np.trace(rotation), 1e-12))
    x, y, z = rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]
    return np.array([w, x / (4.0 * w), y / (4.0 * w), z / (4.0 * w)])


def _render(lens: Lens, rotation: npt.NDArray, translation: npt.NDArray, size: Tuple[int, int]) -> npt.NDArray:
    """The spheres as a pinhole camera of this focal length sees them."""
    return _look(lens, rotation, translation, size)[0]


def planar_depth(scene: Spheres, view: int) -> npt.NDArray[np.float64]:
    """(H, W) planar depth of a view, 0 where nothing is seen; for lenses that do not bend."""
    lens = scene.lenses[view]
    return _look(lens, scene.rotations[view], scene.translations[view], lens.size)[1]


def _look(
    lens: Lens, rotation: npt.NDArray, translation: npt.NDArray, size: Tuple[int, int]
) -> Tuple[npt.NDArray, npt.NDArray]:
    height, width = size
    row, column = np.mgrid[:height, :width] + 0.5
    local = np.stack(
        [
            (column / width - lens.middle[0]) * lens.size[1] / lens.focal,
            (row / height - lens.middle[1]) * lens.size[0] / (lens.aspect * lens.focal),
            np.ones_like(row),
        ],
        axis=-1,
    )
    rays = local @ rotation
    slope = np.linalg.norm(rays, axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = -rotation.T @ translation
    image, nearest = np.full((height, width, 3), 30, dtype=np.uint8), np.full((height, width), np.inf)
    for middle, radius, colour in zip(CENTRES, RADII, COLOURS, strict=True):
        along = rays @ (middle - centre)
        root = along**2 - (middle - centre) @ (middle - centre) + radius**2
        distance = along - np.sqrt(np.maximum(root, 0.0))
        hit = (root > 0) & (distance < nearest)
        shade = 0.4 + 0.6 * np.abs(np.sin(6.0 * (centre + distance[..., None] * rays)).mean(-1))
        image[hit] = (shade[..., None] * colour)[hit].astype(np.uint8)
        nearest[hit] = distance[hit]
    return image, np.where(np.isfinite(nearest), nearest / slope, 0.0)


def write_spheres(
    folder: Path,
    lenses: Sequence[Lens] = (Lens(),),
    suffix: str = ".bin",
    count: int = 12,
    name_of: Callable[[int], str] = lambda view: f"photo_{view:03d}.png",
    images: str = "images",
    model: str = "sparse/0",
    shrink: int = 1,
) -> Spheres:
    """Writes photos and a reconstruction.

    Args:
        folder: Of the scene.
        lenses: Cameras, which the views take in turn.
        suffix: '.bin' or '.txt'.
        count: Views, N.
        name_of: Names of the photos.
        images: Folder of the photos.
        model: Folder of the reconstruction.
        shrink: Divides the sizes of the photos, not those of the reconstruction.
    """
    generator = np.random.default_rng(3)
    outward = generator.normal(size=(3, 40, 3))
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    points = (CENTRES[:, None] + RADII[:, None, None] * outward).reshape(-1, 3)
    rotations, translations = [], []
    for view in range(count):
        angle = 1.2 * (view / max(count - 1, 1) - 0.5)
        position = np.array([4.0 * np.sin(angle), -0.6 + 0.3 * np.cos(3.0 * angle), -4.0 * np.cos(angle)])
        ahead = -position / np.linalg.norm(position)
        right = np.cross(np.array([0.0, 1.0, 0.0]), ahead)
        right /= np.linalg.norm(right)
        # COLMAP's cameras: x right, y down, z ahead; down is the world's y.
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        rotations.append(rotation)
        translations.append(-rotation @ position)
    scene = Spheres(
        [name_of(view) for view in range(count)],
        [lenses[view % len(lenses)] for view in range(count)],
        np.stack(rotations),
        np.stack(translations),
        points,
    )
    sees = []
    for view in range(count):
        toward = scene.translations[view] @ scene.rotations[view] + points
        facing = (outward.reshape(-1, 3) * toward).sum(-1) < 0
        pixels, (height, width) = scene.lenses[view].project(scene.local(view)), scene.lenses[view].size
        sees.append(facing & ((pixels >= 0) & (pixels < (width, height))).all(-1))
        path = folder / images / scene.names[view]
        path.parent.mkdir(parents=True, exist_ok=True)
        small = (height // shrink, width // shrink)
        Image.fromarray(_render(scene.lenses[view], scene.rotations[view], scene.translations[view], small)).save(path)
    scene.sees = np.stack(sees)
    target = folder / model
    target.mkdir(parents=True, exist_ok=True)
    (_write_binary if suffix == ".bin" else _write_text)(target, scene, list(lenses))
    return scene


def _observations(scene: Spheres, view: int) -> List[Tuple[float, float, int]]:
    """Column, row and point of what a view sees, after one feature that became no point."""
    pixels = scene.lenses[view].project(scene.local(view))
    return [(1.0, 1.0, -1), *((*pixels[point].tolist(), int(point) + 1) for point in np.flatnonzero(scene.sees[view]))]


def _colour(point: int) -> List[int]:
    return [int(channel) for channel in COLOURS[point // 40]]


def _write_binary(target: Path, scene: Spheres, lenses: List[Lens]) -> None:
    content = struct.pack("<Q", len(lenses))
    for number, lens in enumerate(lenses):
        content += struct.pack("<iiQQ", number + 7, IDS[lens.model], lens.size[1], lens.size[0])
        content += struct.pack(f"<{len(lens.parameters)}d", *lens.parameters)
    (target / "cameras.bin").write_bytes(content)
    content = struct.pack("<Q", len(scene.names))
    # COLMAP does not keep its images in the order of their names.
    for view in reversed(range(len(scene.names))):
        pose = [*_quaternion(scene.rotations[view]), *scene.translations[view]]
        content += struct.pack("<i7di", view + 1, *pose, view % len(lenses) + 7)
        content += scene.names[view].encode() + b"\0"
        seen = _observations(scene, view)
        content += struct.pack("<Q", len(seen)) + b"".join(struct.pack("<ddq", *entry) for entry in seen)
    (target / "images.bin").write_bytes(content)
    content = struct.pack("<Q", len(scene.points))
    for point, position in enumerate(scene.points):
        track = np.flatnonzero(scene.sees[:, point])
        content += struct.pack("<Q3d3BdQ", point + 1, *position, *_colour(point), 0.5, len(track))
        content += b"".join(struct.pack("<ii", view + 1, 0) for view in track)
    (target / "points3D.bin").write_bytes(content)


def _write_text(target: Path, scene: Spheres, lenses: List[Lens]) -> None:
    lines = ["# Camera list with one line of data per camera:"]
    for number, lens in enumerate(lenses):
        values = (number + 7, lens.model, lens.size[1], lens.size[0], *lens.parameters)
        lines.append(" ".join(map(str, values)))
    (target / "cameras.txt").write_text("\n".join(lines) + "\n", encoding="utf8")
    lines = ["# Image list with two lines of data per image:"]
    for view in reversed(range(len(scene.names))):
        pose = [*_quaternion(scene.rotations[view]).tolist(), *scene.translations[view].tolist()]
        lines.append(" ".join(map(str, (view + 1, *pose, view % len(lenses) + 7, scene.names[view]))))
        lines.append(" ".join(f"{column} {row} {point}" for column, row, point in _observations(scene, view)))
    (target / "images.txt").write_text("\n".join(lines) + "\n", encoding="utf8")
    lines = ["# 3D point list with one line of data per point:"]
    for point, position in enumerate(scene.points):
        track = [number for view in np.flatnonzero(scene.sees[:, point]) for number in (int(view) + 1, 0)]
        lines.append(" ".join(map(str, (point + 1, *position.tolist(), *_colour(point), 0.5, *track))))
    (target / "points3D.txt").write_text("\n".join(lines) + "\n", encoding="utf8")

"""Writes the demo scene to disk in the LLFF layout: images, poses, bounds, coarse depth priors, exact depth.

The coarse depth is what a monocular network does to the exact one, as a documented and seeded function of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable, List, Optional

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from fewshot_ns.synthetic.raytracer import render_depth, render_image
from fewshot_ns.synthetic.still_life import build_still_life
from fewshot_ns.synthetic.textures import Array
from fewshot_ns.utils.files import replacing_folder
from fewshot_ns.utils.hashing import json_hash
from fewshot_ns.utils.record_files import recorded

RECORD_NAME = "demo_scene.json"
_SCENE_VERSION = 1
"""Counts changes of the world or the renderer: a scene written by an older version is rendered again."""


@dataclass(frozen=True)
class DepthDistortion:
    """Turns exact depth into the kind of inverse depth that a monocular network gives.

    In this order: inverse depth is stretched to [0, 1] per image, bent monotonically, warped by a smooth error field
    (a network misjudges whole regions, not pixels), blurred, made noisy, and given an unknown scale and shift.
    """

    bend: float = 1.6
    """The bend is x^gamma with gamma drawn per image log-uniformly from [1 / bend, bend]; 1 switches it off."""
    region_error: float = 0.10
    """Standard deviation of the smooth error field, as a share of the image's range of inverse depth."""
    region_cells: int = 5
    """Lattice cells of the smooth error field across the image's width."""
    blur: float = 0.012
    """Standard deviation of the Gaussian blur, as a share of the image's width."""
    noise: float = 0.01
    """Standard deviation of the pixel noise, as a share of the image's range of inverse depth."""
    scale_range: float = 10.0
    """The scale is drawn per image log-uniformly from [1 / scale_range, scale_range]."""
    shift_range: float = 5.0
    """The shift is drawn per image uniformly from [-shift_range, shift_range]."""
    seed: int = 0
    """Together with the image's index it decides every draw."""

    def apply(self, depth: Array, image_index: int) -> Array:
        """Distorts one image.

        Args:
            depth: (H, W) exact depth, positive and finite.
            image_index: Chooses the draws of this image.

        Returns:
            (H, W) inverse depth up to an unknown scale (positive) and shift: larger is nearer.

        Raises:
            ValueError: where a depth is not positive and finite.
        """
        if not (np.isfinite(depth).all() and (depth > 0).all()):
            raise ValueError("expected positive finite depths in the whole image")
        rng = np.random.default_rng((self.seed, image_index))
        height, width = depth.shape
        inverse = 1.0 / depth
        value = (inverse - inverse.min()) / max(np.ptp(inverse), 1e-12)
        value = value ** (self.bend ** rng.uniform(-1.0, 1.0))
        rows = max(2, round(self.region_cells * height / width)) + 1
        lattice = rng.standard_normal((rows, self.region_cells + 1))
        field = np.asarray(zoom(lattice, (height / lattice.shape[0], width / lattice.shape[1]), order=3))
        value = value + self.region_error * field / max(field.std(), 1e-12)
        value = gaussian_filter(value, self.blur * width, mode="nearest")
        value = value + self.noise * rng.standard_normal(value.shape)
        scale = self.scale_range ** rng.uniform(-1.0, 1.0)
        return scale * value + rng.uniform(-self.shift_range, self.shift_range)


def to_uint16(inverse_depth: Array) -> np.ndarray:
    """SparseNeRF's layout: stretched per image to the whole range 0..65535, (H, W) float to (H, W) uint16."""
    low, high = inverse_depth.min(), inverse_depth.max()
    return np.round((inverse_depth - low) / max(high - low, 1e-12) * 65535.0).astype(np.uint16)


@dataclass(frozen=True)
class DemoSceneConfig:
    """Everything that the files of the scene depend on."""

    width: int = 128
    """Image width in pixels."""
    height: int = 96
    """Image height in pixels."""
    supersample: int = 3
    """Rays per pixel along each axis."""
    columns: int = 5
    """Camera columns, left to right; the views run through each column from bottom to top."""
    rows: int = 5
    """Camera rows."""
    half_extent_x: float = 4.5
    """Half the horizontal extent of the camera grid, in scene units (LLFF: 4 to 6; things are 15 to 45 away)."""
    half_extent_y: float = 2.2
    """Half the vertical extent of the camera grid, in scene units (LLFF: 1.7 to 3.5)."""
    focal_share: float = 0.85
    """Focal length as a share of the image width (LLFF: 0.76 to 0.89)."""
    distortion: DepthDistortion = field(default_factory=DepthDistortion)
    """How the depth priors differ from the exact depth."""
    seed: int = 0
    """Decides how the cameras stray from the regular grid."""

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.focal_share * self.width

    @property
    def num_views(self) -> int:
        """Number of images."""
        return self.columns * self.rows

    def content_hash(self) -> str:
        """Identifies the files that this configuration gives."""
        return json_hash([_SCENE_VERSION, asdict(self)], sort_keys=True)[:16]


def demo_camera_poses(config: DemoSceneConfig) -> Array:
    """(N, 3, 4) camera-to-world matrices, OpenGL axes: a hand-held sweep over a slightly bent grid, facing the table.

    With five columns and rows the LLFF protocol's three training views lie on a diagonal of the grid (lower left,
    centre, upper right) and its test views both between and beside them.
    """
    rng = np.random.default_rng(config.seed)
    grid_x = np.linspace(-1.0, 1.0, config.columns) if config.columns > 1 else np.zeros(1)
    grid_y = np.linspace(-1.0, 1.0, config.rows) if config.rows > 1 else np.zeros(1)
    poses: List[Array] = []
    for x in grid_x:
        for y in grid_y:
            stray = rng.normal(scale=(0.25, 0.15, 0.25))
            position = np.array([config.half_extent_x * x, 3.0 + config.half_extent_y * y, -0.8 * x * x]) + stray
            target = np.array([0.25 * position[0], -1.2, -32.0]) + rng.normal(scale=0.4, size=3)
            backwards = position - target
            backwards /= np.linalg.norm(backwards)
            roll = rng.normal(scale=0.01)
            right = np.cross([np.sin(roll), np.cos(roll), 0.0], backwards)
            right /= np.linalg.norm(right)
            poses.append(np.stack([right, np.cross(backwards, right), backwards, position], axis=1))
    return np.stack(poses)


def llff_pose_rows(c2w: Array, config: DemoSceneConfig, near: float, far: float) -> Array:
    """(17,) row of poses_bounds.npy: 3x5 matrix of columns down, right, backwards, position, (H, W, focal); bounds."""
    right, up, backwards, position = c2w.T
    size = np.array([config.height, config.width, config.focal])
    return np.concatenate([np.stack([-up, right, backwards, position, size], axis=1).ravel(), [near, far]])


def write_demo_scene(
    folder: Path, config: Optional[DemoSceneConfig] = None, on_view: Optional[Callable[[int, int], None]] = None
) -> bool:
    """Writes the scene, or leaves an identical one as it is.

    The layout: images/view_XX.png (8 bit), poses_bounds.npy, depth_maps/depth_view_XX.png (16-bit inverse depth of
    SparseNeRF's layout, distorted), exact_depth/view_XX.npy (float32 planar depth in scene units), demo_scene.json.

    Args:
        folder: Scene folder. It appears only when complete.
        config: What to write; None for the default scene.
        on_view: Called after each view with (views done, views in all).

    Returns:
        True where files were written, False where the same scene was there already.

    Raises:
        ValueError: where `folder` holds something that is not a demo scene; it is not touched then.
    """
    config = config or DemoSceneConfig()
    record = folder / RECORD_NAME
    if record.is_file():
        if recorded(record, "hash") == config.content_hash():
            return False
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} holds files that are not a demo scene (no {RECORD_NAME}): expected an empty or new folder"
        )
    with replacing_folder(folder) as fresh:
        _write_files(fresh, config, on_view)
    return True


def _write_files(folder: Path, config: DemoSceneConfig, on_view: Optional[Callable[[int, int], None]]) -> None:
    """Renders every view into `folder`, the record last."""
    world = build_still_life()
    for name in ("images", "depth_maps", "exact_depth"):
        (folder / name).mkdir(parents=True)
    rows = []
    for index, c2w in enumerate(demo_camera_poses(config)):
        name = f"view_{index:02d}"
        image = render_image(world, c2w, config.focal, config.width, config.height, config.supersample)
        depth = render_depth(world, c2w, config.focal, config.width, config.height)
        prior = config.distortion.apply(depth, index)
        _write_png(folder / "images" / f"{name}.png", np.round(image[..., ::-1] * 255.0).astype(np.uint8))
        _write_png(folder / "depth_maps" / f"depth_{name}.png", to_uint16(prior))
        np.save(folder / "exact_depth" / f"{name}.npy", depth.astype(np.float32))
        rows.append(llff_pose_rows(c2w, config, float(depth.min()), float(depth.max())))
        if on_view is not None:
            on_view(index + 1, config.num_views)
    np.save(folder / "poses_bounds.npy", np.stack(rows))
    content = {"hash": config.content_hash(), "config": asdict(config)}
    (folder / RECORD_NAME).write_text(json.dumps(content, indent=2) + "\n")


def _write_png(path: Path, image: np.ndarray) -> None:
    """Writes a PNG; cv2 reports a failure only by its return value."""
    if not cv2.imwrite(str(path), image):
        raise OSError(f"could not write {path}")

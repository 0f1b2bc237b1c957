"""Poses and rendered pixels of the unseen views of the semantic, the diffusion and the consistency prior."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Literal, Optional, Tuple

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.cameras.pixel_grids import PixelGrid, crop_grid, full_grid, strided_grid
from fewshot_ns.cameras.poses import Poses, check_finite_poses, focus_point, homogeneous
from fewshot_ns.cameras.sphere_views import interpolated_poses, spherical_poses
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.transforms_json import frame_poses, read_transforms
from fewshot_ns.data.samplers.unseen_views import unseen_cameras
from fewshot_ns.priors.base import CameraRequest
from fewshot_ns.utils.arrays import read_array


@dataclass
class UnseenViewsConfig:
    """Poses and rendered pixels of the unseen views of a prior (semantic, diffusion, consistency)."""

    poses: Optional[Literal["hemisphere", "interpolate", "training", "given", "box"]] = None
    """hemisphere: uniform in azimuth, elevation and radius; interpolate: between three cameras of the pool; training:
    one of the pool; given: one of poses_file; box: RegNeRF's, in the box of the scene's cameras. None: hemisphere where
    the training cameras look at its centre from about its distance, else box."""
    azimuth: Tuple[float, float] = (-180.0, 180.0)
    """Hemisphere: range of the angle about the z axis, degrees."""
    elevation: Tuple[float, float] = (0.0, 90.0)
    """Hemisphere: range of the angle above the horizon, degrees."""
    radius: Tuple[float, float] = (3.5, 4.5)
    """Hemisphere: range of the distance from its centre, world units."""
    centre: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Hemisphere: its centre, which the cameras look at, in the world."""
    one_draw: bool = False
    """Hemisphere: whether one random number serves all three, as in the JAX version, whose keys are the same."""
    pool: Literal["candidates", "photographed"] = "candidates"
    """Cameras of interpolate and training: all that the training views were chosen from (DietNeRF), or only those."""
    shares: Tuple[float, float] = (0.0, 1.0)
    """Interpolate: range of how far towards the second camera, and from there towards the third."""
    shortest_turn: bool = False
    """Interpolate: whether turns are never longer than half a circle, which the original does not ensure."""
    poses_file: Optional[Path] = None
    """Given: a .npy of camera-to-world matrices (N, 3 or 4, 4), OpenGL axes, in the world of the scene's files, or a
    transforms.json."""
    jitter: float = 0.0
    """Standard deviation of the noise on each coordinate of the position, world units."""
    box_training_only: bool = False
    """Box: whether it is that of the training cameras; else that of all cameras of the scene."""
    grid: Literal["strided", "full", "crop"] = "strided"
    """strided: whole strides from a random start (DietNeRF); full: from the first to the last pixel; crop: a grid over
    a random square (JAX version)."""
    grid_size: int = 168
    """Rays per side of the rendered image; strided: at most the smaller side of the photos."""
    crop_fraction: float = 0.375
    """Crop: its side, as a fraction of the image's smaller side (JAX version: 300 of 800)."""
    crop_centre: Tuple[float, float] = (0.4, 0.6)
    """Crop: range of its centre, as a fraction of the image's sides."""


class UnseenViews:
    """Draws unseen views, by torch's own random numbers on the CPU.

    Args:
        config: how poses and pixels are drawn.
        dataset: training split; unseen cameras have the size and the intrinsics of its first.
        device: of the rays.
        flag: the config's flag on the command line, for messages.

    Raises:
        ValueError: a grid without rays, poses that are missing or unusable.
        FileNotFoundError: no such file of poses.
    """

    def __init__(
        self,
        config: UnseenViewsConfig,
        dataset: FewShotDataset,
        device: torch.device,
        flag: str = "--pipeline.semantic.views",
    ) -> None:
        self.config, self.dataset, self.device, self.flag = config, dataset, device, flag
        self.size = dataset.size_of(0)
        self.kind = (
            ("hemisphere" if on_hemisphere(config, dataset) else "box") if config.poses is None else config.poses
        )
        self.grid_size = self._grid_size()
        self.pool = self._pool()

    def resolved(self) -> Dict[str, object]:
        """Values that the scene decided, for the log."""
        return {"poses": self.kind, "pool": len(self.pool)}

    def draw_pose(self) -> Poses:
        """(3, 4) the next pose."""
        draws = {
            "hemisphere": self._draw_hemisphere,
            "interpolate": self._draw_interpolate,
            "training": self._draw_from_pool,
            "given": self._draw_from_pool,
            "box": self._draw_box,
        }
        pose = draws[self.kind]()
        if self.config.jitter > 0:
            pose[:, 3] += self.config.jitter * torch.randn(3, dtype=torch.float64).numpy()
        return pose

    def draw(self) -> CameraRequest:
        """The next unseen view, one camera whose pixels are those of the grid."""
        grid = self.draw_grid()
        return self.view(self.draw_pose(), grid)

    def draw_several(self, count: int) -> CameraRequest:
        """The next unseen views, one after the other, as cameras (count,) of one request."""
        views = [self.draw() for _ in range(count)]
        cameras = [view.cameras for view in views]
        together = Cameras(
            camera_to_worlds=torch.cat([camera.camera_to_worlds for camera in cameras]),
            fx=torch.cat([camera.fx for camera in cameras]),
            fy=torch.cat([camera.fy for camera in cameras]),
            cx=torch.cat([camera.cx for camera in cameras]),
            cy=torch.cat([camera.cy for camera in cameras]),
            width=torch.cat([camera.width for camera in cameras]),
            height=torch.cat([camera.height for camera in cameras]),
        )
        # The steps of all grids are the same, and with them the footprints.
        return CameraRequest(together, views[0].footprint_scale)

    def draw_grid(self) -> PixelGrid:
        """Which pixels of a whole view are rendered."""
        config, count = self.config, (self.grid_size, self.grid_size)
        if config.grid == "full":
            return full_grid(self.size, count)
        if config.grid == "strided":
            return strided_grid(self.size, count, torch.rand(2))
        low, high = config.crop_centre
        row, column = ((low + (high - low) * torch.rand(2)) * torch.tensor(self.size)).int().tolist()
        return crop_grid((row, column), int(round(config.crop_fraction * min(self.size))), count)

    def view(self, pose: Poses, grid: PixelGrid) -> CameraRequest:
        """The camera at a pose (3, 4) whose pixels are those of a grid of the training views' first camera.

        Its footprints are those of that camera's pixels, not of the larger ones of a coarse grid.
        """
        seen = self.dataset.cameras
        fx, fy, cx, cy = (float(value[0]) for value in (seen.fx, seen.fy, seen.cx, seen.cy))
        intrinsics = grid.intrinsics(fx, fy, cx, cy)
        camera = Cameras(torch.from_numpy(pose)[None].float(), *intrinsics)
        # A footprint is the distance to the next row; in NDC it is the mean of that and the one to the next column.
        ndc = self.dataset.fewshot.geometry.ray_space == "ndc"
        return CameraRequest(camera.to(self.device), 2.0 / sum(grid.step) if ndc else 1.0 / grid.step[0])

    def _grid_size(self) -> int:
        side, smaller = self.config.grid_size, min(self.size)
        if side < 1:
            raise ValueError(f"{self.flag}.grid-size: expected at least 1 ray per side, got {side}")
        # The other grids lie between pixels and may be of any fineness; strides are whole pixels.
        if self.config.grid != "strided" or side <= smaller:
            return side
        CONSOLE.print(
            f"{self.flag}.grid-size {side}: the images have {self.size[1]}x{self.size[0]} pixels, so unseen views are "
            f"rendered with {smaller}x{smaller} rays",
            soft_wrap=True,
        )
        return smaller

    def _uniform(self, count: int) -> npt.NDArray[np.float64]:
        return torch.rand(count, dtype=torch.float64).numpy()

    def _from_pool(self, count: int) -> Poses:
        return self.pool[torch.randint(len(self.pool), (count,)).numpy()]

    def _draw_hemisphere(self) -> Poses:
        config = self.config
        u = self._uniform(1).repeat(3) if config.one_draw else self._uniform(3)
        low, high = np.array([config.azimuth, config.elevation, config.radius]).T
        azimuth, elevation, radius = (low + (high - low) * u)[:, None]
        return spherical_poses(np.radians(azimuth), np.radians(elevation), radius, np.array(config.centre))[0]

    def _draw_interpolate(self) -> Poses:
        low, high = self.config.shares
        first, second, third = (self._from_pool(1) for _ in range(3))
        shares = low + (high - low) * self._uniform(2)
        return interpolated_poses(first, second, third, shares[None], self.config.shortest_turn)[0]

    def _draw_from_pool(self) -> Poses:
        return self._from_pool(1)[0].copy()

    def _draw_box(self) -> Poses:
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        cameras = unseen_cameras(
            self.dataset.cameras, self.dataset.fewshot, 1, self.config.box_training_only, generator
        )
        return cameras.camera_to_worlds[0].double().numpy()

    def _pool(self) -> Poses:
        record = self.dataset.fewshot
        if self.kind == "given":
            return self._given_poses()
        photographed = self.config.pool == "photographed" or not record.pool_indices
        chosen = record.train_indices if photographed else record.pool_indices
        return record.scene_camera_to_worlds[list(chosen)].double().numpy()

    def _given_poses(self) -> Poses:
        path = self.config.poses_file
        if path is None:
            raise ValueError(f"{self.flag}.poses given needs {self.flag}.poses-file PATH")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a file of camera poses (.npy or .json), found none")
        if path.suffix == ".json":
            poses = frame_poses(read_transforms(path)["frames"], path)[:, :3]
        else:
            stored = read_array(path, "an array of camera poses")
            if stored.dtype.kind not in "uif":
                raise ValueError(f"{path}: expected real numbers as camera poses, found dtype {stored.dtype}")
            poses = stored.astype(np.float64)
        if poses.ndim != 3 or poses.shape[1] not in (3, 4) or poses.shape[2] != 4 or len(poses) == 0:
            raise ValueError(f"{path}: expected camera poses (N, 3 or 4, 4), found {poses.shape}")
        check_finite_poses(poses, str(path))
        to_world = homogeneous(self.dataset.file_to_world.double().numpy()[None])[0]
        moved = (to_world @ homogeneous(poses))[:, :3]
        moved[..., 3] *= self.dataset.world_scale
        return moved


def on_hemisphere(config: UnseenViewsConfig, dataset: FewShotDataset) -> bool:
    """Whether the training cameras look at the hemisphere's centre from about its distance."""
    record = dataset.fewshot
    poses = record.scene_camera_to_worlds[list(record.train_indices)].double().numpy()
    nearest, farthest = config.radius
    try:
        aside = np.linalg.norm(focus_point(poses) - np.array(config.centre))
    except ValueError:
        return False
    radius = np.linalg.norm(poses[..., 3] - np.array(config.centre), axis=-1)
    around = 0.5 * nearest <= radius.min() and radius.max() <= 2.0 * farthest and aside <= 0.25 * nearest
    return bool(around) and record.geometry.ray_space == "metric"

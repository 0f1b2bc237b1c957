"""DTU scans: rectified images, projection matrices, object masks. Conventions of RegNeRF and SparseNeRF."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import List, Literal, Optional, Sequence, Tuple, Type

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.checks import check_mean_axes
from fewshot_ns.cameras.poses import check_finite_poses, check_rotations, flip_camera_axes, recenter
from fewshot_ns.cameras.projections import check_projection
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.left_out import frames_without_photo
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.skipping import SkippingDataParser, SkippingDataParserConfig
from fewshot_ns.data.files.depth_formats import MIDAS_FOLDERS
from fewshot_ns.data.files.images import IMAGE_SUFFIXES
from fewshot_ns.data.files.scene_folder import Files, find_upward
from fewshot_ns.data.views.selection import ViewSelection, dtu_protocol
from fewshot_ns.utils.number_flags import check_at_least

CALIBRATION_FOLDERS = (
    "SampleSet/MVS Data/Calibration/cal18",
    "SampleSet/MVS_Data/Calibration/cal18",
    "MVS Data/Calibration/cal18",
    "Calibration/cal18",
    "cal18",
)
MASK_FOLDERS = ("idrmasks", "submission_data/idrmasks")
DEPTH_FOLDERS = ("mono_depth", *(f"{folder}/DTU" for folder in MIDAS_FOLDERS), "depth_maps")


@dataclass
class DTUDataParserConfig(SkippingDataParserConfig):
    """Scans of the DTU MVS dataset."""

    _target: Type = field(default_factory=lambda: DTUDataParser)
    """Parser class to instantiate."""
    resize: Literal["bilinear", "area"] = "bilinear"
    """How images are brought to the downscaled size; bilinear without smoothing is what the original loaders do."""
    calibration_dir: Optional[Path] = None
    """Folder of pos_001.txt, ...; None looks beside and above the scan (SampleSet/MVS Data/Calibration/cal18)."""
    calibration_size: Tuple[int, int] = (1200, 1600)
    """Height and width of the images that the projection matrices are made for."""
    mask_dir: Optional[Path] = None
    """Folder of object masks for evaluation, of this scan or of all; None looks for idrmasks above the scan."""
    light_condition: int = 3
    """Which of the seven lights: 0 to 6, or 7 for all lights on."""
    max_images: int = 49
    """Views of a scan, the number that the protocol and the rescaling of the scene count."""
    view_protocol: Literal["pixelnerf", "pixelnerf_reduced_testset", "every8", "all"] = "pixelnerf"
    """Rule for training and test views: pixelnerf is the published one."""


class DTUDataParser(SkippingDataParser):
    """Parser of the DTU layout. The world keeps the originals' recentred frame, so that their plane z=0 stands."""

    config: DTUDataParserConfig

    def _read_scene(self) -> SceneFiles:
        config = self.config
        folder, projections = self._read_projections()
        count = len(projections)
        images = self._images(count)
        height, width = config.calibration_size
        files = [f"{folder / f'pos_{number:03d}.txt'}" for number in range(1, len(projections) + 1)]
        intrinsics, poses = decompose_projections(projections, files)
        check_rotations(poses, [f"pos_{number:03d}.txt" for number in range(1, count + 1)], str(folder))
        check_mean_axes(poses, (1, 2), str(folder), "the world is turned by those of all calibrated views")
        poses, transform = recenter(poses)
        reach = float(np.abs(poses[:, :, 3]).max())
        if reach == 0:
            raise ValueError(f"{config.data}: expected cameras in several places, found {count} in one")
        scale = 1.0 / reach
        poses[:, :, 3] *= scale
        near, far = self._near_far(0.5, 3.5)
        return SceneFiles(
            images=images,
            camera_to_worlds=flip_camera_axes(poses),
            intrinsics=np.stack(
                [
                    intrinsics[:, 0, 0] / width,
                    intrinsics[:, 1, 1] / height,
                    intrinsics[:, 0, 2] / width,
                    intrinsics[:, 1, 2] / height,
                ],
                axis=1,
            ),
            protocol=dtu_protocol(count, config.view_protocol),
            left_out=frames_without_photo(images, config.data, config.on_missing) if config.on_missing else {},
            geometry=SceneGeometry("metric", near, far, "cone", config.background, origin_plane_z=0.0),
            calibrated_sizes=np.tile([height, width], (count, 1)),
            calibration="its calibration (--calibration-size)",
            cameras_file=folder,
            transform=transform,
            scale=scale,
            depths=self._find_depths(self._depth_folders(), images),
        )

    def _complete(self, scene: SceneFiles, selection: ViewSelection) -> SceneFiles:
        masks = self._find_masks(selection.test or selection.train, len(scene.images))
        # White alone is the object, as in the originals.
        return replace(scene, object_masks=masks, object_mask_level=255)

    def _check_flags(self) -> None:
        super()._check_flags()
        check_at_least("--calibration-size", 1, *self.config.calibration_size)
        check_at_least("--max-images", 1, self.config.max_images)

    def _read_projections(self) -> Tuple[Path, npt.NDArray[np.float64]]:
        """The folder, and (N, 3, 4) projection matrices of the views 1..N, up to `max_images`. All must
        be right, whichever views are used: the world is centred on and scaled by all of them.

        Raises:
            FileNotFoundError: there are none, or one is missing among them, or of a photo.
            ValueError: a file is damaged.
        """
        folder = self.config.calibration_dir or find_upward(self.config.data, CALIBRATION_FOLDERS)
        if folder is None:
            raise FileNotFoundError(
                f"{self.config.data}: expected the calibration in {CALIBRATION_FOLDERS[0]} beside or above the scan, "
                "found none; give --calibration-dir"
            )
        matrices: List[npt.NDArray[np.float64]] = []
        for number in range(1, self._last_view(folder) + 1):
            path = folder / f"pos_{number:03d}.txt"
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: expected a projection matrix of every view, since photos or matrices go on behind view "
                    f"{number - 1}, found no such file; add it, or give --max-images {number - 1} to leave out the "
                    "views from there on"
                )
            try:
                matrix = np.loadtxt(path, dtype=np.float64)
            except ValueError as error:
                raise ValueError(f"{path}: expected a 3x4 projection matrix, found {error}") from error
            if matrix.shape != (3, 4):
                raise ValueError(f"{path}: expected a 3x4 projection matrix, found shape {matrix.shape}")
            check_finite_poses(matrix[None], str(path), [path.name])
            check_projection(matrix, str(path), "; the world is that of the cameras of all views, used or not")
            matrices.append(matrix)
        if not matrices:
            raise FileNotFoundError(f"{folder / 'pos_001.txt'}: expected projection matrices, found no such file")
        return folder, np.stack(matrices)

    def _last_view(self, calibration: Path) -> int:
        """Largest number, up to `max_images`, of a view with a matrix or a photo: none before it may lack its matrix,
        since fewer views are other test views and another centre of the world."""
        numbers = range(self.config.max_images, 0, -1)
        present = (n for n in numbers if (calibration / f"pos_{n:03d}.txt").is_file() or self._image(n).is_file())
        return next(present, 0)

    def _images(self, count: int) -> Tuple[Path, ...]:
        return tuple(self._image(number) for number in range(1, count + 1))

    def _image(self, number: int) -> Path:
        """Photo of a view, counted from 1; where there is none, where it is expected."""
        light = self.config.light_condition
        name = f"{light}_r5000" if light < 7 else "max"
        candidates = [self.config.data / f"rect_{number:03d}_{name}{suffix}" for suffix in IMAGE_SUFFIXES]
        return next((path for path in candidates if path.is_file()), candidates[0])

    def _depth_folders(self) -> List[Path]:
        scan = self.scene_name
        found = find_upward(self.config.data, [f"{folder}/{scan}" for folder in DEPTH_FOLDERS])
        return [self.config.data / "depth_maps"] + ([found] if found is not None else [])

    def _find_masks(self, views: Tuple[int, ...], count: int) -> Optional[Files]:
        """Masks of all views: `<scan>/mask/000.png` or `<scan>/000.png`, whichever holds one of some views."""
        scan, given = self.scene_name, self.config.mask_dir
        if given is not None:
            folders = [given / scan / "mask", given / scan, given / "mask", given]
        else:
            roots = [find_upward(self.config.data, [f"{folder}/{scan}"]) for folder in MASK_FOLDERS]
            folders = [folder for root in roots if root is not None for folder in (root / "mask", root)]
        for folder in folders:
            if any((folder / f"{index:03d}.png").is_file() for index in views):
                return tuple(folder / f"{index:03d}.png" for index in range(count))
        if given is not None:
            raise FileNotFoundError(f"{given}: expected object masks ({views[0]:03d}.png, ...), found none")
        return None


def decompose_projections(
    projections: npt.NDArray[np.floating], names: Sequence[str] = ()
) -> Tuple[npt.NDArray, npt.NDArray]:
    """Splits projection matrices into intrinsics and poses.

    Args:
        projections: (N, 3, 4), world to pixels, OpenCV axes.
        names: (N) what each is called in the message; none: by its number.

    Returns:
        (N, 3, 3) intrinsics with last element 1, and (N, 3, 4) camera-to-world poses with OpenCV axes.

    Raises:
        ValueError: a matrix whose 3x3 part has no inverse.
    """
    intrinsics, poses = [], []
    for number, projection in enumerate(projections):
        left = projection[:, :3]
        if not abs(np.linalg.det(left / max(float(np.abs(left).max()), 1e-30))) > 1e-12:
            where = names[number] if names else f"projection {number}"
            raise ValueError(f"{where}: expected a projection matrix whose 3x3 part has an inverse, found one without")
        # The originals read the matrix in float32; the arithmetic after that is in float64 with every OpenCV.
        rounded = projection.astype(np.float32).astype(np.float64)
        calibration, rotation, centre = cv2.decomposeProjectionMatrix(rounded)[:3]
        intrinsics.append(calibration / calibration[2, 2])
        poses.append(np.concatenate([rotation.T, centre[:3] / centre[3]], axis=1))
    return np.stack(intrinsics), np.stack(poses)

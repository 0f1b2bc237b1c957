"""A scene of a multi-scene data set as its format describes it, its checks, and what nerfstudio sees of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.utils.colors import get_color

from fewshot_ns.cameras.checks import size_fault
from fewshot_ns.cameras.poses import check_finite_poses, check_rotations
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.files.images import downscaled_size, has_alpha, image_size
from fewshot_ns.data.files.masks import HALF
from fewshot_ns.data.files.scene_folder import check_same_aspect, chosen_files
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import EvaluationMasks, Scene, SceneError, SceneWorld

PROTOCOL = "multi-scene"
"""Name of the view protocol of such scenes."""


@dataclass
class SceneViews:
    """A scene as its format describes it, in pixels of the files."""

    images: Tuple[Path, ...]
    """(N) images."""
    camera_to_worlds: npt.NDArray[np.floating]
    """(N, 3, 4) OpenGL axes, world of the protocol."""
    focal: npt.NDArray[np.floating]
    """(N, 2) fx, fy in pixels of a calibration image."""
    near: float
    """The format's first distance sampled."""
    far: float
    """The format's last distance sampled."""
    planar: bool = False
    """Whether near and far are planar depths, not distances along unit rays."""
    centre: Optional[npt.NDArray[np.floating]] = None
    """(N, 2) principal point in pixels of a calibration image; None: half its sides."""
    size: Optional[Tuple[int, int]] = None
    """Height and width of a calibration image; None: those of the first image."""
    masks: Optional[Tuple[Path, ...]] = None
    """(N) object masks."""
    mask_from_background: bool = False
    """See `Scene`."""
    world: SceneWorld = SceneWorld()
    """See `Scene`."""
    evaluation_masks: Optional[EvaluationMasks] = None
    """See `Scene`."""
    depths: Optional[Tuple[Optional[Path], ...]] = None
    """(N) depth maps."""
    pool: Optional[Tuple[int, ...]] = None
    """See `Scene`."""
    targets: Optional[Tuple[int, ...]] = None
    """See `Scene`."""
    neighbours: Optional[Tuple[Tuple[int, ...], ...]] = None
    """See `Scene`."""
    view_indices: Optional[Tuple[int, ...]] = None
    """See `Scene`."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """See `Scene`."""
    may_be_mirrored: bool = False
    """Whether the axes of the cameras may be left-handed, as in a mirrored world."""


def check_views(views: SceneViews, folder: Path) -> None:
    """Checks what a format says of a scene.

    Raises:
        SceneError: no images, not one camera and mask per image, focal lengths that are not positive, or a calibration
            of no size.
        ValueError: poses that are not finite, or turn the camera by something else than a rotation.
    """
    count = len(views.images)
    if count == 0:
        raise SceneError(f"{folder}: expected images, found none")
    parts = {"camera": len(views.camera_to_worlds)}
    if views.masks is not None:
        parts["mask"] = len(views.masks)
    for what, found in parts.items():
        if found != count:
            raise SceneError(f"{folder}: expected one {what} per image, found {found} for {count} images")
    names = [image.name for image in views.images]
    check_finite_poses(views.camera_to_worlds, str(folder), names)
    check_rotations(views.camera_to_worlds, names, str(folder), mirrored=views.may_be_mirrored)
    if views.size is not None:
        fault = size_fault(*views.size)
        if fault is not None:
            raise SceneError(f"{folder}: {fault} (its calibration)")
    for name, focal in zip(names, views.focal, strict=True):
        # Said so that NaN fails.
        if not (np.isfinite(focal) & (focal > 0)).all():
            raise SceneError(
                f"{folder}: photo {name}: expected positive focal lengths, found {focal[0]:g}, {focal[1]:g}"
            )


def pack_cameras(
    views: SceneViews, wanted_size: Optional[Tuple[int, int]], downscale_factor: int, integer_pixels: bool
) -> Cameras:
    """nerfstudio's cameras of a scene.

    Args:
        views: The scene.
        wanted_size: (height, width) that images are brought to; None: the size of the first image.
        downscale_factor: By how much both sides of that size are divided.
        integer_pixels: Whether the principal point counts from the centre of the first pixel.

    Raises:
        FileNotFoundError: the first image is missing.
        ValueError: it is no image, or its proportions are not those of the calibration or of `wanted_size`.
    """
    first = views.images[0]
    found = image_size(first)
    calibrated = views.size or found
    check_same_aspect(first, calibrated, "its calibration")
    check_same_aspect(first, wanted_size or found, "--image-size")
    height, width = downscaled_size(wanted_size or found, downscale_factor, first)
    scale = np.array([width / calibrated[1], height / calibrated[0]])
    centre = np.array([calibrated[1], calibrated[0]]) / 2 if views.centre is None else views.centre
    # Formats that count from the first pixel's centre keep doing so at the new size, as in the original; the half
    # pixel to nerfstudio's corner comes last.
    centre = np.broadcast_to(centre * scale + (0.5 if integer_pixels else 0.0), views.focal.shape)
    fx, fy = torch.from_numpy(views.focal * scale).float().split(1, dim=1)
    cx, cy = torch.from_numpy(centre.copy()).float().split(1, dim=1)
    poses = torch.from_numpy(views.camera_to_worlds).float()
    return Cameras(camera_to_worlds=poses, fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)


def listed_files(folder: Path, suffixes: Sequence[str]) -> Tuple[Path, ...]:
    """Files of a folder with one of the suffixes (any case), sorted by name, without hidden ones; none where there is
    no such folder."""
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))
    )


def scene_outputs(
    scene: Scene, views: Sequence[int], split: str, train: Sequence[int], test: Sequence[int]
) -> DataparserOutputs:
    """Some views of a scene.

    Args:
        scene: An opened scene.
        views: View indices.
        split: 'train', 'val' or 'test', for the record.
        train: View indices of all views that train or are source views.
        test: View indices of all views that are evaluated.

    Raises:
        FileNotFoundError: the first image is missing.
        ValueError: it is no image.
    """
    masks = scene.evaluation_masks
    metadata = FewShotMetadata(
        geometry=SceneGeometry("metric", *scene.planar_range, "cone", scene.background),
        protocol=PROTOCOL,
        split=split,
        image_indices=tuple(views),
        train_indices=tuple(train),
        test_indices=tuple(test),
        scene_camera_to_worlds=scene.cameras.camera_to_worlds,
        pool_indices=tuple(train),
        has_alpha=has_alpha(scene.image_filenames[views[0]]),
        object_mask_filenames=None
        if masks is None
        else chosen_files(masks.files, views, "object mask", "of the scene", required=split != "train"),
        object_mask_level=HALF if masks is None else masks.level,
        true_depth_filenames=None
        if scene.depth_filenames is None
        else tuple(scene.depth_filenames[view] for view in views),
    )
    return DataparserOutputs(
        image_filenames=[scene.image_filenames[index] for index in views],
        cameras=scene.cameras[torch.tensor(views)],
        alpha_color=get_color(scene.background),
        scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]) * scene.far),
        metadata={METADATA_KEY: metadata},
        dataparser_transform=torch.tensor(scene.world.transform, dtype=torch.float32),
        dataparser_scale=scene.world.scale,
    )

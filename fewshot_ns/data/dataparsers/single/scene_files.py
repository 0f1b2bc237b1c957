"""What a layout says of a scene: images, cameras, the rule that chooses views, and what lies beside the images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.seed_points import SceneCameras, SeedPoints, colmap_seed_points
from fewshot_ns.data.files.masks import HALF
from fewshot_ns.data.files.photo_files import photo_names
from fewshot_ns.data.files.scene_folder import Files
from fewshot_ns.data.records.metadata import DepthEncoding, NormalAxes, PairBox
from fewshot_ns.data.records.photo_name import PhotoName
from fewshot_ns.data.views.selection import Protocol


@dataclass
class SceneFiles:
    """A whole scene of N views as its layout describes it; which of them train and test is not decided yet."""

    images: Tuple[Path, ...]
    """(N) images in the order of the scene's view indices; the file of a view that is not chosen need not exist."""
    camera_to_worlds: npt.NDArray[np.floating]
    """(N, 3, 4) OpenGL poses in the final world frame."""
    intrinsics: npt.NDArray[np.floating]
    """(N, 4) fx / W, fy / H, cx / W, cy / H: fractions of the image, so that they hold at every resolution."""
    protocol: Protocol
    """The dataset's rule for training and test views."""
    geometry: SceneGeometry
    """How rays are sampled."""
    ray_space_from: Optional[str] = None
    """What of the cameras decided how rays are sampled; None where the format or the user says it."""
    list_lengths: Optional[Tuple[int, ...]] = None
    """Lengths of the lists that the images are joined from, such as splits, in which the same names may come again;
    None: one list, in which a photo's path says which it is."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What the layout lists and was skipped, by what it is: frames without a photo, photos without a pose."""
    bounds_guessed: bool = False
    """Whether near and far are a guess from where the cameras look, since neither files nor sparse points say them."""
    calibrated_sizes: Optional[npt.NDArray[np.floating]] = None
    """(N, 2) height and width that each view was calibrated at, whose proportions the images must have; None: no such
    check."""
    calibration: str = "the calibration"
    """What these sizes are of, for the message."""
    states_sizes: bool = True
    """Whether files state how wide and high the photos are, so that one that viewers turn by its side shows."""
    cameras_file: Optional[Path] = None
    """File or folder that the cameras were read from, for messages; None: the scene's."""
    transform: npt.NDArray[np.floating] = field(default_factory=lambda: np.eye(4)[:3])
    """(3, 4) rigid transform from the file's world to ours, before scaling."""
    scale: float = 1.0
    """Scale from the file's units to ours."""
    bounds: Optional[npt.NDArray[np.floating]] = None
    """(N, 2) nearest and farthest depth of each view in our units."""
    depths: Optional[Files] = None
    """(N) depth priors, None where a view has none."""
    depth_encoding: DepthEncoding = DepthEncoding()
    """What the priors' values mean by the layout, with unit and limits in units of the scene's files; the user's flags
    override it."""
    normals: Optional[Files] = None
    """(N) images of surface normals, None where a view has none; they need not exist."""
    normal_axes: NormalAxes = "opencv"
    """Axes of the normals, see `FewShotMetadata.normal_axes`."""
    in_metres: bool = False
    """Whether a unit of the scene's files is known to be a metre."""
    pair_box: Optional[PairBox] = None
    """Boxes in which the protocol draws the pairs of a depth ranking."""
    object_masks: Optional[Files] = None
    """(N) evaluation masks, None where a view has none."""
    object_mask_level: int = HALF
    """Smallest of these masks' values, 0 to 255, that belong to the object."""
    training_masks: Optional[Files] = None
    """(N) masks of the pixels that may be used at all (nerfstudio's masks)."""
    alphas: Optional[Files] = None
    """(N) masks off which photos without alpha are transparent."""
    box: float = 1.5
    """Half the sides of the scene's box."""
    loss_weights: Optional[npt.NDArray[np.floating]] = None
    """(N) weight of each pixel's colour loss in a view, None where all count the same."""
    scale_labels: Optional[npt.NDArray[np.integer]] = None
    """(N) how often a view was halved, in multi-scale scenes."""
    validation: Optional[Tuple[int, ...]] = None
    """Views evaluated while training; None takes the test views."""
    distortion: Optional[npt.NDArray[np.floating]] = None
    """(N, 6) distortion parameters in nerfstudio's order."""
    camera_type: CameraType = CameraType.PERSPECTIVE
    """Camera model of all views."""
    seed_points: Optional[SeedPoints] = None
    """Sparse points that the layout gives."""
    colmap_points: Optional[Path] = None
    """Else COLMAP's points3D.bin or .txt in the world of the scene's files; read for the training split alone."""
    remarks: Tuple[str, ...] = ()
    """What a user should know of the scene before it trains."""
    equal_photos: Tuple[Tuple[str, str], ...] = ()
    """Names of held-out photos, each with one of a photo that trains and has the same bytes."""

    @cached_property
    def photos(self) -> Tuple[PhotoName, ...]:
        """(N) what the images are called."""
        return photo_names(self.images, self.list_lengths)

    def cameras(self, views: Sequence[int], sizes: Mapping[int, Tuple[int, int]]) -> Cameras:
        """nerfstudio's cameras of some views, whose images are brought to `sizes` = (height, width) by view."""
        size = torch.tensor([sizes[index] for index in views])
        height, width = size[:, :1], size[:, 1:]
        chosen = list(views)
        fx, fy, cx, cy = torch.from_numpy(self.intrinsics[chosen]).float().split(1, dim=1)
        distortion = None if self.distortion is None else torch.from_numpy(self.distortion[chosen]).float()
        return Cameras(
            camera_to_worlds=torch.from_numpy(self.camera_to_worlds[chosen]).float(),
            fx=fx * width,
            fy=fy * height,
            cx=cx * width,
            cy=cy * height,
            width=width,
            height=height,
            distortion_params=distortion,
            camera_type=self.camera_type,
        )

    def read_seed_points(self, train: Sequence[int]) -> Optional[SeedPoints]:
        """Points that the layout gives, else those of COLMAP's files; None where there are none.

        Args:
            train: Indices of the training views.
        """
        if self.seed_points is not None or self.colmap_points is None:
            return self.seed_points
        cameras = SceneCameras(
            self.images, self.camera_to_worlds, self.intrinsics, np.asarray(self.transform), self.scale
        )
        return colmap_seed_points(self.colmap_points, cameras, train)

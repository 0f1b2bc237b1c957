"""What travels from a dataparser to the model: the ray geometry of the scene, and where depth, masks, normals lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Mapping, Optional, Tuple

from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.photo_name import PhotoName

METADATA_KEY = "fewshot"
"""Key of the `FewShotMetadata` in `DataparserOutputs.metadata`."""
SEED_POINTS_KEY = "points3D_xyz"
"""Key of the seed points (P, 3) float32 there, in the world of the cameras; nerfstudio's own, whose pipeline gives them
to the model as `seed_points`."""
SEED_COLOURS_KEY = "points3D_rgb"
"""Key of their colours (P, 3) uint8."""

Polarity = Literal["inverse_depth", "distance"]
DepthMeaning = Literal["z_depth", "ray_distance"]
NormalAxes = Literal["opencv", "opengl", "world"]
ResizeMode = Literal["bilinear", "area"]
BoundsOrigin = Literal["scene", "flags", "cameras", "photos"]
"""Where near and far come from: the scene's files or its dataset's protocol; the user; a guess from where the cameras
look, since nothing says it; depth that the training photos confirm."""


@dataclass(frozen=True)
class DepthEncoding:
    """What the numbers in a scene's depth files mean."""

    polarity: Optional[Polarity] = None
    """'inverse_depth' (larger = nearer) or 'distance' (larger = farther); None where each file's own format says it."""
    meaning: DepthMeaning = "z_depth"
    """'z_depth': along the viewing axis; 'ray_distance': Euclidean, from the camera's centre."""
    unit: Optional[float] = None
    """World units per stored unit; None where scale and shift are unknown, so that only the order counts."""
    min_depth: Optional[float] = None
    """Smaller stored values are invalid; None: those that are not positive."""
    max_depth: Optional[float] = None
    """Larger stored values are invalid; None: no limit."""
    eight_bit: bool = False
    """Whether the layout is known to hold depth in 8 bits."""
    may_be_empty: bool = False
    """Whether a map without any valid value is no error, as of a photo that shows nothing that another one shows."""
    unit_from: Optional[str] = field(default=None, compare=False)
    """What states the unit, in words, for the record of a run."""


@dataclass(frozen=True)
class PairBox:
    """How a dataset's own protocol draws the pairs of a depth ranking (NVS-RGBD): in boxes of pixels, valid ones."""

    side: int
    """Rows and columns of the box that holds a pair, pixels at the size of the cameras."""
    min_valid: int
    """Fewest pixels with a valid prior in a box that is used."""
    tie: Literal["first", "second"] = "first"
    """Which of two pixels with equal prior counts as nearer: the one drawn first or second."""


@dataclass(frozen=True)
class FewShotMetadata:
    """Everything that our datamanager, model and priors need to know of a split beyond images and cameras."""

    geometry: SceneGeometry
    """Ray geometry, the same for all splits of the scene."""
    protocol: str
    """Name of the view protocol, e.g. 'llff-3', or 'indices' where the user gave them."""
    split: str
    """The split of this instance: 'train', 'val' or 'test'."""
    image_indices: Tuple[int, ...]
    """Index of each image of this split in the scene's sorted list of images."""
    train_indices: Tuple[int, ...]
    """Scene indices of all training views."""
    test_indices: Tuple[int, ...]
    """Scene indices of all test views; empty where nothing is held out, and 'val' and 'test' show training views."""
    scene_camera_to_worlds: Tensor
    """(N, 3, 4) poses of all N images of the scene, OpenGL axes, in the frame of the cameras."""
    rendered_indices: Tuple[int, ...] = ()
    """Scene indices of those images of this split that have no photo: cameras that are rendered, not measured."""
    photos: Tuple[PhotoName, ...] = ()
    """What each photo of this split is called among all of the scene; none where the files are not there."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Frames without a photo and photos without a pose that were skipped, by what they are; none where none were."""
    equal_photos: Tuple[Tuple[str, str], ...] = ()
    """Names of held-out photos, each with one of a photo that trains and has the same bytes; none where none has."""
    bounds_from: BoundsOrigin = "scene"
    """Where near and far of the geometry come from."""
    ray_space_from: Optional[str] = None
    """What of the cameras decided the ray space of the geometry; None where the format or the user says it."""
    pool_indices: Tuple[int, ...] = ()
    """Scene indices of all views that the training ones were chosen from; those that are not used still have a pose."""
    resize: ResizeMode = "area"
    """How images are brought from the size on disk to the size of the cameras."""
    has_alpha: bool = False
    """Whether the images are transparent where there is no object."""
    alpha_filenames: Optional[Tuple[Path, ...]] = None
    """One mask per image of this split that its alpha comes from, or None: their files have it, or they are opaque."""
    depth_prior_filenames: Optional[Tuple[Path, ...]] = None
    """One depth-prior file per image of this split, or None where the scene has none."""
    depth_encoding: DepthEncoding = DepthEncoding()
    """What the numbers in these files mean."""
    depth_prior_problem: Optional[str] = None
    """Why the depth maps that the scene has are not used, in words: views of this split have none."""
    loss_weights: Optional[Tuple[float, ...]] = None
    """Weight of the colour loss of the pixels of each image of this split (multi-scale scenes), or None."""
    scale_labels: Optional[Tuple[int, ...]] = None
    """How often each image of this split was halved (multi-scale scenes), or None."""
    normal_filenames: Optional[Tuple[Optional[Path], ...]] = None
    """File of the surface normals of each image of this split, None where it has none; None where no image has any."""
    normal_axes: NormalAxes = "opencv"
    """Axes of these normals: those of the camera as in OpenCV (x right, y down, z forward) or OpenGL (x right, y up, z
    backward), or those of the world of the scene's files."""
    length_unit: float = 1.0
    """World units per metre in scenes whose files are known to be in metres, else 1: the unit of the widths that depth
    losses are given."""
    pair_box: Optional[PairBox] = None
    """Boxes in which the dataset's protocol draws pairs; None leaves it to the prior's config."""
    object_mask_filenames: Optional[Tuple[Path, ...]] = None
    """One evaluation mask per image of this split, or None."""
    object_mask_level: int = 128
    """Smallest of a mask's values, 0 to 255, that belong to the object."""
    true_depth_filenames: Optional[Tuple[Optional[Path], ...]] = None
    """One map of the true depth per image of this split, None where it has none (MVSNet-DTU); says which pixels
    metrics of the region true-depth are of. Nothing trains on it."""
    lenses: Optional[Cameras] = None
    """Cameras that have taken the photos of this split, where these are straightened for the cameras that the split has
    (image backbones); None where photos and their masks, depth maps and normals are used as they are."""
    scene_bounds: Optional[Tensor] = None
    """(N, 2) nearest and farthest depth seen by each image in world units, where the format stores them."""
    seed_points_source: Optional[str] = None
    """File of the seed points, their number, and how many of them training views see; None where the split has none
    (only the training split has)."""
    seed_points_train_views: Optional[Tensor] = None
    """(P,) int64, by how many training views each seed point was seen; None where the file does not say it. Points
    that fewer than two training views see are known from held-out images."""


def get_fewshot_metadata(metadata: Mapping[str, Any]) -> FewShotMetadata:
    """Returns the few-shot record of a dataset's metadata.

    Raises:
        ValueError: where the data came from a dataparser that does not provide one.
    """
    record = metadata.get(METADATA_KEY)
    if not isinstance(record, FewShotMetadata):
        raise ValueError(
            "this method needs a few-shot dataparser (llff-data, dtu-data, fewshot-blender-data, rgbd-data, "
            "multiscale-blender-data, fewshot-nerfstudio-data, idr-data, fewshot-colmap-data, or fewshot-data, which "
            f"finds the right one), but the scene's metadata holds only {sorted(metadata)}; leave the dataparser's "
            "name out, or give one of these after the other flags, e.g. `ns-train sparsenerf-lite --data DIR llff-data`"
        )
    return record

"""Many scenes in one dataset: what is listed without opening anything, and what a scene is once it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Mapping, Optional, Tuple, Union

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

SCENE_INDEX_KEY = "scene_index"
"""Ray metadata of generalizable models: (R, 1) row of the `Conditioning` that a ray belongs to, int64."""


class SceneError(ValueError):
    """A scene that cannot be used; the message names the file, what was expected and what was found.

    It comes up when the scene is opened or one of its images is read, never while scenes are listed. Whoever trains or
    evaluates decides whether to leave the scene out, and counts.
    """


@dataclass(frozen=True)
class SceneEntry:
    """One line of a scene table. Listing 30,000 of them reads list files and folder names, no camera and no image."""

    scene_id: str
    """Unique in the dataset, as users name it on the command line: 'chair_17', or 'category/object'."""
    category: str
    """Category of the object (a synset's number in ShapeNet), '' where the dataset has none."""
    folder: Path
    """Folder of the scene's files."""
    split: str = "train"
    """Split that it was listed for: 'train', 'val' or 'test'. Some formats limit the views of training scenes."""


@dataclass(frozen=True)
class SceneWorld:
    """How the world of a scene's files becomes that of its cameras."""

    transform: Tuple[Tuple[float, ...], ...] = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    """(3, 4) rows, before scaling."""
    scale: float = 1.0
    """World units per unit of the files."""


@dataclass(frozen=True)
class EvaluationMasks:
    """Object masks that metrics are also computed within, and that training knows nothing of."""

    files: Tuple[Optional[Path], ...]
    """One per view; None: the view has none. A file that is missing is an error where it is read."""
    level: int = 128
    """Smallest of a mask's values, 0 to 255, that belong to the object."""


@dataclass(frozen=True)
class Scene:
    """An opened scene: its cameras are read, its images are not."""

    entry: SceneEntry
    """The line of the table it was opened from."""
    cameras: Cameras
    """(N,) all views, OpenGL axes, pixel centres at +0.5 (formats with integer pixels have 0.5 added to cx and cy)."""
    image_filenames: Tuple[Path, ...]
    """One image per view."""
    near: float
    """First distance along the unit ray that is sampled, world units."""
    far: float
    """Last distance along the unit ray that is sampled, world units."""
    planar_range: Tuple[float, float]
    """The same as planar depths, along the viewing axis: the format's own, or those that reach as far."""
    background: Literal["black", "white"]
    """What a ray sees behind the scene, and what lies under transparent pixels."""
    mask_filenames: Optional[Tuple[Path, ...]] = None
    """One object mask per view, where the format stores them."""
    mask_from_background: bool = False
    """Whether the object is where the image is not the background (SRN), so that boxes need no mask files."""
    world: SceneWorld = SceneWorld()
    """What the format's own reading makes of the world of the files."""
    evaluation_masks: Optional[EvaluationMasks] = None
    """Object masks of formats whose training draws no boxes around objects; for masked metrics alone."""
    depth_filenames: Optional[Tuple[Optional[Path], ...]] = None
    """One depth map per view, where the format stores them; used by masked metrics only."""
    pool: Optional[Tuple[int, ...]] = None
    """Positions in this scene of the views that may train and be source views; None: all. The test views of a
    single-scene parser's protocol lie outside of it."""
    targets: Optional[Tuple[int, ...]] = None
    """Positions of the views that the format's own protocol evaluates; None: all that are not source views."""
    neighbours: Optional[Tuple[Tuple[int, ...], ...]] = None
    """For each view the positions of the views that the format's own list calls its best sources, best first
    (MVSNet-DTU)."""
    view_indices: Optional[Tuple[int, ...]] = None
    """Number of each view in the numbering of the scene's own files, where views are left out; None: 0, 1, 2, ..."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What a user should know of the scene before it trains, by its kind, which other scenes may share."""


@dataclass(frozen=True)
class Conditioning:
    """Source views that condition a generalizable model: B scenes of N views each, all of one image size.

    A model gets it by `model.condition(conditioning)` before each forward; rays say by `SCENE_INDEX_KEY` which of the
    B scenes they belong to (without that key: scene 0).
    """

    images: Tensor
    """(B, N, H, W, 3) colours in [0, 1]; what range a network wants is the network's business."""
    camera_to_worlds: Tensor
    """(B, N, 3, 4) OpenGL axes."""
    intrinsics: Tensor
    """(B, N, 4) fx, fy, cx, cy in pixels of these images, pixel centres at +0.5."""
    near: Tensor
    """(B,) first distance along the unit ray that is sampled."""
    far: Tensor
    """(B,) last distance along the unit ray that is sampled."""
    planar_range: Optional[Tensor] = None
    """(B, 2) first and last planar depth, for models that sample by them; None: `near` and `far` are such."""
    background: Literal["black", "white"] = "black"
    """What a ray sees behind the scenes."""
    target_to_worlds: Optional[Tensor] = None
    """(B, 3, 4) pose of the one view of each scene that the rays are of; None where they are of several views, or where
    the model is told of their camera in another way (`get_outputs_for_camera`)."""
    target_intrinsics: Optional[Tensor] = None
    """(B, 4) fx, fy, cx, cy of these views, as the ones of the source views."""

    def with_planar_bounds(self) -> Conditioning:
        """The same with planar depths as near and far."""
        if self.planar_range is None:
            return self
        near, far = self.planar_range.unbind(-1)
        return replace(self, near=near, far=far, planar_range=None)

    def to(self, device: Union[torch.device, str]) -> Conditioning:
        """The same on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

"""The consistency prior: points of unseen views have the colours that the photos show there."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Type

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from fewshot_ns.cameras.ray_space import camera_rays
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.model_components.view_consistency import ConsistencyTarget, farthest_visible, view_consistency_loss
from fewshot_ns.priors.base import CameraRequest, Needs, Prior, PriorConfig, PriorScene, StepContext
from fewshot_ns.priors.unseen_views import UnseenViews, UnseenViewsConfig


@dataclass
class ConsistencyPriorConfig(PriorConfig):
    """Photometric consistency of unseen views with the photos."""

    _target: Type = field(default_factory=lambda: ConsistencyPrior)
    """Class that the config builds."""
    weight: float = 0.1
    """Weight of the term, an absolute error of colours in [0, 1]."""
    target: ConsistencyTarget = "both"
    """What the term moves: depth, by where a pixel's point lies in the photos; colour: what is rendered there; both."""
    tolerance: float = 0.05
    """Fraction of a photo's measured depth by which a point may lie behind it (and behind the map's own standard
    deviation) and still count as visible."""
    use_depth_maps: bool = True
    """Whether depth maps of known scale say which points a photo sees; else, and where there are none, all in its
    image and mask."""
    num_views: int = 4
    """Unseen views per step; all are rendered in the step's main forward."""
    views: UnseenViewsConfig = field(
        default_factory=lambda: UnseenViewsConfig(pool="photographed", box_training_only=True, grid_size=16)
    )
    """Poses and rendered pixels of the unseen views; num_views grids of grid_size x grid_size rays per step."""


class ConsistencyPrior(Prior[ConsistencyPriorConfig]):
    """Colours of unseen views against the photos, at the points that they render.

    Args:
        config: the prior's config.
        scene: the scene.
        name: of the field.
    """

    def __init__(self, config: ConsistencyPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(1, num_views=config.num_views)
        self.expect_at_least(0, weight=config.weight, tolerance=config.tolerance)
        self.views: Optional[UnseenViews] = None
        self.photos: List[StereoView] = []
        self.farthest: List[Tensor] = []
        self.with_depth = 0
        self._cameras: Optional[Cameras] = None

    @property
    def needs(self) -> Needs:
        """Unseen views in the main forward."""
        why = {"unseen_views": "consistency compares the colours of unseen views with the photos"}
        return Needs(why, "train a single-scene method on one scene", request="cameras")  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Reads the photos and what is known of their depth, also of maps that an earlier prior has computed.

        Raises:
            ValueError: cameras that are no pinhole cameras, unusable fields of `views`, a scene in which unseen views
                cannot be placed, or an unusable depth map.
        """
        dataset, device = self.scene.dataset, self.scene.device
        self._check_cameras(dataset)
        self.views = UnseenViews(self.config.views, dataset, device, f"{self.flag}.views")
        # Where none can be placed training must not begin.
        self.views.draw_pose()
        for index in range(len(dataset)):
            photo = _photo(dataset, index)
            z_depth, sigma = torch.zeros(photo.size), torch.zeros(photo.size)
            if self.config.use_depth_maps and dataset.has_metric_depth(index):
                measured = dataset.metric_depth(index)
                z_depth = torch.from_numpy(measured.z_depth)
                sigma = sigma if measured.sigma is None else torch.from_numpy(measured.sigma)
                self.with_depth += 1
            self.farthest.append(farthest_visible(photo.mask, z_depth, sigma, self.config.tolerance).to(device))
            self.photos.append(photo.to(device))

    def _check_cameras(self, dataset: FewShotDataset) -> None:
        cameras = dataset.cameras
        bent = cameras.distortion_params is not None and bool((cameras.distortion_params != 0).any())
        if bent or bool((cameras.camera_type != CameraType.PERSPECTIVE.value).any()):
            raise ValueError(
                f"{self.scene.data}: expected photos of pinhole cameras, into which {self.flag} warps unseen views, "
                "found lens distortion or another camera model; undistort the photos, or give "
                f"{self.flag}.enabled False"
            )

    def request(self, step: int) -> Optional[CameraRequest]:
        """Grids of pixels, each of a view of its own."""
        if self.views is None:
            return None
        request = self.views.draw_several(self.config.num_views)
        self._cameras = request.cameras
        return request

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided, for the log."""
        views = {} if self.views is None else self.views.resolved()
        return {**views, "photos": len(self.photos), "photos_with_depth": self.with_depth}

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`view_consistency` of the requested pixels (B, H, W), of the final level."""
        if context.requested is None or self._cameras is None:
            return {}
        requested = context.requested.flatten()
        points = self.points_of(requested, self._cameras)
        loss = view_consistency_loss(
            points, requested.rgb, requested.accumulation, self.photos, self.farthest, self.config.target
        )
        return {"view_consistency": self.config.fade(step) * self.config.weight * loss}

    def points_of(self, rendering: Rendering, cameras: Cameras) -> Tensor:
        """(N, 3) world points at the rendered depths of the N pixels of cameras, also in NDC."""
        # `Rendering.depth` is the Euclidean distance along the world ray whatever the ray space is.
        rays = camera_rays(cameras, self.scene.geometry).flatten()
        return rays.origins + rays.directions * rendering.depth


def _photo(dataset: FewShotDataset, index: int) -> StereoView:
    """A training view at the size that it is trained at."""
    camera = dataset.cameras[index]
    intrinsics = torch.cat([camera.fx, camera.fy, camera.cx, camera.cy]).float().cpu()
    return StereoView(
        image=dataset.get_image_float32(index)[..., :3],
        pose=camera.camera_to_worlds.float().cpu(),
        intrinsics=intrinsics,
        near=torch.finfo(torch.float32).tiny,
        far=float("inf"),
        mask=dataset.training_mask(index)[..., 0],
        name=dataset.photos[index].name,
    )

"""The datamanager of one scene with a few training views."""

from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional, Tuple, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

from fewshot_ns.cameras.ray_space import MEASURED_KEY, RADII_KEY, attach_radii
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.maps import read_depth_map
from fewshot_ns.data.labels.depth import depth_labels
from fewshot_ns.data.labels.normals import NORMAL_KEY, normal_labels
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata
from fewshot_ns.data.samplers.patches import UnseenPatchSampler, concatenate_rays
from fewshot_ns.data.samplers.pixels import ImageStack, MaskedPixelSampler, centre_crop
from fewshot_ns.data.samplers.quads import QuadSampler, QuadSamplerOptions
from fewshot_ns.data.samplers.unseen_views import unseen_cameras
from fewshot_ns.utils.configs import SavedConfig

LOSS_WEIGHT_KEY = "loss_weight"
"""Batch key of the weights (R, 1) of the colour loss, in scenes whose views do not all count the same."""
DEPTH_KEY = "depth"
"""Batch key of the measured depths (R, 1) as ray parameters, 0 where there is none."""
DEPTH_SIGMA_KEY = "depth_sigma"
"""Batch key of their standard deviations (R, 1), world units of planar depth, 0 where the map gives none."""
DEPTH_SLOPE_KEY = "depth_slope"
"""Batch key of the ray parameter per world unit of planar depth (R, 1) at these depths, 1 where there is none."""


@dataclass
class FewShotDataManagerConfig(SavedConfig, VanillaDataManagerConfig):
    """Keeps the few training images in memory and draws rays, in quads where a depth prior asks for them."""

    _target: Type = field(default_factory=lambda: FewShotDataManager)
    """Class that the config builds."""
    train_num_rays_per_batch: Optional[int] = 1024  # type: ignore[assignment]
    """Rays per training step, quads included and unseen views not. None: SparseNeRF's 512 in NDC (what its code comes
    to; its configs say 1024 or 4096), 256 in metric scenes."""
    single_image_batches: bool = False
    """Whether the uniformly drawn rays of a step all come from one training image."""
    crop_steps: int = 0
    """Steps in which uniformly drawn rays come from the middle of the images alone (DietNeRF: 500)."""
    crop_fraction: float = 0.5
    """Sides of that middle, as a fraction of the image's sides."""


class FewShotDataManager(VanillaDataManager[FewShotDataset]):
    """Rays and colours of the training views; evaluation is the host's.

    A batch holds `image` (R, 3), `indices` (R, 3) = (view, row, column) and `quad_gaps` (Q,): the first 4 * Q rays are
    quads in the order p0, p1, n0, n1, and the gap says how far apart the prior sees p0 and p1. After these R rays come
    `num_unseen` rays of unseen views, patch by patch; the batch holds nothing else about them.
    """

    config: FewShotDataManagerConfig
    quad_sampler: Optional[QuadSampler] = None
    num_quads: int = 0
    single_image_quads: bool = False
    boxed_singles: bool = False
    num_rays: int = 0
    patch_sampler: Optional[UnseenPatchSampler] = None
    num_patches: int = 0
    crop_sampler: Optional[MaskedPixelSampler] = None
    train_depths: Optional[ImageStack] = None
    train_normals: Optional[ImageStack] = None

    @property
    def fewshot_metadata(self) -> FewShotMetadata:
        """The few-shot record of the training split."""
        return get_fewshot_metadata(self.train_dataset.metadata)

    def setup_train(self) -> None:
        """Loads the training images and the exact ray radii of their pixels."""
        geometry = self.fewshot_metadata.geometry
        cameras = self.train_dataset.cameras
        images, radii, masks = [], [], []
        for index in range(len(self.train_dataset)):
            data = self.train_dataset.get_data(index)
            images.append(data["image"][..., :3])
            masks.append(data["mask"] if "mask" in data else torch.ones_like(images[-1][..., :1], dtype=torch.bool))
            rays = attach_radii(cameras.generate_rays(camera_indices=index, keep_shape=True), geometry)
            radii.append(rays.metadata[RADII_KEY])
        self.train_images = ImageStack(images)
        self.train_radii = ImageStack(radii)
        self.train_masks = masks
        self.pixel_sampler = MaskedPixelSampler(masks)
        self.crop_sampler = MaskedPixelSampler(self._cropped(masks)) if self.config.crop_steps > 0 else None
        given, default = self.config.train_num_rays_per_batch, 512 if geometry.ray_space == "ndc" else 256
        self.num_rays = default if given is None else given
        self.train_pixel_sampler = PixelSamplerConfig().setup(num_rays_per_batch=self.num_rays)
        self.train_ray_generator = RayGenerator(cameras.to(self.device))

    def _cropped(self, masks: List[Tensor]) -> List[Tensor]:
        """The masks (H, W, 1), False outside of the middle of their images."""
        cropped = [torch.zeros_like(mask) for mask in masks]
        for new, mask in zip(cropped, masks, strict=True):
            middle = centre_crop(mask.shape[0], mask.shape[1], self.config.crop_fraction)
            new[middle] = mask[middle]
        return cropped

    def use_quads(
        self, num_quads: int, options: QuadSamplerOptions, single_image: bool, protocol_boxes: bool = True
    ) -> None:
        """From now on batches begin with quads drawn by the depth priors of the training views.

        Args:
            num_quads: Quads per batch.
            options: How they are drawn.
            single_image: Whether all quads of a batch come from one view.
            protocol_boxes: Whether boxes of the scene's own protocol (NVS-RGBD) come before those of the options; the
                single pixels of a batch are then drawn in such boxes as well, as in the original.

        Raises:
            ValueError: where the scene has no depth priors, one of them is unusable, or the batch is too small.
        """
        record = self.fewshot_metadata
        if record.depth_prior_filenames is None:
            raise ValueError(
                f"the depth prior is on, but {self.config.dataparser.data} has no depth maps; give them by the "
                "dataparser's --depth-dir, or train without: --pipeline.depth.enabled False"
            )
        if 4 * num_quads > self.num_rays:
            raise ValueError(
                f"{num_quads} quads need {4 * num_quads} rays, but a batch has {self.num_rays}; lower "
                "--pipeline.depth.num-quads or raise --pipeline.datamanager.train-num-rays-per-batch"
            )
        heights, widths = self.train_images.heights.tolist(), self.train_images.widths.tolist()
        maps = [
            read_depth_map(path, record.depth_encoding.polarity, (height, width), record.depth_encoding)
            for path, height, width in zip(record.depth_prior_filenames, heights, widths, strict=True)
        ]
        nearness = [torch.as_tensor(prior.nearness()) for prior in maps]
        valid = [
            torch.as_tensor(prior.valid) & mask[..., 0] for prior, mask in zip(maps, self.train_masks, strict=True)
        ]
        box = record.pair_box if protocol_boxes else None
        if box is not None:
            options = replace(options, box_pixels=box.side, min_valid=box.min_valid, tie=box.tie)
        self.quad_sampler = QuadSampler(nearness, valid, options)
        self.num_quads, self.single_image_quads, self.boxed_singles = num_quads, single_image, box is not None

    def use_metric_depth(self) -> None:
        """From now on batches hold the measured depth of each ray; see `DEPTH_KEY` and what follows it.

        Raises:
            ValueError: where the scene has no depth maps, or theirs has no scale.
        """
        self.train_depths = ImageStack(depth_labels(self.train_dataset))

    def use_normals(self) -> None:
        """From now on batches hold the measured normal of each ray; see `NORMAL_KEY`.

        Raises:
            ValueError: where no training view has any, or a picture of them is unusable.
        """
        self.train_normals = ImageStack(normal_labels(self.train_dataset))

    def use_unseen_patches(
        self, num_patches: int, patch_size: int, num_poses: int, training_cameras_only: bool
    ) -> None:
        """From now on patches of unseen views follow the rays of each batch.

        Args:
            num_patches: patches per batch.
            patch_size: their sides, pixels.
            num_poses: unseen views, drawn now.
            training_cameras_only: see `unseen_cameras`.

        Raises:
            ValueError: see `unseen_cameras` and `UnseenPatchSampler`.
        """
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        seen, record = self.train_dataset.cameras, self.fewshot_metadata
        cameras = unseen_cameras(seen, record, num_poses, training_cameras_only, generator).to(self.device)
        self.patch_sampler = UnseenPatchSampler(cameras, record.geometry, patch_size)
        self.num_patches = num_patches

    def next_train(self, step: int) -> Tuple[RayBundle, Dict]:
        """Rays and colours of one training step."""
        self.train_count += 1
        parts, gaps = [], torch.zeros(0)
        if self.quad_sampler is not None:
            single = self.single_image_quads or self.config.single_image_batches
            parts.append(self.quad_sampler.sample(self.num_quads, single))
            gaps = self.quad_sampler.gaps(parts[0])
        num_uniform = max(self.num_rays - 4 * self.num_quads, 0)
        view = int(parts[0][0, 0]) if parts else int(torch.randint(len(self.train_images), (1,)))
        boxed = self.quad_sampler if self.boxed_singles else None
        cropped = self.crop_sampler if step < self.config.crop_steps else None
        draw_singles = (cropped or self.pixel_sampler).sample if boxed is None else boxed.sample_singles
        parts.append(draw_singles(num_uniform, view if self.config.single_image_batches else None))
        indices = torch.cat(parts)
        ray_bundle = self.train_ray_generator(indices.to(self.device))
        ray_bundle.metadata[RADII_KEY] = self.train_radii.lookup(indices).to(self.device)
        batch = {
            "image": self.train_images.lookup(indices).to(self.device),
            "indices": indices,
            "quad_gaps": gaps.to(self.device),
            "num_unseen": 0,
        }
        if self.train_depths is not None:
            depth = self.train_depths.lookup(indices).to(self.device)
            batch[DEPTH_KEY], batch[DEPTH_SIGMA_KEY], batch[DEPTH_SLOPE_KEY] = depth.split(1, dim=-1)
            ray_bundle.metadata[MEASURED_KEY] = depth[:, ::2]
        if self.train_normals is not None:
            batch[NORMAL_KEY] = self.train_normals.lookup(indices).to(self.device)
        weights = self.fewshot_metadata.loss_weights
        if weights is not None:
            batch[LOSS_WEIGHT_KEY] = torch.tensor(weights)[indices[:, :1]].to(self.device)
        if self.patch_sampler is not None:
            unseen = self.patch_sampler.sample(self.num_patches)
            batch["num_unseen"] = len(unseen)
            unseen.metadata[MEASURED_KEY] = torch.zeros(len(unseen), 2, device=self.device)
            ray_bundle = concatenate_rays(ray_bundle, unseen)
        return ray_bundle, batch

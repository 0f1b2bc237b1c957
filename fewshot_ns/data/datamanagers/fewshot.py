"""The datamanager of one scene with a few training views."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import AbstractSet, Any, Dict, List, Optional, Sequence, Tuple, Type

import torch
import torch.distributed as dist
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.model_components.ray_generators import RayGenerator
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from tyro.conf import Suppress

from fewshot_ns.cameras.ray_space import MEASURED_KEY, RADII_KEY, attach_radii
from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.datamanagers.own_parsers import OwnParsers
from fewshot_ns.data.datamanagers.whole_images import MASK_KEY, WholeImages
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.stored import FILE_NAME, StoredSceneDataParserConfig, synthetic_scene
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.labels import (
    ALPHA_KEY,
    DEPTH_KEY,
    DEPTH_SIGMA_KEY,
    DEPTH_SLOPE_KEY,
    NEARNESS_KEY,
    NORMAL_KEY,
    depth_labels,
    nearness_labels,
    normal_labels,
)
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata
from fewshot_ns.data.samplers.pixels import ImageStack, MaskedPixelSampler, PixelRequest, centre_crop
from fewshot_ns.data.views.selection import BLENDER_8_VIEWS
from fewshot_ns.utils.json_files import LIST, checked, read_json_object
from fewshot_ns.utils.ranks import shared_seed

LOSS_WEIGHT_KEY = "loss_weight"
"""Batch key of the weights (R, 1) of the colour loss, in scenes whose views do not all count the same."""


@dataclass
class FewShotDataManagerConfig(OwnParsers, VanillaDataManagerConfig):
    """Keeps the few training images in memory and draws rays, in quads where the depth prior needs them."""

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
    whole_images: bool = False
    """Whether a step's pixels are all those of one training image, which image backbones and their SSIM need;
    train_num_rays_per_batch and single_image_batches have no effect then."""
    evaluate_training_views: Suppress[bool] = False
    """Whether the views that train are measured; set by the pipeline, see its field evaluation.split."""


class FewShotDataManager(VanillaDataManager[FewShotDataset]):
    """Rays and colours of the training views; evaluation is nerfstudio's.

    A batch holds `image` (R, 3) and `indices` (R, 3) = (view, row, column) of the R rays, and measured values of them
    after `use_labels`. It begins with the pixels that priors requested.

    With `whole_images`, the last H*W pixels of a batch are an image, row by row, of `image_size` = (H, W); `mask`
    (R, 1) bool says which pixels may train, where the scene has training masks: models have to leave out the others.
    """

    config: FewShotDataManagerConfig
    num_rays: int = 0
    crop_sampler: Optional[MaskedPixelSampler] = None
    train_depths: Optional[ImageStack] = None
    train_nearness: Optional[ImageStack] = None
    train_normals: Optional[ImageStack] = None
    train_alphas: Optional[ImageStack] = None
    whole: Optional[WholeImages] = None
    trained_pixels: int = 0

    @property
    def single_image_batches(self) -> bool:
        """Whether the pixels of a step that nobody requested all come from one image."""
        return self.config.single_image_batches or self.config.whole_images

    @property
    def fewshot_metadata(self) -> FewShotMetadata:
        """The few-shot record of the training split."""
        return get_fewshot_metadata(self.train_dataset.metadata)

    @property
    def holds_out(self) -> bool:
        """Whether any view of the scene is not trained on."""
        return bool(self.fewshot_metadata.test_indices)

    def create_eval_dataset(self) -> FewShotDataset:
        """The held-out views, with test cameras that have no photo; the views that train where there is neither, or
        where these are to be measured."""
        if not self.config.evaluate_training_views:
            return super().create_eval_dataset()
        outputs = self.dataparser.get_dataparser_outputs(split="train")
        return FewShotDataset(outputs, scale_factor=self.config.camera_res_scale_factor)

    def create_measured_dataset(self) -> FewShotDataset:
        """The same without cameras that have no photo, unless there are no others."""
        dataset = self.create_eval_dataset()
        record = dataset.fewshot
        if not record.rendered_indices or not record.test_indices:
            return dataset
        outputs = self.dataparser.outputs_of_views(record.test_indices, record.split)
        return FewShotDataset(outputs, scale_factor=self.config.camera_res_scale_factor)

    def setup_eval(self) -> None:
        """Whatever measures begins with this; ns-render, which does not, keeps the cameras without a photo."""
        if self.eval_dataset.fewshot.rendered_indices:
            self.eval_dataset = self.create_measured_dataset()
        super().setup_eval()

    def check_files(self) -> List[Size]:
        """Decodes what training, evaluations while training and that of the held-out views will read, each once.

        Returns:
            (height, width) of the views that will be measured.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, does not fit its camera, or leaves nothing to measure.
        """
        trains = self.config.evaluate_training_views
        validate_dataset(self.train_dataset, measured=trains)
        measured = [self.eval_dataset] if self.holds_out or trains else []
        if self.holds_out:
            # Beside validation views, and where the training ones are measured, the held-out ones are read afterwards.
            held_out = self.dataparser.get_dataparser_outputs(split="test")
            views = get_fewshot_metadata(held_out.metadata).image_indices
            if views != self.eval_dataset.fewshot.image_indices:
                measured.append(FewShotDataset(held_out, scale_factor=self.config.camera_res_scale_factor))
        for dataset in measured:
            validate_dataset(dataset, measured=True)
        return [dataset.size_of(index) for dataset in measured for index in range(len(dataset))]

    def evaluate_training_views(self) -> None:
        """From now on the views that train are those that are evaluated."""
        self.config.evaluate_training_views = True
        self.eval_dataset = self.create_eval_dataset()

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
        files = self.train_dataset._dataparser_outputs.mask_filenames
        names = [str(path) for path in files or self.train_dataset.image_filenames]
        self.pixel_sampler = MaskedPixelSampler(masks, names)
        middles = [f"{name}, its middle (--pipeline.datamanager.crop-fraction)" for name in names]
        self.crop_sampler = MaskedPixelSampler(self._cropped(masks), middles) if self.config.crop_steps > 0 else None
        num_rays, default = self.config.train_num_rays_per_batch, 512 if geometry.ray_space == "ndc" else 256
        self.num_rays = default if num_rays is None else num_rays
        if self.config.whole_images:
            self._setup_whole_images(masks)
        self.train_pixel_sampler = PixelSamplerConfig().setup(num_rays_per_batch=self.num_rays)
        self.train_ray_generator = RayGenerator(cameras.to(self.device))

    def _setup_whole_images(self, masks: List[Tensor]) -> None:
        if self.config.crop_steps > 0:
            raise ValueError(
                f"--pipeline.datamanager.crop-steps {self.config.crop_steps}: expected 0 where a step takes all pixels "
                "of an image; give --pipeline.datamanager.crop-steps 0 or --pipeline.datamanager.whole-images False"
            )
        self.mask_stack = ImageStack(masks)
        rank, world_size = self.local_rank, self.world_size
        if dist.is_available() and dist.is_initialized():
            rank, world_size = dist.get_rank(), dist.get_world_size()
        self.whole = WholeImages(self.train_images, self._batch, shared_seed(), rank, world_size)
        self.num_rays = self.trained_pixels = self.whole.smallest

    def get_train_rays_per_batch(self) -> int:
        """Pixels of the step that was drawn last; before the first those of the smallest image."""
        return super().get_train_rays_per_batch() if self.whole is None else self.trained_pixels

    def _cropped(self, masks: List[Tensor]) -> List[Tensor]:
        """The masks (H, W, 1), False outside of the middle of their images."""
        cropped = [torch.zeros_like(mask) for mask in masks]
        for new, mask in zip(cropped, masks, strict=True):
            middle = centre_crop(mask.shape[0], mask.shape[1], self.config.crop_fraction)
            new[middle] = mask[middle]
        return cropped

    def use_labels(self, labels: AbstractSet[str]) -> None:
        """From now on batches hold measured values of each ray: `DEPTH_KEY` and what follows it,
        `NEARNESS_KEY`, `NORMAL_KEY`, `ALPHA_KEY`.

        Args:
            labels: of 'depth', 'nearness', 'normal' and 'alpha'; photos without alpha have no such values.

        Raises:
            ValueError: where the scene has no such maps, depth maps have no scale for 'depth', or a file is unusable.
        """
        unknown = sorted(labels - {"depth", "nearness", "normal", "alpha"})
        if unknown:
            raise ValueError(
                "expected labels of training pixels out of depth, nearness, normal and alpha, found "
                f"{', '.join(unknown)}"
            )
        if "depth" in labels:
            self.train_depths = ImageStack(depth_labels(self.train_dataset))
        if "nearness" in labels:
            self.train_nearness = ImageStack(nearness_labels(self.train_dataset))
        if "normal" in labels:
            self.train_normals = ImageStack(normal_labels(self.train_dataset))
        if "alpha" in labels:
            alphas = self.train_dataset.alphas() if self.train_dataset.has_alpha else None
            self.train_alphas = None if alphas is None else ImageStack(alphas)
        if self.whole is not None:
            self.whole.forget()

    def next_train(self, step: int, requests: Sequence[PixelRequest] = ()) -> Tuple[RayBundle, Dict]:
        """Rays and colours of one training step.

        Args:
            step: current step.
            requests: pixels that the batch has to begin with, instead of as many others; before a whole image besides
                it.

        Raises:
            ValueError: they are more than the batch has.
        """
        self.train_count += 1
        parts = [request.pixels for request in requests if len(request.pixels) > 0]
        if self.whole is not None:
            requested = torch.cat([torch.zeros(0, 3, dtype=torch.long), *parts])
            ray_bundle, batch = self.whole.batch(step, requested)
            self.trained_pixels = len(ray_bundle)
            return ray_bundle, batch
        remaining = self.num_rays - sum(len(part) for part in parts)
        if remaining < 0:
            raise ValueError(
                f"priors ask for {self.num_rays - remaining} pixels of a batch that has {self.num_rays}; raise "
                "--pipeline.datamanager.train-num-rays-per-batch"
            )
        view = int(parts[0][0, 0]) if parts else int(torch.randint(len(self.train_images), (1,)))
        cropped = self.crop_sampler if step < self.config.crop_steps else None
        others = [request.draw_others for request in requests if request.draw_others is not None]
        draw = others[0] if others else (cropped or self.pixel_sampler).sample
        parts.append(draw(remaining, view if self.config.single_image_batches else None))
        return self._batch(torch.cat(parts))

    def _batch(self, indices: Tensor) -> Tuple[RayBundle, Dict[str, Any]]:
        """Rays and batch of pixels (R, 3) = (view, row, column)."""
        ray_bundle = self.train_ray_generator(indices.to(self.device))
        ray_bundle.metadata[RADII_KEY] = self.train_radii.lookup(indices).to(self.device)
        batch = {"image": self.train_images.lookup(indices).to(self.device), "indices": indices}
        if self.train_depths is not None:
            depth = self.train_depths.lookup(indices).to(self.device)
            batch[DEPTH_KEY], batch[DEPTH_SIGMA_KEY], batch[DEPTH_SLOPE_KEY] = depth.split(1, dim=-1)
            ray_bundle.metadata[MEASURED_KEY] = depth[:, ::2]
        if self.train_nearness is not None:
            batch[NEARNESS_KEY] = self.train_nearness.lookup(indices).to(self.device)
        if self.train_normals is not None:
            batch[NORMAL_KEY] = self.train_normals.lookup(indices).to(self.device)
        if self.train_alphas is not None:
            batch[ALPHA_KEY] = self.train_alphas.lookup(indices).to(self.device)
        weights = self.fewshot_metadata.loss_weights
        if weights is not None:
            batch[LOSS_WEIGHT_KEY] = torch.tensor(weights)[indices[:, :1]].to(self.device)
        if self.whole is not None and self.train_dataset._dataparser_outputs.mask_filenames is not None:
            batch[MASK_KEY] = self.mask_stack.lookup(indices).to(self.device)
        return ray_bundle, batch


def with_stored_scene_if_missing(manager: Any, run_dir: Optional[Path]) -> Any:
    """The config of a datamanager for rendering alone, whose scene is the stored one where the photos are gone.

    Args:
        manager: config; it is left as it is.
        run_dir: folder of the run; None where it is not known.

    Returns:
        `manager` itself where its scene is there, nothing is known of it, or it is not this package's of one scene.
    """
    if not isinstance(manager, FewShotDataManagerConfig):
        return manager
    parser = manager.dataparser
    data = Path(manager.data if manager.data is not None else parser.data)
    stored = None if run_dir is None else run_dir / FILE_NAME
    if stored is not None and stored.is_file():
        lack = _lack(data, parser)
        if not lack:
            return manager
        found = StoredSceneDataParserConfig(data=stored)
        CONSOLE.print(f"{data} {lack}; its cameras come from {stored}", soft_wrap=True)
    elif data.exists():
        return manager
    elif isinstance(parser, FewShotBlenderDataParserConfig):
        content = synthetic_scene(parser, _num_train(run_dir, parser))
        found = StoredSceneDataParserConfig(data=data / FILE_NAME, content=content)
        side = content["splits"]["train"]["cameras"]["width"][0][0]
        CONSOLE.print(f"{data} is not there; the camera of NeRF's synthetic scenes is taken, {side}x{side} pixels")
    else:
        return manager
    return replace(manager, dataparser=found, data=None)


def _lack(data: Path, parser: Any) -> str:
    """Why a scene cannot be had, in words; empty where it can."""
    if not data.exists():
        return "is not there"
    try:
        # Its folder may be there without the photos. What the parser prints comes again when the scene is read.
        with CONSOLE.capture():
            replace(parser, data=data).setup().get_dataparser_outputs(split="train")
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return ""


def _num_train(run_dir: Optional[Path], parser: FewShotBlenderDataParserConfig) -> int:
    views = None if run_dir is None else run_dir / "views.json"
    if views is not None and views.is_file():
        listed = checked(read_json_object(views), {"train_indices": LIST}, str(views), ("train_indices",))
        return len(listed["train_indices"])
    return len(BLENDER_8_VIEWS) if parser.num_views is None else max(parser.num_views, 2)

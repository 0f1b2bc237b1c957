"""Gaussian splats for few views: nerfstudio's splatfacto with another start, other defaults, and no need of CUDA."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Literal, Mapping, Optional, Sequence, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.model_components import renderers
from nerfstudio.models.base_model import Model
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Module, Parameter, ParameterDict

from fewshot_ns.cameras.pinholes import (
    check_pinholes,
    intrinsic_matrices,
    ray_slopes,
    smaller_cameras,
    world_to_cameras,
)
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.model_components.losses import structural_dissimilarity
from fewshot_ns.model_components.rendering import BACKGROUND_CHANGE, Rendering, RenderOptions
from fewshot_ns.model_components.schedules import linear_ramp
from fewshot_ns.model_components.splatting.densification import Densification, DensificationConfig, no_statistics
from fewshot_ns.model_components.splatting.downscaled import as_rendered
from fewshot_ns.model_components.splatting.gaussians import NAMES, decayed, from_harmonics, initial_gaussians
from fewshot_ns.model_components.splatting.rasterization import rasterization_of
from fewshot_ns.models.fewshot_model import StepRenderings
from fewshot_ns.models.image_model import ImageModel, ImageModelConfig
from fewshot_ns.priors.base import CameraRequest


@dataclass
class SparseSplatfactoModelConfig(ImageModelConfig):
    """Gaussians, and what keeps a few photos from being learned by heart."""

    _target: Type = field(default_factory=lambda: SparseSplatfactoModel)
    """Class that the config builds."""
    rasterizer: Literal["auto", "gsplat", "torch"] = "auto"
    """What renders: gsplat's kernels (CUDA), or the same in torch on any device; auto: the first on a GPU."""
    rasterize_mode: Literal["classic", "antialiased"] = "classic"
    """antialiased: small Gaussians fade as the blur of a pixel makes them larger (Mip-Splatting); other viewers of the
    .ply do not know it."""
    sh_degree: int = 1
    """Highest degree of the spherical harmonics by which colour depends on the direction, 0 to 3."""
    sh_degree_interval: int = 1000
    """Steps until the next degree is used; the first ones use degree 0."""
    initial_scale: float = 0.7
    """Standard deviation of a Gaussian at the start, as a fraction of the pixel that it stands for."""
    initial_opacity: float = 0.5
    """Opacity of a Gaussian at the start."""
    position_unit: Literal["pixel", "scene"] = "pixel"
    """What the learning rate of positions is a fraction of: the size of a pixel at the depth of the initial points, or
    the scene's radius, as in the original."""
    background: Literal["auto", "mean", "random", "scene"] = "auto"
    """Colour behind everything. mean: of the photos; random: another in every step of training, which photos with alpha
    lie on as well, else the mean, with alpha the scene's own; scene: the scene's own; auto: the scene's where photos
    have alpha, else random."""
    ssim_weight: float = 0.2
    """Share of D-SSIM in the colour loss; the rest is L1."""
    num_downscales: int = 0
    """Training begins with photos of 1 / 2^d of their size, d = this, which double until they are whole."""
    downscaled_fraction: float = 0.7
    """Fraction of the run in which photos are smaller, in equal parts for each size."""
    opacity_dropout: float = 0.0
    """Share of the Gaussians that a step leaves out at random; evaluation fades all by 1 minus this (DropGaussian,
    co-adaptation's regularisation)."""
    dropout_start_step: int = 0
    """Step from which it rises..."""
    dropout_ramp_steps: int = 0
    """...over as many steps; 0: at once."""
    opacity_decay: float = 1.0
    """Factor on every opacity after each step from `decay_start_step` on; 1: none (Binocular3DGS: 0.995)."""
    decay_start_step: int = 500
    """Step from which opacity decays."""
    densification: DensificationConfig = field(default_factory=DensificationConfig)
    """When Gaussians are duplicated, split and pruned."""


class _AsSplatfacto(SplatfactoModel):
    """Lets nerfstudio's commands find a splatfacto model (`ns-export gaussian-splat`, the viewer), and nothing of how
    it is built and trained."""

    def populate_modules(self) -> None:
        """Builds nothing: splatfacto's own would want CUDA, and the weights of a network for a metric."""
        Model.populate_modules(self)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """torch's own: checkpoints are resized by `resize_for`, and loaded strictly."""
        return Module.load_state_dict(self, state_dict, *args, **kwargs)


class SparseSplatfactoModel(ImageModel, _AsSplatfacto):
    """See `SparseSplatfactoModelConfig`."""

    config: SparseSplatfactoModelConfig  # type: ignore[assignment]
    resizes_for_checkpoints = True
    replaces_parameters = True
    wants_initial_points = True
    background_colour: Tensor
    """(3,) what evaluation sees behind everything."""
    pixel_size: Tensor
    """() size of a pixel at the depth of the initial points, world units."""
    grad2d: Tensor
    """(N,) sum of the norms of gradients in the image since the last densification."""
    count: Tensor
    """(N,) steps since then in which a Gaussian was seen."""

    def populate_modules(self) -> None:
        """Places Gaussians on the initial points; one, until a checkpoint is loaded, where there are none.

        Raises:
            ValueError: a field out of its range.
        """
        super().populate_modules()
        self._check()
        config, cloud = self.config, self.kwargs.get("initial_points")
        positions, colours, radii = torch.zeros(1, 3), torch.full((1, 3), 0.5), torch.ones(1)
        if cloud is not None:
            positions, colours, radii = (
                torch.as_tensor(values).float() for values in (cloud.positions, cloud.colours, cloud.radii)
            )
        made = initial_gaussians(
            positions, colours, radii, config.initial_scale, config.initial_opacity, config.sh_degree
        )
        self.gauss_params = ParameterDict({name: Parameter(made[name]) for name in NAMES})
        self.register_buffer("pixel_size", radii.median())
        self.register_buffer("background_colour", torch.zeros(3))
        for name, values in no_statistics(len(positions), torch.device("cpu")).items():
            self.register_buffer(name, values)
        self.background_color = torch.zeros(3)
        self.random_background = self._photos_with_alpha = False
        self.crop_box: Optional[OrientedBox] = None
        self.densification: Optional[Densification] = None
        self._watched: Optional[Dict[str, Any]] = None

    def _check(self) -> None:
        config = self.config
        if not 0.0 <= config.opacity_dropout < 1.0:
            raise ValueError(
                f"expected --pipeline.model.opacity-dropout from 0 to below 1, got {config.opacity_dropout}"
            )
        if not 0.0 <= config.ssim_weight <= 1.0:
            raise ValueError(f"expected --pipeline.model.ssim-weight from 0 to 1, got {config.ssim_weight}")
        if not 0 <= config.sh_degree <= 3:
            raise ValueError(f"expected --pipeline.model.sh-degree from 0 to 3, got {config.sh_degree}")
        if not 0.0 < config.initial_opacity < 1.0 or not config.initial_scale > 0.0:
            raise ValueError(
                "expected --pipeline.model.initial-opacity between 0 and 1 and --pipeline.model.initial-scale above 0, "
                f"got {config.initial_opacity} and {config.initial_scale}"
            )
        if not 0.0 < config.opacity_decay <= 1.0:
            raise ValueError(f"expected --pipeline.model.opacity-decay above 0 and up to 1, got {config.opacity_decay}")
        if config.num_downscales < 0 or not 0.0 <= config.downscaled_fraction <= 1.0:
            raise ValueError(
                "expected --pipeline.model.num-downscales of at least 0 and --pipeline.model.downscaled-fraction "
                f"from 0 to 1, got {config.num_downscales} and {config.downscaled_fraction}"
            )
        config.densification.check("--pipeline.model.densification")

    @classmethod
    def check_cameras(cls, cameras: Cameras) -> None:
        """Refuses cameras that are no pinholes."""
        check_pinholes(cameras)

    def prepare_training(self, dataset: FewShotDataset) -> None:
        """Takes the colour of the background from the photos."""
        alpha = dataset.has_alpha
        kind = self.config.background
        self.random_background = kind == "random" or (kind == "auto" and not alpha)
        self._photos_with_alpha = alpha
        if kind == "scene" or (kind in ("auto", "random") and alpha):
            colour = torch.full((3,), float(dataset.fewshot.geometry.background == "white"))
        else:
            photos = [dataset.get_image_float32(index)[..., :3].reshape(-1, 3) for index in range(len(dataset))]
            colour = torch.cat(photos).mean(dim=0)
        self.background_colour.copy_(colour)

    @property
    def labels(self) -> FrozenSet[str]:
        """Alpha of the photos that a random background shows through."""
        return super().labels | ({"alpha"} if self.random_background and self._photos_with_alpha else set())

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided."""
        colour = [round(value, 4) for value in self.background_colour.tolist()]
        found = {"background": colour, "random_background": self.random_background, "gaussians": self.num_points}
        return {**super().resolved(), **found}

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group for each kind of parameter, as gsplat's strategies want it."""
        return {name: [self.gauss_params[name]] for name in NAMES}

    def learning_rate_scales(self) -> Dict[str, float]:
        """Positions learn by a size of the scene."""
        return {"means": float(self.pixel_size) if self.config.position_unit == "pixel" else self.radius}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """The model's step before each iteration, opacity and number of the Gaussians after it."""
        optimizers = training_callback_attributes.optimizers
        after = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._after_step, args=[optimizers])
        return [*super().get_training_callbacks(training_callback_attributes), after]

    @torch.no_grad()
    def _after_step(self, optimizers: Any, step: int) -> None:
        config = self.config
        if config.opacity_decay < 1.0 and step >= config.decay_start_step:
            self.gauss_params["opacities"].copy_(decayed(self.gauss_params["opacities"], config.opacity_decay))
        if self._watched is None or self.densification is None:
            return
        statistics = {"grad2d": self.grad2d, "count": self.count}
        own = {name: optimizers.optimizers[name] for name in NAMES}
        found = self.densification.step(self.gauss_params, own, statistics, self._watched, step)
        self._watched = None
        self.grad2d, self.count = found["grad2d"], found["count"]
        if self.num_points == 0:
            raise ValueError(
                f"after step {step} no Gaussian is left whose opacity is at least "
                f"--pipeline.model.densification.prune-opacity {config.densification.prune_opacity:g}; give a smaller "
                "one, or --pipeline.model.opacity-decay 1"
            )
        for name, parameters in self.get_param_groups().items():
            optimizers.parameters[name] = parameters

    @property
    def dropout(self) -> float:
        """Share of the Gaussians that the current step leaves out."""
        config, since = self.config, self.step - self.config.dropout_start_step
        if since < 0:
            return 0.0
        return linear_ramp(since, 0.0, config.opacity_dropout, config.dropout_ramp_steps)

    @property
    def downscale(self) -> int:
        """By how much photos of the current step are smaller than they are."""
        config, length = self.config, self.run_length
        part = config.downscaled_fraction * (length or 0)
        if not self.training or config.num_downscales == 0 or self.step >= part:
            return 1
        return 2 ** (config.num_downscales - int(self.step / part * config.num_downscales))

    def render_pixels(self, cameras: Cameras, pixels: Tensor) -> Rendering:
        """(R,) pixels (R, 3); of smaller photos the pixels that they lie in."""
        factor = self.downscale
        if factor == 1:
            return super().render_pixels(cameras, pixels)
        small, view = smaller_cameras(cameras, factor), pixels[:, 0].to(cameras.device)
        rows, columns = (
            pixels[:, 1 + axis] * new[view, 0].to(pixels.device) // old[view, 0].to(pixels.device)
            for axis, (new, old) in enumerate(((small.height, cameras.height), (small.width, cameras.width)))
        )
        return super().render_pixels(small, torch.stack([pixels[:, 0], rows, columns], dim=-1))

    @property
    def opacities(self) -> Tensor:
        """(N, 1) logits as evaluation and exports see them."""
        logits, share = self.gauss_params["opacities"], self.dropout
        return logits if share == 0.0 else decayed(logits, 1.0 - share)

    @property
    def colors(self) -> Tensor:
        """(N, 3) colours from all sides; harmonics also where their degree is 0."""
        return from_harmonics(self.shs_0)

    @property
    def shs_0(self) -> Tensor:
        """(N, 3) coefficients of the constant harmonic."""
        return self.gauss_params["features_dc"]

    @torch.no_grad()
    def resize_for(self, state: Mapping[str, Tensor]) -> None:
        """As many Gaussians as a checkpoint has."""
        means = state.get("gauss_params.means")
        if means is None or means.shape[1:] != self.means.shape[1:]:
            return
        # All by the number of one of them, so that a state whose tensors disagree does not fit.
        for name, old in self.gauss_params.items():
            if len(old) != len(means):
                self.gauss_params[name] = Parameter(old.new_zeros(len(means), *old.shape[1:]))
        for name, values in no_statistics(len(means), self.device).items():
            setattr(self, name, values)

    def render_step(
        self, ray_bundle: Any, cameras: Cameras, pixels: Tensor, views: Sequence[CameraRequest]
    ) -> StepRenderings:
        """What one training step renders; of the photos, gradients in the image are kept for the densification."""
        if self.densification is None and self.run_length is not None:
            self.densification = Densification(self.config.densification, self.run_length, self.radius)
            self._say_unused_harmonics(self.run_length)
        cameras = self.training_cameras(cameras)
        watched = self.training and self.densification is not None and self.densification.watches(self.step)
        seen = self.render_pixels(cameras, pixels) if not watched else self._watched_pixels(cameras, pixels)
        return StepRenderings(seen, [self.render_cameras(view.cameras) for view in views])

    def _say_unused_harmonics(self, run_length: int) -> None:
        """Says where the run ends before the higher degrees begin."""
        wanted, interval = self.config.sh_degree, max(self.config.sh_degree_interval, 1)
        reached = min((run_length - 1) // interval, wanted)
        if reached < wanted:
            CONSOLE.print(
                f"[bold yellow]--pipeline.model.sh-degree {wanted}: a run of {run_length} steps, with one more degree "
                f"every {interval}, trains degrees up to {reached}; give a smaller --pipeline.model.sh-degree-interval"
                "[/bold yellow]",
                soft_wrap=True,
            )

    def _watched_pixels(self, cameras: Cameras, pixels: Tensor) -> Rendering:
        infos: List[Dict[str, Any]] = []
        self._on_info = infos.append
        try:
            seen = self.render_pixels(cameras, pixels)
        finally:
            self._on_info = None
        self._watched = infos[-1]
        self._watched["means2d"].retain_grad()
        return seen

    def render_cameras(self, cameras: Cameras, options: RenderOptions = RenderOptions()) -> Rendering:  # noqa: B008
        """(B, H, W) pixels.

        Raises:
            ValueError: the cameras are no pinholes.
        """
        check_pinholes(cameras)
        # Those of the training views are where the data is.
        cameras, gaussians = cameras.to(self.device), self.gauss_params
        width, height = int(cameras.width[0].item()), int(cameras.height[0].item())
        opacities = self._opacities()
        degree = min(self.step // max(self.config.sh_degree_interval, 1), self.config.sh_degree)
        if not self.training:
            degree = self.config.sh_degree
        images, alphas, info = rasterization_of(self.device, self.config.rasterizer)(
            means=gaussians["means"],
            quats=gaussians["quats"],
            scales=gaussians["scales"].exp(),
            opacities=opacities,
            colors=torch.cat([gaussians["features_dc"][:, None], gaussians["features_rest"]], dim=1),
            viewmats=world_to_cameras(cameras),
            Ks=intrinsic_matrices(cameras),
            width=width,
            height=height,
            sh_degree=degree,
            render_mode="RGB+ED",
            rasterize_mode=self.config.rasterize_mode,
            packed=False,
        )
        if self._on_info is not None:
            # What a step left out says nothing about where Gaussians lack.
            left_in = (opacities.detach() > 0).to(info["radii"].dtype)
            shape = (1, -1) + (1,) * (info["radii"].dim() - 2)
            self._on_info({**info, "radii": info["radii"] * left_in.reshape(shape)})
        colours, planar = images[..., :3], images[..., 3:]
        background = self._background()
        rgb, depth = colours + (1.0 - alphas) * background, planar * ray_slopes(cameras, height, width)[..., None]
        extras: Dict[str, Tensor] = {}
        if self.training and self.labels:
            extras[BACKGROUND_CHANGE] = (background - self.background_colour).expand(rgb.shape)
        return Rendering(rgb, depth, alphas, planar, extras=extras)

    _on_info: Any = None
    """What takes a rasterisation's record while the photos of a step are rendered."""

    def _background(self) -> Tensor:
        if self.training and self.random_background:
            return torch.rand(3, device=self.device)
        # What ns-render and the viewer put behind a crop.
        chosen = None if self.training else renderers.BACKGROUND_COLOR_OVERRIDE
        return self.background_colour if chosen is None else chosen.to(self.background_colour)

    def _opacities(self) -> Tensor:
        """(N,) opacities as a step or the evaluation uses them."""
        opacities = torch.sigmoid(self.gauss_params["opacities"])[:, 0]
        if self.crop_box is not None and not self.training:
            opacities = opacities * self.crop_box.within(self.gauss_params["means"]).reshape(-1)
        share = self.dropout
        if share == 0.0:
            return opacities
        if not self.training:
            # By what the last step left out: before the first dropout there is nothing to make up for.
            return opacities * (1.0 - share)
        return opacities * (torch.rand(len(opacities), device=opacities.device) >= share)

    def get_outputs(self, ray_bundle: Any) -> Dict[str, Tensor]:  # type: ignore[override]
        """Not served.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} renders images, not rays: use a command that renders cameras, and ns-export "
            "gaussian-splat for its points"
        )

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Optional[OrientedBox] = None) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a whole image, of the Gaussians inside of a box alone where one is given.

        Where no Gaussian is hit, depth is the largest of the image, as splatfacto has it.
        """
        self.set_crop(obb_box)
        try:
            outputs = super().get_outputs_for_camera(camera)
        finally:
            self.set_crop(None)
        hit, depth = outputs["accumulation"] > 0, outputs["depth"]
        return {**outputs, "depth": torch.where(hit, depth, depth.max())}

    def get_loss_dict(
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """L1 and D-SSIM of the image (Kerbl et al. 2023, eq. 7); of single pixels, as in evaluation, L1."""
        target, size = self.photo_colours(outputs, batch).to(outputs.rgb), batch.get("image_size")
        mask = batch["mask"].to(outputs.rgb) if "mask" in batch else torch.ones_like(target[:, :1])
        weight = self.config.ssim_weight
        absolute = ((outputs.rgb - target).abs() * mask).sum() / (3.0 * mask.sum()).clamp(min=1.0)
        if size is None:
            return {"rgb_loss": absolute}
        height, width = (int(side) for side in size)
        rgb, photo, shown = (
            values[-height * width :].reshape(height, width, -1) for values in (outputs.rgb, target, mask)
        )
        if self.downscale > 1:
            rgb, photo, shown = as_rendered(rgb, photo, shown, self.downscale)
            absolute = ((rgb - photo).abs() * shown).sum() / (3.0 * shown.sum()).clamp(min=1.0)
        terms = {"rgb_loss": (1.0 - weight) * absolute}
        if weight > 0:
            terms["ssim_loss"] = weight * structural_dissimilarity(rgb * shown, photo * shown)
        return terms

"""Densification and pruning by gsplat's strategy, without its resets of opacity, in a form that checkpoints hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping

import torch
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor
from torch.nn import ParameterDict

from fewshot_ns.utils.configs import SavedConfig
from fewshot_ns.utils.ranks import drawn_alike, in_several, of_all, shared_seed, take_from_first

_NEVER = 10**9


@dataclass
class DensificationConfig(SavedConfig, PrintableConfig):
    """When Gaussians are duplicated, split and pruned (Kerbl et al. 2023, section 5.2)."""

    enabled: bool = True
    """Whether Gaussians are duplicated or split; pruning goes on without it."""
    start_step: int = 500
    """Steps before the first time that they are."""
    stop_fraction: float = 0.5
    """Fraction of the run after which neither happens any more, nor pruning."""
    every: int = 100
    """Steps between."""
    gradient: float = 5e-4
    """Mean gradient of a Gaussian's position in the image above which it is, on the original's scale: half the image is
    the unit."""
    size: float = 0.01
    """Standard deviation up to which it is duplicated and above which it is split, as a fraction of the scene's
    radius."""
    prune_opacity: float = 0.005
    """Opacity below which a Gaussian is taken away."""
    max_gaussians: int = 500_000
    """Number from which none are added."""

    def check(self, flag: str) -> None:
        """Checks the fields.

        Args:
            flag: how their flags begin.

        Raises:
            ValueError: a field out of its range; names its flag.
        """
        if self.every < 1:
            raise ValueError(f"expected {flag}.every of at least 1, got {self.every}")
        if not 0.0 <= self.stop_fraction <= 1.0:
            raise ValueError(f"expected {flag}.stop-fraction from 0 to 1, got {self.stop_fraction}")
        if not 0.0 <= self.prune_opacity < 1.0:
            raise ValueError(f"expected {flag}.prune-opacity from 0 to below 1, got {self.prune_opacity}")
        if not self.gradient > 0.0 or not self.size > 0.0:
            raise ValueError(f"expected {flag}.gradient and {flag}.size above 0, got {self.gradient} and {self.size}")


class Densification:
    """gsplat's `DefaultStrategy` on a model's Gaussians.

    Args:
        config: when and which.
        run_length: steps of the whole run.
        scene_scale: radius of the scene, world units.
    """

    def __init__(self, config: DensificationConfig, run_length: int, scene_scale: float) -> None:
        # Heavy, and needed in training alone.
        from gsplat.strategy import DefaultStrategy

        self.config, self.scene_scale = config, scene_scale
        self._seed = shared_seed()
        self.stop_step = round(config.stop_fraction * run_length)
        self.strategy = DefaultStrategy(
            prune_opa=config.prune_opacity,
            grow_grad2d=config.gradient,
            grow_scale3d=config.size,
            refine_start_iter=max(config.start_step, 1),
            refine_stop_iter=self.stop_step + 1,
            refine_every=config.every,
            # gsplat 1.4 resets opacity at step 0 too, 1.5 never does: no step of ours is a multiple of this.
            reset_every=_NEVER,
        )

    def watches(self, step: int) -> bool:
        """Whether gradients of a step, counted from 0, are needed."""
        return step < self.stop_step

    def step(
        self,
        gaussians: ParameterDict,
        optimizers: Dict[str, Any],
        statistics: Mapping[str, Tensor],
        info: Dict[str, Any],
        step: int,
    ) -> Dict[str, Tensor]:
        """Counts the gradients of a step, and now and then changes the number of Gaussians.

        Args:
            gaussians: the model's parameters, replaced where their number changes.
            optimizers: of each of them, by name.
            statistics: `grad2d` and `count` (N,) so far.
            info: of the rasterisation of the step's photos; its `means2d` has a gradient.
            step: counted from 0.

        Returns:
            The statistics after it.
        """
        strategy = self.strategy
        strategy.grow_grad2d = self.config.gradient
        if not self.config.enabled or len(gaussians["means"]) >= self.config.max_gaussians:
            strategy.grow_grad2d = float("inf")
        state = {**statistics, "scene_scale": self.scene_scale}
        # From 1, so that no step is a multiple of the reset.
        if not in_several():
            strategy.step_post_backward(gaussians, optimizers, state, step + 1, info)
        else:
            count_seen_by_all(info, state)
            # All draw the same random numbers, so that all have the same Gaussians afterwards.
            with drawn_alike(self._seed, step, gaussians["means"].device):
                strategy.step_post_backward(gaussians, optimizers, state, step + 1, unseen(info))
            if (step + 1) % self.config.every == 0:
                take_from_first(gaussians.values())
        return {name: state[name] for name in statistics}


def count_seen_by_all(info: Mapping[str, Any], statistics: Mapping[str, Tensor]) -> None:
    """Adds the gradients of a step in each of the P processes of a training, in an order that is the same in all.

    Args:
        info: of the rasterisation of one photo in this process; its `means2d` (1, N, 2) has a gradient.
        statistics: `grad2d` and `count` (N,), changed in place: norms of gradients, of half the image's sides, and how
            many photos have seen a Gaussian.
    """
    sides = info["means2d"].new_tensor([info["width"] / 2.0, info["height"] / 2.0])
    gradients = of_all(info["means2d"].grad[0] * sides)
    # gsplat 1.5 has a radius along each axis.
    radii = of_all(info["radii"][0].float()).reshape(*gradients.shape[:2], -1)
    seen = (radii > 0).all(dim=-1)
    statistics["grad2d"].add_((gradients.norm(dim=-1) * seen).sum(dim=0))
    statistics["count"].add_(seen.sum(dim=0))


def unseen(info: Mapping[str, Any]) -> Dict[str, Any]:
    """The record of a rasterisation in which no Gaussian is seen."""
    means = torch.zeros_like(info["means2d"], requires_grad=True)
    means.grad = torch.zeros_like(means)
    return {**info, "means2d": means, "radii": torch.zeros_like(info["radii"])}


def no_statistics(count: int, device: torch.device) -> Dict[str, Tensor]:
    """Statistics of N Gaussians before the first step."""
    return {"grad2d": torch.zeros(count, device=device), "count": torch.zeros(count, device=device)}

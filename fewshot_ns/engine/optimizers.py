"""Optimizers that clip, and optimizers that refuse gradients that are not finite."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Type

import torch
from nerfstudio.engine.optimizers import OptimizerConfig, Optimizers
from torch.nn import Parameter

from fewshot_ns.engine.checks import check_gradients


def clip_gradients(
    optimizer: torch.optim.Optimizer, *_: Any, max_value: Optional[float], max_norm: Optional[float]
) -> None:
    """Clips each gradient element, then scales all gradients of the optimizer to a global norm.

    Args:
        optimizer: whose parameters' gradients are clipped in place.
        max_value: largest magnitude of an element; None leaves elements as they are.
        max_norm: largest 2-norm over all gradients; None does not scale.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if max_value is not None:
        torch.nn.utils.clip_grad_value_(parameters, max_value)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)


@dataclass
class ClippedAdamOptimizerConfig(OptimizerConfig):
    """Adam whose gradients are clipped by element and then by global norm (RegNeRF's order)."""

    _target: Type = torch.optim.Adam
    """The optimizer class to use."""
    clip_value: Optional[float] = None
    """Largest magnitude of a gradient element. None: no limit."""
    clip_norm: Optional[float] = None
    """Largest norm of all gradients of the group together, after clip_value. None: no limit."""

    def setup(self, params: List[Parameter]) -> torch.optim.Optimizer:
        """Builds the optimizer. Clipping hangs on its step, where a gradient scaler has already undone its scale."""
        if self.max_norm is not None:
            # The host applies it ahead of the step, so the elements would be clipped last.
            raise ValueError(f"expected max_norm = None, got {self.max_norm}; set clip_norm instead")
        optimizer = self._target(params, lr=self.lr, eps=self.eps)
        if self.clip_value is not None or self.clip_norm is not None:
            optimizer.register_step_pre_hook(
                partial(clip_gradients, max_value=self.clip_value, max_norm=self.clip_norm)
            )
        return optimizer


class CheckedOptimizers(Optimizers):
    """The host's set of optimizers, stopping at a gradient that is not finite before any clipping can hide it.

    Args:
        config: the optimizer configurations.
        param_groups: parameters by group name.
        names: name of each parameter, for the message.
        current_step: tells the training step, for the message.
    """

    def __init__(
        self,
        config: Dict[str, Any],
        param_groups: Dict[str, List[Parameter]],
        names: Mapping[Parameter, str],
        current_step: Callable[[], int],
    ) -> None:
        super().__init__(config, param_groups)
        self._names = names
        self._current_step = current_step

    def optimizer_scaler_step_some(self, grad_scaler: Any, param_groups: List[str]) -> None:
        """Steps the optimizers of the given groups, after checking their gradients.

        Args:
            grad_scaler: the gradient scaler; an enabled one handles overflow itself, by skipping the step.
            param_groups: names of the groups to step.

        Raises:
            NonFiniteGradientError: names the step and the parameters; no group has been stepped.
        """
        if not grad_scaler.is_enabled():
            parameters = [parameter for group in param_groups for parameter in self.parameters[group]]
            check_gradients(
                [(self._names.get(parameter, "?"), parameter) for parameter in parameters], self._current_step()
            )
        super().optimizer_scaler_step_some(grad_scaler, param_groups)

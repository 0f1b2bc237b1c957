"""Adam with gradient clipping, and optimizers that stop at gradients that are not finite."""

import functools
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Type

import torch
from nerfstudio.engine.optimizers import OptimizerConfig, Optimizers
from torch.nn import Parameter

from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP
from fewshot_ns.engine.checks import check_gradients
from fewshot_ns.engine.schedulers import RunLengthSchedulerConfig
from fewshot_ns.utils.ranks import average_gradients


def clip_gradients(parameters: List[Parameter], max_value: Optional[float], max_norm: Optional[float]) -> None:
    """Clips each gradient element, then scales all gradients together to a norm.

    Args:
        parameters: their gradients are changed in place.
        max_value: largest magnitude of an element; None leaves elements as they are.
        max_norm: largest 2-norm over all gradients; None does not scale.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if not parameters:
        return
    if max_value is not None:
        torch.nn.utils.clip_grad_value_(parameters, max_value)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)


class ClippedAdam(torch.optim.Adam):
    """Adam that clips its gradients in each step, after a gradient scaler has undone its scale.

    Not a hook on the step: in older releases importing torch._dynamo removes such hooks from torch's own optimizers.

    Args:
        params: see torch.optim.Adam, as all other arguments.
        clip_value: see `clip_gradients`.
        clip_norm: see `clip_gradients`.
    """

    def __init__(
        self, params: Any, clip_value: Optional[float] = None, clip_norm: Optional[float] = None, **kwargs: Any
    ) -> None:
        super().__init__(params, **kwargs)
        self._clip_value, self._clip_norm = clip_value, clip_norm

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Clips, then takes one step.

        Args:
            closure: recomputes the loss and the gradients; optional.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        clip_gradients(parameters, self._clip_value, self._clip_norm)
        super().step()
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        """As of torch's own; which kernel takes the steps is decided here, not by the machine that saved."""
        groups = state_dict["param_groups"]
        if len(groups) == len(self.param_groups):
            # Where the count of steps lies depends on it, too.
            own = [{**group, "fused": here["fused"]} for group, here in zip(groups, self.param_groups, strict=True)]
            state_dict = {**state_dict, "param_groups": own}
        super().load_state_dict(state_dict)


@dataclass
class ClippedAdamOptimizerConfig(OptimizerConfig):
    """Adam whose gradients are clipped by element and then by global norm (RegNeRF's order)."""

    _target: Type = ClippedAdam
    """The optimizer class to use."""
    clip_value: Optional[float] = None
    """Largest magnitude of a gradient element. None: no limit."""
    clip_norm: Optional[float] = None
    """Largest norm of all gradients of the group together, after clip_value. None: no limit."""

    def setup(self, params: List[Parameter]) -> torch.optim.Optimizer:
        """Builds the optimizer.

        Raises:
            ValueError: nerfstudio's own max_norm is set, which would clip the norm before the elements.
        """
        if self.max_norm is not None:
            raise ValueError(f"expected max_norm = None, got {self.max_norm}; set clip_norm instead")
        # On a GPU torch chooses by itself: a fused step would undo the scale of gradients after they are clipped.
        fused = all(parameter.device.type == "cpu" for parameter in params) and _fuses_on_cpus()
        clipping = {"clip_value": self.clip_value, "clip_norm": self.clip_norm}
        return self._target(params, lr=self.lr, eps=self.eps, fused=fused or None, **clipping)


@functools.cache
def _fuses_on_cpus() -> bool:
    """Whether torch has a kernel of Adam that reads each parameter of a CPU once (since 2.4)."""
    try:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True)
    except RuntimeError:
        return False
    return True


def pose_optimizer() -> Dict[str, Dict[str, Any]]:
    """The optimizer of training poses, nerfacto's, over the length of the run; without effect where poses stay."""
    group = {
        "optimizer": ClippedAdamOptimizerConfig(lr=1e-3, eps=1e-15),
        "scheduler": RunLengthSchedulerConfig(final_ratio=0.1),
    }
    return {CAMERA_GROUP: group}


class CheckedOptimizers(Optimizers):
    """nerfstudio's optimizers, stopping at a gradient that is not finite before clipping can hide it.

    Args:
        config: the optimizer configurations.
        param_groups: parameters by group name.
        named_parameters: gives the names of the parameters, for the message; asked for when it is written, since a
            backbone may replace its parameters while it trains (densification).
        current_step: tells the training step, for the message.
        averages: whether the gradients of several processes are averaged here, since nothing else does it.
    """

    def __init__(
        self,
        config: Dict[str, Any],
        param_groups: Dict[str, List[Parameter]],
        named_parameters: Callable[[], Iterable[Tuple[str, Parameter]]],
        current_step: Callable[[], int],
        averages: bool = False,
    ) -> None:
        super().__init__(config, param_groups)
        self._named_parameters = named_parameters
        self._current_step = current_step
        self._averages = averages

    def optimizer_scaler_step_some(self, grad_scaler: Any, param_groups: List[str]) -> None:
        """Steps the optimizers of the given groups, after checking their gradients.

        Args:
            grad_scaler: the gradient scaler; if enabled, it handles overflow itself, by skipping the step.
            param_groups: names of the groups to step.

        Raises:
            NonFiniteGradientError: names the step and the parameters; no optimizer has been stepped.
        """
        optimizers = (self.optimizers[group] for group in param_groups)
        stepped = [value for one in optimizers for group in one.param_groups for value in group["params"]]
        if self._averages:
            average_gradients(stepped)
        if not grad_scaler.is_enabled():
            names = {parameter: name for name, parameter in self._named_parameters()}
            check_gradients([(names.get(parameter, "?"), parameter) for parameter in stepped], self._current_step())
        super().optimizer_scaler_step_some(grad_scaler, param_groups)

"""Stops a run at the first loss or gradient that is not finite, before it changes a parameter."""

from __future__ import annotations

from typing import Iterable, Mapping, Tuple

import torch
from torch import Tensor

_FIRST_STEP = (
    "nothing has been learned yet, so what is read is at fault, not the learning rate: check near and far, and the "
    "depth maps, masks and weights that the losses are made of (`ns-fewshot inspect` shows the scene)"
)
_LATER = "a lower learning rate or a lower weight of that term is the usual remedy"


class NonFiniteLossError(RuntimeError):
    """A loss term is NaN or infinite."""


class NonFiniteGradientError(RuntimeError):
    """The gradient of a parameter holds NaN or infinity."""


def check_losses(loss_dict: Mapping[str, Tensor], step: int) -> None:
    """Raises if a loss term is not finite. One device synchronisation for all terms.

    Args:
        loss_dict: scalar loss terms by name.
        step: training step, for the message.

    Raises:
        NonFiniteLossError: names the step and every term that is not finite, and gives the values of the others.
    """
    if not loss_dict:
        return
    values = torch.stack([term.detach().float().reshape(()) for term in loss_dict.values()]).tolist()
    terms = dict(zip(loss_dict, values, strict=True))
    bad = [name for name, value in terms.items() if value != value or abs(value) == float("inf")]
    if bad:
        others = ", ".join(f"{name} = {value:.4g}" for name, value in terms.items() if name not in bad) or "none"
        raise NonFiniteLossError(
            f"step {step}: expected finite loss terms, got {', '.join(f'{name} = {terms[name]}' for name in bad)} "
            f"(finite terms: {others}). Training stopped before the parameters were changed; "
            f"{_FIRST_STEP if step == 0 else _LATER}."
        )


def check_gradients(named_parameters: Iterable[Tuple[str, torch.nn.Parameter]], step: int) -> None:
    """Raises if a gradient is not finite. One device synchronisation unless something is wrong.

    Args:
        named_parameters: (name, parameter) pairs; parameters without a gradient are skipped.
        step: training step, for the message.

    Raises:
        NonFiniteGradientError: names the step and the parameters.
    """
    gradients = [(name, parameter.grad) for name, parameter in named_parameters if parameter.grad is not None]
    if not gradients:
        return
    # A sum is not finite if any of its terms is not; the exact test below excludes sums that merely overflowed.
    if torch.stack([gradient.sum().float() for _, gradient in gradients]).isfinite().all():
        return
    bad = [name for name, gradient in gradients if not gradient.isfinite().all()]
    if bad:
        shown = ", ".join(bad[:8]) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        raise NonFiniteGradientError(
            f"step {step}: expected finite gradients, got NaN or infinity in {shown}. "
            "Training stopped before the parameters were changed"
            f"{f'; {_FIRST_STEP}' if step == 0 else ''}."
        )

"""Clipping order, and the stop at a gradient that is not finite."""

import pytest
import torch
from nerfstudio.engine.schedulers import CosineDecaySchedulerConfig
from packaging.version import Version
from torch.cuda.amp.grad_scaler import GradScaler
from torch.nn import Parameter

from fewshot_ns.engine.checks import NonFiniteGradientError
from fewshot_ns.engine.optimizers import CheckedOptimizers, ClippedAdam, ClippedAdamOptimizerConfig, clip_gradients


def parameter(gradient, value=0.0) -> Parameter:
    result = Parameter(torch.full((len(gradient),), value))
    result.grad = torch.tensor(gradient)
    return result


def gradient_of(weight: Parameter) -> torch.Tensor:
    assert weight.grad is not None
    return weight.grad


def test_elements_are_clipped_before_the_norm():
    first, second = parameter([30.0, 0.05]), parameter([-0.02])
    clip_gradients([first, second], max_value=0.1, max_norm=0.1)

    clipped = torch.tensor([0.1, 0.05, -0.02])
    expected = clipped * (0.1 / clipped.norm())
    torch.testing.assert_close(torch.cat([gradient_of(first), gradient_of(second)]), expected, rtol=1e-4, atol=0.0)


def test_small_gradients_are_left_alone():
    small = parameter([0.01, -0.02])
    clip_gradients([small], max_value=0.1, max_norm=0.1)
    assert gradient_of(small).tolist() == pytest.approx([0.01, -0.02])


@pytest.mark.parametrize("clip_value, clip_norm", [(None, None), (0.1, None), (None, 0.1), (0.1, 0.1)])
def test_step_equals_adam_on_clipped_gradients(clip_value, clip_norm):
    gradient = [3.0, -0.04, 0.5]
    ours, reference = parameter(gradient, 1.0), parameter(gradient, 1.0)
    # A large eps makes Adam's first step depend on the size of the gradient, which it otherwise divides out.
    optimizer = ClippedAdamOptimizerConfig(lr=0.1, eps=1.0, clip_value=clip_value, clip_norm=clip_norm).setup([ours])
    plain = torch.optim.Adam([reference], lr=0.1, eps=1.0)
    if clip_value is not None:
        gradient_of(reference).clamp_(-clip_value, clip_value)
    if clip_norm is not None:
        gradient_of(reference).mul_(min(1.0, clip_norm / float(gradient_of(reference).norm())))

    optimizer.step()
    plain.step()

    torch.testing.assert_close(ours, reference, rtol=0.0, atol=1e-7)


def test_clipping_survives_dynamo():
    """In older releases importing it takes step hooks off torch's own optimizers."""
    import torch._dynamo  # noqa: F401

    weight = parameter([3.0], 1.0)
    ClippedAdamOptimizerConfig(lr=0.1, eps=1.0, clip_value=0.1).setup([weight]).step()
    assert gradient_of(weight).item() == pytest.approx(0.1)


def test_closure_is_evaluated_once_and_its_gradients_are_clipped():
    weight = Parameter(torch.ones(1))
    optimizer = ClippedAdamOptimizerConfig(lr=0.1, clip_value=0.1).setup([weight])
    losses = []

    def closure():
        optimizer.zero_grad()
        losses.append((5.0 * weight).sum())
        losses[-1].backward()
        return losses[-1]

    assert optimizer.step(closure) is losses[0]  # type: ignore[arg-type]
    assert len(losses) == 1 and gradient_of(weight).item() == pytest.approx(0.1)


def test_nerfstudio_norm_would_clip_in_the_wrong_order():
    with pytest.raises(ValueError, match="clip_norm"):
        ClippedAdamOptimizerConfig(max_norm=0.1).setup([parameter([1.0])])


def make_optimizers(first: Parameter, second: Parameter) -> CheckedOptimizers:
    group = {"optimizer": ClippedAdamOptimizerConfig(lr=0.1, clip_value=0.1), "scheduler": None}
    return CheckedOptimizers(
        {"fields": group, "proposal": group},
        {"fields": [first], "proposal": [second]},
        named_parameters=lambda: [("_model.field.weight", first), ("_model.grid", second)],
        current_step=lambda: 42,
    )


def test_non_finite_gradient_stops_before_any_group_is_stepped():
    first, second = parameter([1.0]), parameter([float("inf"), 1.0])
    optimizers = make_optimizers(first, second)
    with pytest.raises(NonFiniteGradientError, match=r"step 42: .* in _model\.grid\. "):
        optimizers.optimizer_scaler_step_some(GradScaler(enabled=False), ["fields", "proposal"])
    assert first.item() == 0.0 and second.tolist() == [0.0, 0.0]


def test_finite_gradients_are_stepped_in_the_named_groups_only():
    first, second = parameter([1.0]), parameter([1.0])
    make_optimizers(first, second).optimizer_scaler_step_some(GradScaler(enabled=False), ["fields"])
    assert first.item() == pytest.approx(-0.1) and second.item() == 0.0


def test_works_with_a_nerfstudio_scheduler():
    weight = parameter([1.0])
    optimizers = CheckedOptimizers(
        {"fields": {"optimizer": ClippedAdamOptimizerConfig(), "scheduler": CosineDecaySchedulerConfig()}},
        {"fields": [weight]},
        named_parameters=lambda: [("weight", weight)],
        current_step=lambda: 0,
    )
    optimizers.optimizer_scaler_step_some(GradScaler(enabled=False), ["fields"])
    optimizers.schedulers["fields"].step()


def test_a_step_that_reads_each_parameter_once_is_the_same_step_and_is_chosen_by_this_machine():
    own = ClippedAdamOptimizerConfig().setup([Parameter(torch.zeros(1))])
    if Version(torch.__version__) < Version("2.4"):
        assert own.param_groups[0]["fused"] is None
        return
    torch.manual_seed(0)
    values, steps = torch.randn(2, 50), torch.randn(5, 50)
    found = []
    for fused in (None, True):
        weight = Parameter(values[0].clone())
        optimizer = ClippedAdam([weight], lr=0.1, clip_norm=1.0, fused=fused)
        for gradient in steps:
            weight.grad = gradient.clone()
            optimizer.step()
        found.append(weight)
        saved = optimizer.state_dict()
    torch.testing.assert_close(found[0], found[1])
    # Written where the kernel was there, read where it is not, and the reverse.
    other = ClippedAdam([Parameter(values[1].clone())], lr=0.1)
    other.load_state_dict(saved)
    assert saved["param_groups"][0]["fused"] is True and other.param_groups[0]["fused"] is None
    own = ClippedAdamOptimizerConfig().setup([Parameter(values[0].clone())])
    own.load_state_dict(other.state_dict())
    assert own.param_groups[0]["fused"] is True

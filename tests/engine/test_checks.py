"""Training stops at numbers that are not finite, and says which."""

import pytest
import torch
from torch.nn import Parameter

from fewshot_ns.engine.checks import NonFiniteGradientError, NonFiniteLossError, check_gradients, check_losses

NAN, INF = float("nan"), float("inf")


def test_finite_losses_pass():
    check_losses({"rgb_loss": torch.tensor(0.5), "rank_loss": torch.tensor([0.0])}, step=3)
    check_losses({}, step=0)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_losses_name_step_and_term(value, dtype):
    losses = {"rgb_loss": torch.tensor(0.5), "rank_loss": torch.tensor(value, dtype=dtype)}
    with pytest.raises(NonFiniteLossError, match=r"step 1234: .*rank_loss = -?(nan|inf) .*rgb_loss = 0\.5"):
        check_losses(losses, step=1234)


def test_losses_name_every_bad_term():
    with pytest.raises(NonFiniteLossError, match="a = nan, c = inf"):
        check_losses({"a": torch.tensor(NAN), "b": torch.tensor(1.0), "c": torch.tensor(INF)}, step=1)


def test_the_first_step_is_no_matter_of_the_learning_rate():
    with pytest.raises(NonFiniteLossError, match=r"step 0: .*check near and far") as first:
        check_losses({"a": torch.tensor(NAN)}, step=0)
    assert "a lower learning rate" not in str(first.value)
    with pytest.raises(NonFiniteLossError, match=r"step 7: .*a lower learning rate"):
        check_losses({"a": torch.tensor(NAN)}, step=7)
    with pytest.raises(NonFiniteGradientError, match=r"step 0: .*check near and far"):
        check_gradients([("a", parameter(NAN))], step=0)


def parameter(*gradient: float) -> Parameter:
    result = Parameter(torch.zeros(len(gradient)))
    result.grad = torch.tensor(gradient)
    return result


def test_finite_gradients_pass():
    check_gradients([("a", parameter(1.0, -1.0)), ("unused", Parameter(torch.zeros(2)))], step=0)
    check_gradients([], step=0)


def test_gradients_whose_sum_overflows_pass():
    check_gradients([("a", parameter(3e38, 3e38))], step=0)


@pytest.mark.parametrize("bad", [(0.0, NAN), (INF, 1.0), (INF, -INF)])
def test_gradients_name_step_and_parameter(bad):
    with pytest.raises(NonFiniteGradientError, match=r"step 77: .* in field\.density\. "):
        check_gradients([("field.colour", parameter(1.0)), ("field.density", parameter(*bad))], step=77)

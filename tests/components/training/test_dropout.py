import pytest
import torch

from components.training.fine_tuning.dropout import Dropout, use_cheap_dropout


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_it_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(301, 1003)
    dropped = Dropout(p)(values)
    assert float((dropped == 0).float().mean()) == pytest.approx(p, abs=0.003)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.005)
    assert torch.unique(dropped).tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-4)
    assert abs(float((dropped[:, 1:] == dropped[:, :-1]).float().mean()) - (p**2 + (1 - p) ** 2)) < 0.005


def test_what_is_dropped_follows_the_seed_and_gets_no_gradient() -> None:
    values = torch.ones(7, 5, requires_grad=True)
    torch.manual_seed(3)
    first = Dropout(0.5)(values)
    second = Dropout(0.5)(values)
    torch.manual_seed(3)
    again = Dropout(0.5)(values)
    assert torch.equal(first, again) and not torch.equal(first, second)
    first.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, first.detach())


def test_nothing_is_dropped_outside_training_or_with_p_0() -> None:
    values = torch.randn(4, 4)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_each_dropout_of_a_model_is_replaced() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Dropout(0.2)))
    use_cheap_dropout(model)  # type: ignore[arg-type]
    assert [type(part) for part in model.modules() if "Drop" in type(part).__name__] == [Dropout]

"""bf16 or fp32 on a CPU, from what was measured there."""

from collections.abc import Sequence

import pytest
import torch

from components.training.fine_tuning import precision as choice
from components.training.fine_tuning.precision import Gflops, choose_for_cpu, choose_precision, measure

_MODEL = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Linear(64, 32), torch.nn.Linear(32, 3))


@pytest.mark.parametrize(
    ("gflops", "name"),
    [
        ({"fp32": 151.0, "bf16": 80.0}, "fp32"),  # a CPU that claims bf16
        ({"fp32": 151.0, "bf16": 420.0}, "bf16"),
        ({"fp32": 151.0, "bf16": 160.0}, "fp32"),  # no gain beyond what a measurement is off
    ],
)
def test_the_faster_one_is_chosen_and_the_figures_are_told(gflops: Gflops, name: str) -> None:
    chosen, reason = choose_for_cpu(gflops, 2)
    assert chosen == name
    figures = f"151 GFLOP/s in fp32 and {gflops['bf16']:.0f} GFLOP/s in bf16"
    assert reason == f"2 threads compute the model's layers here at {figures}"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is asked, not tried")
def test_processes_that_train_together_take_what_one_of_them_measured() -> None:
    model = torch.nn.Linear(4, 4)
    told = [choose_precision(model, lambda measure, gflops=gflops: gflops) for gflops in  # type: ignore[misc]
            ({"fp32": 1.0, "bf16": 2.0}, {"fp32": 2.0, "bf16": 1.0})]  # fmt: skip
    assert [precision.name for precision in told] == ["bf16", "fp32"]
    for precision, dtype in zip(told, (torch.bfloat16, torch.float32), strict=True):
        with precision.autocast():
            assert model(torch.ones(2, 4)).dtype == dtype


@pytest.mark.parametrize(
    ("few", "result"),
    [
        ({"fp32": 19.0, "bf16": 2.9}, {"fp32": 19.0, "bf16": 2.9}),  # emulated: many tokens would take seconds
        ({"fp32": 19.0, "bf16": 9.0}, {"fp32": 151.0, "bf16": 420.0}),  # few tokens do not show the gain
    ],
)
def test_many_tokens_are_tried_where_few_do_not_show_an_emulation(
    few: Gflops, result: Gflops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(shapes: Sequence[tuple[int, int]], tokens: int, least_seconds: float) -> Gflops:
        assert shapes == ([(32, 64)] if tokens == 16 else [(3, 32), (32, 64), (64, 32)])
        return few if tokens == 16 else {"fp32": 151.0, "bf16": 420.0}

    monkeypatch.setattr(choice, "measure_gflops", measured)
    assert measure(_MODEL) == result


def test_a_trial_leaves_the_model_and_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    assert all(rate > 0 for rate in measure(_MODEL).values())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in _MODEL.parameters())

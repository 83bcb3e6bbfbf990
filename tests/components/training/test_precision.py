"""bf16 or fp32 on a CPU, from what was measured there."""

import pytest
import torch

from components.training.fine_tuning.precision import (
    Gflops,
    choose_for_cpu,
    choose_precision,
    measure_gflops,
    precision_of,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("gflops", "name"),
    [
        ({"fp32": 151.0, "bf16": 80.0}, "fp32"),  # a CPU that claims bf16
        ({"fp32": 151.0, "bf16": 420.0}, "bf16"),
        ({"fp32": 151.0, "bf16": 160.0}, "fp32"),  # no gain beyond what a measurement is off
    ],
)
def test_the_faster_one_is_chosen_and_the_figures_are_told(gflops: Gflops, name: str) -> None:
    chosen, reason = choose_for_cpu(gflops)
    assert chosen == name
    assert "151 GFLOP/s in fp32" in reason and f"{gflops['bf16']:.0f} GFLOP/s in bf16" in reason


def test_without_bf16_in_hardware_there_is_nothing_to_try() -> None:
    assert choose_for_cpu({}) == ("fp32", "the CPU does not multiply bf16 matrices in hardware")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is asked, not tried")
def test_processes_that_train_together_take_what_one_of_them_measured() -> None:
    model = torch.nn.Linear(4, 4)
    told = [choose_precision(model, lambda measure, gflops=gflops: gflops) for gflops in  # type: ignore[misc]
            ({"fp32": 1.0, "bf16": 2.0}, {"fp32": 2.0, "bf16": 1.0}, {})]  # fmt: skip
    assert [precision.name for precision in told] == ["bf16", "fp32", "fp32"]
    for precision, dtype in zip(told, (torch.bfloat16, torch.float32, torch.float32), strict=True):
        with precision.autocast():
            assert model(torch.ones(2, 4)).dtype == dtype


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_trial_leaves_the_model_and_the_random_numbers_alone(name: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Linear(64, 32), torch.nn.Linear(32, 3))
    before = torch.get_rng_state()
    assert measure_gflops(model, precision_of(name, CPU, "")) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in model.parameters())

"""The number format and the device of training, and the reason for the choice."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

# A measurement uses as many tokens as a batch of fine-tuning, fewer where the layers are large, and about this time.
_MAX_TOKENS = 1024
_MAX_FLOP = 4e9
_SECONDS = 0.4
# Before it, a few tokens show where bf16 is only emulated: on a CPU that has AVX2 alone 16 tokens took 6 times the CPU
# time of fp32 in layers of width 384 and 14 times in layers of 1024. Arithmetic in hardware has no such loss.
_FEW_TOKENS = 16
_EMULATED = 3.0
# bf16 drops two thirds of the digits, so it has to be faster by more than the error of a measurement.
_MIN_SPEEDUP = 1.1

Gflops = dict[str, float]
"""GFLOP/s by precision."""


@dataclass(frozen=True)
class TrainingPrecision:
    """How training computes: `name` is bf16 or fp32, `reason` says in words why."""

    name: str
    device: torch.device
    reason: str
    autocast: Callable[[], AbstractContextManager[None]]


def choose_precision(
    model: torch.nn.Module, measure_once: Callable[[Callable[[], Gflops]], Gflops] = lambda action: action()
) -> TrainingPrecision:
    """Return bf16 on a GPU that has it in hardware, and on a CPU that is faster with it; else fp32.

    Args:
        model: what is going to be trained; on a CPU its layers are measured, for less than a second.
        measure_once: where several processes train together, measures in one of them and returns the result in all.
    """
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = f"{torch.cuda.get_device_name()} {'has' if bf16 else 'lacks'} bf16"
        return precision_of("bf16" if bf16 else "fp32", torch.device("cuda"), reason)
    name, reason = choose_for_cpu(measure_once(partial(measure, model)), torch.get_num_threads())
    return precision_of(name, torch.device("cpu"), reason)


def precision_of(name: str, device: torch.device, reason: str) -> TrainingPrecision:
    """Return the precision with this name: bf16 or fp32."""
    bf16 = partial(torch.autocast, device.type, torch.bfloat16)
    return TrainingPrecision(name, device, reason, bf16 if name == "bf16" else nullcontext)


def choose_for_cpu(gflops: Gflops, threads: int) -> tuple[str, str]:
    """Return bf16 or fp32 for a CPU, and why, by what so many threads reached on it."""
    name = "bf16" if gflops["bf16"] > _MIN_SPEEDUP * gflops["fp32"] else "fp32"
    figures = " and ".join(f"{rate:.3g} GFLOP/s in {precision}" for precision, rate in gflops.items())
    who = "one thread computes" if threads == 1 else f"{threads} threads compute"
    return name, f"{who} the model's layers here at {figures}"


def measure(model: torch.nn.Module) -> Gflops:
    """Measure both precisions, whatever the CPU says of itself: some have bf16 and are slower with it.

    Where it is only emulated, the result is that of few tokens, since many would take seconds.
    """
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    shapes = sorted({(layer.out_features, layer.in_features) for layer in layers})
    few = measure_gflops([max(shapes, key=math.prod)], _FEW_TOKENS, _SECONDS / 4)
    if few["fp32"] > _EMULATED * few["bf16"]:
        return few
    tokens = int(min(_MAX_TOKENS, max(1, _MAX_FLOP // _flop_a_token(shapes))))
    return measure_gflops(shapes, tokens, _SECONDS)


def measure_gflops(shapes: Sequence[tuple[int, int]], tokens: int, least_seconds: float) -> Gflops:
    """Return the GFLOP/s of products like those of linear layers, forward and backward.

    One product of each shape is measured, on new tensors, without any use of the random number generator. The
    precisions take turns, so that other work on the machine slows both.

    Args:
        shapes: (outputs, inputs) of the layers.
        tokens: rows of each product.
        least_seconds: how long to repeat, after a pass in each precision that warms up.
    """
    weights = [torch.full(shape, 0.01, requires_grad=True) for shape in shapes]
    pairs = [(weight, torch.full((tokens, weight.shape[1]), 0.01, requires_grad=True)) for weight in weights]

    def seconds(precision: TrainingPrecision) -> float:
        started = time.perf_counter()
        for weight, rows in pairs:
            with precision.autocast():
                out = torch.nn.functional.linear(rows, weight)
            out.backward(torch.ones_like(out))
        return time.perf_counter() - started

    compared = [precision_of(name, torch.device("cpu"), "") for name in ("fp32", "bf16")]
    for precision in compared:
        seconds(precision)
    taken = [[seconds(precision) for precision in compared]]
    while sum(map(sum, taken)) < least_seconds:
        taken.append([seconds(precision) for precision in compared])
    best = map(min, zip(*taken, strict=True))
    return {p.name: tokens * _flop_a_token(shapes) / least / 1e9 for p, least in zip(compared, best, strict=True)}


def _flop_a_token(shapes: Sequence[tuple[int, int]]) -> int:
    return 6 * sum(map(math.prod, shapes))  # one product forward, two backward

"""The number format and the device of training, and the reason for the choice."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

# A measurement uses as many tokens as a batch of fine-tuning, fewer where the layers are large, and about this time.
_MAX_TOKENS = 1024
_MAX_FLOP = 4e9
_MEASURING_SECONDS = 0.2
# bf16 drops two thirds of the digits, so it has to be faster by more than the error of a measurement.
_MIN_SPEEDUP = 1.1

Gflops = dict[str, float]
"""GFLOP/s by precision; empty where only fp32 is possible."""


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
    """Return bf16 on a GPU that has it, and on a CPU that has it and is faster with it; else fp32.

    Args:
        model: what is going to be trained; on a CPU its layers are measured, for less than a second.
        measure_once: where several processes train together, measures in one of them and returns the result in all.
    """
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported()
        reason = f"{torch.cuda.get_device_name()} {'has' if bf16 else 'lacks'} bf16"
        return precision_of("bf16" if bf16 else "fp32", torch.device("cuda"), reason)
    name, reason = choose_for_cpu(measure_once(partial(_measure, model)))
    return precision_of(name, torch.device("cpu"), reason)


def precision_of(name: str, device: torch.device, reason: str) -> TrainingPrecision:
    """Return the precision with this name: bf16 or fp32."""
    bf16 = partial(torch.autocast, device.type, torch.bfloat16)
    return TrainingPrecision(name, device, reason, bf16 if name == "bf16" else nullcontext)


def choose_for_cpu(gflops: Gflops) -> tuple[str, str]:
    """Return bf16 or fp32 for a CPU, and why, by what was measured on it."""
    if not gflops:
        return "fp32", "the CPU does not multiply bf16 matrices in hardware"
    name = "bf16" if gflops["bf16"] > _MIN_SPEEDUP * gflops["fp32"] else "fp32"
    figures = " and ".join(f"{rate:.0f} GFLOP/s in {precision}" for precision, rate in gflops.items())
    return name, f"this CPU computes the model's layers at {figures}"


def _measure(model: torch.nn.Module) -> Gflops:
    """Measure both precisions, where the CPU multiplies bf16 in hardware."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return {}
    return {name: measure_gflops(model, precision_of(name, torch.device("cpu"), "")) for name in ("fp32", "bf16")}


def measure_gflops(model: torch.nn.Module, precision: TrainingPrecision) -> float:
    """Return the GFLOP/s of products like those of the model's linear layers, forward and backward.

    One product of each shape is measured, on new tensors, without any use of the random number generator.
    """
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    shapes = sorted({(layer.out_features, layer.in_features) for layer in layers})
    weights = [torch.full(shape, 0.01, requires_grad=True) for shape in shapes]
    flop_a_token = 6 * sum(weight.numel() for weight in weights)  # one product forward, two backward
    tokens = int(min(_MAX_TOKENS, max(1, _MAX_FLOP // flop_a_token)))
    pairs = [(weight, torch.full((tokens, weight.shape[1]), 0.01, requires_grad=True)) for weight in weights]

    def seconds() -> float:
        started = time.perf_counter()
        for weight, rows in pairs:
            with precision.autocast():
                out = torch.nn.functional.linear(rows, weight)
            out.backward(torch.ones_like(out))
        return time.perf_counter() - started

    seconds()  # warms up
    taken = [seconds()]
    while sum(taken) < _MEASURING_SECONDS:
        taken.append(seconds())
    return tokens * flop_a_token / min(taken) / 1e9

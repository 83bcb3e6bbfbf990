"""Which numbers to multiply in, on what, and why."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

# A trial takes as many tokens as a batch of fine-tuning, fewer where the layers are large, and about so much time.
_TOKENS = 1024
_FLOPS = 4e9
_SECONDS = 0.2
# bf16 drops two thirds of the digits: it has to be worth it, and by more than a measurement is off.
_LEAST_GAIN = 1.1

Rates = dict[str, float]
"""GFLOP/s by precision; empty where there is nothing to choose."""


@dataclass(frozen=True)
class Precision:
    """How training computes: `name` is bf16 or fp32, `reason` says in words why."""

    name: str
    device: torch.device
    reason: str
    autocast: Callable[[], AbstractContextManager[None]]


def choose_precision(
    model: torch.nn.Module, once: Callable[[Callable[[], Rates]], Rates] = lambda action: action()
) -> Precision:
    """Return bf16 on a GPU that has it, and on a CPU that has it and is faster with it; else fp32.

    Args:
        model: what is going to be trained; a CPU tries its layers, for less than a second.
        once: of processes that train together, lets one measure and tells all of them what it found.
    """
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported()
        reason = f"{torch.cuda.get_device_name()} {'has' if bf16 else 'lacks'} bf16"
        return precision_of("bf16" if bf16 else "fp32", torch.device("cuda"), reason)
    name, reason = decide(once(partial(_rates, model)))
    return precision_of(name, torch.device("cpu"), reason)


def precision_of(name: str, device: torch.device, reason: str) -> Precision:
    """Return the precision of this name."""
    bf16 = partial(torch.autocast, device.type, torch.bfloat16)
    return Precision(name, device, reason, bf16 if name == "bf16" else nullcontext)


def decide(rates: Rates) -> tuple[str, str]:
    """Return bf16 or fp32 for a CPU, and why, from what was measured on it."""
    if not rates:
        return "fp32", "the CPU does not multiply bf16 matrices in hardware"
    name = "bf16" if rates["bf16"] > _LEAST_GAIN * rates["fp32"] else "fp32"
    figures = " and ".join(f"{rate:.0f} GFLOP/s in {precision}" for precision, rate in rates.items())
    return name, f"this CPU computes the model's layers at {figures}"


def _rates(model: torch.nn.Module) -> Rates:
    """Try both precisions, where the CPU multiplies bf16 in hardware."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return {}
    return {name: trial(model, precision_of(name, torch.device("cpu"), "")) for name in ("fp32", "bf16")}


def trial(model: torch.nn.Module, precision: Precision) -> float:
    """Return the GFLOP/s of products like those of the model's linear layers, forwards and backwards.

    One of each shape is tried, on tensors of its own; the generator of random numbers stays as it is.
    """
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    shapes = sorted({(layer.out_features, layer.in_features) for layer in layers})
    weights = [torch.full(shape, 0.01, requires_grad=True) for shape in shapes]
    a_token = 6 * sum(weight.numel() for weight in weights)  # a product forwards, two backwards
    tokens = int(min(_TOKENS, max(1, _FLOPS // a_token)))
    pairs = [(weight, torch.full((tokens, weight.shape[1]), 0.01, requires_grad=True)) for weight in weights]

    def seconds() -> float:
        started = time.perf_counter()
        for weight, rows in pairs:
            with precision.autocast():
                out = torch.nn.functional.linear(rows, weight)
            out.backward(torch.ones_like(out))
        return time.perf_counter() - started

    seconds()  # prepares the kernels
    taken = [seconds()]
    while sum(taken) < _SECONDS:
        taken.append(seconds())
    return tokens * a_token / min(taken) / 1e9

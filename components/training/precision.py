"""Which numbers to multiply in, on what, and why."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """How training computes: `name` is bf16 or fp32, `reason` says in words why."""

    name: str
    device: torch.device
    reason: str
    autocast: Callable[[], AbstractContextManager[None]]


def choose_precision() -> Precision:
    """Return bf16 where the GPU or CPU multiplies bf16 matrices in hardware, else fp32."""
    if torch.cuda.is_available():
        device, bf16 = torch.device("cuda"), torch.cuda.is_bf16_supported()
        reason = f"{torch.cuda.get_device_name()} {'has' if bf16 else 'lacks'} bf16"
    else:
        device, bf16 = torch.device("cpu"), bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        reason = f"the CPU {'multiplies' if bf16 else 'does not multiply'} bf16 matrices in hardware"
    if bf16:
        return Precision("bf16", device, reason, lambda: torch.autocast(device.type, torch.bfloat16))
    return Precision("fp32", device, reason, nullcontext)

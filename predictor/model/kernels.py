"""Which kernel multiplies 8-bit integers, chosen by a product that only exact kernels get right.

ONNX Runtime's usual kernel for x86 without VNNI adds two products in 16 bits, and clips the sum. A slower kernel does
not; a session can be set to use it, but then does so even where VNNI makes the usual one exact and twice as fast. So
the usual kernel is tried first, which is more reliable than the name of the CPU.
"""

import base64
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np

# An ONNX graph `sums = rows @ weight`, uint8 (n, 64) by int8 (64, 16), with the operator of the int8 models; the
# columns of the weight are 127 and -128 alternately. A test builds it again and compares.
PROBE = (
    "eNrj4LBay8UVzMVSlF9ezMVWnpqZnlHCxZyfl8rFVpycmJNazMVSlVqUz8UKIouFWIpLc4uVRHwTS3xLczzzSlLTU4tC8t1y8hNL"
    "rHiT83P1cjOTgery00qEWAuK8pNStSZycDhwCAgwO0EN92rgqG8YhaNwFI5UqMUrwOgEKmO8WBgYGuy1/IDlA6MTtLzxcgCJUYK1"
    "uAWYnMCllhcjg5YsuPCBFF9eAgxoIEocUvQJ8XPxcjAJcXIxCzHmcTFxOCQBJUBlHViCESEh4MTCxSAg6CTIhVrcCTACAFBcSAE="
)
# Numbers of rows, since these use different kernels.
_ROWS = (1, 2, 8)


@dataclass(frozen=True)
class Kernel:
    """The settings that select a kernel."""

    settings: dict[str, str]
    """Configuration entries of the session."""
    about: str
    """Which kernel it is, and why, in words."""


def choose_kernel(usual_is_exact: bool) -> Kernel:
    """Return the fastest kernel whose sums are exact, so that a text gets the same answer on every CPU."""
    if usual_is_exact:
        return Kernel({}, "the usual int8 kernel, whose sums are exact on this CPU")
    return Kernel({"session.x64quantprecision": "1"}, "the exact int8 kernel, since the usual one clips on this CPU")


@cache
def kernel_here() -> Kernel:
    """Return the kernel for the CPU of this process; the first call takes some milliseconds."""
    return choose_kernel(is_exact(Kernel({}, "")))


def is_exact(kernel: Kernel) -> bool:
    """Whether a kernel gets the greatest possible sums right."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for name, value in kernel.settings.items():
        options.add_session_config_entry(name, value)
    graph = zlib.decompress(base64.b64decode(PROBE))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    right = 64 * 255 * np.tile(np.array([127, -128]), 8)
    rows = (np.full((count, 64), 255, dtype=np.uint8) for count in _ROWS)
    return all(bool((session.run(None, {"rows": row})[0] == right).all()) for row in rows)

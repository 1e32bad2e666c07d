"""What the processor is good at."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

#: Multiplications from which on oneDNN is as fast or faster: its way into a product takes 10 us, that of MKL 2. (With a
#: million it is the faster by a tenth on fast processors, and the slower by a third on slow ones.)
WORTH_IT = 1_500_000
#: Rows and columns of a result below which MKL is faster, whatever their number.
NARROW = 8


@functools.cache
def mkl_is_slow() -> bool:
    """Whether torch has MKL and oneDNN, and the processor is one on which MKL is the slower of the two; see
    :mod:`rlspo.common.matrix_products`."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and torch.backends.cpu.get_cpu_capability() == "AVX512" and "GenuineIntel" not in _about_the_processor()


def _about_the_processor() -> str:
    """What the system says of it, its maker's name among that."""
    linux = Path("/proc/cpuinfo")
    return linux.read_text() if linux.exists() else platform.processor()


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``left @ right`` of two matrices, by the faster library; without gradients, for what no compiler looks into.

    :param left: ``(M, K)``, rows or columns without gaps between them
    :param right: ``(K, N)``, likewise
    """
    on_cpu = left.device.type == "cpu" and left.dtype == torch.float32
    if on_cpu and mkl_is_slow() and worth_exchanging(left.shape, right.shape):
        return by_onednn(left, right.t())
    return left @ right


def by_onednn(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``inputs @ weight.T + bias``."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [None], "")


def worth_exchanging(left: torch.Size, right: torch.Size) -> bool:
    """Whether oneDNN is the faster one for a product of matrices of these shapes, where MKL is slow."""
    (rows, inner), columns = left, right[1]
    return rows * inner * columns >= WORTH_IT and min(rows, columns) >= NARROW


#: The smallest number above 0, by its bits: no arithmetic has been done with it.
_TINY = np.uint32(1).view(np.float32)


@contextlib.contextmanager
def tiny_is_zero() -> Iterator[None]:
    """Take numbers below 1e-38 for 0, in this thread.

    A processor takes up to a hundred times as long for a product with such a (subnormal) number. Gradients through saturated
    gates have many of them, as have the moments of gradients that are nearly 0.
    """
    already = not _TINY * np.float32(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)

"""What the processor is good at."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch


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


def options_for_products() -> dict[str, Any]:
    """Options of ``torch.compile`` with which matrix products on the CPU are as fast as can be."""
    if not mkl_is_slow():
        return {}
    try:
        # Imported late: with it come seconds of torch's compiler.
        from rlspo.common.matrix_products import ProductsByOneDNN
    except (ImportError, AttributeError):  # of another version's compiler, of which this uses inner parts
        return {}
    return {"post_grad_custom_post_pass": ProductsByOneDNN()}

"""When compiling the update pays, and with which options."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
import torch.utils._triton

#: Minibatch updates after which compilation has paid for itself: it costs 10 to 25 s and saves about 1 ms an update.
UPDATES_THAT_PAY = 20_000


@functools.cache
def compiler_available(device_type: str) -> bool:
    """Whether ``torch.compile`` can work here: on a CPU it needs a C++ compiler, on CUDA it needs Triton."""
    if device_type == "cuda":
        return torch.utils._triton.has_triton()
    compiler = os.environ.get("CXX", "")
    return any(shutil.which(name) for name in (compiler, "g++", "clang++", "c++") if name)


def should_compile(choice: str | bool, n_updates: int, device: torch.device) -> tuple[bool, str]:
    """Resolve ``compile="auto"``.

    :param choice: ``"auto"``, ``True`` or ``False``
    :param n_updates: minibatch updates that the coming training run will do
    :return: the decision and the reason for it, in words for the user
    """
    if choice != "auto":
        return bool(choice), f"compile={choice} was asked for"
    if n_updates < UPDATES_THAT_PAY:
        return False, f"{n_updates} updates are too few to pay for compilation ({UPDATES_THAT_PAY} are needed)"
    if not compiler_available(device.type):
        what = "Triton" if device.type == "cuda" else "a C++ compiler (install g++ or set CXX)"
        return False, f"compilation would pay, but {what} was not found"
    return True, f"{n_updates} updates pay for about 15 s of compilation"


def compile_whole(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Compile ``function`` as one graph of static shapes; on the CPU its wrapper is C++ too, which makes calls cheap."""
    options: dict[str, Any] = {"cpp_wrapper": True} if device.type == "cpu" else {}
    # Isolated: torch counts compilations per line of code, and many agents may live in one process.
    compiler: Callable[..., Any] = torch.compile
    return compiler(function, fullgraph=True, dynamic=False, options=options, isolate_recompiles=True)

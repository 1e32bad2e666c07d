"""Whether layers run in bfloat16: convolutions of on-policy agents, hidden layers of off-policy ones."""

from __future__ import annotations

import torch
from torch import nn

from rlspo.common.errors import check_choice

PRECISIONS = ("float32", "bfloat16", "auto")


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (AMX or AVX512-BF16; Ampere and later)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def has_convolutions(module: nn.Module) -> bool:
    """Whether the module holds a two-dimensional convolution."""
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


def convolution_dtype(precision: str, policy: nn.Module, device: torch.device) -> torch.dtype | None:
    """The type under which the features extractor runs; None for float32.

    :param precision: ``"float32"``; ``"bfloat16"`` wherever there are convolutions; ``"auto"``: bfloat16 where there are
        convolutions and hardware for it
    """
    check_choice("precision", precision, PRECISIONS)
    if precision == "float32" or not has_convolutions(policy):
        return None
    return torch.bfloat16 if precision == "bfloat16" or bfloat16_is_fast(device) else None

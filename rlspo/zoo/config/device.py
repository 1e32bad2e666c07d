"""Checking that a device exists."""

from __future__ import annotations

import torch

from rlspo.zoo.errors import UserError


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have; SB3 would silently use the CPU.

    :raises UserError: with PyTorch's error
    """
    if name == "auto":
        return
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--device: {name!r} cannot be used here: {reason}. Try 'auto' or 'cpu'.") from error

"""Deep copies of arrays that share memory: :func:`copy.deepcopy` would copy them separately."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def views_among(objects: Iterable[Any]) -> dict[int, np.ndarray]:
    """Copies of the arrays among ``objects`` that overlap; the copies overlap in the same way.

    :raises ValueError: if that is not possible
    :return: by the id of the originals, as a memo of :func:`copy.deepcopy`; empty if no arrays overlap
    """
    families: dict[int, list[np.ndarray]] = {}
    for one in objects:
        if type(one) is np.ndarray:
            families.setdefault(id(_root(one)), []).append(one)
    return {
        id(view): copied
        for family in families.values()
        if len(family) > 1 and _overlapping(family)
        for view, copied in zip(family, _copies(family), strict=True)
    }


def _root(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _overlapping(family: list[np.ndarray]) -> bool:
    """Whether arrays may share memory, judged by their address ranges: may be True without need, never wrongly False."""
    writeable = any(one.flags.writeable for one in family)
    return writeable and any(np.may_share_memory(one, two) for place, one in enumerate(family) for two in family[:place])


def _copies(family: list[np.ndarray]) -> list[np.ndarray]:
    """
    :raises ValueError: for arrays of objects, and for arrays that are scattered in memory
    """
    root = _root(family[0])
    if root.dtype.hasobject or not (root.flags.c_contiguous or root.flags.f_contiguous):
        raise ValueError(f"arrays of shapes {[one.shape for one in family]} show the same memory, and are no plain numbers")
    memory = np.frombuffer(bytearray(root.tobytes("A")), np.uint8)
    start = root.__array_interface__["data"][0]
    copies = []
    for view in family:
        offset = view.__array_interface__["data"][0] - start
        copied: np.ndarray = np.ndarray(view.shape, view.dtype, memory, offset, view.strides)
        copied.flags.writeable = view.flags.writeable
        copies.append(copied)
    return copies

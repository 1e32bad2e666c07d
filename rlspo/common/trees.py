"""Observations and noise are one tensor or a flat dictionary of tensors; these helpers treat both alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

Tensor = torch.Tensor
#: One tensor, or one tensor per key of a Dict observation space.
Tree = Tensor | dict[str, Tensor]
ArrayTree = np.ndarray | dict[str, np.ndarray]
Result = TypeVar("Result")


def tree_map(function: Callable[..., Result], tree: Any, *others: Any) -> Result | dict[str, Result]:
    """Apply ``function`` to each leaf of ``tree``, with the leaves of ``others`` at the same keys as further arguments."""
    if isinstance(tree, dict):
        return {key: function(leaf, *(other[key] for other in others)) for key, leaf in tree.items()}
    return function(tree, *others)


def nested_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """:func:`tree_map` for any nesting of tuples, lists and dictionaries; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: nested_map(function, part, *(other[key] for other in others)) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(nested_map(function, *parts) for parts in zip(tree, *others, strict=True))
    return function(tree, *others)


def detach(tree: Any) -> Any:
    """``tree`` without gradients."""
    return tree_map(torch.detach, tree)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of ``tree``, in the order of its keys."""
    return list(by_key(tree).values())


def by_key(tree: Any) -> dict[str, Any]:
    """The leaves of ``tree`` by key; a single one has none, ``""``."""
    return tree if isinstance(tree, dict) else {"": tree}


def to_tensor(tree: ArrayTree, device: torch.device) -> Any:
    """Put numpy observations on ``device``; float64 becomes float32, integers and images keep their type."""

    def convert(array: np.ndarray) -> Tensor:
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return torch.as_tensor(array, device=device)

    return tree_map(convert, tree)

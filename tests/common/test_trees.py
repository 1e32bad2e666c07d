"""Single leaves and dictionaries of leaves are treated alike."""

import numpy as np
import pytest
import torch

from rlspo.common.trees import to_tensor, tree_leaves, tree_map


def test_map_over_a_leaf_and_over_a_dictionary() -> None:
    assert tree_map(lambda x: x + 1, 3) == 4
    assert tree_map(lambda x: x + 1, {"a": 1, "b": 2}) == {"a": 2, "b": 3}


def test_map_pairs_leaves_by_key_whatever_their_order() -> None:
    assert tree_map(lambda x, y: x - y, {"a": 10, "b": 20}, {"b": 2, "a": 1}) == {"a": 9, "b": 18}
    with pytest.raises(KeyError, match="b"):
        tree_map(lambda x, y: x - y, {"a": 10, "b": 20}, {"a": 1})


def test_leaves() -> None:
    assert tree_leaves(5) == [5]
    assert tree_leaves({"b": 1, "a": 2}) == [1, 2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float64, torch.float32),
        (np.float32, torch.float32),
        (np.uint8, torch.uint8),
        (np.int64, torch.int64),
        (np.int8, torch.int8),
    ],
)
def test_to_tensor_keeps_all_types_but_float64(given: type, expected: torch.dtype, device: str) -> None:
    tensors = to_tensor({"x": np.array([1, 2, 3], given)}, torch.device(device))
    assert tensors["x"].dtype == expected
    assert tensors["x"].device.type == device
    assert tensors["x"].tolist() == [1, 2, 3]
    assert to_tensor(np.ones(2, given), torch.device(device)).dtype == expected

"""What is seen of changes to a module, and what is none."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from rlspo.common.module_contents import ModuleContents


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()))


def test_learning_and_modes_are_no_change() -> None:
    module = network()
    contents = ModuleContents(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    module.eval()
    module[1][1].inplace = True
    assert contents.are_same()


def replace_layer(module: nn.Sequential) -> None:
    module[1][0] = nn.Linear(3, 3)


def replace_parameter(module: nn.Sequential) -> None:
    module[1][0].weight = nn.Parameter(module[1][0].weight.detach().clone())


def move_parameter(module: nn.Sequential) -> None:
    module[0].bias.data = module[0].bias.data.clone()


def add_layer(module: nn.Sequential) -> None:
    module[1].append(nn.ReLU())


@pytest.mark.parametrize("change", [replace_layer, replace_parameter, move_parameter, add_layer])
def test_changes_are_seen(change: Callable[[nn.Sequential], None]) -> None:
    module = network()
    contents = ModuleContents(module)
    change(module)
    assert not contents.are_same()

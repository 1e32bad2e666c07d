"""Running statistics of layers (batch normalisation): what a forward pass in training mode leaves in a module's buffers.

A pure function cannot write to buffers. It gets them as arguments, beside the parameters, and returns what became of them.
"""

from __future__ import annotations

import torch
from torch import nn

from rlspo.common.compilation import mark_static

Tensor = torch.Tensor


class Recording(dict[str, Tensor]):
    """Parameters and statistics by name. What a forward pass makes of the statistics is written back here, so that the next
    one begins there, as it would in a module; with a plain dictionary it is forgotten."""


def statistic_names(module: nn.Module) -> list[str]:
    """Names of the buffers of a policy that its layers may write to: all but those of this package, which layers only read."""
    return [
        f"{path}.{name}"
        for path, layer in module.named_modules()
        if path and not type(layer).__module__.startswith("rlspo.")
        for name, _ in layer.named_buffers(recurse=False)
    ]


class RunningStatistics:
    """The statistics of a module, for an update to read and write.

    :param module: its buffers are written in place
    :param names: of these
    """

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        self.shapes = {name: module.get_buffer(name).shape for name in names}
        # Compiled code on the CPU takes tensors without dimensions for numbers, and what it writes to them is lost.
        self.views = {name: mark_static(torch.atleast_1d(module.get_buffer(name))) for name in names}

    def __bool__(self) -> bool:
        return bool(self.views)

    def read(self) -> dict[str, Tensor]:
        """The statistics by name."""
        return {name: view.reshape(self.shapes[name]) for name, view in self.views.items()}

    def write(self, new: dict[str, Tensor], where: Tensor) -> None:
        """Take over new values.

        :param where: one boolean; False leaves the old ones
        """
        for name, view in self.views.items():
            view.copy_(torch.where(where.reshape(1), torch.atleast_1d(new[name]), view))

    def held_by(self, module: nn.Module) -> bool:
        """Whether the module still has these very buffers, and no others."""
        names = statistic_names(module) if self.views else []
        return all(name in names and module.get_buffer(name).data_ptr() == self.views[name].data_ptr() for name in self.views)

"""Running statistics of layers (batch normalisation): buffers that a forward pass in training mode changes.

A pure function cannot write to buffers. It gets them as arguments in addition to the parameters, and returns their new values.
"""

from __future__ import annotations

import torch
from torch import nn

from rlspo.common.compilation import mark_static

Tensor = torch.Tensor


class Recording(dict[str, Tensor]):
    """Parameters and statistics by name. A forward pass writes the new statistics back here, so that the next one uses them,
    as in a module. With a plain dictionary they are dropped."""


def statistic_names(module: nn.Module) -> list[str]:
    """Names of the buffers of a policy that its layers may write to: all except those of this package, which are only read."""
    return [
        f"{path}.{name}"
        for path, layer in module.named_modules()
        if path and not type(layer).__module__.startswith("rlspo.")
        for name, _ in layer.named_buffers(recurse=False)
    ]


class RunningStatistics:
    """The statistics of a module, read and written by an update.

    :param module: its buffers are written in place
    :param names: of the buffers
    """

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        self.shapes = {name: module.get_buffer(name).shape for name in names}
        # Compiled code on the CPU treats tensors without dimensions as numbers, and writes to them are lost.
        self.views = {name: mark_static(torch.atleast_1d(module.get_buffer(name))) for name in names}

    def read(self) -> dict[str, Tensor]:
        """The statistics by name."""
        return {name: view.reshape(self.shapes[name]) for name, view in self.views.items()}

    def write(self, new: dict[str, Tensor], where: Tensor) -> None:
        """Set new values.

        :param where: one boolean; False leaves the old ones
        """
        for name, view in self.views.items():
            view.copy_(torch.where(where.reshape(1), torch.atleast_1d(new[name]), view))

    def held_by(self, module: nn.Module) -> bool:
        """Whether the module still has exactly these buffer objects."""
        names = statistic_names(module) if self.views else []
        return all(name in names and module.get_buffer(name).data_ptr() == self.views[name].data_ptr() for name in self.views)

"""What a policy remembers with: recurrent layers whose weights have the names and the initial values of torch's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from rlspo.policies.recurrent.cells import gru, lstm

Tensor = torch.Tensor


class Memory(nn.Module):
    """Layers of LSTM or GRU over sequences; ``state_dict`` is that of ``nn.LSTM`` or ``nn.GRU``.

    What is remembered is one row of numbers for each sequence: h of all layers and, of an LSTM, then c of all.

    :param kind: ``"lstm"`` or ``"gru"``
    :param n_inputs: width of the inputs
    :param width: H, of h and c
    :param n_layers: one after the other
    """

    def __init__(self, kind: str, n_inputs: int, width: int, n_layers: int) -> None:
        super().__init__()
        self.kind, self.width, self.n_layers = kind, width, n_layers
        gates = {"lstm": 4, "gru": 3}[kind]
        #: Numbers that are remembered: h, and c of an LSTM.
        self.parts = 2 if kind == "lstm" else 1
        for layer in range(n_layers):
            seen = n_inputs if layer == 0 else width
            shapes = {"weight_ih": (gates * width, seen), "weight_hh": (gates * width, width)}
            for name, shape in {**shapes, "bias_ih": (gates * width,), "bias_hh": (gates * width,)}.items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.empty(shape)))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    @property
    def size(self) -> int:
        """Numbers that are remembered of a sequence."""
        return self.parts * self.n_layers * self.width

    def forward(self, inputs: Tensor, keep: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Go through ``L`` steps of ``S`` sequences.

        :param inputs: ``(L * S, n_inputs)``, the first step of all sequences first
        :param keep: 0 where an episode begins, else 1, ``(L, S)``
        :param memory: of before the first step, ``(S, size)``
        :return: h of the last layer after each step, ``(L * S, H)``, and the memory after the last step
        """
        before = memory.unflatten(-1, (self.parts, self.n_layers, self.width)).unbind(1)
        after: list[list[Tensor]] = [[] for _ in range(self.parts)]
        for layer in range(self.n_layers):
            first: Any = [part[:, layer].contiguous() for part in before]
            states = self._layer(layer, inputs, keep, first)
            for part, state in zip(after, states, strict=True):
                part.append(state[-1])
            inputs = states[0].flatten(0, 1)
        return inputs, torch.cat([state for part in after for state in part], dim=-1)

    def one_step(self, inputs: Tensor, keep: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One step of ``S`` sequences, as :meth:`forward`, in operators that other formats know and without gradients' help.

        :param inputs: ``(S, n_inputs)``
        :param keep: ``(S,)``
        :param memory: ``(S, size)``
        """
        before = (memory * keep.unsqueeze(-1)).unflatten(-1, (self.parts, self.n_layers, self.width)).unbind(1)
        after: list[list[Tensor]] = [[] for _ in range(self.parts)]
        cell: Any = torch.lstm_cell if self.kind == "lstm" else torch.gru_cell
        for layer in range(self.n_layers):
            hidden: Any = [part[:, layer] for part in before]
            weights = [getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            states = cell(inputs, hidden if self.kind == "lstm" else hidden[0], *weights)
            for part, state in zip(after, states if self.kind == "lstm" else (states,), strict=True):
                part.append(state)
            inputs = after[0][-1]
        return inputs, torch.cat([state for part in after for state in part], dim=-1)

    def _layer(self, layer: int, inputs: Tensor, keep: Tensor, first: Any) -> tuple[Tensor, ...]:
        weight, recurrent, bias, recurrent_bias = (
            getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if self.kind == "lstm":
            seen = F.linear(inputs, weight, bias + recurrent_bias)
            hidden, cell = first
            return lstm(seen.unflatten(0, keep.shape), keep, hidden, cell, recurrent)
        seen = F.linear(inputs, weight, bias)
        (hidden,) = first
        return (gru(seen.unflatten(0, keep.shape), keep, hidden, recurrent, recurrent_bias),)

    def states(self, memory: Any) -> tuple[Any, ...]:
        """As torch and sb3-contrib hand it around: h and, of an LSTM, c, ``(n_layers, n_envs, H)``.

        :param memory: ``(n_envs, size)``
        """
        parts = memory.reshape(len(memory), self.parts, self.n_layers, self.width)
        return tuple(parts[:, part].swapaxes(0, 1) for part in range(self.parts))

    def rows(self, states: Sequence[Any], like: Tensor) -> Tensor:
        """The inverse of :meth:`states`, ``(n_envs, size)``, of the type and on the device of ``like``.

        :raises ValueError: for another number of states, or another shape
        """
        shape = (self.n_layers, self.width)
        found = [torch.as_tensor(state, dtype=like.dtype, device=like.device) for state in states]
        if len(found) != self.parts or any((len(one), *one.shape[2:]) != shape or one.dim() != 3 for one in found):
            raise ValueError(
                f"state is of {[tuple(one.shape) for one in found]}; it must be {self.parts} of ({self.n_layers}, n_envs, "
                f"{self.width}), as the last call returned it."
            )
        return torch.stack(found, dim=1).permute(2, 1, 0, 3).reshape(found[0].shape[1], -1)

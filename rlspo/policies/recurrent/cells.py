"""Recurrent layers over sequences in which an episode may begin at any step, differentiated by hand.

Resets inside a sequence keep torch's own layers from running over it at once, and an unrolled loop over time takes a compiler
minutes. Here the loop over time holds only what depends on the step before: inputs are multiplied by their weights for all
steps at once before it, and weights get their gradients for all steps at once after it. To a compiler each pass is one
operator.

Shapes: ``L`` steps of ``S`` sequences, time first; ``H`` is the width of the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rlspo.common.processor import product

Tensor = torch.Tensor


def lstm(inputs: Tensor, keep: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), as ``nn.LSTM``.

    ::

        i, f, g, o = inputs_t + h W^T       c <- sigmoid(f) c + sigmoid(i) tanh(g)       h <- sigmoid(o) tanh(c)

    :param inputs: what comes of the inputs, biases added, ``(L, S, 4 H)``
    :param keep: 0 where an episode begins, whose memory is empty; else 1, ``(L, S)``
    :param hidden: h before the first step, ``(S, H)``
    :param cell: c before the first step, ``(S, H)``
    :param weight: W, ``(4 H, H)``
    :return: h and c after each step, ``(L, S, H)``
    """
    hiddens, cells, _ = _LSTM.apply(inputs, keep, hidden, cell, weight)
    return hiddens, cells


def gru(inputs: Tensor, keep: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gated recurrent units (Cho et al. 2014, arXiv 1406.1078), as ``nn.GRU``.

    ::

        r, z = sigmoid(inputs_t + h W^T + b)        n = tanh(inputs_t + r (h W^T + b))        h <- (1 - z) n + z h

    :param inputs: what comes of the inputs, their biases added, ``(L, S, 3 H)``
    :param keep: 0 where an episode begins, whose memory is empty; else 1, ``(L, S)``
    :param hidden: h before the first step, ``(S, H)``
    :param weight: W, ``(3 H, H)``
    :param bias: b, ``(3 H,)``
    :return: h after each step, ``(L, S, H)``
    """
    return _GRU.apply(inputs, keep, hidden, weight, bias)[0]


# Passes over time. They are run as they stand, or by a compiled function as one operator.


def _lstm_forward(inputs: Tensor, keep: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width, turned = hidden.shape[-1], weight.t()
    gates, hiddens, cells = torch.empty_like(inputs), *_empty(inputs, hidden, 2)
    for step, kept in enumerate(keep.unsqueeze(-1)):
        gate = torch.add(inputs[step], product(hidden * kept, turned), out=gates[step])
        gate[:, : 2 * width].sigmoid_()
        gate[:, 2 * width : 3 * width].tanh_()
        gate[:, 3 * width :].sigmoid_()
        enter, forget, new, leave = gate.split(width, dim=-1)
        cell = torch.addcmul(enter * new, forget, cell * kept, out=cells[step])
        hidden = torch.mul(leave, cell.tanh(), out=hiddens[step])
    return hiddens, cells, gates


def _lstm_backward(
    d_hiddens: Tensor,
    d_cells: Tensor,
    hiddens: Tensor,
    cells: Tensor,
    gates: Tensor,
    keep: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = hidden.shape[-1]
    kept = keep.unsqueeze(-1)
    before, cell_before = (_before(first, after) * kept for first, after in ((hidden, hiddens), (cell, cells)))
    enter, forget, new, leave = gates.split(width, dim=-1)
    squashed = cells.tanh()
    # Everything that needs no step after it, for all steps at once.
    d_enter = new * enter * (1 - enter)
    d_forget = cell_before * forget * (1 - forget)
    d_new = enter * (1 - new * new)
    of_cell = torch.cat([d_enter, d_forget, d_new], dim=-1).unflatten(-1, (3, width))
    of_hidden, to_cell, back = squashed * leave * (1 - leave), leave * (1 - squashed * squashed), forget * kept
    d_inputs = torch.empty_like(gates)
    d_hidden, d_cell = torch.zeros_like(hidden), torch.zeros_like(cell)
    for step in range(len(gates) - 1, -1, -1):
        d_hidden = d_hidden + d_hiddens[step]
        d_cell = torch.addcmul(d_cell + d_cells[step], d_hidden, to_cell[step])
        gradient = d_inputs[step]
        torch.mul(of_cell[step], d_cell.unsqueeze(1), out=gradient[:, : 3 * width].unflatten(-1, (3, width)))
        torch.mul(d_hidden, of_hidden[step], out=gradient[:, 3 * width :])
        d_hidden, d_cell = product(gradient, weight) * kept[step], d_cell * back[step]
    return d_inputs, d_hidden, d_cell, product(d_inputs.flatten(0, 1).t(), before.flatten(0, 1))


def _gru_forward(inputs: Tensor, keep: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width, turned = hidden.shape[-1], weight.t()
    gates, hiddens, candidates = torch.empty_like(inputs), *_empty(inputs, hidden, 2)
    for step, kept in enumerate(keep.unsqueeze(-1)):
        hidden = hidden * kept
        recalled = product(hidden, turned) + bias
        gate = gates[step]
        torch.add(inputs[step, :, : 2 * width], recalled[:, : 2 * width], out=gate[:, : 2 * width]).sigmoid_()
        candidates[step] = recalled[:, 2 * width :]
        reset, update = gate[:, :width], gate[:, width : 2 * width]
        new = torch.addcmul(inputs[step, :, 2 * width :], reset, candidates[step], out=gate[:, 2 * width :]).tanh_()
        hidden = torch.lerp(new, hidden, update, out=hiddens[step])
    return hiddens, gates, candidates


def _gru_backward(
    d_hiddens: Tensor, hiddens: Tensor, gates: Tensor, candidates: Tensor, keep: Tensor, hidden: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = hidden.shape[-1]
    kept = keep.unsqueeze(-1)
    before = _before(hidden, hiddens) * kept
    reset, update, new = gates.split(width, dim=-1)
    of_new = (1 - update) * (1 - new * new)
    of_update = (before - new) * update * (1 - update)
    of_reset = of_new * candidates * reset * (1 - reset)
    # What the output asks of the gates, as the inputs see it and as the memory does, which the reset gate scales.
    of_hidden = torch.cat([of_reset, of_update, of_new * reset], dim=-1).unflatten(-1, (3, width))
    d_recalled = torch.empty_like(gates)
    d_outputs = torch.empty_like(hiddens)
    d_hidden = torch.zeros_like(hidden)
    for step in range(len(gates) - 1, -1, -1):
        d_hidden = torch.add(d_hidden, d_hiddens[step], out=d_outputs[step])
        torch.mul(of_hidden[step], d_hidden.unsqueeze(1), out=d_recalled[step].unflatten(-1, (3, width)))
        d_hidden = (d_hidden * update[step] + product(d_recalled[step], weight)) * kept[step]
    d_inputs = torch.cat([d_recalled[..., : 2 * width], d_outputs * of_new], dim=-1)
    rows = d_recalled.flatten(0, 1)
    return d_inputs, d_hidden, product(rows.t(), before.flatten(0, 1)), rows.sum(0)


def _before(first: Tensor, after: Tensor) -> Tensor:
    return torch.cat([first.unsqueeze(0), after[:-1]])


def _empty(inputs: Tensor, hidden: Tensor, count: int) -> list[Tensor]:
    return [inputs.new_empty(len(inputs), *hidden.shape) for _ in range(count)]


# What a compiler sees of them.

_library = torch.library.Library("rlspo_memory", "DEF")


def _operator(name: str, schema: str, function: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    _library.define(f"{name}{schema}")
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"rlspo_memory::{name}", shapes, lib=_library)
    return getattr(torch.ops.rlspo_memory, name).default


_lstm_forward_op = _operator(
    "lstm",
    "(Tensor inputs, Tensor keep, Tensor hidden, Tensor cell, Tensor weight) -> (Tensor, Tensor, Tensor)",
    _lstm_forward,
    lambda inputs, keep, hidden, cell, weight: (*_empty(inputs, hidden, 2), torch.empty_like(inputs)),
)
_lstm_backward_op = _operator(
    "lstm_backward",
    "(Tensor d_hiddens, Tensor d_cells, Tensor hiddens, Tensor cells, Tensor gates, Tensor keep, Tensor hidden, Tensor cell,"
    " Tensor weight) -> (Tensor, Tensor, Tensor, Tensor)",
    _lstm_backward,
    lambda d_hiddens, d_cells, hiddens, cells, gates, keep, hidden, cell, weight: tuple(
        map(torch.empty_like, (gates, hidden, cell, weight))
    ),
)
_gru_forward_op = _operator(
    "gru",
    "(Tensor inputs, Tensor keep, Tensor hidden, Tensor weight, Tensor bias) -> (Tensor, Tensor, Tensor)",
    _gru_forward,
    lambda inputs, keep, hidden, weight, bias: (
        *_empty(inputs, hidden, 1),
        torch.empty_like(inputs),
        *_empty(inputs, hidden, 1),
    ),
)
_gru_backward_op = _operator(
    "gru_backward",
    "(Tensor d_hiddens, Tensor hiddens, Tensor gates, Tensor candidates, Tensor keep, Tensor hidden, Tensor weight)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _gru_backward,
    lambda d_hiddens, hiddens, gates, candidates, keep, hidden, weight: (
        torch.empty_like(gates),
        torch.empty_like(hidden),
        torch.empty_like(weight),
        weight.new_empty(len(weight)),
    ),
)


class _Once(torch.autograd.Function):
    """A backward pass as it stands, for ``torch.func``; it has no derivative of its own."""

    @staticmethod
    def forward(function: Callable[..., Any], *tensors: Tensor) -> Any:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("Recurrent layers have no second derivatives here.")


# One class for each: torch's compiler does not take a class that is made by a function for both.


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(inputs: Tensor, keep: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> Any:
        function = _lstm_forward_op if torch.compiler.is_compiling() else _lstm_forward
        return function(inputs, keep, hidden, cell, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*output, *inputs[1:])

    @staticmethod
    def backward(ctx: Any, d_hiddens: Tensor, d_cells: Tensor, _: Tensor) -> Any:
        if torch.compiler.is_compiling():
            d_inputs, *others = _lstm_backward_op(d_hiddens, d_cells, *ctx.saved_tensors)
        else:
            d_inputs, *others = _Once.apply(_lstm_backward, d_hiddens, d_cells, *ctx.saved_tensors)
        return d_inputs, None, *others


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(inputs: Tensor, keep: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Any:
        function = _gru_forward_op if torch.compiler.is_compiling() else _gru_forward
        return function(inputs, keep, hidden, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*output, *inputs[1:4])

    @staticmethod
    def backward(ctx: Any, d_hiddens: Tensor, *_: Tensor) -> Any:
        if torch.compiler.is_compiling():
            d_inputs, *others = _gru_backward_op(d_hiddens, *ctx.saved_tensors)
        else:
            d_inputs, *others = _Once.apply(_gru_backward, d_hiddens, *ctx.saved_tensors)
        return d_inputs, None, *others

"""The update: gradient, clipping and optimiser step as one pure function of tensors, run eagerly or compiled as a whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._higher_order_ops import while_loop

from rlspo.common import compilation
from rlspo.common.compilation import Compilable, mark_static
from rlspo.common.flat_parameters import FlatParameters
from rlspo.common.gradients import Gradient
from rlspo.common.last_good import LastGood
from rlspo.common.loss_contract import call_loss, warn_of_no_gradient
from rlspo.common.running_statistics import Recording, RunningStatistics, statistic_names
from rlspo.common.trees import nested_map, tree_map

Tensor = torch.Tensor
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Minibatch:
    """The input of a loss. ``B`` is the batch size; leaves of Dict observations are dictionaries by key.

    :param observations: as the environment gave them, ``(B, *obs_shape)``
    :param actions: ``(B, *action_shape)``, Box actions flat
    :param old_values: V of the collecting weights, ``(B,)``
    :param old_log_prob: log pi of the collecting weights, ``(B,)``
    :param advantages: ``(B,)``, not normalised
    :param returns: TD(lambda) targets, ``(B,)``
    :param scalars: scalars that change during training (``clip_range``, ...), as tensors so that they do not recompile
    :param noise: random numbers drawn for this minibatch (see ``draw_noise`` of the agent)
    :param policy_noise: the same for the policy's auxiliary loss (see ``draw_noise`` of the policy)
    :param extra: fields that the agent declared beyond these
    :param evaluation: pi and V at the observations, where they are known already; see ``evaluate`` of the agent
    """

    observations: Any
    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    scalars: dict[str, Tensor]
    noise: Any = None
    policy_noise: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    evaluation: tuple[Any, Tensor] | None = None


class State(NamedTuple):
    """What a step changes.

    :param active: whether minibatches still count, ``(1,)``; see ``target_kl``
    """

    weights: Tensor
    first_moment: Tensor
    second_moment: Tensor
    steps: Tensor
    active: Tensor


#: The arguments of :class:`Minibatch` that are rollout fields, and the fields' names.
MINIBATCH_FIELDS = {
    "observations": "observations",
    "actions": "actions",
    "old_values": "values",
    "old_log_prob": "log_probs",
    "advantages": "advantages",
    "returns": "returns",
}
#: Parameters up to which a compiled call takes a whole epoch. The way into a call costs 0.1 ms; copying a vector of this
#: length at each step of the loop costs as much.
LONGEST_IN_LOOPS = 200_000
Loss = Callable[[Parameters, Minibatch], tuple[Tensor, dict[str, Tensor]]]


def gather(
    data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: Any, policy_noise: Any = None
) -> Minibatch:
    """Pick the rows ``indices`` of flat rollout fields."""
    rows: dict[str, Any] = {name: tree_map(lambda tensor: tensor[indices], tree) for name, tree in data.items()}
    usual = {argument: rows.pop(name) for argument, name in MINIBATCH_FIELDS.items()}
    return Minibatch(**usual, scalars=scalars, noise=noise, policy_noise=policy_noise, extra=rows)


class Update(Compilable):
    """Minibatch steps on the parameters of a module.

    :param loss: pure; returns a scalar and a dictionary of scalar statistics that contains ``approx_kl``
    :param module: the policy; its parameters move into one vector (see :class:`FlatParameters`)
    :param optimizer: Adam and AdamW become part of the function; any other optimiser steps outside it
    :param max_grad_norm: clip the norm of the whole gradient to this, where ``scalars`` does not say
    :param target_kl: once a minibatch's ``approx_kl`` exceeds 1.5 times this, it and all later ones leave the
        parameters alone until :meth:`begin`; None for no limit; where ``scalars`` does not say
    :param compiled: compile the function at its first call
    :param before: the update of this module until now, None for the first; see :class:`FlatParameters`
    """

    def __init__(
        self,
        loss: Loss,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float,
        target_kl: float | None = None,
        compiled: bool = False,
        before: Update | None = None,
    ) -> None:
        self.loss = loss
        self.vector: FlatParameters = FlatParameters(module, optimizer, None if before is None else before.vector)
        self.gradient = Gradient(dict(zip(self.vector.names, self.vector.parameters, strict=True)))
        self.statistics = RunningStatistics(module, statistic_names(module))
        self.clip_sizes = self.vector.clip_sizes()
        self.rates = self.vector.rates()
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.target_kl = target_kl
        self.device = self.vector.weights.device
        self.active = mark_static(torch.ones(1, dtype=torch.bool, device=self.device))
        self.long_run: bool = before is not None and before.long_run
        self.stat_names: list[str] = []
        self._gradient = torch.zeros(0)
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ValueError(
                f"The optimiser {type(optimizer).__name__} evaluates the loss several times in each step, which rlspo's "
                "update does not. Take another optimizer_class, such as torch.optim.Adam."
            )
        self.last_good = LastGood(self._everything, None if self.vector.adam else optimizer)
        self.use_compiled(compiled)

    def _everything(self) -> list[Tensor]:
        """All tensors that an update changes, including the statistics of the module."""
        flat = self.vector
        return [flat.weights, flat.first_moment, flat.second_moment, flat.steps, *flat.module.buffers()]

    def pure_function(self) -> Callable[..., Any]:
        """A whole step, or the gradient alone where the optimiser steps outside."""
        return self._step if self.vector.adam else self._clipped_gradient

    @property
    def loops(self) -> bool:
        """Whether the compiled call takes all minibatches of an epoch, and not one."""
        flat = self.vector
        short = flat.adam is not None and len(flat.weights) <= LONGEST_IN_LOOPS and not self.statistics.views
        usual = type(self)._step is Update._step  # a subclass may do more in a step than the loop does
        return self.long_run and short and usual and self.device.type == "cpu"

    def plan(self, n_updates: int) -> None:
        """Compile the loop over an epoch's minibatches before a run that is long enough."""
        if not self.long_run and n_updates >= compilation.UPDATES_THAT_PAY_LOOPS:
            self.long_run = True
            self.use_compiled(self.asked_to_compile, self._or_eager)

    def forms(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """One step, or a loop of steps."""
        return (self._loop, self._one_by_one) if self.loops else super().forms()

    def function_for(self, rows: int) -> Callable[..., Any]:
        """What does one step of so many rows."""
        return self.pure_function() if self.loops else super().function_for(rows)

    def holds(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the module's parameters and statistics still are where this update writes to."""
        return self.vector.holds(module, optimizer) and self.statistics.held_by(module)

    def begin(self) -> None:
        """Start a round of minibatches: lift the stop that ``target_kl`` may have set, look at the optimiser."""
        if self.vector.refresh():
            self.last_good.forget()
        self.active.fill_(True)

    def __call__(
        self, data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: Any, policy_noise: Any = None
    ) -> Tensor:
        """:meth:`sweep` of one minibatch: its row."""
        return self.sweep(data, [indices], scalars, lambda size: (noise, policy_noise))[0]

    def sweep(
        self,
        data: dict[str, Any],
        rows: Sequence[Tensor],
        scalars: dict[str, Tensor],
        draw: Callable[[int], tuple[Any, Any]],
        show: bool = False,
    ) -> Tensor:
        """Do a minibatch step for each of ``rows``, one after the other, in place.

        :param data: flat rollout fields on the device
        :param rows: which rows each minibatch has, ``(B,)``; the last one may have fewer
        :param scalars: scalars by name, ``learning_rate`` among them
        :param draw: from B to the random numbers of the loss, and of the policy's auxiliary loss
        :param show: set ``grad`` of the parameters to the gradient of the last step
        :return: for each minibatch the loss, then the statistics in the order of ``stat_names``, the norm of the gradient, and
            whether it came before any stop; a matrix left on the device so that nothing waits for it
        """
        noises: Iterator[tuple[Any, Any]] = (draw(len(indices)) for indices in rows)
        if not self.stat_names:
            first = next(noises)
            self._look_at_loss(gather(data, rows[0], scalars, *first))
            noises = chain([first], noises)
        reports, done = [], 0
        with torch.no_grad():
            if self.loops and self.compiled and not self.vector.hooked:
                done = next((number for number, indices in enumerate(rows) if len(indices) != self._size), len(rows))
            if done:
                reports.append(self._in_one_call(data, rows[:done], scalars, [next(noises) for _ in range(done)]))
            for number, (indices, noise) in enumerate(zip(rows[done:], noises, strict=True), done + 1):
                before = self.vector.before_step() if show and number == len(rows) else None
                reports.append(self._single(data, indices, scalars, *noise)[None])
                if before is not None:
                    self._gradient = self.vector.gradient_since(before)
            if show and self.vector.adam and self.active:
                self.vector.show_gradients(self._gradient)
        return torch.cat(reports)

    def _in_one_call(
        self, data: dict[str, Any], rows: Sequence[Tensor], scalars: dict[str, Tensor], noises: list[tuple[Any, Any]]
    ) -> Tensor:
        """As :meth:`sweep`. The loop has room for as many minibatches as ``data`` gives, so that fewer do not recompile."""
        count, room = len(rows), len(data["advantages"]) // len(rows[0])
        padding = range(room - count)
        order = torch.stack([*rows, *(rows[0] for _ in padding)])
        stacked = nested_map(lambda *parts: torch.stack(parts), *noises, *(noises[0] for _ in padding))
        reports, self._gradient = self._function(self._state(), data, order, torch.tensor([count]), scalars, *stacked)
        return reports[:count]

    def _state(self) -> State:
        flat = self.vector
        return State(flat.weights, flat.first_moment, flat.second_moment, flat.steps, self.active)

    def _single(
        self, data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: Any, policy_noise: Any
    ) -> Tensor:
        flat = self.vector
        function = self.pure_function() if flat.hooked else self.function_for(indices.shape[0])
        if flat.adam:
            return self.clone_output(function(self._state(), data, indices, scalars, noise, policy_noise))
        gradient, report = function(flat.weights, self.active, data, indices, scalars, noise, policy_noise)
        report = self.clone_output(report)
        self._step_outside(gradient, report, scalars)
        return report

    def _look_at_loss(self, batch: Minibatch) -> None:
        """Find the names of the loss's statistics, and how it can be differentiated."""
        with torch.no_grad():
            loss = partial(self._recorded_loss, batch=batch)
            gradient, (_, (stats, _)) = self.gradient.decide(loss, self.vector.named(self.vector.weights))
        warn_of_no_gradient(self.loss, gradient)
        if self.target_kl is not None and "approx_kl" not in stats:
            raise ValueError(f"target_kl needs the loss to return the statistic 'approx_kl'; it returned {[*stats]}.")
        self.stat_names = [*stats]
        if self.gradient.by_autograd:
            self.compilable = False
            self.use_compiled(self.asked_to_compile)

    def _clipped_gradient(
        self,
        weights: Tensor,
        active: Tensor,
        data: dict[str, Any],
        indices: Tensor,
        scalars: dict[str, Tensor],
        noise: Any,
        policy_noise: Any,
    ) -> tuple[Tensor, Tensor]:
        batch = gather(data, indices, scalars, noise, policy_noise)
        whole_loss = partial(self._recorded_loss, batch=batch)
        named_gradient, (loss, (stats, statistics)) = self.gradient.of(whole_loss, self.vector.named(weights))
        self.statistics.write(statistics, where=active)  # as in SB3, including those of the minibatch that target_kl stops at
        if self.vector.hooked:
            named_gradient = self.vector.through_hooks(named_gradient)
        gradient = self.vector.flatten(named_gradient)
        limit = scalars.get("max_grad_norm", self.max_grad_norm)
        parts = gradient.split(self.clip_sizes)
        norms = [part.norm() for part in parts]
        clipped = [part * (limit / (norm + 1e-6)).clamp(max=1.0) for part, norm in zip(parts, norms, strict=True)]
        norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
        report = [number.detach().reshape(1).to(torch.float32) for number in (loss, *stats.values(), norm, active)]
        return torch.cat(clipped), torch.cat(report)

    def _recorded_loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, Any]:
        """The loss, its statistics, and what it made of the running statistics of layers."""
        if not self.statistics.views:
            loss, stats = call_loss(self.loss, parameters, batch)
            return loss, (stats, {})
        seen = Recording({**parameters, **self.statistics.read()})
        loss, stats = call_loss(self.loss, seen, batch)
        return loss, (stats, {name: seen[name] for name in self.statistics.views})

    def _within_target(self, active: Tensor, report: Tensor, scalars: dict[str, Tensor]) -> Tensor:
        limit: Any = scalars.get("target_kl", self.target_kl)
        if limit is None:
            return active
        return active & (report[1 + self.stat_names.index("approx_kl")] <= 1.5 * limit)

    def _step(
        self, state: State, data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: Any, policy_noise: Any
    ) -> Tensor:
        gradient, report = self._clipped_gradient(state.weights, state.active, data, indices, scalars, noise, policy_noise)
        _write(state, self._stepped(state, gradient, report, scalars))
        return report

    def _stepped(self, state: State, gradient: Tensor, report: Tensor, scalars: dict[str, Tensor]) -> State:
        """The state after a step."""
        assert self.vector.adam is not None
        weights, first_moment, second_moment, steps, active = state
        after: tuple[Tensor, ...] = self.vector.adam.step(
            weights, gradient, first_moment, second_moment, steps, scalars["learning_rate"], self.rates
        )
        going_on = self._within_target(active, report, scalars)
        if going_on is not active:
            after = tuple(torch.where(going_on, new, old) for new, old in zip(after, state[:4], strict=True))
        weights, first_moment, second_moment, steps = after
        return State(weights, first_moment, second_moment, steps, going_on)

    def _loop(
        self,
        state: State,
        data: dict[str, Any],
        order: Tensor,
        count: Tensor,
        scalars: dict[str, Tensor],
        noises: Any,
        policy_noises: Any,
    ) -> tuple[Tensor, Tensor]:
        """``count`` steps, of the minibatches ``order``, ``(n, B)``. Reports, and the gradient of the last step."""
        numbers = torch.arange(len(order)).unsqueeze(1)

        def going(i: Tensor, *carried: Tensor) -> Tensor:
            return (i < count)[0]

        def body(i: Tensor, *carried: Tensor) -> tuple[Tensor, ...]:
            *parts, _, reports = carried
            now = State(*parts)
            noise, policy_noise = nested_map(lambda part: part.index_select(0, i)[0], (noises, policy_noises))
            rows = order.index_select(0, i)[0]
            gradient, report = self._clipped_gradient(now.weights, now.active, data, rows, scalars, noise, policy_noise)
            *after, going_on = self._stepped(now, gradient, report, scalars)
            going_on = going_on.clone() if going_on is now.active else going_on
            return i + 1, *after, going_on, gradient, torch.where(numbers == i, report, reports)

        reports = torch.zeros(len(order), len(self.stat_names) + 3)
        start = (torch.zeros(1, dtype=torch.int64), *state, torch.zeros_like(state.weights), reports)
        _, *after, gradient, reports = while_loop(going, body, start)
        _write(state, after)
        return reports, gradient

    def _one_by_one(
        self,
        state: State,
        data: dict[str, Any],
        order: Tensor,
        count: Tensor,
        scalars: dict[str, Tensor],
        noises: Any,
        policy_noises: Any,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`_loop` where it cannot be compiled."""
        reports = torch.zeros(len(order), len(self.stat_names) + 3)
        for i in range(int(count)):
            before = self.vector.before_step()
            noise = nested_map(lambda part, i=i: part[i], (noises, policy_noises))
            reports[i] = self._step(state, data, order[i], scalars, *noise)
        assert before is not None
        return reports, self.vector.gradient_since(before)

    def _step_outside(self, gradient: Tensor, report: Tensor, scalars: dict[str, Tensor]) -> None:
        self.active.copy_(self._within_target(self.active, report, scalars))
        if not self.active:
            return
        for group in self.optimizer.param_groups:
            group["lr"] = float(scalars["learning_rate"]) * group.get("lr_scale", 1.0)
        for parameter, part in zip(self.vector.parameters, self.vector.views(gradient), strict=True):
            parameter.grad = part
        self.optimizer.step()


def _write(state: State, after: Sequence[Tensor]) -> None:
    """Make ``state`` what it is after a step, in place."""
    for old, new in zip(state, after, strict=True):
        if new is not old:
            old.copy_(new)

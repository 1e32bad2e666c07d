"""Rollouts for policies with memory: minibatches of whole sequences, and what such a policy sees.

A policy with memory sees one dictionary: observations, what it remembers, and where episodes begin. Rows are the steps of
``S`` sequences of ``L`` steps, the first step of all sequences first: row ``t * S + s`` is step t of sequence s. So ``S`` is
told by the memory, which has one row for each sequence, and ``L`` by the rows of the rest.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from rlspo.common.errors import check_count
from rlspo.common.trees import by_key

Tensor = torch.Tensor
#: Keys beside those of the observation.
MEMORY = "memory of the policy"
STARTS = "begins an episode"
#: Keys of what burn-in reads: observations before the sequences, by key; their starts; memory before them; where they exist.
BEFORE = "before the sequence: "
STARTS_BEFORE, MEMORY_BEFORE, EXISTS = (f"{BEFORE}{what}" for what in (STARTS, MEMORY, "exists"))
#: The key of an observation that has none.
OBSERVATION = "observation"
#: Steps through which gradients go by default, at most.
USUAL_LENGTH = 32
#: Steps below which hardly anything is learned about what to remember.
SHORT = 8


def with_memory(observations: Any, memory: Any, starts: Any) -> dict[str, Any]:
    """Observations, tensors or arrays, with what a policy needs beside them.

    :param observations: ``(L * S, *obs_shape)``, or a dictionary of these
    :param memory: before the first step of each sequence, ``(S, memory_size)``
    :param starts: 1 where an episode begins, so that nothing is remembered, ``(L * S,)``
    """
    named = by_key(observations)
    return {**({OBSERVATION: named[""]} if "" in named else named), MEMORY: memory, STARTS: starts}


class FirstRows:
    """Reads rows of the first step of each sequence only, for what a sequence has one of.

    :param rows: ``(n_steps * n_envs, ...)``
    :param length: steps of a sequence
    """

    def __init__(self, rows: Tensor, length: int) -> None:
        self.rows, self.length = rows, length

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.rows[indices[: len(indices) // self.length]]


class RowsBefore:
    """Reads the rows of the steps before each sequence, the first of all sequences first.

    :param rows: ``(n_steps * n_envs, ...)``
    :param length: steps of a sequence
    :param offsets: how many rows before its first one they are, ``(steps,)``
    """

    def __init__(self, rows: Any, length: int, offsets: Tensor) -> None:
        self.rows, self.length, self.offsets = rows, length, offsets

    def __getitem__(self, indices: Tensor) -> Tensor:
        first = indices[: len(indices) // self.length]
        return self.rows[(first - self.offsets[:, None]).clamp(min=0).reshape(-1)]


class Sequences:
    """How a rollout is cut into sequences of equal length.

    :param length: steps; None: the largest common divisor of ``n_steps`` and ``batch_size`` up to :data:`USUAL_LENGTH`
    :param n_steps: of a rollout, for each environment
    :param n_envs: parallel environments
    :param batch_size: rows of a minibatch
    :raises ValueError: for a length that does not divide ``n_steps`` and ``batch_size``
    """

    def __init__(self, length: int | None, n_steps: int, n_envs: int, batch_size: int) -> None:
        size = min(batch_size, n_steps * n_envs)
        if length is None:
            common = math.gcd(n_steps, size)
            length = max(one for one in range(1, min(common, USUAL_LENGTH) + 1) if common % one == 0)
            if length == 1 < n_steps:
                raise ValueError(
                    f"n_steps is {n_steps} and batch_size {batch_size}, which have no common divisor above 1, so a minibatch "
                    "holds no whole sequences for a policy with memory. Choose both as multiples of 16 or 32, also for a "
                    "file: load(file, env, n_steps=128, batch_size=64)."
                )
            if length < SHORT <= n_steps:
                warnings.warn(
                    f"The policy learns to remember from sequences of {length} steps only, the largest common divisor of "
                    f"n_steps ({n_steps}) and batch_size ({batch_size}). Choose both as multiples of 16 or 32.",
                    stacklevel=2,
                )
        elif n_steps % length or size % length:
            raise ValueError(
                f"sequence_length is {length}, n_steps {n_steps} and a minibatch has {size} rows; sequence_length must divide "
                "both, so that minibatches are made of whole sequences."
            )
        self.length, self.n_steps, self.n_envs = length, n_steps, n_envs

    def check_burn_in(self, burn_in: int, policy: nn.Module) -> None:
        """
        :raises ValueError: where no sequence has so many steps before it, or a pass more would change the policy
        """
        if burn_in > self.n_steps - self.length:
            raise ValueError(
                f"burn_in is {burn_in}, and no sequence of {self.length} steps has so many before it in a rollout of n_steps "
                f"{self.n_steps}. Choose a smaller burn_in or sequence_length."
            )
        layers = [layer for layer in policy.modules() if burn_in and isinstance(layer, _BatchNorm | _DropoutNd)]
        if layers:
            raise ValueError(
                f"burn_in is {burn_in} and the policy has a {type(layers[0]).__name__}, which draws or counts at each pass "
                "while learning. Use burn_in=0, or recompute_states=True, which goes through the rollout as it was acted."
            )

    def seen(self, observations: Any, memory: Tensor, starts: Tensor, burn_in: int) -> dict[str, Any]:
        """What minibatches of sequences are read from, by the row numbers of :meth:`rows`.

        :param observations: flat rows
        :param memory: before each step, flat rows
        :param starts: 1 where an episode begins, flat rows
        :param burn_in: steps before each sequence to read, too
        """
        found = with_memory(observations, FirstRows(memory, self.length), starts)
        if burn_in:
            steps = self.n_envs * torch.arange(burn_in, 0, -1, device=memory.device)
            rows = torch.arange(len(starts), device=memory.device)
            before = {f"{BEFORE}{key}": part for key, part in found.items() if key not in (MEMORY, STARTS)}
            read = {**before, STARTS_BEFORE: starts}
            found |= {key: RowsBefore(part, self.length, steps) for key, part in read.items()}
            found[MEMORY_BEFORE] = RowsBefore(memory, self.length, steps[:1].clone())
            found[EXISTS] = FirstRows(rows >= burn_in * self.n_envs, self.length)
        return found

    def recompute(self, policy: Any, seen: dict[str, Any]) -> None:
        """Store anew what is remembered where sequences begin, by the policy as it is now.

        :param seen: of :meth:`seen`
        """
        memory = seen[MEMORY].rows
        training = policy.training
        policy.set_training_mode(False)  # as while acting
        with torch.no_grad():
            for number in range(self.n_steps // self.length - 1):
                rows = torch.as_tensor(self.rows(np.arange(self.n_envs) + number * self.n_envs), device=memory.device)
                now = {key: part[rows] for key, part in seen.items() if not key.startswith(BEFORE)}
                after = policy.memory_after(policy.preprocess(now))
                first = (number + 1) * self.length * self.n_envs
                memory[first : first + self.n_envs] = after
        policy.set_training_mode(training)

    def rows(self, starts: np.ndarray) -> np.ndarray:
        """Row numbers of sequences, ``(length * S,)``, the first step of all sequences first.

        :param starts: numbers of sequences, ``(S,)``: those of all environments in the first ``length`` steps, then in the
            next ones
        """
        first = starts // self.n_envs * self.length * self.n_envs + starts % self.n_envs
        return (first + np.arange(self.length)[:, None] * self.n_envs).reshape(-1)

    def minibatches(self, size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Row numbers of one epoch's minibatches, sequences in random order; the last one may be smaller.

        :param size: rows of a minibatch
        """
        order = generator.permutation(self.n_steps // self.length * self.n_envs)
        count = size // self.length
        return [self.rows(order[start : start + count]) for start in range(0, len(order), count)]


def warn_without_memory(agent: Any) -> None:
    """Warn of settings for a memory that the agent's policy has not."""
    for name, usual in (("sequence_length", None), ("burn_in", 0), ("recompute_states", False)):
        value = getattr(agent, name, usual)
        if value != usual:
            warnings.warn(
                f"{name} is {value!r}, which does nothing: the policy has no memory. Leave it out, or use one that has, such "
                "as 'MlpLstmPolicy'.",
                stacklevel=2,
            )


def check_sequence_length(name: str, value: Any) -> Any:
    """Check that ``value`` is None or a whole number of at least 1."""
    return None if value is None else check_count(name, value)


def check_burn_in(name: str, value: Any) -> Any:
    """Check that ``value`` is a whole number of at least 0."""
    return value if value == 0 and not isinstance(value, bool) else check_count(name, value)

"""Small random trees as environments, with the exact distribution that a search of them has to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlspo.simulators import Simulator, States
from rlspo.simulators.arrays import ArrayCore


@dataclass
class Tree:
    """From every node ``n_actions`` ways lead to nodes of the next level, each by one of ``n_outcomes`` chances.

    Nodes are numbered level by level, ``node * n_actions * n_outcomes + action * n_outcomes + outcome + 1``.
    """

    n_actions: int
    depth: int
    n_outcomes: int
    rewards: np.ndarray
    terminal: np.ndarray
    chances: np.ndarray
    logits: np.ndarray
    values: np.ndarray

    @classmethod
    def random(cls, seed: int, n_actions: int = 3, depth: int = 4, n_outcomes: int = 1, ends: float = 0.0) -> Tree:
        """:param ends: chance of each node to end the episode."""
        generator = np.random.default_rng(seed)
        count = sum((n_actions * n_outcomes) ** level for level in range(depth + 1))
        inner = (count - 1) // (n_actions * n_outcomes)
        terminal = (generator.random(count) < ends) & (np.arange(count) > 0)
        return cls(
            n_actions,
            depth,
            n_outcomes,
            generator.normal(size=count),
            terminal,
            generator.dirichlet(np.ones(n_outcomes), size=(inner, n_actions)),
            generator.normal(size=(inner, n_actions)),
            np.where(terminal, 0.0, generator.normal(size=count)),
        )

    # As an array form.

    device = None

    @property
    def stochastic(self) -> bool:
        return self.n_outcomes > 1

    def capture(self, env: Any) -> dict[str, np.ndarray]:
        return {"node": np.array([env.node])}

    def restore(self, env: Any, states: dict[str, np.ndarray]) -> None:
        env.node = int(states["node"][0])

    def generator(self, env: Any) -> np.random.Generator | None:
        return getattr(env, "np_random", None)

    def step(self, states: dict[str, np.ndarray], actions: np.ndarray, generator: np.random.Generator | None) -> Any:
        node = np.minimum(states["node"], len(self.chances) - 1)  # of rows that are over, nothing counts
        outcome = np.zeros(len(node), np.int64)
        if generator is not None:
            drawn = generator.random((len(node), 1))
            outcome = (drawn > self.chances[node, actions].cumsum(axis=-1)).sum(axis=-1).clip(max=self.n_outcomes - 1)
        new = self.child(states["node"], actions, outcome).clip(max=len(self.rewards) - 1)
        return {"node": new}, new, self.rewards[new], self.terminal[new], np.zeros(len(new), bool)

    def child(self, node: Any, action: Any, outcome: Any) -> Any:
        return node * self.n_actions * self.n_outcomes + action * self.n_outcomes + outcome + 1

    # As seen by a search.

    def simulator(self) -> Simulator:
        return Simulator(ArrayCore(self), [], None)

    def roots(self, count: int) -> States:
        from rlspo.simulators.arrays import ArrayStates

        generator = np.random.default_rng(0) if self.stochastic else None
        return States(ArrayStates({"node": np.zeros(count, np.int64)}, generator), [], np.zeros(count, bool))

    def propose(self, generator: torch.Generator) -> Any:
        logits = torch.as_tensor(self.logits)

        def draw(nodes: torch.Tensor) -> torch.Tensor:
            probabilities = logits[nodes.clamp(max=len(logits) - 1)].softmax(dim=-1)
            return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)

        return draw

    def value(self, known: bool) -> Any:
        values = torch.as_tensor(self.values if known else np.zeros_like(self.values))
        return lambda nodes: values[nodes]

    # Exactly.

    def weight(self, node: int, depth: int, temperature: float, gamma: float, values: np.ndarray) -> np.ndarray:
        """E[exp(sum of discounted advantages / temperature) | first action], times pi(a|s), for each action."""
        policy = np.exp(self.logits[node]) / np.exp(self.logits[node]).sum()
        found = np.zeros(self.n_actions)
        for action in range(self.n_actions):
            for outcome in range(self.n_outcomes):
                new = self.child(node, action, outcome)
                following = 0.0 if self.terminal[new] else values[new]
                advantage = self.rewards[new] + gamma * following - values[node]
                factor = np.exp(advantage / temperature)
                if not self.terminal[new] and depth > 1:
                    # gamma ** k of later steps is the same as a temperature that is as much higher
                    factor *= self.weight(new, depth - 1, temperature / gamma, gamma, values).sum()
                found[action] += policy[action] * self.chances[node, action, outcome] * factor
        return found

    def exact(self, depth: int, temperature: float, gamma: float, known: bool = False) -> np.ndarray:
        """q over first actions, ``(n_actions,)``."""
        found = self.weight(0, depth, temperature, gamma, self.values if known else np.zeros_like(self.values))
        return found / found.sum()

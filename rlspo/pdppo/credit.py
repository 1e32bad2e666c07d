"""Credit for each component of an action, by asking the environment where the action would lead without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rlspo.common.collector import Actor, env_actions
from rlspo.common.trees import tree_map
from rlspo.pdppo.post_decisions import PostDecisions

Array = np.ndarray


class ComponentCredit:
    """At each step, before it is taken: Q(s, a) against Q of the same action with one component drawn again.

    ::

        Q(s, a) - Q(s, (a_-k, a'_k)),   Q(s, a) = r^x(s, a) + V^x(f(s, a)),   a' ~ pi(.|s)

    :param post_decisions: of the environment, which looks ahead
    :param post_values: from post-decision observations ``(N, *shape)`` to V^x, ``(N,)``
    :param policy: whose actions they are
    :param action_space: of the environment
    """

    def __init__(
        self, post_decisions: PostDecisions, post_values: Callable[[Any], Array], policy: Any, action_space: spaces.Space
    ) -> None:
        self.post_decisions, self.post_values = post_decisions, post_values
        self.policy, self.action_space = policy, action_space
        self.found: dict[str, Array] = {}

    def actor(self, act: Actor) -> Actor:
        """``act``, with a look ahead at every step."""

        def act_and_look_ahead(observations: Any) -> tuple[Array, Array | None, Array | None]:
            decided = act(observations)
            self._look_ahead(decided[0], act(observations)[0])
            return decided

        return act_and_look_ahead

    def _look_ahead(self, actions: Array, others: Array) -> None:
        count, components = len(actions), int(np.prod(actions.shape[1:]))
        mine, theirs = actions.reshape(count, 1, components), others.reshape(count, 1, components)
        # The action itself, too, in the last row: all is seen alike, whatever statistics the step changes.
        mixed = np.where(np.eye(components + 1, components, dtype=bool), theirs, mine)
        taken = env_actions(mixed.reshape(-1, *actions.shape[1:]), self.policy, self.action_space)
        seen, rewards = self.post_decisions.look_ahead(taken.reshape(count, components + 1, *taken.shape[1:]))
        values = self.post_values(tree_map(lambda part: part.reshape(-1, *part.shape[2:]), seen)).reshape(rewards.shape)
        self.found = {"credit_rewards": rewards[:, -1:] - rewards[:, :-1], "credit_values": values[:, -1:] - values[:, :-1]}

    def fields(self, infos: list[dict[str, Any]], step: int) -> dict[str, Array]:
        """What was found before the step just taken, ``(n_envs, K)`` each.

        :raises ValueError: where the environment looked ahead at another action than it then took
        """
        self.post_decisions.check_foreseen(infos, step)
        return self.found

"""What PDPPO records of each step: the post-decision state, and where the action would have led without each component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import Actor, env_actions, in_batches
from rlspo.common.errors import check_finite
from rlspo.common.rollout_buffer import Field, action_field, observation_fields
from rlspo.common.trees import tree_map
from rlspo.pdppo.post_decisions import PostDecisions

Array = np.ndarray


def recorded_fields(
    post_decision_space: spaces.Space, action_space: spaces.Space, ratio: str
) -> dict[str, Field | dict[str, Field]]:
    """The rollout fields of PDPPO, beside the usual ones; ``K`` is the number of components of an action.

    :param ratio: ``"component"``: with log pi of each component
    """
    components = (int(np.prod(action_field(action_space).shape)),)
    return {
        "post_observations": observation_fields(post_decision_space),
        "post_rewards": Field(for_loss=False),
        "post_values": Field(for_loss=False),
        "post_returns": Field(),
        **({"component_log_probs": Field(components)} if ratio == "component" else {}),
        "component_advantages": Field(components),
        "credit_rewards": Field((components[0] + 1,), for_loss=False),
        "credit_values": Field(components, for_loss=False),
    }


def post_values(policy: Any, observations: Any, memory: Array | None) -> Array:
    """V^x of many post-decision observations ``(N, *shape)``, ``(N,)``.

    :param memory: what the policy remembered after it decided, ``(N, memory_size)``; None for one without memory
    """

    def values(seen: Any, *after: Any) -> tuple[Any, ...]:
        remembered = policy.remembered_in(*after) if policy.n_remembered else None
        return (policy.post_values_of(policy.preprocess_post(seen), remembered),)

    return in_batches(values, policy.device, observations, *([] if memory is None else [memory]))[0]


class Recorder:
    """Reads s^x and r^x of each step and, for credit by component, asks before it where other actions would lead:

    ::

        Q(s, a) - Q(s, (a_-k, a'_k)),   Q(s, a) = r^x(s, a) + V^x(f(s, a)),   a' ~ pi(.|s)

    :param env: vectorised
    :param credit: ``"joint"``, ``"component"``, or ``"auto"``: the latter for several choices, where ``env`` looks ahead
    :raises ValueError: for ``"component"`` where it does not
    """

    def __init__(self, env: VecEnv, credit: str) -> None:
        self.post_decisions = PostDecisions(env)
        self.action_space = env.action_space
        looks_ahead = self.post_decisions.can_look_ahead
        if credit == "component" and not looks_ahead:
            raise ValueError(
                "credit is 'component', but the environment does not say where actions lead that are not taken. Give it a "
                "method post_decision(action), see rlspo.envs.post_decision, or take credit='joint'."
            )
        choices = isinstance(env.action_space, spaces.MultiDiscrete | spaces.MultiBinary)
        several = choices and int(np.prod(env.action_space.shape or ())) > 1
        #: Whether each component of an action has its own credit.
        self.credits_components = looks_ahead and (credit == "component" or (credit == "auto" and several))
        self._credit: dict[str, Array] = {}

    def actor(self, act: Actor, policy: Any, memory: Callable[[], Array] | None) -> Actor:
        """``act``, with what must be known before the step is taken.

        :param policy: whose actions they are
        :param memory: tells what the policy remembers once it has acted, ``(n_envs, memory_size)``; None for one without
        """

        def act_and_foresee(observations: Any) -> tuple[Array, Array | None, Array | None]:
            decided = act(observations)
            self.post_decisions.before_step()
            if self.credits_components:
                others = act(observations)[0]
                self._credit = self._foresee(decided[0], others, policy, None if memory is None else memory())
            return decided

        return act_and_foresee

    def _foresee(self, actions: Array, others: Array, policy: Any, memory: Array | None) -> dict[str, Array]:
        """r^x of the mixed actions, and in the last column of the action itself, ``(n_envs, K + 1)``; and the differences of
        V^x, ``(n_envs, K)``."""
        count, components = len(actions), int(np.prod(actions.shape[1:]))
        mine, theirs = actions.reshape(count, 1, components), others.reshape(count, 1, components)
        # The action itself, too, in the last row: all is seen alike, whatever statistics the step changes.
        mixed = np.where(np.eye(components + 1, components, dtype=bool), theirs, mine)
        taken = env_actions(mixed.reshape(-1, *actions.shape[1:]), policy, self.action_space)
        seen, rewards = self.post_decisions.look_ahead(taken.reshape(count, components + 1, *taken.shape[1:]))
        memories = None if memory is None else memory.repeat(components + 1, axis=0)
        flat = tree_map(lambda part: part.reshape(-1, *part.shape[2:]), seen)
        values = post_values(policy, flat, memories).reshape(rewards.shape)
        return {"credit_rewards": rewards, "credit_values": values[:, -1:] - values[:, :-1]}

    def fields(self, infos: list[dict[str, Any]], step: int) -> dict[str, Any]:
        """The rollout fields of the step just taken.

        :param infos: of all environments
        :param step: environment steps that each has taken, for messages
        :raises MissingPostDecisionError: where an info lacks s^x or r^x
        :raises ValueError: where the environment looked ahead at another action than it then took
        """
        observations, rewards = self.post_decisions.read(infos, step)
        check_finite(observations, rewards, step, what=("a post-decision observation", "a post-decision reward"))
        if self.credits_components:
            self.post_decisions.check_foreseen(infos, step)
        return {"post_observations": observations, "post_rewards": rewards, **self._credit}

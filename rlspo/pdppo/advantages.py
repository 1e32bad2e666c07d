"""Targets and advantages over half steps: a decision leads from s to s^x and earns r^x, chance from s^x to s' and earns r^w.

Arrays are ``(n_steps, n_envs)``. ``continues`` is 1 where the episode went on after a step and 0 where it ended; the value
after a time limit is already in the rewards of the step that it cut (:class:`~rlspo.common.collector.TimeLimits`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlspo.common.advantages import discounted_sums, generalized_advantages

Array = np.ndarray


@dataclass(frozen=True)
class HalfSteps:
    """A rollout, with what the critics said while it was collected.

    :param decision_rewards: r^x, in the units of the values
    :param chance_rewards: r^w, what remains of the reward
    :param values: V(s_t)
    :param post_values: V^x(s^x_t)
    :param last_values: V of the observation after the last step, ``(n_envs,)``
    :param continues: see above
    :param cut: True where a time limit ended the episode
    :param gamma: discount factor, once for each whole step
    :param gae_lambda: see :func:`~rlspo.common.advantages.generalized_advantages`
    """

    decision_rewards: Array
    chance_rewards: Array
    values: Array
    post_values: Array
    last_values: Array
    continues: Array
    cut: Array
    gamma: float
    gae_lambda: float


@dataclass(frozen=True)
class Estimates:
    """What both critics are to learn, and the two advantages that they give.

    :param returns: target of V(s_t)
    :param post_returns: target of V^x(s^x_t)
    :param pre: the advantage that V gives
    :param post: the advantage that V^x gives
    """

    returns: Array
    post_returns: Array
    pre: Array
    post: Array


def textbook(steps: HalfSteps) -> Estimates:
    """Powell's recursion: V^x averages over the chance that follows, and the decision is judged by where it leads.

    ::

        target of V    TD(lambda) of r = r^x + r^w
        target of V^x  r^w_t + gamma V(s_{t+1})
        pre            GAE of r with V
        post           r^x_t + V^x(s^x_t) - V(s_t)
    """
    rewards = steps.decision_rewards + steps.chance_rewards
    following = np.concatenate([steps.values[1:], steps.last_values[None]])
    pre = generalized_advantages(rewards, steps.values, steps.last_values, steps.continues, steps.gamma, steps.gae_lambda)
    return Estimates(
        returns=pre + steps.values,
        post_returns=steps.chance_rewards + steps.gamma * steps.continues * following,
        pre=pre,
        post=steps.decision_rewards + steps.post_values - steps.values,
    )


def split(steps: HalfSteps) -> Estimates:
    """The published targets: each critic has a stream of rewards to itself.

    ::

        target of V    TD(lambda) of r^w            pre   GAE of r^w with V
        target of V^x  TD(lambda) of r^x, r^x_t     post  GAE of r^x with V^x, from s^x_t to s^x_{t+1}
                       itself included

    With ``gae_lambda=1`` these are the discounted sums of the released code. Where the next post-decision state is not
    known, at the end of the rollout and where a time limit cuts, V^x has nothing to learn from: its advantage is 0 there.
    """
    pre = generalized_advantages(
        steps.chance_rewards, steps.values, steps.last_values, steps.continues, steps.gamma, steps.gae_lambda
    )
    following = np.concatenate([steps.post_values[1:], steps.post_values[-1:]])
    deltas = steps.decision_rewards + steps.gamma * steps.continues * following - steps.post_values
    unknown = steps.cut.copy()
    unknown[-1] |= steps.continues[-1] > 0
    deltas = np.where(unknown, 0.0, deltas).astype(np.float32)
    post = discounted_sums(deltas, (steps.gamma * steps.gae_lambda * steps.continues).astype(np.float32))
    return Estimates(returns=pre + steps.values, post_returns=post + steps.post_values, pre=pre, post=post)


TARGETS = {"textbook": textbook, "split": split}
#: What the policy follows, from the two advantages.
ADVANTAGES: dict[str, Callable[[Array, Array], Array]] = {
    "max": np.maximum,
    "sum": np.add,
    "post": lambda pre, post: post,
    "pre": lambda pre, post: pre,
}

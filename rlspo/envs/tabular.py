"""Exact dynamic programming for small environments, with the post-decision state.

With s^x = f(s, a), known rewards r^x(s, a), and from each post-decision state the chance P(s' | s^x) and the mean reward r^w,

::

    V(s)     = sum_a pi(a|s) [ r^x(s, a) + V^x(f(s, a)) ]         max over a for the optimum
    V^x(s^x) = r^w(s^x) + gamma sum_s' P(s'|s^x) V(s')

(Powell, Approximate Dynamic Programming; Sutton and Barto, afterstates). Both are linear for a given policy, so a policy is
evaluated by one system with as many unknowns as there are post-decision states, and policy iteration finds the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Values(NamedTuple):
    """The values of a stationary policy.

    :param v: V(s), before the decision, ``(n_states,)``
    :param v_post: V^x(s^x), after the decision and before chance, ``(n_post,)``
    :param policy: pi(a|s), ``(n_states, n_actions)``
    """

    v: Array
    v_post: Array
    policy: Array


@dataclass(frozen=True)
class TabularModel:
    """A Markov decision process as arrays. They are copied and read-only.

    :param post: f, the number of the post-decision state, ``(n_states, n_actions)``, integers
    :param decision_reward: r^x, ``(n_states, n_actions)``
    :param transition: P(s' | s^x), ``(n_post, n_states)``; the rest of a row to 1 is the probability that the episode ends
    :param chance_reward: the mean of r^w, ``(n_post,)``
    :param start: initial distribution, ``(n_states,)``
    :raises ValueError: for shapes that do not fit, and for invalid probabilities

    One decision between 0 and a bet of 1 that pays 2 with probability 0.6:

    >>> model = TabularModel(
    ...     post=[[0, 1]], decision_reward=[[0, -1]], transition=[[0], [0]], chance_reward=[0, 1.2], start=[1]
    ... )
    >>> model.solve(gamma=0.9).v.round(6).tolist()
    [0.2]
    """

    post: Array
    decision_reward: Array
    transition: Array
    chance_reward: Array
    start: Array

    def __post_init__(self) -> None:
        for field in fields(self):
            kind = np.int64 if field.name == "post" else np.float64
            given = np.asarray(getattr(self, field.name))
            array = given.astype(kind)
            if not np.array_equal(array, given):
                raise ValueError(f"{field.name} must hold {'whole' if kind is np.int64 else 'finite'} numbers.")
            array.flags.writeable = False
            object.__setattr__(self, field.name, array)
        if self.post.ndim != 2 or self.chance_reward.ndim != 1:
            raise ValueError(
                f"post has the shape {self.post.shape} and chance_reward {self.chance_reward.shape}; they must be "
                "(n_states, n_actions) and (n_post,)."
            )
        shapes = {
            "decision_reward": self.post.shape,
            "transition": (self.n_post, self.n_states),
            "start": (self.n_states,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} has the shape {getattr(self, name).shape}; by post and chance_reward it must be {shape}."
                )
        for name in ("decision_reward", "chance_reward"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must hold finite numbers.")
        if (self.post < 0).any() or (self.post >= self.n_post).any():
            raise ValueError(f"post must hold numbers from 0 to {self.n_post - 1}, those of the post-decision states.")
        if (self.transition < 0).any() or (self.transition.sum(axis=1) > 1 + 1e-9).any():
            raise ValueError("transition must hold probabilities: at least 0, and at most 1 together in a row.")
        if (self.start < 0).any() or not np.isclose(self.start.sum(), 1.0):
            raise ValueError("start must hold probabilities: at least 0, and 1 together.")

    @property
    def n_states(self) -> int:
        """Number of states with a decision, including those after the end if ``post`` has rows for them."""
        return int(self.post.shape[0])

    @property
    def n_actions(self) -> int:
        """Number of actions, the same in each state."""
        return int(self.post.shape[1])

    @property
    def n_post(self) -> int:
        """Number of post-decision states."""
        return int(self.chance_reward.shape[0])

    def q(self, v_post: Array) -> Array:
        """Q(s, a) = r^x(s, a) + V^x(f(s, a)), ``(n_states, n_actions)``."""
        return self.decision_reward + v_post[self.post]

    def deterministic(self, actions: Array) -> Array:
        """The policy that takes one action in each state, ``(n_states,)``, as probabilities."""
        return np.eye(self.n_actions)[np.asarray(actions)]

    def evaluate(self, policy: Array, gamma: float) -> Values:
        """V and V^x of a policy, by one linear system in V^x.

        :param policy: pi(a|s), ``(n_states, n_actions)``
        :param gamma: discount factor, at least 0 and less than 1
        :raises ValueError: for an invalid ``policy`` or ``gamma``
        """
        policy = self._checked(policy)
        _check_discount(gamma)
        reward = (policy * self.decision_reward).sum(axis=1)
        leads = self._leads(policy)
        system = np.eye(self.n_post) - gamma * self.transition @ leads
        v_post = np.linalg.solve(system, self.chance_reward + gamma * self.transition @ reward)
        return Values(reward + leads @ v_post, v_post, policy)

    def solve(self, gamma: float) -> Values:
        """The optimum, by policy iteration: V, V^x and a policy that reaches them.

        Among equally good actions, the policy takes the first.

        :param gamma: discount factor, at least 0 and less than 1
        :raises ValueError: for an invalid ``gamma``
        """
        actions = np.zeros(self.n_states, dtype=np.int64)
        while True:
            values = self.evaluate(self.deterministic(actions), gamma)
            q = self.q(values.v_post)
            slack = 1e-10 * (1.0 + np.abs(q).max())
            # Every iteration but the last improves by more than the tolerance, so ties cannot cause cycles.
            if (q.max(axis=1) - values.v).max() <= slack:
                ties = q >= q.max(axis=1, keepdims=True) - slack
                return values._replace(policy=self.deterministic(ties.argmax(axis=1)))
            actions = q.argmax(axis=1)

    def expected_return(self, policy: Array, gamma: float, steps: int | None = None) -> float:
        """The mean discounted return of a policy from ``start``.

        :param policy: pi(a|s), ``(n_states, n_actions)``
        :param gamma: discount factor; may be 1 if ``steps`` is given
        :param steps: length at which episodes are truncated; None for never
        """
        if steps is None:
            return float(self.start @ self.evaluate(policy, gamma).v)
        policy = self._checked(policy)
        leads = self._leads(policy)
        reward = (policy * self.decision_reward).sum(axis=1) + leads @ self.chance_reward
        move = leads @ self.transition
        state, total = self.start, 0.0
        for step in range(steps):
            total += gamma**step * float(state @ reward)
            state = state @ move
        return total

    def _leads(self, policy: Array) -> Array:
        """Probability of each post-decision state under the policy, ``(n_states, n_post)``."""
        leads = np.zeros((self.n_states, self.n_post))
        np.add.at(leads, (np.arange(self.n_states)[:, None], self.post), policy)
        return leads

    def _checked(self, policy: Array) -> Array:
        policy = np.asarray(policy, dtype=np.float64)
        if policy.shape != self.post.shape:
            raise ValueError(
                f"policy has the shape {policy.shape}; it must be {self.post.shape}: for each state the probability of each "
                "action. deterministic(actions) makes it from one action for each state."
            )
        if (policy < 0).any() or not np.allclose(policy.sum(axis=1), 1.0):
            raise ValueError("policy must hold probabilities: at least 0, and 1 together in a row.")
        return policy


def _check_discount(gamma: float) -> None:
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma is {gamma}; it must be at least 0 and less than 1, or the return may have no bound.")

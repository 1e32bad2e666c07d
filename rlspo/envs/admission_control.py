"""``rlspo/AdmissionControl-v0``: which customers to admit to a queue with several servers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlspo.envs.admission_control_picture import Ledger, draw_queue
from rlspo.envs.arguments import cpu_only, discrete_action, number, numbers, whole
from rlspo.envs.drawing import check_render_mode, no_render_mode
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from rlspo.envs.tabular import TabularModel
from rlspo.envs.tabular_arrays import QUEUE_ACTIONS, QueueForm

Array = np.ndarray
REJECT, ACCEPT = 0, 1


class AdmissionControlEnv(gym.Env[Array, Any]):
    """Admission control to a queue with several servers, in discrete time.

    At each step at most one customer arrives, of a class that determines its payment. Reject it, or accept it and be paid at
    once (r^x). The number x of customers now in the system is the post-decision state: payments and the arrived customer no
    longer matter. Then chance: each of the min(x, servers) busy servers finishes with ``service_probability``, each customer
    still in the system costs ``holding_cost`` (r^w), and the next customer arrives.

    The best policies have thresholds: a class is accepted while the number in the system is below its threshold, and the
    threshold is lower for classes that pay less (trunk reservation: Miller, "A queueing reward system with several customer
    classes", Management Science 16(3), 1969; admission against the cost of waiting: Naor, "The regulation of queue size by
    levying tolls", Econometrica 37(1), 1969). :meth:`model` gives the exact optimum for any setting.

    :param capacity: largest number of customers in the system, waiting and in service, at least 1
    :param servers: from 1 to ``capacity``
    :param rewards: payment of a customer of each class, ``(n_classes,)``
    :param arrival_probabilities: probability that the next customer is of each class, ``(n_classes,)``; the rest to 1 is the
        probability of no arrival. The more arrivals, the more rejections matter
    :param service_probability: probability that a busy server finishes in a step, above 0 and at most 1
    :param holding_cost: per customer and step, at least 0; more makes long queues expensive
    :param render_mode: ``"rgb_array"`` or None
    :raises ValueError: for arguments out of range

    Actions: 0 rejects, 1 accepts; accepting has the effect of rejecting when the system is full or no customer has arrived.
    Observations: customers in the system, and the class of the arrived one (0 for none, classes count from 1). Episodes begin
    with an empty system and do not terminate. ``info`` also has ``accepted``, ``served`` and ``holding_cost``.

    >>> env = AdmissionControlEnv()
    >>> observation, _ = env.reset(seed=2)
    >>> observation.tolist(), env.post_decision(0), env.post_decision(1)
    ([0, 1], (0, 0.0), (1, 1.0))
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (gymnasium declares it so)
    action_space: spaces.Discrete

    def __init__(
        self,
        capacity: int = 10,
        servers: int = 4,
        rewards: Sequence[float] = (1.0, 2.0, 5.0),
        arrival_probabilities: Sequence[float] = (0.4, 0.3, 0.2),
        service_probability: float = 0.1,
        holding_cost: float = 0.02,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, "rgb_array")
        self.capacity = whole("capacity", capacity, 1)
        self.servers = whole("servers", servers, 1, self.capacity)
        self.rewards = np.array([0.0, *numbers("rewards", rewards)])
        self.n_classes = len(self.rewards) - 1
        self.arrivals = _arrivals(arrival_probabilities, self.n_classes)
        self.service_probability = number("service_probability", service_probability, 0.0, 1.0)
        if self.service_probability == 0.0:
            raise ValueError("service_probability is 0, so that nobody would ever leave; it must be above 0 and at most 1.")
        self.holding_cost = number("holding_cost", holding_cost, 0.0)
        self.render_mode = render_mode
        self.observation_space = spaces.MultiDiscrete([self.capacity + 1, self.n_classes + 1])
        self.action_space = spaces.Discrete(2)
        self.post_decision_space = spaces.Discrete(self.capacity + 1)
        self._in_system, self._door = 0, 0
        self._began = False
        self._ledger = Ledger.empty(self.n_classes)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Empty the system and draw the first arrival; there are no options."""
        super().reset(seed=seed)
        self._in_system, self._door, self._began = 0, self._next_customer(), True
        self._ledger = Ledger.empty(self.n_classes)
        return self._observe(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Decide, serve, pay the holding costs, and draw the next arrival."""
        post, earned = self.post_decision(action)
        accepted = post > self._in_system
        served = int(self.np_random.binomial(min(post, self.servers), self.service_probability))
        cost = self.holding_cost * (post - served)
        if self.render_mode is not None:
            self._ledger = self._ledger.after(self._door, accepted, served, earned, cost)
        self._in_system, self._door = post - served, self._next_customer()
        info = {
            OBSERVATION_KEY: post,
            REWARD_KEY: earned,
            "accepted": accepted,
            "served": served,
            "holding_cost": cost,
        }
        return self._observe(), earned - cost, False, False, info

    def post_decision(self, action: int) -> tuple[int, float]:
        """The number in the system after the decision, and the customer's payment, if ``action`` were taken now."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before step() and post_decision(action).")
        return self._decide(self._in_system, self._door, discrete_action(action, self.action_space, QUEUE_ACTIONS))

    def state_index(self, observation: Array) -> int:
        """The index of an observation among the states of :meth:`model`."""
        return int(observation[0]) * (self.n_classes + 1) + int(observation[1])

    def model(self) -> TabularModel:
        """The queue as arrays, for exact dynamic programming: states by :meth:`state_index`, post-decision states by x."""
        numbers, doors = range(self.capacity + 1), range(self.n_classes + 1)
        decisions = [[self._decide(n, door, action) for action in (REJECT, ACCEPT)] for n in numbers for door in doors]
        left = np.zeros((self.capacity + 1, self.capacity + 1))
        for post in numbers:
            busy, p = min(post, self.servers), self.service_probability
            for served in range(busy + 1):
                left[post, post - served] = math.comb(busy, served) * p**served * (1.0 - p) ** (busy - served)
        return TabularModel(
            post=np.array([[post for post, _ in row] for row in decisions]),
            decision_reward=np.array([[reward for _, reward in row] for row in decisions]),
            transition=np.kron(left, self.arrivals),
            chance_reward=-self.holding_cost * left @ np.arange(self.capacity + 1),
            start=np.kron(np.eye(self.capacity + 1)[0], self.arrivals),
        )

    def array_form(self, device: Any = None) -> QueueForm:
        """The rules for many states at once, in NumPy, see :mod:`rlspo.simulators.arrays`."""
        cpu_only(device)
        return QueueForm(self)

    @property
    def queue(self) -> tuple[int, int]:
        """Customers in the system, and the class at the door."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() first: there is no queue yet.")
        return self._in_system, self._door

    def put(self, in_system: int, door: int) -> None:
        """Set the state."""
        self._in_system, self._door, self._began = in_system, door, True
        self._ledger = Ledger.empty(self.n_classes)

    def render(self) -> Any:
        """Arrival, queue, servers and the sums so far, ``(height, width, 3)`` bytes."""
        if self.render_mode is None:
            return no_render_mode("rgb_array")
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before render().")
        return draw_queue(self.capacity, self.servers, self.rewards, self._in_system, self._door, self._ledger)

    def _decide(self, in_system: int, door: int, action: int) -> tuple[int, float]:
        enters = action == ACCEPT and door > 0 and in_system < self.capacity
        return in_system + enters, float(self.rewards[door]) * enters

    def _next_customer(self) -> int:
        return int(self.np_random.choice(self.n_classes + 1, p=self.arrivals))

    def _observe(self) -> Array:
        return np.array([self._in_system, self._door], dtype=np.int64)


def _arrivals(probabilities: Sequence[float], n_classes: int) -> Array:
    """Probability of no arrival and of each class, ``(n_classes + 1,)``."""
    given = numbers("arrival_probabilities", probabilities, 0.0, 1.0)
    if n_classes < 1 or len(given) != n_classes:
        raise ValueError(
            f"there are {n_classes} rewards and {len(given)} arrival_probabilities; there must be one of each for every "
            "class, and at least one class."
        )
    if sum(given) > 1.0 + 1e-9:
        raise ValueError(f"arrival_probabilities are {given}, {sum(given):g} together; they must be at most 1 together.")
    return np.array([max(0.0, 1.0 - sum(given)), *given])

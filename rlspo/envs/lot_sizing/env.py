"""``rlspo/LotSizing-v0``: stochastic discrete lot sizing with setups (arXiv 2504.05150)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlspo.envs.arguments import cpu_only
from rlspo.envs.drawing import check_render_mode, no_render_mode
from rlspo.envs.lot_sizing.arrays import PlantForm
from rlspo.envs.lot_sizing.copies import Copies, Period
from rlspo.envs.lot_sizing.instance import Instance, load_instance
from rlspo.envs.lot_sizing.observation import PlantObservation
from rlspo.envs.lot_sizing.render import draw_plant
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY

Array = np.ndarray


class LotSizingEnv(gym.Env[Array, Array]):
    """Decide which machine makes which item in each period, with random demand.

    Each of ``n_machines`` machines makes one item in a period or is idle. Switching to another item incurs a setup cost and a
    loss of production. Stock incurs holding costs; demand that stock cannot meet is lost at a cost. Rewards are minus the
    costs. The state after production and before demand is the post-decision state; its reward is minus the setup costs.

    :param instance: a name of :func:`~rlspo.envs.lot_sizing.instance_names`, a YAML or JSON file, a mapping, or an
        :class:`~rlspo.envs.lot_sizing.Instance`
    :param observe_setups: include each machine's setup (one-hot); the published agents do not see it, although setup costs
        depend on it
    :param observe_time: include the remaining fraction of the episode. Then the horizon is part of the problem and its end
        terminates the episode; otherwise the end truncates it
    :param scale_inventory: stock as a fraction of the cap; False: in units, as published
    :param render_mode: ``"rgb_array"`` or None

    Actions: ``MultiDiscrete([n_items + 1] * n_machines)``, 0 for idle. Every action is valid; ``info["action_mask"]`` and
    ``action_masks()`` leave out items that a machine cannot make. ``info`` also has ``setup_cost``, ``lost_sales_cost`` and
    ``holding_cost``. ``reset`` takes options, see :meth:`~rlspo.envs.lot_sizing.copies.Copies.begin`.

    >>> import gymnasium, rlspo
    >>> env = gymnasium.make("rlspo/LotSizing-v0", instance="2x1")
    >>> observation, info = env.reset(seed=0)
    >>> _, reward, _, _, info = env.step(env.action_space.sample())
    >>> bool(reward <= info["post_decision_reward"] <= 0)
    True
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        instance: str | Path | dict[str, Any] | Instance = "15x5",
        observe_setups: bool = True,
        observe_time: bool = False,
        scale_inventory: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, "rgb_array")
        self.instance = load_instance(instance)
        view = PlantObservation(self.instance, scale_inventory, observe_setups, observe_time)
        self._copies = Copies(self.instance, view, 1)
        self.observe_time = observe_time
        self.render_mode = render_mode
        self.observation_space = view.space
        self.post_decision_space = view.post_decision_space
        self.action_space = spaces.MultiDiscrete([self.instance.n_items + 1] * self.instance.n_machines)
        self._mask = self._copies.plant.action_masks()
        self._mask.flags.writeable = False
        self._began = False
        self._last: Period | None = None
        self._costs = np.zeros(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode: random stock and setups, unless ``options`` say otherwise."""
        super().reset(seed=seed)
        if seed is not None or self._copies.stream.generator is not self.np_random:
            self._copies.seed(self.np_random)
        self._copies.begin(np.ones(1, bool), options or {})
        self._began, self._last = True, None
        self._costs = np.zeros(3)
        return self._copies.observe()[0], {"action_mask": self._mask.copy()}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One period: produce, sell, pay."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before step().")
        period = self._copies.step(self._copies.plant.checked(action, ())[None])
        self._last = period
        setup, lost, holding = (float(c[0]) for c in (period.setup_cost, period.lost_sales_cost, period.holding_cost))
        self._costs += (setup, lost, holding)
        over = bool(period.over[0])
        info = {
            OBSERVATION_KEY: period.post_decision[0],
            REWARD_KEY: -setup,
            "setup_cost": setup,
            "lost_sales_cost": lost,
            "holding_cost": holding,
            "action_mask": self._mask.copy(),
        }
        return (
            period.observation[0],
            -(setup + lost + holding),
            over and self.observe_time,
            over and not self.observe_time,
            info,
        )

    def post_decision(self, action: Array) -> tuple[Array, float]:
        """The post-decision observation and minus the setup costs, if ``action`` were taken now; nothing changes."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before post_decision(action).")
        produced, seen = self._copies.decide(self._copies.plant.checked(action, ())[None])
        return seen[0], -float(produced.setup_cost[0])

    def post_decisions(self, actions: Array) -> tuple[Array, Array]:
        """:meth:`post_decision` of several actions, ``(M, n_machines)``: ``(M, size)`` and ``(M,)``."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before post_decisions(actions).")
        seen, rewards = self._copies.look_ahead(self._copies.plant.checked(actions, (len(actions),))[None])
        return seen[0], rewards[0]

    def array_form(self, device: Any = None) -> PlantForm:
        """The rules for many states at once, in NumPy, see :mod:`rlspo.simulators.arrays`."""
        cpu_only(device)
        return PlantForm(self._copies, self.observe_time)

    def copies(self) -> Copies:
        """The plant and its current state, as one copy."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() first: there is no state yet.")
        return self._copies

    def put(self, inventory: Array, setups: Array, elapsed: Array) -> None:
        """Set the state, ``(1, n_items)``, ``(1, n_machines)`` and ``(1,)``."""
        self._copies.inventory, self._copies.setups, self._copies.elapsed = inventory, setups, elapsed
        self._began, self._last, self._costs = True, None, np.zeros(3)

    def action_masks(self) -> Array:
        """Which actions have an effect, for sb3-contrib's ``MaskablePPO``: ``(n_machines * (n_items + 1),)``."""
        return self._mask

    @property
    def inventory(self) -> Array:
        """Stock of each item, in units, ``(n_items,)``."""
        return self._copies.inventory[0]

    @property
    def setups(self) -> Array:
        """What each machine is set up for, 0 for idle, ``(n_machines,)``."""
        return self._copies.setups[0]

    @property
    def elapsed(self) -> int:
        """Periods since the episode began."""
        return int(self._copies.elapsed[0])

    def render(self) -> Any:
        """A picture of stock, setups and the costs so far, ``(height, width, 3)`` bytes."""
        if self.render_mode is None:
            return no_render_mode("rgb_array")
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before render().")
        demand = None if self._last is None else self._last.demand[0]
        return draw_plant(self.instance, self.inventory, self.setups, demand, self.elapsed, self._costs)

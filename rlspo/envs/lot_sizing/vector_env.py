"""Many copies of a plant in one step: ``gymnasium.make_vec("rlspo/LotSizing-v0", num_envs=...)``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlspo.envs.arguments import cpu_only
from rlspo.envs.drawing import check_render_mode, no_render_mode
from rlspo.envs.lot_sizing.arrays import PlantForm
from rlspo.envs.lot_sizing.copies import Copies
from rlspo.envs.lot_sizing.instance import Instance, load_instance
from rlspo.envs.lot_sizing.observation import PlantObservation
from rlspo.envs.lot_sizing.render import draw_plant
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY

Array = np.ndarray


class LotSizingVectorEnv(VectorEnv[Array, Array, Array]):
    """``num_envs`` independent copies of :class:`~rlspo.envs.lot_sizing.LotSizingEnv`, stepped as arrays.

    After an episode's end the next one begins in the same step; the last observation and info are in ``info["final_obs"]`` and
    ``info["final_info"]``.

    :param num_envs: number of copies
    :param instance: see :class:`~rlspo.envs.lot_sizing.LotSizingEnv`, as are the others
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        instance: str | Path | dict[str, Any] | Instance = "15x5",
        observe_setups: bool = True,
        observe_time: bool = False,
        scale_inventory: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs is {num_envs!r}; it must be a whole number of at least 1.")
        check_render_mode(render_mode, "rgb_array")
        self.num_envs = num_envs
        self.instance = load_instance(instance)
        view = PlantObservation(self.instance, scale_inventory, observe_setups, observe_time)
        self._copies = Copies(self.instance, view, num_envs)
        self.observe_time = observe_time
        self.render_mode = render_mode
        self.single_observation_space = view.space
        self.single_action_space = spaces.MultiDiscrete([self.instance.n_items + 1] * self.instance.n_machines)
        self.post_decision_space = view.post_decision_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._mask = self._copies.plant.action_masks()
        self._mask.flags.writeable = False
        self._masks = np.broadcast_to(self._mask, (num_envs, len(self._mask)))
        self._costs = np.zeros((num_envs, 3))
        self._began = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start episodes in all copies, or in those of ``options["reset_mask"]``.

        :param seed: one number; the copies share a generator
        """
        if isinstance(seed, list | tuple):
            raise ValueError(f"seed is {seed}; the copies share one generator: give one number.")
        options = options or {}
        super().reset(seed=seed)
        if seed is not None or self._copies.stream.generator is not self.np_random:
            self._copies.seed(self.np_random)
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)), bool)
        self._copies.begin(mask, options)
        self._costs[mask] = 0.0
        self._began = True
        return self._copies.observe(), {"action_mask": self._masks}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One period of every copy; ``actions`` are ``(num_envs, n_machines)``."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before step().")
        period = self._copies.step(self._copies.plant.checked(actions, (self.num_envs,)))
        setup, lost, holding = period.setup_cost, period.lost_sales_cost, period.holding_cost
        self._costs += np.stack([setup, lost, holding], axis=1)
        info: dict[str, Any] = {
            OBSERVATION_KEY: period.post_decision,
            REWARD_KEY: -setup,
            "setup_cost": setup,
            "lost_sales_cost": lost,
            "holding_cost": holding,
            "action_mask": self._masks,
        }
        observation, over = period.observation, period.over
        if over.any():
            info, observation = self._begin_again(info, observation, over)
        never = np.zeros(self.num_envs, bool)
        terminated, truncated = (over, never) if self.observe_time else (never, over)
        return observation, -(setup + lost + holding), terminated, truncated, info

    def _begin_again(self, info: dict[str, Any], observation: Array, over: Array) -> tuple[dict[str, Any], Array]:
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over):
            final[i] = observation[i].copy()
        final_info = {**info, **{f"_{key}": over for key in info}}
        self._copies.begin(over, {})
        self._costs[over] = 0.0
        going_on = {f"_{key}": ~over for key in info if key != "action_mask"}
        ended = {"final_obs": final, "_final_obs": over, "final_info": final_info, "_final_info": over}
        return {**info, **going_on, **ended}, self._copies.observe()

    def post_decision(self, actions: Array) -> tuple[Array, Array]:
        """Post-decision observations and rewards of all copies, if ``actions`` were taken now; nothing changes."""
        self._check_began()
        produced, seen = self._copies.decide(self._copies.plant.checked(actions, (self.num_envs,)))
        return seen, -produced.setup_cost

    def post_decisions(self, actions: Array) -> tuple[Array, Array]:
        """The same for M actions of each copy, ``(num_envs, M, n_machines)``: ``(num_envs, M, size)``, ``(num_envs, M)``."""
        self._check_began()
        actions = np.asarray(actions)
        return self._copies.look_ahead(self._copies.plant.checked(actions, (self.num_envs, *actions.shape[1:2])))

    def _check_began(self) -> None:
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before asking where actions lead.")

    def array_form(self, device: Any = None) -> PlantForm:
        """The rules for many states at once, in NumPy, see :mod:`rlspo.simulators.arrays`."""
        cpu_only(device)
        return PlantForm(self._copies, self.observe_time)

    def copies(self) -> Copies:
        """The plant and its current states, as copies."""
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() first: there is no state yet.")
        return self._copies

    def put(self, inventory: Array, setups: Array, elapsed: Array) -> None:
        """Set the states, ``(num_envs, n_items)``, ``(num_envs, n_machines)`` and ``(num_envs,)``."""
        self._copies.inventory, self._copies.setups, self._copies.elapsed = inventory, setups, elapsed
        self._began, self._costs = True, np.zeros((self.num_envs, 3))

    def action_masks(self) -> Array:
        """Which actions have an effect, the same for every copy: ``(n_machines * (n_items + 1),)``."""
        return self._mask

    @property
    def inventory(self) -> Array:
        """Stock, in units, ``(num_envs, n_items)``."""
        return self._copies.inventory

    @property
    def setups(self) -> Array:
        """What each machine is set up for, 0 for idle, ``(num_envs, n_machines)``."""
        return self._copies.setups

    def render(self) -> Any:
        """A picture of each copy."""
        if self.render_mode is None:
            return no_render_mode("rgb_array")
        if not self._began:
            raise gym.error.ResetNeeded("Call reset() before render().")
        rows = zip(self.inventory, self.setups, self._copies.elapsed, self._costs, strict=True)
        return tuple(draw_plant(self.instance, stock, setups, None, int(t), costs) for stock, setups, t, costs in rows)

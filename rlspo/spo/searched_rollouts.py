"""Data collection of SPO: rollouts whose actions come from a search, and a replay of the last few rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import Actor, TimeLimits
from rlspo.common.on_policy import OnPolicyAgent
from rlspo.common.rollout_buffer import Field, RolloutBuffer, action_field
from rlspo.common.settings import check_limit
from rlspo.common.trees import tree_map
from rlspo.common.update import MINIBATCH_FIELDS
from rlspo.spo.exploration import RootNoise
from rlspo.spo.planning import Planner, check_no_pair
from rlspo.spo.policies import SPOPolicy
from rlspo.spo.replay import Ending, Replay
from rlspo.spo.search import Search, search_divergence
from rlspo.spo.update import TargetUpdate

Tensor = torch.Tensor


class SearchedRollouts(OnPolicyAgent):
    """An agent that acts by search in training and learns from the results of the searches.

    A subclass sets the search settings before calling the constructor, and defines :meth:`e_step` and the loss.
    """

    n_particles: int
    depth: int
    resample_period: int | None
    ess_threshold: float | None
    resampling: str
    as_published: bool
    root_noise: float
    root_alpha: float
    temperature: str | float
    search_kl: float
    gradient_steps: int
    replay_rollouts: int
    policy: SPOPolicy
    update: TargetUpdate
    replay: Replay
    planner: Planner | None = None

    def e_step(self) -> float:
        """The temperature of the coming rollout."""
        raise TypeError(f"{type(self).__name__} defines no E-step.")

    # Construction.

    def _setup_model(self) -> None:
        actions = action_field(self.action_space)
        rows = (self.n_particles,)
        self.extra_fields = {
            "root_actions": Field((*rows, *actions.shape), actions.dtype),
            "root_weights": Field(rows),
            "root_advantages": Field(rows),
        }
        self.noise = None
        if self.root_noise > 0.0:
            self.noise = RootNoise(self.root_noise, self.root_alpha, self.action_space)
            self.extra_fields["root_corrections"] = Field(rows)
        super()._setup_model()
        self.policy.target.copy_(self.update.vector.weights)
        self.replay = Replay(self.rollout_buffer, self.replay_rollouts)
        if self.env is not None:
            self.planner = self._new_planner(self.env)

    def _new_planner(self, env: Any) -> Planner:
        temperature = self.search_temperature()
        return Planner(
            self,
            env,
            temperature=temperature,
            search_kl=self.search_kl if temperature is None else None,
            root_noise=self.noise,
            generator=self.randomness.torch,
            **self.search_settings(),
        )

    def search_settings(self) -> dict[str, Any]:
        """Settings of the searches in training."""
        names = ("n_particles", "depth", "gamma", "resample_period", "ess_threshold", "resampling", "as_published")
        return {name: getattr(self, name) for name in names}

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As SB3's.

        :raises NotSimulatableError: for an environment that cannot be simulated
        """
        env = self._wrap_env(env, self.verbose)
        planner = self._new_planner(env)
        super().set_env(env, force_reset)
        self.planner = planner

    # Collecting.

    def make_actor(self) -> Actor:
        assert self.planner is not None and self.env is not None
        env, planner = self.env, self.planner
        planner.settings, planner.search_kl = self.search_settings(), self.search_kl
        planner.temperature, planner.generator = self.search_temperature(), self.randomness.torch
        planner.model_steps, planner.seconds = 0.0, 0.0
        self._diagnostics: dict[str, Tensor] = {}

        def act(observations: Any) -> tuple[np.ndarray, None, None]:
            self._found = found = planner.search(env, observations)
            for name, by_depth in found.diagnostics.items():
                self._diagnostics[name] = self._diagnostics.get(name, 0.0) + by_depth / self.n_steps
            return found.draw(self.randomness.torch).cpu().numpy(), None, None

        return act

    def search_temperature(self) -> float | None:
        """The current eta, in units of V; None before the first search if the planner fits it."""
        return self._temperature if self.temperature == "auto" else float(self.temperature)

    _temperature: float | None = None

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        found = self._found
        fields = {"root_actions": found.actions, "root_weights": found.weights, "root_advantages": found.advantages}
        if self.noise is not None:
            fields["root_corrections"] = found.corrections
        return {name: tensor.cpu().numpy() for name, tensor in fields.items()}

    def _evaluate_rollout(
        self, buffer: RolloutBuffer, time_limits: TimeLimits, last_obs: Any, dones: np.ndarray
    ) -> np.ndarray:
        before = 1.0 if self.reward_scaler is None else self.reward_scaler.scale
        last_values = super()._evaluate_rollout(buffer, time_limits, last_obs, dones)
        self.replay.keep(buffer, Ending(time_limits, tree_map(np.array, last_obs), np.array(dones)))
        self._record_search()
        if self.reward_scaler is not None:  # the searches to come have rewards in another unit
            self.replay.data["root_advantages"][:] *= before / self.reward_scaler.scale
        self._temperature = self.e_step()
        return last_values

    def _record_search(self) -> None:
        assert self.planner is not None
        for name, by_depth in self._diagnostics.items():
            for depth, value in enumerate(by_depth.tolist(), start=1):
                self.logger.record(f"search/{name}_{depth}", value, exclude=("stdout",))
        temperature, buffer = self.planner.temperature_in_use, self.rollout_buffer
        found = {name: torch.from_numpy(buffer.flat(name)[buffer.flat("valid")]) for name in self.extra_fields}
        strayed = search_divergence(found["root_advantages"], temperature, found.get("root_corrections", 0.0))
        self.logger.record("search/search_kl", float(strayed.mean()))
        self.logger.record("search/temperature", temperature)
        self._model_steps += self.planner.model_steps
        self.logger.record("search/model_steps", self._model_steps)
        self.logger.record("search/model_steps_per_second", self.planner.model_steps / self.planner.seconds)

    _model_steps = 0.0

    # Learning.

    def learning_data(self) -> dict[str, Any]:
        """All rows of the replay, with returns by the current averaged critic."""
        scale = (lambda rewards: rewards) if self.reward_scaler is None else self.reward_scaler
        self.replay.form_returns(AveragedCritic(self.policy, self.update), scale)
        return self.replay.tensors((*MINIBATCH_FIELDS.values(), *self.extra_fields))

    def _tell_buffers(self) -> None:
        super()._tell_buffers()
        self.replay.gamma, self.replay.gae_lambda = self.gamma, self.gae_lambda

    def minibatches(self) -> np.ndarray:
        """Rows of the replay, drawn anew for each minibatch, ``(gradient_steps, batch_size)``."""
        rows = np.flatnonzero(self.replay.flat("valid"))
        return self.randomness.numpy.choice(rows, (self.gradient_steps, self.batch_size))

    @property
    def minibatch_size(self) -> int:
        return self.batch_size

    @property
    def smallest_minibatch(self) -> int:
        return self.batch_size

    def updates_per_rollout(self) -> int:
        return self.gradient_steps

    # Acting by search.

    def plan(
        self,
        env: Any,
        observation: Any,
        *,
        n_particles: int | None = None,
        depth: int | None = None,
        deterministic: bool = True,
        **settings: Any,
    ) -> tuple[np.ndarray, Search]:
        """Act by search; :meth:`predict` acts by the policy alone.

        :param env: the environment of ``observation``, which is not changed: a gymnasium environment, or a vectorised one
        :param observation: of all environments in ``env``
        :param n_particles: None: as in training; any other number is possible, as for ``depth``
        :param deterministic: see :meth:`~rlspo.spo.Planner.act`
        :param settings: see :class:`~rlspo.spo.Planner`; by default those of training, including the temperature. For whole
            episodes make one planner
        :return: actions for the environment, ``(n_envs, *action_shape)`` or, for a gymnasium environment, ``action_shape``;
            and the result of the search
        """
        check_no_pair(observation)
        if settings.get("temperature") == "auto":
            settings["temperature"] = None
        given = {"n_particles": n_particles, "depth": depth}
        settings = {"temperature": None if "search_kl" in settings else self.search_temperature(), **settings}
        if settings["temperature"] is None:
            settings.setdefault("search_kl", self.search_kl)
        for name, other in (("ess_threshold", "resample_period"), ("resample_period", "ess_threshold")):
            if settings.get(name) is not None:  # one of them replaces the other
                settings.setdefault(other, None)
        settings = {**self.search_settings(), **settings}
        settings |= {name: value for name, value in given.items() if value is not None}
        planner = Planner(self, env, generator=self.randomness.predict, **settings)
        single = not isinstance(env, VecEnv | VectorEnv)
        observations = tree_map(lambda leaf: np.asarray(leaf)[None], observation) if single else observation
        actions, found = planner.act(env, observations, deterministic)
        return (actions[0] if single else actions), found

    # Saving.

    def exported_state(self) -> dict[str, Any]:
        """The temperature of the search, where it is learned, besides what the base has."""
        return {**super().exported_state(), "temperature": self._temperature}

    def adopt_state(self, state: Mapping[str, Any]) -> None:
        super().adopt_state({key: value for key, value in state.items() if key != "temperature"})
        check_limit("temperature", state["temperature"])
        self._temperature = state["temperature"]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "replay", "planner", "noise", "bounds", "_found", "_diagnostics"]


class AveragedCritic:
    """The averaged critic V', with the interface of a policy.

    :param policy: its networks are used
    :param update: its average of the parameters is used
    """

    def __init__(self, policy: SPOPolicy, update: TargetUpdate) -> None:
        self.policy, self.parameters = policy, update.target_parameters()
        self.device, self.preprocess = policy.device, policy.preprocess

    def values_of(self, inputs: Any) -> Tensor:
        """V'(inputs), ``(B,)``."""
        return self.policy.values(self.parameters, inputs)

"""The taxonomy of STORI as a wrapper for tasks with vectors: MuJoCo's and others."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rlspo.envs.profiles import Profile, load_profile
from rlspo.envs.stochastic.layer import StochasticLayer
from rlspo.envs.stochastic.perturbation import Perturbation
from rlspo.envs.stochastic.task import Task
from rlspo.simulators.base import Layer
from rlspo.simulators.chance import OwnChance

#: Distinguishes this generator from others made from the same seed.
OWN_STREAM = 2509
INFO_KEY = "stori"
#: By environment: what takes the drift of the last wrapper around it from its physics.
_RESTORED_BY: weakref.WeakKeyDictionary[gym.Env, weakref.finalize[..., Any]] = weakref.WeakKeyDictionary()


class Remembered(OwnChance):
    """The memory of a perturbation for one environment, including its random stream.

    :param perturbation: owner of the memory
    """

    def __init__(self, perturbation: Perturbation) -> None:
        self.perturbation = perturbation
        self.memory = perturbation.seeded(_key(None))

    def seed(self, seed: int) -> None:
        """Start the random stream of a seed."""
        self.memory = self.perturbation.seeded(_key(seed))

    def reseed(self, seed: int) -> None:
        self.memory = self.perturbation.reseeded(self.memory, seed)


class Stochastic(gym.Wrapper, RecordConstructorArgs):
    """A task with the perturbations of a profile. The same seed gives the same episodes.

    ``info["stori"]`` of every step: ``type``; ``concept``, 1 while the concept of a drift is active, else 0; ``perturbed``,
    whether anything was changed in this step; ``executed_action``; ``reward``, the task's own. After a reset the last two are
    missing.

    :class:`~rlspo.envs.SimulatedPostDecision` around it gives the step without noise: the chosen action is executed, without
    forces or velocity changes, under the current physics; observation and reward are the task's own. So the post-decision
    observation hides nothing, even where the agent's observation does. A critic, needed only in training, learns from the full
    state, and the policy from the agent's observation.

    :param env: any environment; effects that need vector actions or observations, or MuJoCo, check this
    :param profile: a name, file, mapping or :class:`~rlspo.envs.profiles.Profile`; None: that of ``type``
    :param type: of the taxonomy, with moderate settings; None where ``profile`` is given, else ``"3.1"``
    :param changes: keys that override those of the profile: ``probability``, ``effect``, ``sigma``, ...
    :raises ValueError: for an invalid profile or one that the task does not support, naming the nearest valid value
    """

    #: A simulated copy shares all other attributes.
    simulated_state = ("chance",)

    def __init__(
        self,
        env: gym.Env,
        profile: str | Path | Mapping[str, Any] | Profile | None = None,
        *,
        type: Any = None,
        **changes: Any,
    ) -> None:
        RecordConstructorArgs.__init__(self, profile=profile, type=type, **changes)
        gym.Wrapper.__init__(self, env)
        if env.has_wrapper_attr("perturbation"):
            raise ValueError(f"{env} is perturbed already; a drift (type '2.2') is what combines two profiles.")
        if env.unwrapped in _RESTORED_BY:  # the wrapper that was around it before may not have been collected yet
            _RESTORED_BY.pop(env.unwrapped)()
        task = Task.of(env)
        self.profile = load_profile(profile, task.name, "continuous", type, **changes)
        self.perturbation = Perturbation(self.profile, task)
        self.chance = Remembered(self.perturbation)
        self._applied = 0.0
        drift = self.perturbation.model_drift
        if drift is not None:
            # Restores the wrapped environment for further use.
            _RESTORED_BY[env.unwrapped] = weakref.finalize(self, drift.set_level, task.model, 0.0)
            _RESTORED_BY[env.unwrapped].atexit = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode; ``seed`` also seeds the perturbations."""
        if seed is not None:
            self.chance.seed(seed)
        self._applied = -1.0
        self._set_level(0.0)
        observation, info = self.env.reset(seed=seed, options=options)
        truth = _row(observation)
        self.chance.memory, seen = self.perturbation.begin(self.chance.memory, truth)
        self.follow_drift()
        told = self._info(self._level(), not _same(seen, truth))
        return _single(seen, observation), {**info, INFO_KEY: told}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step of the task.

        :raises gymnasium.error.ResetNeeded: before the first reset
        """
        perturbation, chance = self.perturbation, self.chance
        if chance.memory["step"][0] < 0:
            raise gym.error.ResetNeeded("Call reset() before step(): what perturbs the task begins with an episode.")
        level = self._level()
        chosen = np.asarray(action)[None]
        chance.memory, executed = perturbation.act(chance.memory, chosen)
        force, jump = perturbation.pushes(chance.memory)
        given = action if executed is chosen else executed[0]
        observation, reward, terminated, truncated, info = self._pushed_step(given, force, jump)
        truth, rewards = _row(observation), np.array([reward], np.float64)
        chance.memory, paid, seen = perturbation.end(chance.memory, rewards, truth)
        self.follow_drift()
        changed = not (np.array_equal(executed, chosen) and np.array_equal(paid, rewards) and _same(seen, truth))
        changed |= any(push is not None and bool(push.any()) for push in (force, jump))
        told = {
            **self._info(level, changed),
            "executed_action": executed[0].copy(),
            "reward": float(reward),
        }
        paid_reward = reward if paid is rewards else float(paid[0])
        return _single(seen, observation), paid_reward, terminated, truncated, {**info, INFO_KEY: told}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # A copy of a MuJoCo task is a new one, including its physics.
        self._applied = -1.0
        self.follow_drift()

    def close(self) -> None:
        """Restore the physics and close the environment."""
        self._set_level(0.0)
        super().close()

    def follow_drift(self) -> None:
        """Set the physics to the current level of the drift."""
        self._set_level(self._level())

    def simulated_layer(self) -> Layer:
        """The layer that perturbs branches like this wrapper."""
        return StochasticLayer(self, self.perturbation)

    def _pushed_step(self, action: Any, force: Any, jump: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if force is None and jump is None:
            return self.env.step(action)
        data: Any = getattr(self.env.unwrapped, "data")  # noqa: B009 - gym.Env declares none
        if jump is not None:
            data.qvel[:] += jump[0]
        if force is None:
            return self.env.step(action)
        data.xfrc_applied[:] += force[0]
        try:
            return self.env.step(action)
        finally:
            data.xfrc_applied[:] -= force[0]

    def _level(self) -> float:
        return float(self.perturbation.model_levels(self.chance.memory)[0])

    def _set_level(self, level: float) -> None:
        drift = self.perturbation.model_drift
        if drift is not None and level != self._applied:
            base: Any = self.env.unwrapped
            drift.set_level(base.model, level)
            self._applied = level

    def _info(self, level: float, changed: bool) -> dict[str, Any]:
        drift = self.perturbation.model_drift
        return {
            "type": self.profile.type,
            "concept": int(self.profile.type == "2.2" and level > 0),
            "perturbed": changed or (drift is not None and drift.factor(level) != 1.0),
        }


def _key(seed: int | None) -> int:
    sequence = np.random.SeedSequence(seed, spawn_key=(OWN_STREAM,))
    return int(sequence.generate_state(1, np.uint64)[0])


def _row(observation: Any) -> Any:
    """An observation as a batch of one; types that no effect can change are returned unchanged."""
    return observation[None] if isinstance(observation, np.ndarray) else observation


def _single(seen: Any, observation: Any) -> Any:
    return seen[0] if isinstance(observation, np.ndarray) else seen


def _same(seen: Any, truth: Any) -> bool:
    return seen is truth or np.array_equal(seen, truth)

"""The check finds what is wrong with a simulator, and says where."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlspo.simulators import check_simulator, choosing
from rlspo.simulators.copies import CopyCore, true_copy
from tests.simulators.environments import Drift, DriftForm


class Wrong(Drift):
    """A drift whose array form has a flaw."""

    def __init__(self, flaw: str) -> None:
        super().__init__()
        self.flaw = flaw

    def array_form(self) -> Any:
        return WrongForm(self.flaw)


class WrongForm(DriftForm):
    """Has one flaw."""

    def __init__(self, flaw: str) -> None:
        super().__init__(None, False)
        self.flaw, self.held = flaw, None

    def capture(self, env: Any) -> dict[str, Any]:
        self.held = env
        return super().capture(env)

    def restore(self, env: Any, states: dict[str, Any]) -> None:
        if self.flaw != "restore":
            super().restore(env, states)

    def step(self, states: dict[str, Any], actions: Any, generator: Any) -> Any:
        new, seen, rewards, terminated, truncated = super().step(states, actions, generator)
        if self.flaw == "observation":
            seen = seen + 0.01
        if self.flaw == "deeper" and len(states["x"]) == 1:
            new = {"x": new["x"] + np.float32(1e-3)}
        if self.flaw == "reward":
            rewards = rewards + 0.01
        if self.flaw == "end":
            terminated = terminated | (abs(new["x"][:, 0]) > 0.5)
        if self.flaw == "touches" and self.held is not None:
            self.held.x = self.held.x + np.float32(0.1)
        return new, seen, rewards, terminated, truncated


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("observation", "observation of environment 0 at step 1, 1 step.s. after the capture, replayed"),
        ("deeper", "observation of environment 0 at step 2, 2 step.s. after the capture, replayed"),
        ("reward", "reward of environment 0 at step 1, .* replayed"),
        ("end", "terminated of environment 0 .* replayed"),
        ("restore", "after restore.., differs"),
        ("touches", "changed although only branches were stepped"),
    ],
)
def test_each_flaw_is_named(flaw: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_simulator(Wrong(flaw))


class Shared(gym.Env[Any, Any]):
    """Copies share a list, because it belongs to the class."""

    visits: list[int] = []  # noqa: RUF012
    observation_space: Any = spaces.Box(0, np.inf, (1,), np.float64)
    action_space: Any = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.visits.clear()
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        self.visits.append(int(action))
        return np.array([len(self.visits)], float), 0.0, False, False, {}


def test_what_copies_share_is_found() -> None:
    with pytest.raises(ValueError, match="is shared between copies"):
        check_simulator(Shared())


class Foreseeing(gym.Env[Any, Any]):
    """Noise from its generator, or none."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space: Any = spaces.Discrete(2)

    def __init__(self, hidden: bool) -> None:
        self.hidden = hidden

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        noise = np.sin(7.0 * self.count) if self.hidden else self.np_random.normal()
        return np.array([noise]), 0.0, False, False, {}


def test_chance_is_said_to_be_seen_or_not() -> None:
    assert check_simulator(Foreseeing(hidden=False)) == []
    assert check_simulator(Foreseeing(hidden=True)) == [
        "Chance: random numbers may be drawn, but no step of this check showed any."
    ]


class Leaking(CopyCore):
    """Reseeds all states but the first of each root."""

    def reseed(self, states: Any, seed: int) -> Any:
        new = super().reseed(states, seed)
        new.envs[0] = true_copy(states.envs[0])[0]
        return new


def test_a_search_that_would_foresee_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "CopyCore", Leaking)
    with pytest.raises(ValueError, match="a search would foresee"):
        check_simulator(Foreseeing(hidden=False))


def test_statistics_stand_still_and_learn_again_afterwards() -> None:
    env = VecNormalize(DummyVecEnv([lambda: wrappers.TimeLimit(Drift(), 5)] * 2))
    assert check_simulator(env) == []
    assert env.training
    single = wrappers.NormalizeObservation(Drift())
    check_simulator(single)
    assert single.update_running_mean


def test_the_space_of_the_environment_is_not_sampled() -> None:
    one, two = Drift(), Drift()
    for env in (one, two):
        env.action_space.seed(4)
    check_simulator(one)
    np.testing.assert_array_equal(one.action_space.sample(), two.action_space.sample())

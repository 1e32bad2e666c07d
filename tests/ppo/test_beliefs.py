"""The tiger problem, whose value over beliefs is known: memory reaches it, and without memory nothing can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PPO
from rlspo.attacks.evaluation import play
from tests.envs_for_memory import Tiger

HORIZON = 4
SETTINGS: dict[str, Any] = {"n_steps": 64, "batch_size": 256, "learning_rate": 3e-3, "gamma": 1.0, "seed": 0, "ent_coef": 0.05}
EPISODES = 4000


def test_values_are_those_of_play() -> None:
    """The figures by which agents are judged below, by play and by hand."""
    best, policy = Tiger.best_without_memory(HORIZON)

    def act(observations: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.array([policy[round(HORIZON * step), round(heard)] for heard, step in observations])

    found = play(act, make_vec_env(Tiger, 50, seed=5), EPISODES).returns
    assert found.mean() == pytest.approx(best, abs=4 * found.std() / EPISODES**0.5)
    assert Tiger.value(1) == -1
    assert Tiger.value(2) == pytest.approx(-1 + 10 * 0.85 - 20 * 0.15)
    assert Tiger.best_without_memory(2)[0] == pytest.approx(Tiger.value(2))  # with one hint there is nothing to remember
    assert Tiger.value(HORIZON) > best + 0.5


def test_memory_reaches_the_value_of_beliefs_and_nothing_else_does() -> None:
    env = make_vec_env(Tiger, 16, seed=0)
    kind = {"lstm_hidden_size": 32, "net_arch": [32]}
    with_memory = PPO("MlpLstmPolicy", env, policy_kwargs=kind, **SETTINGS).learn(48_000)
    without = PPO("MlpPolicy", env, **SETTINGS).learn(24_000)
    found = {}
    for name, model in (("memory", with_memory), ("none", without)):
        state, starts = None, np.ones(50, bool)
        played = make_vec_env(Tiger, 50, seed=9)
        observations: Any = played.reset()
        returns: list[float] = []
        running = np.zeros(50)
        while len(returns) < EPISODES:
            actions, state = model.predict(observations, state, starts, deterministic=True)
            observations, rewards, starts, _ = played.step(actions)
            running += rewards
            returns += [*running[starts]]
            running[starts] = 0
        found[name] = np.mean(returns), np.std(returns) / len(returns) ** 0.5
    best, (best_without, _) = Tiger.value(HORIZON), Tiger.best_without_memory(HORIZON)
    mean, error = found["memory"]
    assert mean > best - 0.3 - 3 * error
    assert mean < best + 4 * error  # nothing earns more
    mean, error = found["none"]
    assert mean < best_without + 4 * error < best

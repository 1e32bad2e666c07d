"""Environments whose steps take another form after the first one: an error that names step and shape, and no broadcasting."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from rlspo import PPO, SAC
from tests.spaces import SpacesEnv

Step = tuple[Any, Any, Any, Any]
AGENTS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
    SAC: {"learning_starts": 50, "batch_size": 8},
}


class Changes(VecEnvWrapper):
    """Gives steps another form from the tenth one on."""

    def __init__(self, change: Callable[..., Step]) -> None:
        super().__init__(DummyVecEnv([SpacesEnv] * 2))
        self.change, self.steps = change, 0

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        self.steps += 1
        step = self.venv.step_wait()
        return self.change(*step) if self.steps >= 10 else step


CHANGES: dict[str, tuple[Callable[..., Step], str]] = {
    "fewer observations": (lambda o, r, d, i: (o[:1], r, d, i), r"observations has the shape \(1, 5\); it must be \(2, 5\)"),
    "narrower observations": (lambda o, r, d, i: (o[:, :3], r, d, i), r"observations has the shape \(2, 3\)"),
    "fewer rewards": (lambda o, r, d, i: (o, r[:1], d, i), r"rewards has the shape \(1,\); it must be \(2,\)"),
    "a column of rewards": (lambda o, r, d, i: (o, r[:, None], d, i), r"rewards has the shape \(2, 1\)"),
    "a number as rewards": (lambda o, r, d, i: (o, 1.0, d, i), "rewards is 1.0; a VecEnv gives NumPy arrays"),
    "fewer dones": (lambda o, r, d, i: (o, r, d[:1], i), r"dones has the shape \(1,\)"),
    "no dones": (lambda o, r, d, i: (o, r, None, i), "dones is None; a VecEnv gives NumPy arrays"),
    "fewer infos": (lambda o, r, d, i: (o, r, d, i[:1]), "there are 1 infos for 2 environments"),
    "fewer of all": (lambda o, r, d, i: (o[:1], r[:1], d[:1], i[:1]), r"observations has the shape \(1, 5\)"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("agent", AGENTS)
def test_another_form_is_rejected_with_step_and_shape(agent: Any, name: str) -> None:
    change, message = CHANGES[name]
    model = agent("MlpPolicy", Changes(change), **AGENTS[agent], seed=1, device="cpu")
    with pytest.raises(ValueError, match=rf"^At step \d+, .*{message}"):
        model.learn(64)


def test_errors_of_steps_that_are_right_stay_what_they_are() -> None:
    def fails(*step: Any) -> Any:
        if float(np.sum(step[1])) > -1e9:
            raise IndexError("of my own")

    with pytest.raises(IndexError, match=r"^of my own"):
        PPO("MlpPolicy", Changes(fails), **AGENTS[PPO], seed=1, device="cpu").learn(64)

"""A callback may reset the environments before a rollout, as in SB3: the rollout begins where they are then."""

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from rlspo import ARPO, PDPPO, PPO, SPO
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "seed": 1, "device": "cpu"}


class Resets(BaseCallback):
    """Resets before every rollout, and writes over the array afterwards, as a VecEnv may that has one for all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[bool] = []
        self.starts: list[bool] = []

    def _on_rollout_start(self) -> None:
        self.shared = np.array(self.training_env.reset())
        self.expected = self.shared.copy()
        self.model._last_obs = self.shared
        self.model._last_episode_starts = np.ones(1, bool)

    def _on_step(self) -> bool:
        self.shared[:] = 0.0
        return True

    def _on_rollout_end(self) -> None:
        data = self.model.rollout_buffer.data
        self.began.append(np.array_equal(data["observations"][0], self.expected))
        self.starts.append(bool(data["episode_starts"][0].all()))


@pytest.mark.parametrize("agent", [PPO, ARPO])
def test_the_rollout_begins_at_the_reset(agent: Any) -> None:
    callback = Resets()
    agent("MlpPolicy", SpacesEnv(), n_epochs=1, **SMALL).learn(24, callback=callback)
    assert callback.began == callback.starts == [True] * 3


def test_that_of_pdppo_and_spo_too() -> None:
    for model in (
        PDPPO("MlpPolicy", "rlspo/FrozenLakePostDecision-v0", n_epochs=1, **SMALL),
        SPO("MlpPolicy", "CartPole-v1", n_particles=2, depth=2, **SMALL),
    ):
        callback = Resets()
        model.learn(24, callback=callback)
        assert callback.began == callback.starts == [True] * 3


def test_observations_of_another_shape_are_refused() -> None:
    class Wrong(Resets):
        def _on_rollout_start(self) -> None:
            super()._on_rollout_start()
            self.model._last_obs = self.shared[:, :2]

    with pytest.raises(ValueError, match="observations has the shape"):
        PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(8, callback=Wrong())

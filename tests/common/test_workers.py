"""Learning in SB3's environments in processes ends when one of these is gone, and says which."""

import os
import signal
from typing import Any

import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from rlspo import PPO, SAC
from rlspo.common import workers
from rlspo.common.workers import WorkerLost
from tests.spaces import SpacesEnv


class Dies(SpacesEnv):
    """Its process is killed at the third step."""

    def __init__(self, at: int) -> None:
        super().__init__("box", "box")
        self.at, self.taken = at, 0

    def step(self, action: Any) -> Any:
        self.taken += 1
        if self.taken == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


@pytest.mark.parametrize("agent", [PPO, SAC])
def test_a_process_that_is_gone_is_named(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LOOK_EVERY", 0.05)
    # Forked ones keep the pipes of those after them open, so that no end of file comes.
    env = SubprocVecEnv([lambda at=at: Dies(at) for at in (99, 3, 99)], start_method="fork")  # type: ignore[misc]
    small = {"n_steps": 8, "batch_size": 8} if agent is PPO else {"learning_starts": 100}
    model = agent("MlpPolicy", VecNormalize(env), **small, device="cpu")
    try:
        with pytest.raises(WorkerLost, match=r"process \d+ of environment 1 was killed by SIGKILL"):
            model.learn(300)
    finally:
        for process in env.processes:
            process.kill()
            process.join(60)


def test_other_failures_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(BaseCallback):
        def _on_step(self) -> bool:
            raise OSError("no space left")

    monkeypatch.setattr(workers, "_LOOK_EVERY", 0.05)
    env = SubprocVecEnv([lambda: Dies(99)], start_method="fork")
    try:
        with pytest.raises(OSError, match="no space left"):
            PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu").learn(8, callback=Full())
    finally:
        env.close()

"""The tasks of balancing and reaching: InvertedPendulum, InvertedDoublePendulum, Reacher, Pusher."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from rlspo.simulators.mujoco.task import Score, Task


class InvertedPendulum(Task):
    """1 for each step with the pole within 0.2 rad; ends otherwise."""

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        return np.concatenate([now.qpos, now.qvel], axis=1)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: SimpleNamespace) -> Score:
        terminated = ~np.isfinite(self.observe(now)).all(axis=1) | (np.abs(now.qpos[:, 1]) > 0.2)
        rewards = (~terminated).astype(np.float64)
        return Score(rewards, {"reward_survive": rewards}, terminated)

"""Episodes ended by a wrapper outside of SB3's ``Monitor``, such as a ``TimeLimit``, which the ``Monitor`` does not report.

Not every such end counts: Atari's ``EpisodicLife`` ends an episode at each lost life while the game continues. An end counts
if the following reset reaches the ``Monitor``.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor


class CutEpisodes:
    """Adds ``info["episode"]``, and the line in the file, where an episode was cut and the environment truly reset.

    :param env: with all its wrappers
    """

    def __init__(self, env: gym.Env) -> None:
        outermost = env
        while isinstance(env, gym.Wrapper) and not isinstance(env, Monitor):
            env = env.env
        # Without a wrapper around the Monitor, it sees every end itself.
        self.monitor = env if isinstance(env, Monitor) and env is not outermost else None
        self.rewards: list[float] = []
        self.ended = 0

    def was_reset(self, info: dict[str, Any] | None) -> None:
        """Call this after each reset.

        :param info: of the step before, if that ended an episode; is added to
        """
        monitor = self.monitor
        if monitor is None or monitor.rewards is self.rewards:  # a new list begins a new episode
            return
        rewards, self.rewards = self.rewards, monitor.rewards
        told, self.ended = len(monitor.episode_lengths) > self.ended, len(monitor.episode_lengths)
        if info is None or told or not rewards or "episode" in info:
            return
        seconds = time.time() - monitor.t_start
        episode = {"r": round(sum(rewards), 6), "l": len(rewards), "t": round(seconds, 6)}
        episode |= {key: info[key] for key in monitor.info_keywords if key in info} | monitor.current_reset_info
        monitor.episode_returns.append(sum(rewards))
        monitor.episode_lengths.append(len(rewards))
        monitor.episode_times.append(seconds)
        self.ended += 1
        if monitor.results_writer:
            monitor.results_writer.write_row(episode)
        info["episode"] = episode

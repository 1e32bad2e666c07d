"""Reinforcement learning for noisy, hostile and plannable environments, for people who know stable-baselines3."""

from typing import TYPE_CHECKING

from rlspo.common import mujoco_warnings
from rlspo.common.lazy import lazily
from rlspo.envs.registration import register_envs

if TYPE_CHECKING:
    from rlspo.arpo import ARPO, BARPO
    from rlspo.common.exports.agents import load
    from rlspo.pdppo import PDPPO
    from rlspo.ppo import PPO
    from rlspo.sac import SAC
    from rlspo.spo import SPO
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "ARPO": "rlspo.arpo",
            "BARPO": "rlspo.arpo",
            "PDPPO": "rlspo.pdppo",
            "PPO": "rlspo.ppo",
            "SAC": "rlspo.sac",
            "SPO": "rlspo.spo",
            "load": "rlspo.common.exports.agents",
        },
    )

__version__ = "0.1.0"
__all__ = ["ARPO", "BARPO", "PDPPO", "PPO", "SAC", "SPO", "__version__", "load"]

mujoco_warnings.when_imported()
register_envs()

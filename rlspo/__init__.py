"""Reinforcement learning for noisy, hostile and plannable environments, for people who know stable-baselines3."""

from rlspo.arpo import ARPO, BARPO
from rlspo.common import mujoco_warnings
from rlspo.envs.registration import register_envs
from rlspo.pdppo import PDPPO
from rlspo.ppo import PPO
from rlspo.sac import SAC
from rlspo.spo import SPO

__version__ = "0.1.0"
__all__ = ["ARPO", "BARPO", "PDPPO", "PPO", "SAC", "SPO", "__version__"]

mujoco_warnings.when_imported()
register_envs()

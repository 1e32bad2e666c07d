"""Proximal policy optimisation."""

from rlspo.ppo.ppo import PPO

__all__ = ["PPO"]

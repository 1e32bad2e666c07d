"""Stochastic discrete lot sizing: the environment, its instances, and rules as baselines for agents."""

from rlspo.envs.lot_sizing.env import LotSizingEnv
from rlspo.envs.lot_sizing.instance import Instance, instance_names, load_instance
from rlspo.envs.lot_sizing.vector_env import LotSizingVectorEnv

__all__ = ["Instance", "LotSizingEnv", "LotSizingVectorEnv", "instance_names", "load_instance"]

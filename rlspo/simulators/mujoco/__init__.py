"""MuJoCo's environments of gymnasium, any number of states at a time."""

from rlspo.simulators.mujoco.core import MujocoCore, MujocoStates
from rlspo.simulators.mujoco.tasks import SIMULATED

__all__ = ["SIMULATED", "MujocoCore", "MujocoStates"]

"""Gymnasium's MuJoCo environments, any number of states at a time."""

from rlspo.simulators.mujoco.core import MujocoCore, MujocoStates
from rlspo.simulators.mujoco.peeking import StepAndUndo, StepState
from rlspo.simulators.mujoco.tasks import SIMULATED, can_simulate

__all__ = ["SIMULATED", "MujocoCore", "MujocoStates", "StepAndUndo", "StepState", "can_simulate"]

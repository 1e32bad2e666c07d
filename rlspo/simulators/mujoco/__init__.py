"""Gymnasium's MuJoCo environments, any number of states at a time."""

from rlspo.simulators.mujoco.core import MujocoCore as MujocoCore
from rlspo.simulators.mujoco.core import MujocoStates as MujocoStates
from rlspo.simulators.mujoco.peeking import StepAndUndo as StepAndUndo
from rlspo.simulators.mujoco.peeking import StepState as StepState
from rlspo.simulators.mujoco.tasks import SIMULATED as SIMULATED
from rlspo.simulators.mujoco.tasks import can_simulate as can_simulate

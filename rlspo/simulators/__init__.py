"""Simulators for planning: capture states of an environment, branch them, step many in parallel, restore them."""

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.arrays import ArrayForm
from rlspo.simulators.base import Core, Layer, Outcome, Simulator, States
from rlspo.simulators.checking import check_simulator
from rlspo.simulators.choosing import simulator_for

__all__ = [
    "ArrayForm",
    "Core",
    "Layer",
    "NotSimulatableError",
    "Outcome",
    "Simulator",
    "States",
    "check_simulator",
    "simulator_for",
]

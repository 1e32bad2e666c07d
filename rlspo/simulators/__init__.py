"""Environments that can be captured, branched, stepped side by side and put back: what a search plans in."""

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

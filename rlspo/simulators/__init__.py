"""Environments that can be captured, branched, stepped side by side and put back."""

from rlspo.simulators.arrays import ArrayCore, ArrayForm
from rlspo.simulators.base import Core, Layer, Outcome, Simulator, States

__all__ = ["ArrayCore", "ArrayForm", "Core", "Layer", "Outcome", "Simulator", "States"]

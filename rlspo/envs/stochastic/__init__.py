"""Continuous control with noise of every type of the taxonomy of arXiv 2509.01793."""

from rlspo.envs.profiles import Profile, profile_names
from rlspo.envs.stochastic.making import make_task, wrap
from rlspo.envs.stochastic.wrapper import Stochastic

__all__ = ["Profile", "Stochastic", "make_task", "profile_names", "wrap"]

"""Continuous control with noise of every type of the taxonomy of arXiv 2509.01793."""

from rlspo.envs.profiles import Profile, profile_names
from rlspo.envs.stochastic.making import make_task as make_task
from rlspo.envs.stochastic.making import wrap
from rlspo.envs.stochastic.wrapper import Stochastic

__all__ = ["Profile", "Stochastic", "profile_names", "wrap"]

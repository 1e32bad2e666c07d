"""STORI (STOchastic-ataRI, arXiv 2509.01793): Atari games with noise of every type of its taxonomy."""

from rlspo.envs.profiles import Profile, profile_names
from rlspo.envs.stori.copies import make_games as make_games
from rlspo.envs.stori.making import make_game as make_game
from rlspo.envs.stori.making import wrap
from rlspo.envs.stori.wrapper import Stori

__all__ = ["Profile", "Stori", "profile_names", "wrap"]

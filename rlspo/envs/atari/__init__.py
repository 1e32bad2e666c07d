"""Atari games side by side on threads of ale_py's C++, seen exactly as through SB3's ``make_atari_env`` and a frame stack."""

from rlspo.envs.atari.games import AtariGames, make_atari_vec_env

__all__ = ["AtariGames", "make_atari_vec_env"]

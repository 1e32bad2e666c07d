"""Soft actor-critic."""

from rlspo.sac.sac import SAC

__all__ = ["SAC"]

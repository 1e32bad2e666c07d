"""Worlds with a post-decision state, and the interface by which any environment shows it."""

from rlspo.envs.post_decision import PostDecision, post_decision_space

__all__ = ["PostDecision", "post_decision_space"]

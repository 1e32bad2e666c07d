"""Environments with a post-decision state, the interface by which any environment reports it, puzzles, noisy
tasks, and MuJoCo in batches."""

from rlspo.envs.checking import check_post_decision_env
from rlspo.envs.mujoco_vector import MujocoVectorEnv
from rlspo.envs.post_decision import PostDecision, post_decision_space
from rlspo.envs.simulating import SimulatedPostDecision
from rlspo.envs.tabular import TabularModel
from rlspo.envs.transforming import TransformPostDecision

__all__ = [
    "MujocoVectorEnv",
    "PostDecision",
    "SimulatedPostDecision",
    "TabularModel",
    "TransformPostDecision",
    "check_post_decision_env",
    "post_decision_space",
]

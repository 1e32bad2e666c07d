"""Environments with a post-decision state, the interface by which any environment reports it, puzzles, noisy
tasks, and MuJoCo and Atari in batches."""

from typing import TYPE_CHECKING

from rlspo.common.lazy import lazily

if TYPE_CHECKING:
    from rlspo.envs.checking import check_post_decision_env
    from rlspo.envs.mujoco_vector import MujocoVectorEnv
    from rlspo.envs.post_decision import PostDecision, post_decision_space
    from rlspo.envs.simulating import SimulatedPostDecision
    from rlspo.envs.tabular import TabularModel
    from rlspo.envs.transforming import TransformPostDecision
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "MujocoVectorEnv": "rlspo.envs.mujoco_vector",
            "PostDecision": "rlspo.envs.post_decision",
            "SimulatedPostDecision": "rlspo.envs.simulating",
            "TabularModel": "rlspo.envs.tabular",
            "TransformPostDecision": "rlspo.envs.transforming",
            "check_post_decision_env": "rlspo.envs.checking",
            "post_decision_space": "rlspo.envs.post_decision",
        },
    )

__all__ = [
    "MujocoVectorEnv",
    "PostDecision",
    "SimulatedPostDecision",
    "TabularModel",
    "TransformPostDecision",
    "check_post_decision_env",
    "post_decision_space",
]

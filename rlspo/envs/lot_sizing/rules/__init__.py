"""Rules that decide without learning, as baselines for agents. Each is called with one state and returns actions."""

from rlspo.envs.lot_sizing.rules.evaluate import Episode, Rule, draw_episodes, evaluate_rule
from rlspo.envs.lot_sizing.rules.idle import AlwaysIdle, UniformRandom
from rlspo.envs.lot_sizing.rules.milp_horizon import MilpHorizon
from rlspo.envs.lot_sizing.rules.reorder import ReorderPoint
from rlspo.envs.lot_sizing.rules.rolling_horizon import RollingHorizon
from rlspo.envs.lot_sizing.rules.static import StaticAssignment

__all__ = [
    "AlwaysIdle",
    "Episode",
    "MilpHorizon",
    "ReorderPoint",
    "RollingHorizon",
    "Rule",
    "StaticAssignment",
    "UniformRandom",
    "draw_episodes",
    "evaluate_rule",
]

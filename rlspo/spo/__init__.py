"""Sequential Monte Carlo policy optimisation (SPO), and its search for any agent."""

from rlspo.spo.planning import Planner
from rlspo.spo.policies import SPOPolicy
from rlspo.spo.search import Search, SearchSettings, search
from rlspo.spo.spo import SPO

__all__ = ["SPO", "Planner", "SPOPolicy", "Search", "SearchSettings", "search"]

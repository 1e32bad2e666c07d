"""Sequential Monte Carlo policy optimisation, and its search for any agent."""

from rlspo.spo.search import Search, search

__all__ = ["Search", "search"]

"""The command line of rlspo: training agents, and working with what training produces.

Nothing in the library imports this package.
"""

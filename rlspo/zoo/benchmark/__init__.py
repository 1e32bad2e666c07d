"""``rlspo benchmark``: grids of agents, environments and seeds, trained, judged and summed up in tables."""

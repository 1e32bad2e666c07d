"""``rlspo benchmark``: grids of agents, environments and seeds, trained, evaluated and summed up in tables."""

"""``rlspo evaluate``, and what else lets a saved agent act."""

"""``rlspo evaluate``, and letting a saved agent act."""

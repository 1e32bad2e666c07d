"""``rlspo train``."""

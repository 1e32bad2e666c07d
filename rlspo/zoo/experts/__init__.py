"""``rlspo experts``."""

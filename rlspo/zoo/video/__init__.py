"""``rlspo record`` and ``rlspo enjoy``."""

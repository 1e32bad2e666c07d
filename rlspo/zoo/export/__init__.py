"""``rlspo export``: saved agents as folders that run no code, with what shows how good they are."""

"""A run folder: its paths, records, model files and monitor files, and loading the agent in it."""

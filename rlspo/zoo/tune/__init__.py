"""``rlspo tune``: a search for hyperparameters whose result reproduces, on Optuna."""

"""``rlspo plot``: learning curves, bars of final scores, performance profiles and probabilities of improvement."""

"""From a block of settings to environments, for training and for evaluation."""

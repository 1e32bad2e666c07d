"""How the radius of the ball grows during training."""

from __future__ import annotations


def ramped_radius(epsilon: float, ramp: float, progress_remaining: float) -> float:
    """A radius that rises linearly from 0 over the first part of training and is constant from then on.

    :param epsilon: final radius
    :param ramp: fraction of training over which it rises, in [0, 1]; 0: constant from the start
    :param progress_remaining: 1 at the start of training, 0 at its end
    """
    if ramp == 0:
        return epsilon
    return epsilon * min(max(1.0 - progress_remaining, 0.0) / ramp, 1.0)

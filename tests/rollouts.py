"""The same rollout for an agent of rlspo and one of SB3."""

from typing import Any

import numpy as np


def give_rollout(ours: Any, theirs: Any) -> None:
    """Copy what an agent of rlspo has collected into the buffer of SB3's agent, which is made ready to train on it."""
    buffer = theirs.rollout_buffer
    for name, column in ours.rollout_buffer.data.items():
        if hasattr(buffer, name):
            getattr(buffer, name)[:] = np.asarray(column).reshape(getattr(buffer, name).shape)
    buffer.log_probs[:] = ours.rollout_buffer.data["log_probs"]
    buffer.full, buffer.generator_ready = True, False

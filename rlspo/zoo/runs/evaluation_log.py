"""The evaluations during the training of a run, ``evaluations.npz``, as stable-baselines3's ``EvalCallback`` writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlspo.common.checkpoints import UNREADABLE, check_archive
from rlspo.zoo.errors import UserError


class DamagedFile(UserError):
    """A file that a program wrote cannot be read, or belongs to another run; the text names it."""


def read_evaluations(file: Path, seed: int | None = None, name: str = "results") -> tuple[np.ndarray, np.ndarray]:
    """Steps ``(n,)`` and returns, lengths or successes of the episodes, ``(n, n_episodes)``.

    :param seed: of the run; None where it is not known. rlspo writes it into the file, SB3 does not
    :param name: ``"results"``, ``"ep_lengths"`` or ``"successes"``; empty where the environment reports no successes
    :raises DamagedFile: if it cannot be read, or is the record of a run with another seed
    """
    try:
        check_archive(file)
        with np.load(file) as data:  # numpy refuses pickles here by default
            if name == "successes" and name not in data:
                return np.empty(0), np.empty((0, 0))
            steps, values = data["timesteps"], np.asarray(data[name], dtype=float)
            written = int(data["seed"]) if "seed" in data else seed
    except (*UNREADABLE, TypeError, MemoryError, OverflowError) as error:
        raise DamagedFile(f"{file} is not a record of evaluations: {error}") from error
    if steps.ndim != 1 or len(values) != len(steps):
        raise DamagedFile(f"{file} is not a record of evaluations: {len(values)} rows of numbers for {steps.shape} steps.")
    if seed is not None and written != seed:
        raise DamagedFile(f"{file} is the record of another run: of seed {written}, and not of {seed}.")
    return steps, values.reshape(len(steps), -1)

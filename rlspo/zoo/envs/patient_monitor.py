"""Monitor files that buffer what cannot be written, instead of ending the training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor, ResultsWriter

from rlspo.zoo.cli.patience import PatientFile


def be_patient(env: gym.Env) -> None:
    """Let a ``Monitor`` with a file buffer what it cannot write, instead of ending the training."""
    if isinstance(env, Monitor) and env.results_writer is not None:
        patient(env.results_writer)


def patient(writer: ResultsWriter) -> ResultsWriter:
    """Let a writer of episodes buffer what it cannot write now."""
    writer.file_handler.close()
    file: Any = PatientFile(Path(writer.file_handler.name))
    writer.file_handler = file
    writer.logger = csv.DictWriter(file, fieldnames=writer.logger.fieldnames)
    return writer

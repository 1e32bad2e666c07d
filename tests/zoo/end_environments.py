"""Environments that end in ways of their own; registered on import."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from zoo_environments import Ledger


class Quitter(Ledger):
    """Leaves the program.

    :param quit_at: step at which it does
    """

    def __init__(self, quit_at: int = -1, **others: Any) -> None:
        super().__init__(**others)
        self.quit_at = quit_at

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        answer = super().step(action)
        if self.total == self.quit_at:
            sys.exit("enough")
        return answer


class Clinger(Ledger):
    """Does not close.

    :param note: file to write into what lies in the folder of the run at that moment
    :param run: that folder
    """

    def __init__(self, note: str = "", run: str = "", **others: Any) -> None:
        super().__init__(**others)
        self.note, self.run = note, run

    def close(self) -> None:
        if self.total:  # an environment that was trained in
            Path(self.note).write_text(" ".join(file.name for file in Path(self.run).iterdir()))
            time.sleep(1000)


class Endless(Ledger):
    """Has no end."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


for _cls in (Quitter, Clinger, Endless):
    if f"{_cls.__name__}-v0" not in gym.registry:
        gym.register(f"{_cls.__name__}-v0", entry_point=f"end_environments:{_cls.__name__}")

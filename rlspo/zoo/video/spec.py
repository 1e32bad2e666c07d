"""What is to be filmed, and what was: plain descriptions that go from one process to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlspo.zoo.evaluate.play import Episode
from rlspo.zoo.evaluate.searching import Budget
from rlspo.zoo.runs.saved_agent import SavedAgent


@dataclass(frozen=True)
class Film:
    """What to film, and how.

    Neither ``episodes`` nor ``steps``: whole episodes until eight seconds are full, at most 1000 steps. Both: whichever is
    over first.

    :param agents: one, or several side by side, all in the same environment from the same seed
    :param file: ``.mp4`` or ``.gif``
    :param seed: of the environments
    :param episodes: of each agent; one that is done earlier than others stands still
    :param steps: of each agent; new episodes begin as needed
    :param deterministic: act by the mode of the policy, not by samples
    :param experts: frame the picture in the colour of the expert that acts; for mixtures of experts
    :param seen: show what the agent sees beside what is; None: where the environment tells it
    :param captions: write above the pictures who acts, its return so far and the step
    :param fps: steps per second; None for real time
    :param device: on which the agents compute
    :param search: act by search with this budget; None: by the policy alone
    """

    agents: tuple[SavedAgent, ...]
    file: Path
    seed: int
    episodes: int | None = None
    steps: int | None = None
    deterministic: bool = True
    experts: bool = False
    seen: bool | None = None
    captions: bool = True
    fps: float | None = None
    device: str = "cpu"
    search: Budget | None = None


@dataclass(frozen=True)
class Take:
    """What one agent did in a film.

    :param model: its file
    :param num_timesteps: environment steps that it was trained for
    :param steps: that it took
    :param episodes: those that it finished
    """

    model: str
    num_timesteps: int
    steps: int
    episodes: tuple[Episode, ...]


@dataclass(frozen=True)
class Footage:
    """A film that was made.

    :param width: in pixels
    :param height: in pixels
    :param pictures: how many
    :param fps: pictures per second
    :param takes: one for each agent
    """

    width: int
    height: int
    pictures: int
    fps: float
    takes: tuple[Take, ...]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Footage:
        """From plain data, as ``dataclasses.asdict`` gives it."""
        takes = ({**take, "episodes": tuple(Episode(**episode) for episode in take["episodes"])} for take in data["takes"])
        return cls(**{**data, "takes": tuple(Take(**take) for take in takes)})

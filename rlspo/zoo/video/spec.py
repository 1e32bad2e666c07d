"""What is to be recorded, and what was: plain data that is passed between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlspo.zoo.evaluate.play import Episode
from rlspo.zoo.evaluate.searching import Budget
from rlspo.zoo.runs.saved_agent import SavedAgent


@dataclass(frozen=True)
class VideoSpec:
    """What to record, and how.

    With neither ``episodes`` nor ``steps``: whole episodes until eight seconds are full, at most 1000 steps. With both:
    whichever ends first.

    :param agents: one, or several side by side, all in the same environment from the same seed
    :param file: ``.mp4`` or ``.gif``
    :param seed: of the environments
    :param episodes: of each agent; one that is done earlier than others stands still
    :param steps: of each agent; new episodes begin as needed
    :param deterministic: act by the mode of the policy, not by samples
    :param experts: frame the picture in the colour of the expert that acts; for mixtures of experts
    :param seen: show what the agent sees beside the true picture; None: where the environment provides it
    :param captions: write above each picture the agent's name, its return so far and the step
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
class Recording:
    """What one agent did in a video.

    :param model: its file
    :param num_timesteps: environment steps that it was trained for
    :param steps: environment steps in the video
    :param episodes: the episodes that ended
    """

    model: str
    num_timesteps: int
    steps: int
    episodes: tuple[Episode, ...]


@dataclass(frozen=True)
class Video:
    """A video that was made.

    :param width: in pixels
    :param height: in pixels
    :param pictures: how many
    :param fps: pictures per second
    :param recordings: one for each agent
    """

    width: int
    height: int
    pictures: int
    fps: float
    recordings: tuple[Recording, ...]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Video:
        """From plain data, as ``dataclasses.asdict`` gives it."""
        recordings = (
            {**recording, "episodes": tuple(Episode(**episode) for episode in recording["episodes"])}
            for recording in data["recordings"]
        )
        return cls(**{**data, "recordings": tuple(Recording(**recording) for recording in recordings)})

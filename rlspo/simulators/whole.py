"""What is state in a gymnasium environment with all its wrappers, for the cores that step it as a whole."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor

from rlspo.common.errors import NotSimulatableError

#: Wrappers that only watch; they take no part in a simulation. One of somebody's own says so by only_watches = True.
WATCHERS = (wrappers.RecordVideo, wrappers.HumanRendering, wrappers.RenderCollection)
#: What other wrappers keep of past episodes, or write to. A simulation has none of it, a restored environment keeps its own.
RECORDS: dict[type, tuple[str, ...]] = {
    Monitor: ("episode_returns", "episode_lengths", "episode_times", "results_writer"),
    wrappers.RecordEpisodeStatistics: ("time_queue", "return_queue", "length_queue"),
}
#: Running statistics stand still in a simulation: a branch teaches the environment nothing.
SCALERS = (wrappers.NormalizeObservation, wrappers.NormalizeReward)
FROZEN = "_update_running_mean"
#: What cannot be stepped without the environment itself.
REFUSED = {
    wrappers.Autoreset: "a step that resets is none of the task; take it off, whoever steps the environment resets it",
    wrappers.AddRenderObservation: "its observations are drawn from the environment itself, which a branch is not",
}


class OwnChance(ABC):
    """Randomness that is no generator of NumPy, Python or torch."""

    @abstractmethod
    def reseed(self, seed: int) -> None:
        """Go on with a stream of its own.

        :param seed: 64 bits
        """


Generator = OwnChance | np.random.Generator | np.random.RandomState | random.Random | torch.Generator


def layers_of(env: gym.Env) -> list[Any]:
    """The environment and all within it that takes part in a simulation, from the outermost to the innermost."""
    found: list[Any] = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return [layer for layer in found if not watches(layer)]


def watches(layer: Any) -> bool:
    """Whether a wrapper only watches."""
    return isinstance(layer, WATCHERS) or getattr(type(layer), "only_watches", False)


def kept(layer: Any) -> set[str]:
    """Attributes of a layer that are no part of its state."""
    names = {"env", "render_mode"}.union(*(names for kind, names in RECORDS.items() if isinstance(layer, kind)))
    return names | {FROZEN} if isinstance(layer, SCALERS) else names


def emptied(layer: Any) -> dict[str, Any]:
    """The same kinds of records as a layer has, with nothing in them, and None instead of a file."""
    names = [name for kind, names in RECORDS.items() if isinstance(layer, kind) for name in names]
    return {name: _empty(getattr(layer, name)) for name in names}


def _empty(record: Any) -> Any:
    if isinstance(record, deque):
        return deque(maxlen=record.maxlen)
    return [] if isinstance(record, list) else None


def check_layers_of(env: gym.Env) -> None:
    """Refuse wrappers that do not step without the environment that they were made for.

    :raises NotSimulatableError: naming the first
    """
    layers = layers_of(env)
    for layer in layers:
        name = f"The wrapper {type(layer).__name__}"
        if type(layer) in REFUSED:
            raise NotSimulatableError(name, REFUSED[type(layer)])
        for attribute, value in vars(layer).items():
            if inspect.isfunction(value) and not value.__module__.startswith("gymnasium."):
                held = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
                if any(one is other for one in held for other in layers):
                    raise NotSimulatableError(
                        name,
                        f"its attribute {attribute} is a function that holds on to the environment itself, so that a branch "
                        "would ask the real one; make it a method",
                    )


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def check_reset(env: gym.Env) -> None:
    """
    :raises ResetNeeded: where an environment says that it was never reset
    """
    if any(isinstance(layer, wrappers.OrderEnforcing) and not layer.has_reset for layer in layers_of(env)):
        raise gym.error.ResetNeeded("The environment has no state before reset(); call reset() before capture(env).")


def refresh(generators: list[Any], sequence: np.random.SeedSequence) -> None:
    """Let each generator go on with a stream of its own."""
    for generator in generators:
        own = sequence.spawn(1)[0]
        if isinstance(generator, OwnChance):
            generator.reseed(int(own.generate_state(1, np.uint64)[0]))
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(own).state
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(np.random.RandomState(np.random.MT19937(own)).get_state())
        elif isinstance(generator, torch.Generator):
            generator.manual_seed(int(own.generate_state(1, np.uint64)[0] >> 1))
        else:
            generator.seed(int(own.generate_state(1, np.uint64)[0]))

"""The perturbations of a profile, as functions of a memory with a row for each of many copies.

The wrapper has one row, a simulation one per branch, and both use this code. So a simulation predicts the environment to the
last bit, until it is reseeded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from rlspo.envs.profiles import Profile
from rlspo.envs.stochastic.chance import Array, Chance, derived
from rlspo.envs.stochastic.drifts import ModelDrift
from rlspo.envs.stochastic.effects import Effect, Memory, Now
from rlspo.envs.stochastic.tables import build_effect
from rlspo.envs.stochastic.task import Task

#: Random streams of a step: gates and effects each have one by place, effects also by hook.
GATES, DRIFT, EFFECTS = 0, 2, 3
HOOKS = ("act", "force", "kick", "reward", "observe")
#: Number of steps between levels 0 and 1 for the physics of reseeded branches.
STEPS_OF_WALK = 32


class Source(NamedTuple):
    """An effect with its gate.

    :param place: 0 for the effect before the drift, 1 for the one after it
    """

    place: int
    probability: float
    effect: Effect


class Perturbation:
    """The perturbations of a profile, without state.

    The memory contains: ``key`` of the random numbers (the bits of an ``uint64`` as an ``int64``); ``count`` of draws from it;
    ``free``, whether a branch was reseeded; ``step`` of the episode, -1 in a reset; ``level`` of the drift; and the effects'
    memories under their places.

    :param profile: the profile
    :param task: the perturbed task
    :raises ValueError: for unknown effects or settings, and for those that the task does not support
    """

    def __init__(self, profile: Profile, task: Task) -> None:
        for name, usual in (("gate", "step"), ("fidelity", "exact")):
            if getattr(profile, name) != usual:
                raise ValueError(
                    f"{profile.name}: {name} is {getattr(profile, name)!r}, which is for Atari games; leave it out."
                )
        if profile.type == "0":
            raise ValueError(f"{profile.name}: type 0 is for Atari games; a vector of the state is labelled already.")
        self.profile, self.task, self.schedule = profile, task, profile.schedule
        self.sources: list[Source] = []
        #: The drift of the physics; None: none.
        self.model_drift: ModelDrift | None = None
        for place, concept in enumerate(profile.concepts):
            if concept.effect == "none":
                continue
            effect = build_effect(concept, task, profile)
            if not isinstance(effect, ModelDrift):
                self.sources.append(Source(place, concept.probability, effect))
            elif place == 0 or concept.probability != 1:
                what = "base is a drift of physics" if place == 0 else f"probability is {concept.probability:g}"
                raise ValueError(f"{profile.name}: {what}; physics drift by the schedule alone, to the concept.")
            else:
                self.model_drift = effect
        self._with = {
            hook: [one for one in self.sources if getattr(type(one.effect), hook) is not getattr(Effect, hook)]
            for hook in HOOKS
        }

    @property
    def stochastic(self) -> bool:
        """Whether it draws random numbers."""
        drawn = any(source.effect.draws or 0 < source.probability < 1 for source in self.sources)
        # During a gradual drift it is drawn which of two sources acts.
        return drawn or self.schedule.kind.startswith("random") or (bool(self.sources) and self.schedule.kind == "ramp")

    def seeded(self, key: int, n: int = 1) -> Memory:
        """The memory of ``n`` copies before their first episode.

        :param key: 64 bits
        """
        keys = np.full(n, key, np.uint64).view(np.int64)
        return self._begun({"key": keys, "count": np.zeros(n, np.int64), "free": np.zeros(n, bool)})

    def reseeded(self, memory: Memory, key: int) -> Memory:
        """The memory with new random numbers for each row.

        :param key: 64 bits
        """
        n = len(memory["key"])
        keys = derived(np.full(n, key, np.uint64), np.arange(n)).view(np.int64)
        return {**memory, "key": keys, "free": np.ones(n, bool)}

    # --- the course of an episode ------------------------------------------------------------------------------------------

    def begin(self, memory: Memory, observations: Array) -> tuple[Memory, Array]:
        """Start an episode: the memory, and the agent's first observation, ``(n, *observation_shape)``."""
        memory = self._begun(memory)
        memory, seen = self._through("observe", memory, observations)
        return {**memory, "count": memory["count"] + 1, "step": np.zeros_like(memory["step"])}, seen

    def act(self, memory: Memory, actions: Array) -> tuple[Memory, Array]:
        """The actions for the task, from the agent's, ``(n, *action_shape)``."""
        space = self.task.actions
        if self._with["act"] and isinstance(space, spaces.Box) and actions.dtype.kind not in "f":
            # As floats, also from integers such as a list [1, 0]: effects return fractions.
            actions = actions.astype(space.dtype)
        return self._through("act", memory, actions)

    def pushes(self, memory: Memory) -> tuple[Array | None, Array | None]:
        """Forces during the step and velocity changes before it, as in :class:`Effect`; None: none."""
        return self._sum("force", memory), self._sum("kick", memory)

    def end(self, memory: Memory, rewards: Array, observations: Any) -> tuple[Memory, Array, Any]:
        """End a step: rewards, ``(n,)``, and observations for the agent."""
        memory, rewards = self._through("reward", memory, rewards)
        memory, observations = self._through("observe", memory, observations)
        step = memory["step"] + 1
        level = memory["level"]
        if self.schedule.kind != "always":
            chance = Chance(self._keys(memory), DRIFT)
            level = np.asarray(self.schedule.level_after(step, level, chance), np.float64)
        return {**memory, "count": memory["count"] + 1, "step": step, "level": level}, rewards, observations

    def model_levels(self, memory: Memory) -> Array:
        """The levels of the physics, ``(n,)``: rounded for reseeded branches of a random walk, as each level needs its own
        model."""
        level = memory["level"]
        if self.schedule.kind != "random_walk":
            return level
        return np.where(memory["free"], np.rint(level * STEPS_OF_WALK) / STEPS_OF_WALK, level)

    # --- hooks ---------------------------------------------------------------------------------------------------------------

    def _begun(self, memory: Memory) -> Memory:
        n = len(memory["key"])
        fresh = {name: memory[name] for name in ("key", "count", "free")}
        fresh |= {"step": np.full(n, -1), "level": np.full(n, self.schedule.first())}
        for source in self.sources:
            fresh |= {f"{source.place}.{name}": array for name, array in source.effect.start(n).items()}
        return fresh

    def _through(self, hook: str, memory: Memory, values: Any) -> tuple[Memory, Any]:
        """Pass values through a hook of all effects that override it."""
        for source in self._with[hook]:
            now = self._now(source, hook, memory)
            if not now.memory and not now.open.any():
                continue
            values = getattr(source.effect, hook)(values, now)
            memory = {**memory, **{f"{source.place}.{name}": array for name, array in now.memory.items()}}
        return memory, values

    def _sum(self, hook: str, memory: Memory) -> Array | None:
        moments = [(source, self._now(source, hook, memory)) for source in self._with[hook]]
        found = [getattr(source.effect, hook)(now) for source, now in moments if now.open.any()]
        return sum(found[1:], found[0]) if found else None

    def _now(self, source: Source, hook: str, memory: Memory) -> Now:
        keys, place = self._keys(memory), source.place
        weight = memory["level"] if place else 1.0 - memory["level"]
        holds = weight > 0
        weight = source.probability * weight
        # Certain events need no draw: each draw has its own place in the stream, independent of others.
        open = np.ones(len(keys), bool) if (weight >= 1).all() else Chance(keys, GATES + place).random() < weight
        own = {name.partition(".")[2]: array for name, array in memory.items() if name.startswith(f"{place}.")}
        chance = Chance(keys, EFFECTS + place * len(HOOKS) + HOOKS.index(hook))
        return Now(open, holds, memory["step"], own, chance)

    def _keys(self, memory: Memory) -> Array:
        """The keys of this step's random numbers, ``(n,)``."""
        keys = derived(memory["key"].view(np.uint64), memory["count"])
        if not memory["free"].any():
            return keys
        # Copies of one branch in a batch get different random numbers.
        return np.where(memory["free"], derived(keys, np.arange(len(keys))), keys)

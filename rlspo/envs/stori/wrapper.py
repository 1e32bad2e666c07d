"""STORI as a wrapper: an Atari game of ``ale_py`` with an emulator perturbed by a profile."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv

from rlspo.envs.arguments import whole
from rlspo.envs.profiles import Profile, load_profile
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.emulator import PerturbedEmulator, Source
from rlspo.envs.stori.labels import labels_for
from rlspo.envs.stori.reading import reading_of, repeated_by, repeats
from rlspo.envs.stori.tables import build_effect

#: Distinguishes this generator from others made from the same seed.
OWN_STREAM = 2509
INFO_KEY = "stori"


class Stori(gym.Wrapper, RecordConstructorArgs):
    """An Atari game, perturbed. A step of this wrapper is a decision step, however many frames lie below it.

    It is inserted between the game and its emulator, so that everything that wrappers below or above read from the emulator is
    perturbed (screens, also by raw calls, as in ``AtariPreprocessing``). The same seed gives the same episodes.

    ``info["stori"]`` of every step: ``type``; ``concept``, 1 while the concept of a drift is active, else 0; ``perturbed``:
    whether anything was changed in this step; ``executed_action``, an index, that of the last frame if the gate is drawn per
    frame; ``reward``, the game's own, neither perturbed nor clipped. ``render()`` shows the unperturbed game, :meth:`seen` the
    agent's view.

    :param env: with a game of ``ale_py`` at its base, wrapped in any way
    :param profile: a name, file, mapping or :class:`~rlspo.envs.profiles.Profile`; None: that of ``type``
    :param type: of the taxonomy, with the game's published settings; None where ``profile`` is given, else ``"3.1"``
    :param noop_max: at a reset 1 to this many frames without action are played, unperturbed; 0: none
    :param pool: the screen of a step is the brighter of its last two frames, if the game plays several in a step
    :param changes: keys that override those of the profile: ``probability``, ``effect``, ``mode``, ``gate``, ...
    :raises TypeError: for an environment that is not a game of ``ale_py``
    :raises ValueError: for an invalid profile, naming the nearest valid value
    """

    def __init__(
        self,
        env: gym.Env,
        profile: str | Path | Mapping[str, Any] | Profile | None = None,
        *,
        type: Any = None,
        noop_max: int = 0,
        pool: bool = False,
        **changes: Any,
    ) -> None:
        if isinstance(env, gym.vector.VectorEnv):
            raise TypeError(
                f"{env} plays many games at once, and what goes on inside cannot be reached. Wrap each game instead: "
                "gymnasium.make_vec('STORI/Breakout-v0', 8, type='2.1')."
            )
        base: Any = getattr(env, "unwrapped", env)
        if not hasattr(base, "ale") or not hasattr(base, "_action_set"):
            raise TypeError(
                f"{env} is no Atari game of ale_py. For continuous control: rlspo.envs.stochastic.wrap(env, profile)."
            )
        if isinstance(base.ale, PerturbedEmulator):
            raise ValueError(f"{env} is perturbed already; a drift (type '2.2') is what combines two profiles.")
        RecordConstructorArgs.__init__(self, profile=profile, type=type, noop_max=noop_max, pool=pool, **changes)
        gym.Wrapper.__init__(self, env)
        game = base._game
        self.profile = load_profile(profile, game.replace("_", ""), "atari", type, **changes)
        noops = whole("noop_max", noop_max, 0)
        now = Moment(base.ale, np.random.default_rng(), game, len(base._action_set), self.profile.fidelity)
        now.difficulty = base._game_difficulty or 0
        sources = [
            Source(concept, build_effect(concept, game, self.profile, now), after=bool(place))
            for place, concept in enumerate(self.profile.concepts)
            if concept.effect != "none"
        ]
        self._check_screen(base)
        if pool and not isinstance(base._frameskip, int):
            raise ValueError(f"pool takes the last two of a fixed number of frames; frameskip is {base._frameskip}.")
        per_frame = self.profile.gate == "frame" or self.profile.fidelity == "original"
        if base._frameskip == 1 and sources and not per_frame and not repeats(env):
            gym.logger.warn(
                f"A decision step of {env} is a single frame, and chance is drawn for each. If a wrapper repeats actions, put "
                "it inside: rlspo.envs.stori.wrap(AtariWrapper(game), profile). If frames are meant: gate='frame'."
            )
        drift = self.profile.schedule.start(early=self.profile.fidelity == "original")
        self.emulator = PerturbedEmulator(
            base.ale, sources, now, drift, [*base._action_set], reading_of(env), per_frame, pool and base._frameskip > 1, noops
        )
        base.ale = self.emulator
        # Whether it is still to be checked that no wrapper above plays several decision steps in one.
        self._unwatched = base._frameskip != 1 or repeats(env)
        #: For type 0, the meaning of the observation's numbers: ``labels.names``, ``labels.units``; else None.
        self.labels = labels_for(game) if self.profile.type == "0" else None
        if self.labels is not None:
            self.observation_space = self.labels.space

    def _check_screen(self, base: Any) -> None:
        kinds = {concept.type for concept in self.profile.concepts}
        if "3.2" in kinds and base._obs_type == "ram" and self.env.observation_space == base.observation_space:
            raise ValueError(
                f"{self.profile.name}: type 3.2 hides parts of the screen, and obs_type='ram' shows the memory. Use 'rgb' or "
                "'grayscale'."
            )

    def __reduce__(self) -> Any:
        # The emulator cannot be pickled: a copy is a new game, as for ale_py's own environments.
        return functools.partial(type(self), **self._saved_kwargs), (self.env,)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode; ``seed`` also seeds the perturbations."""
        emulator = self.emulator
        if not emulator.started:
            emulator.reseeded = _generator(seed)
            emulator.reset_game()
            # In a copy these would continue after a life lost in the original instead of starting the new game.
            layer: Any = self.env
            while isinstance(layer, gym.Wrapper):
                if isinstance(layer, EpisodicLifeEnv):
                    layer.was_real_done = True
                layer = layer.env
        emulator.begin_step()
        # From the next start of the game on: after a lost life a wrapper below lets it continue, whatever the seed.
        emulator.reseeded = _generator(seed)
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        finally:
            emulator.reseeded = None
        return self._shown(observation), {**info, INFO_KEY: self._info()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One decision step.

        :raises gymnasium.error.ResetNeeded: before the first reset, also of a copy, which is a new game
        """
        emulator = self.emulator
        if not emulator.started:
            raise gym.error.ResetNeeded("Call reset() before step(): no episode of this game, or copy of a game, has begun.")
        if self._unwatched:
            self._watch()
        emulator.begin_step()
        emulator.playing = True
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        finally:
            emulator.playing = False
        told = self._info()
        emulator.end_step()
        return self._shown(observation), reward, terminated, truncated, {**info, INFO_KEY: told}

    def render(self) -> Any:
        """The unperturbed game."""
        with self.emulator.undisturbed():
            return self.env.render()

    def seen(self) -> np.ndarray:
        """The agent's view as a picture, ``(height, width, 3)``."""
        return self.emulator.getScreenRGB()

    def _watch(self) -> None:
        """Warn once if frames are skipped twice, which observations and rewards would not show."""
        self._unwatched = False
        above = repeated_by(self)
        if above is not None:
            gym.logger.warn(
                f"{type(above).__name__} plays several decision steps of {self.unwrapped} in one of its own, and chance is "
                "drawn in each: frames are skipped twice. STORI skips and pools frames itself; let wrappers above do neither: "
                "AtariWrapper(env, frame_skip=1, noop_max=0), or make_atari_env(..., wrapper_kwargs={'frame_skip': 1, "
                "'noop_max': 0}). A pipeline that is to skip goes inside: rlspo.envs.stori.wrap(AtariWrapper(game), profile)."
            )

    def _shown(self, observation: Any) -> Any:
        return observation if self.labels is None else self.labels.read(self.emulator.ale.getRAM())

    def _info(self) -> dict[str, Any]:
        now = self.emulator.now
        return {
            "type": self.profile.type,
            "concept": int(self.profile.type == "2.2" and self.emulator.drift.level > 0),
            "perturbed": now.perturbed,
            "executed_action": now.executed,
            "reward": now.reward,
        }


def _generator(seed: int | None) -> np.random.Generator | None:
    """A new generator at each call, so that streams spawned from it depend only on the seed."""
    return None if seed is None else np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(OWN_STREAM,)))

"""The emulator as a perturbed agent meets it: plays frames through effects, and shows screens through them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rlspo.envs.profiles import Concept
from rlspo.envs.schedules import Drift
from rlspo.envs.stori.effects import Effect, Moment


class Source:
    """An effect with its gate.

    :param concept: that it belongs to
    :param effect: the effect
    :param after: whether it holds after the drift rather than before it
    """

    def __init__(self, concept: Concept, effect: Effect, after: bool) -> None:
        self.concept, self.effect, self.after = concept, effect, after
        self.holds = self.open = False
        self.weight = 0.0

    def follow(self, drift: Drift, now: Moment) -> None:
        """Take what the drift has come to."""
        self.weight = drift.level if self.after else 1.0 - drift.level
        held, self.holds = self.holds, self.weight > 0
        if held and not self.holds:
            self.effect.stop(now)

    def draw(self, now: Moment) -> None:
        """Let chance decide whether the effect acts."""
        # Drawn also where the answer is known, so that other probabilities leave the rest of an episode's chance as it was.
        self.open = bool(now.random.random() < self.concept.probability * self.weight)
        if self.open:
            self.effect.draw(now)


class PerturbedEmulator:
    """Stands before ``ale_py``'s interface: whatever plays frames or reads the screen goes through the effects.

    The game itself, whose state is the emulator's, is reached through :attr:`ale`.

    :param ale: ``ale_py.ALEInterface``
    :param sources: the effects
    :param now: what effects know
    :param drift: that says which effects hold
    :param actions: of the emulator, by index
    :param frames: that the environment plays in a step of its own
    :param per_frame: the gate is drawn for each frame instead of for each decision step
    :param pool: the screen is the brighter of the last two frames of a step
    :param noops: at a reset 1 to this many frames without action are played; 0: none
    """

    def __init__(
        self,
        ale: Any,
        sources: list[Source],
        now: Moment,
        drift: Drift,
        actions: list[Any],
        frames: int,
        per_frame: bool,
        pool: bool,
        noops: int,
    ) -> None:
        self.ale, self.sources, self.now, self.drift, self.noops = ale, sources, now, drift, noops
        self.per_frame, self.pool, self.frames = per_frame, pool and frames > 1, frames
        self._actions = actions
        self._index = {action: index for index, action in enumerate(actions)}
        #: Whether a decision step is being played, rather than a reset.
        self.playing = False
        self._open_eyes = False
        self._first, self._left = True, frames
        self._kinds: set[str] = set()
        self._earlier: dict[str, np.ndarray] = {}
        self._preview: dict[str, np.ndarray] = {}
        self._true: np.ndarray | None = None
        self._held: list[Source] = []

    def __getattr__(self, name: str) -> Any:
        if name == "ale":
            raise AttributeError(name)
        return getattr(self.ale, name)

    # --- the course of an episode ------------------------------------------------------------------------------------------

    def reset_game(self) -> None:
        """Start the game, with frames without action where asked for; it then stands at its first decision."""
        self.ale.reset_game()
        if self.noops:
            for _ in range(int(self.now.random.integers(1, self.noops + 1))):
                self.ale.act(0)
                if self.ale.game_over():
                    self.ale.reset_game()
        now = self.now
        now.step, now.debt = 0, 0.0
        self.drift.reset()
        for source in self.sources:
            source.holds = False
            source.effect.reset(now)
        self._earlier.clear()
        self.begin_step()
        self._preview_here()

    def begin_step(self) -> None:
        """A decision step begins: chance decides what acts in it."""
        now = self.now
        now.perturbed, now.reward = False, 0.0
        self._first, self._left = True, self.frames
        for source in self.sources:
            source.follow(self.drift, now)
            source.draw(now)
        self._held = [source for source in self.sources if source.holds]

    def end_step(self) -> None:
        """The decision step is over."""
        self.now.step += 1
        self.drift.advance(self.now.random)

    # --- frames --------------------------------------------------------------------------------------------------------------

    def act(self, action: Any, strength: float = 1.0) -> float:
        """Play one frame. While a wrapper below resets, frames are played as they are.

        :returns: the reward, through the effects
        """
        now, held = self.now, self._held
        if self.playing:
            action = self._executed(action)
        if self.pool and self.playing and self._left == 1:
            self._earlier = {kind: self._look(kind) for kind in self._kinds}
        self._true = None
        self._preview.clear()
        for source in held:
            # Of the frames of a step only those that are shown need a picture.
            if source.effect.previews and source.open and self._left <= 1 + self.pool:
                self._foresee(source.effect, action, strength)
        if not self.playing:
            return self._played(action, strength)
        for source in held:
            source.effect.before_frame(source.open, now)
        reward = self._played(action, strength)
        now.reward += reward
        for source in held:
            reward = source.effect.after_frame(reward, source.open, now)
        # Where wrappers below play several steps of the game's, all belong to this decision step.
        self._left = self._left - 1 or self.frames
        return reward

    def _played(self, action: Any, strength: float) -> float:
        reward, self.now.debt = float(self.ale.act(action, strength)) + self.now.debt, 0.0
        return reward

    def _executed(self, action: Any) -> Any:
        """The action that the game gets."""
        now = self.now
        if self._first or self.per_frame:
            if not self._first:
                for source in self.sources:
                    source.draw(now)
            now.action = now.executed = self._index[action]
            for source in self._held:
                now.executed = source.effect.act(now.executed, source.open, now)
            self._first = False
        if now.executed == now.action:
            return action
        now.perturbed = True
        return self._actions[now.executed]

    def _foresee(self, effect: Effect, action: Any, strength: float) -> None:
        """The picture of the coming frame, had the memory been another."""
        state = self.ale.cloneState(include_rng=True)
        effect.edit(self.now)
        self.ale.act(action, strength)
        self._preview = {kind: self._raw(kind) for kind in self._kinds}
        self.ale.restoreState(state)
        self.now.perturbed = True

    def _preview_here(self) -> None:
        """The picture of the game at its reset, of which the emulator gives none: that of a frame without action."""
        self._true = None
        self._preview.clear()
        for source in self.sources:
            if source.holds and source.open and source.effect.previews:
                self._true = self.ale.getScreenRGB()
                state = self.ale.cloneState(include_rng=True)
                source.effect.edit(self.now)
                self.ale.act(0)
                self._preview = {kind: self._raw(kind) for kind in ("rgb", "grey")}
                self.ale.restoreState(state)
                self.now.perturbed = True

    # --- screens -------------------------------------------------------------------------------------------------------------

    def getScreenRGB(self, screen: np.ndarray | None = None) -> np.ndarray:
        """What the agent sees, ``(height, width, 3)``."""
        return self._shown("rgb", screen)

    def getScreenGrayscale(self, screen: np.ndarray | None = None) -> np.ndarray:
        """What the agent sees, ``(height, width)``."""
        return self._shown("grey", screen)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Screens are meanwhile those of the game as it is."""
        self._open_eyes = True
        try:
            yield
        finally:
            self._open_eyes = False

    def _shown(self, kind: str, out: np.ndarray | None) -> np.ndarray:
        if self._open_eyes:
            return self.ale.getScreenRGB() if self._true is None else self._true.copy()
        self._kinds.add(kind)
        seen = self._look(kind)
        if self.pool and kind in self._earlier:
            np.maximum(seen, self._earlier[kind], out=seen)
        if not self.per_frame:
            self._disturb(seen)
        if out is None:
            return seen
        out[...] = seen.reshape(out.shape)
        return out

    def _look(self, kind: str) -> np.ndarray:
        """The screen of the last frame; with a gate for each frame, through the effects of that frame."""
        seen = self._preview[kind].copy() if kind in self._preview else self._raw(kind)
        if self.per_frame:
            self._disturb(seen)
        return seen

    def _disturb(self, seen: np.ndarray) -> None:
        for source in self._held:
            source.effect.screen(seen, source.open, self.now)

    def _raw(self, kind: str) -> np.ndarray:
        return self.ale.getScreenRGB() if kind == "rgb" else self.ale.getScreenGrayscale()

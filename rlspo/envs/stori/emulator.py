"""A perturbed emulator: plays frames and returns screens through the effects."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rlspo.envs.profiles import Concept
from rlspo.envs.schedules import Drift
from rlspo.envs.stori.effects import Effect, Moment
from rlspo.envs.stori.reading import Reading

#: Kinds of screens.
KINDS = ("rgb", "grey")
#: Weights of red, green and blue in the emulator's grey.
GREY = np.array([0.2989, 0.587, 0.114])


class Source:
    """An effect with its gate.

    :param concept: of the effect
    :param effect: the effect
    :param after: whether it is active after the drift rather than before it
    """

    def __init__(self, concept: Concept, effect: Effect, after: bool) -> None:
        self.concept, self.effect, self.after = concept, effect, after
        self.holds = self.open = False
        self.weight = 0.0
        self.in_frames = effect.in_frames

    def follow(self, drift: Drift, now: Moment) -> None:
        """Update whether the effect is active from the drift."""
        self.weight = drift.level if self.after else 1.0 - drift.level
        if self.weight == 0:
            self.let_go(now)
        self.holds = self.weight > 0

    def let_go(self, now: Moment) -> None:
        """Deactivate the effect if it was active."""
        if self.holds:
            self.effect.stop(now)
        self.holds = self.open = False

    def draw(self, now: Moment) -> None:
        """Draw whether the effect acts."""
        # Drawn even for certain results, so that other probabilities do not change the episode's other random numbers.
        self.open = bool(now.random.random() < self.concept.probability * self.weight)
        if self.open:
            self.effect.draw(now)


class PerturbedEmulator:
    """A proxy of ``ale_py``'s interface: all calls that play frames or read the screen go through the effects.

    The emulator itself is :attr:`ale`.

    :param ale: ``ale_py.ALEInterface``
    :param sources: the effects
    :param now: state of the game for effects
    :param drift: determines which effects are active
    :param actions: of the emulator, by index
    :param reading: the screens that the pipeline reads
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
        reading: Reading,
        per_frame: bool,
        pool: bool,
        noops: int,
    ) -> None:
        self.ale, self.sources, self.now, self.drift, self.noops = ale, sources, now, drift, noops
        self.per_frame, self.pool, self.frames = per_frame, pool, reading.frames
        self._shown_frames, self._direct = 2 if pool else reading.last, reading.direct
        # Methods that are called in each frame and are independent of the effects.
        self.lives, self.getEpisodeFrameNumber, self.getFrameNumber = ale.lives, ale.getEpisodeFrameNumber, ale.getFrameNumber
        if not any(source.effect.rewinds for source in sources):
            self.game_over, self.game_truncated = ale.game_over, ale.game_truncated  # type: ignore[method-assign]
        # The published code reads the picture after the frame, that is, of the coming frame.
        self._late = now.fidelity == "original"
        self._sticky = ale.getFloat("repeat_action_probability") > 0
        self._actions = actions
        # Indices by the emulator's own action or by its number.
        self._index = {key: index for index, action in enumerate(actions) for key in (action, action.value)}
        #: Whether a decision step is being played, rather than a reset.
        self.playing = False
        #: Whether the game was ever reset.
        self.started = False
        #: Generator of frames without action; effects have their own stream, so that all profiles have the same starts.
        self._starts = now.random
        now.random = self._starts.spawn(1)[0]
        #: Generators to use from the next reset of the game on; None: keep the current ones.
        self.reseeded: np.random.Generator | None = None
        self._open_eyes = False
        self._first, self._left = True, reading.frames
        self._kinds: set[str] = set()
        self._earlier: dict[str, np.ndarray] = {}
        self._preview: dict[str, np.ndarray] = {}
        self._true: dict[str, np.ndarray] = {}
        self._held: list[Source] = []
        #: Of these, the sources that act between frames.
        self._in_frames: list[Source] = []

    def __getattr__(self, name: str) -> Any:
        if name == "ale":
            raise AttributeError(name)
        return getattr(self.ale, name)

    # --- the course of an episode ------------------------------------------------------------------------------------------

    def reset_game(self) -> None:
        """Start the game, with frames without action if configured, up to the first decision."""
        now = self.now
        if self.reseeded is not None:
            self._starts, self.reseeded = self.reseeded, None
            now.random = self._starts.spawn(1)[0]
        for source in self.sources:
            source.let_go(now)
        self.ale.reset_game()
        if self.noops:
            for _ in range(int(self._starts.integers(1, self.noops + 1))):
                self.ale.act(0)
                if self.ale.game_over():
                    self.ale.reset_game()
        now.step = now.rewound = now.action = now.executed = now.previous = 0
        now.debt = 0.0
        self.drift.reset()
        for source in self.sources:
            source.effect.reset(now)
        self.started = True
        self.begin_step()
        # Directly after a reset the emulator draws no picture of changed memory, so that of a frame without action is used.
        self._foresee_next()

    def begin_step(self) -> None:
        """Start a decision step or a reset: draw which effects act."""
        if not self.started:
            return
        now = self.now
        now.perturbed, now.reward = False, 0.0
        self._first, self._left = True, self.frames
        self._earlier.clear()
        for source in self.sources:
            source.follow(self.drift, now)
            if source.holds:
                source.effect.begin(now)
            source.draw(now)
        self._held = [source for source in self.sources if source.holds]
        self._in_frames = [source for source in self._held if source.in_frames]

    def end_step(self) -> None:
        """End the decision step."""
        self.now.step += 1
        self.drift.advance(self.now.random)

    def game_truncated(self) -> bool:
        """Whether the episode was truncated; rewound frames count, so that every episode ends."""
        if self.now.rewound:
            longest = self.ale.getInt("max_num_frames_per_episode")
            if 0 < longest <= self.ale.getEpisodeFrameNumber() + self.now.rewound:
                return True
        return self.ale.game_truncated()

    def game_over(self, *, with_truncation: bool = True) -> bool:
        """Whether the episode is over."""
        return self.ale.game_over(with_truncation=False) or (with_truncation and self.game_truncated())

    def setDifficulty(self, difficulty: int) -> None:
        """Set the console's switch from outside; a drift returns to this value."""
        self.now.difficulty = int(difficulty)
        self.ale.setDifficulty(difficulty)

    # --- frames --------------------------------------------------------------------------------------------------------------

    def act(self, action: Any, strength: float = 1.0) -> float:
        """Play one frame. While a wrapper below resets, frames are played as they are.

        :returns: the reward, through the effects
        """
        now, held, playing = self.now, self._in_frames, self.playing
        if self.pool and self._left == 1:
            self._earlier = {kind: self._look(kind) for kind in self._kinds}
        if playing:
            action = self._executed(action)
        if self._preview:
            self._preview, self._true = {}, {}
        if not held:  # nothing happens between frames, as with most effects
            reward = self._played(action, strength)
            now.reward += reward if playing else 0
            self._left = self._left - 1 or self.frames
            return reward
        reward = self._play_extra(strength) if playing else 0.0
        # Only frames that are read need a picture.
        foreseen = self._left <= self._shown_frames or not playing
        if foreseen and not self._late:
            self._foresee(action, strength, self._kinds or KINDS)
        if playing:
            for source in held:
                source.effect.before_frame(source.open, now)
        reward += self._played(action, strength)
        if playing:
            now.reward += reward
            for source in held:
                reward = source.effect.after_frame(reward, source.open, now)
        if foreseen and self._late:
            self._foresee_next()
        # If wrappers below play several steps of the game, all belong to this decision step.
        self._left = self._left - 1 or self.frames
        return reward

    def _played(self, action: Any, strength: float) -> float:
        reward, self.now.debt = float(self.ale.act(action, strength)) + self.now.debt, 0.0
        return reward

    def _play_extra(self, strength: float) -> float:
        """Play the additional frames of effects and return their rewards."""
        now, reward = self.now, 0.0
        for source in self._in_frames:
            for index in source.effect.extra(source.open, now):
                reward += self._played(self._actions[index], strength)
                now.perturbed = True
        return reward

    def _executed(self, action: Any) -> Any:
        """The action to execute."""
        now = self.now
        if self._first or self.per_frame:
            if not self._first:
                for source in self.sources:
                    source.draw(now)
            now.previous = now.executed
            now.action = now.executed = self._index[action]
            for source in self._held:
                now.executed = source.effect.act(now.executed, source.open, now)
            self._first = False
            now.perturbed |= now.executed != now.action
        return action if now.executed == now.action else self._actions[now.executed]

    # --- pictures of another memory ------------------------------------------------------------------------------------------

    def _previewing(self) -> list[Effect]:
        return [source.effect for source in self._in_frames if source.open and source.effect.previews]

    def _foresee(self, action: Any, strength: float, kinds: Iterable[str]) -> bool:
        """The picture of the coming frame with changed memory; the game does not change."""
        effects = self._previewing()
        if not effects:
            return False
        # Including the emulator's random state, so that a preview does not change sticky actions.
        state = self.ale.cloneState(include_rng=self._sticky)
        for effect in effects:
            effect.edit(self.now)
        self.ale.act(action, strength)
        self._preview = {kind: self._raw(kind) for kind in kinds}
        self.ale.restoreState(state)
        self.now.perturbed = True
        return True

    def _foresee_next(self) -> None:
        """The picture of a frame without action after the last one, with changed memory."""
        self._preview, self._true = {}, {}
        true = {kind: self._raw(kind) for kind in KINDS} if self._previewing() else {}
        if self._foresee(0, 1.0, KINDS):
            # The emulator draws no picture of a restored state.
            self._true = true

    # --- screens -------------------------------------------------------------------------------------------------------------

    def getScreenRGB(self, screen: np.ndarray | None = None) -> np.ndarray:
        """The agent's screen, ``(height, width, 3)``."""
        return self._shown("rgb", screen)

    def getScreenGrayscale(self, screen: np.ndarray | None = None) -> np.ndarray:
        """The agent's screen, ``(height, width)``."""
        return self._shown("grey", screen)

    def getScreen(self) -> np.ndarray:
        """The screen as colour indices, which effects cannot change.

        :raises NotImplementedError: where parts of the screen are hidden
        """
        if any(source.concept.type == "3.2" for source in self.sources):
            raise NotImplementedError(
                "getScreen() would show what the profile hides; read the screen by getScreenRGB() or getScreenGrayscale()."
            )
        return self.ale.getScreen()

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Context in which screens are unperturbed."""
        self._open_eyes = True
        try:
            yield
        finally:
            self._open_eyes = False

    def _shown(self, kind: str, out: np.ndarray | None) -> np.ndarray:
        if self._open_eyes:
            return _into(out, self._true[kind].copy() if kind in self._true else self._raw(kind))
        held, unused = self._held, self._direct and out is None
        if not unused:
            self._kinds.add(kind)
        if self.playing and (unused or self._shown_frames <= self._left < self.frames):
            # It is passed only to the pipeline.
            return self._raw(kind, out)
        if not held and not self._earlier:
            return self._raw(kind, out)
        seen = self._look(kind)
        if kind in self._earlier:
            np.maximum(seen, self._earlier[kind], out=seen)
        if not self.per_frame:
            self._disturb(seen)
        return _into(out, seen)

    def _look(self, kind: str) -> np.ndarray:
        """The screen of the last frame; with a gate for each frame, through the effects of that frame."""
        seen = _as_kind(kind, self._preview) if self._preview else self._raw(kind)
        if self.per_frame:
            self._disturb(seen)
        return seen

    def _disturb(self, seen: np.ndarray) -> None:
        for source in self._held:
            source.effect.screen(seen, source.open, self.now)

    def _raw(self, kind: str, out: np.ndarray | None = None) -> np.ndarray:
        read = self.ale.getScreenRGB if kind == "rgb" else self.ale.getScreenGrayscale
        if out is None:
            return read()
        read(out)
        return out


def _into(out: np.ndarray | None, seen: np.ndarray) -> np.ndarray:
    """``seen``, copied into the given array, if any."""
    if out is None:
        return seen
    out[...] = seen.reshape(out.shape)
    return out


def _as_kind(kind: str, pictures: dict[str, np.ndarray]) -> np.ndarray:
    """A copy of the picture of that kind, converted from another kind at the first request."""
    if kind in pictures:
        return pictures[kind].copy()
    if kind == "rgb":
        return np.repeat(pictures["grey"][:, :, None], 3, axis=2)
    return np.rint(pictures["rgb"] @ GREY).astype(np.uint8)

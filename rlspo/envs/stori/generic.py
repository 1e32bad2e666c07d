"""Types 2.1 and 2.2 for any game: noise that does not depend on the action, and drift of the game's difficulty."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from rlspo.envs.arguments import number, whole
from rlspo.envs.stori.actions import NOOP
from rlspo.envs.stori.effects import Effect, Moment


class RewardDrop(Effect):
    """The rewards of the decision step are lost."""

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        return _changed(reward, 0.0, now) if open else reward


class RewardFlip(Effect):
    """The rewards of the decision step change their sign."""

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        return _changed(reward, 0.0 - reward, now) if open else reward


class RewardScale(Effect):
    """The rewards of the decision step are multiplied.

    :param scale: the factor
    """

    def __init__(self, game: str, fidelity: str = "exact", scale: float = 0.5) -> None:
        super().__init__(game, fidelity)
        self.scale = number("scale", scale)

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        return _changed(reward, self.scale * reward, now) if open else reward


class RewardNoise(Effect):
    """A normal number is added to the reward of the decision step, once, also where the game pays none.

    :param sigma: its standard deviation, in the game's points
    """

    def __init__(self, game: str, fidelity: str = "exact", sigma: float = 1.0) -> None:
        super().__init__(game, fidelity)
        self.sigma = number("sigma", sigma, 0)
        self._due = 0.0

    def draw(self, now: Moment) -> None:
        self._due = float(now.random.normal(scale=self.sigma))

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        if not open:
            return reward
        added, self._due = self._due, 0.0
        return _changed(reward, reward + added, now)


def _changed(reward: float, to: float, now: Moment) -> float:
    now.perturbed |= to != reward
    return to


class Repeat(Effect):
    """The action of the decision step is held for 1 to ``frames`` frames longer; their rewards count.

    :param frames: the most that are added, at least 1
    """

    def __init__(self, game: str, fidelity: str = "exact", frames: int = 4) -> None:
        super().__init__(game, fidelity)
        self.frames = whole("frames", frames, 1)
        self._due = 0

    def draw(self, now: Moment) -> None:
        self._due = int(now.random.integers(1, self.frames + 1))

    def extra(self, open: bool, now: Moment) -> list[int]:
        due, self._due = self._due, 0
        return [self._held(now)] * due if open else []

    def _held(self, now: Moment) -> int:
        return now.executed


class NoopBurst(Repeat):
    """Before the action of the decision step, the game runs on for 1 to ``frames`` frames without any; their rewards count.

    :param frames: the most that are played, at least 1
    """

    def _held(self, now: Moment) -> int:
        return NOOP


class Rewind(Effect):
    """Before the action of the decision step the game jumps back by ``steps`` decision steps.

    At most to the first step of the episode with the effect active. Paid rewards are kept and can be earned again: the sum of
    ``info["stori"]["reward"]`` is the paid reward, the score on the screen that of the game. Repeated frames count towards the
    frame limit of episodes.

    :param steps: decision steps (frames, with a gate for each frame), at least 1
    """

    rewinds: ClassVar[bool] = True

    def __init__(self, game: str, fidelity: str = "exact", steps: int = 1) -> None:
        super().__init__(game, fidelity)
        self.steps = whole("steps", steps, 1)
        self._states: deque[Any] = deque(maxlen=self.steps)

    def reset(self, now: Moment) -> None:
        self._states.clear()

    def stop(self, now: Moment) -> None:
        self._states.clear()

    def act(self, action: int, open: bool, now: Moment) -> int:
        # At the start of the step, when no picture is needed yet.
        ale = now.ale
        if open and self._states and not ale.game_over(with_truncation=False):
            frame = ale.getEpisodeFrameNumber()
            # Without the emulator's random state: sticky actions are drawn anew.
            ale.restoreState(self._states[0])
            now.rewound += frame - ale.getEpisodeFrameNumber()
            now.perturbed = True
            # Drop states after the one that was returned to.
            self._states = deque([self._states[0]], maxlen=self.steps)
        else:
            self._states.append(ale.cloneState())
        return action


GENERIC_EFFECTS: dict[str, type[Effect]] = {
    "reward_drop": RewardDrop,
    "reward_flip": RewardFlip,
    "reward_scale": RewardScale,
    "reward_noise": RewardNoise,
    "repeat": Repeat,
    "noop_burst": NoopBurst,
    "rewind": Rewind,
}


class Difficulty(Effect):
    """The console's difficulty switch is set, and reset when the concept ends.

    Not every game reads it during an episode; Breakout and Boxing do.

    :param difficulty: one that the game supports
    """

    def __init__(self, game: str, fidelity: str = "exact", difficulty: int = 1) -> None:
        super().__init__(game, fidelity)
        self.difficulty = whole("difficulty", difficulty, 0)
        self._set = False

    def check(self, now: Moment) -> None:
        known = list(now.ale.getAvailableDifficulties())
        if self.difficulty not in known:
            closest = min(known, key=lambda one: abs(one - self.difficulty))
            raise ValueError(f"difficulty is {self.difficulty}; {now.game} has {known}. The nearest is {closest}.")

    def stop(self, now: Moment) -> None:
        if self._set:
            now.ale.setDifficulty(now.difficulty)
            self._set = False

    def before_frame(self, open: bool, now: Moment) -> None:
        if not open:
            self.stop(now)
        elif not self._set:
            now.ale.setDifficulty(self.difficulty)
            self._set = True
        now.perturbed |= open and self.difficulty != now.difficulty


DRIFT_EFFECTS: dict[str, type[Effect]] = {"difficulty": Difficulty}

"""Type 1: noise that enters through the action."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from rlspo.envs.arguments import whole
from rlspo.envs.stori.effects import Effect, Moment

#: The index of the action that does nothing, in every game.
NOOP = 0


def _indices(name: str, values: Any) -> list[int]:
    """
    :raises ValueError: if it is not a list of at least one action
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ValueError(f"{name} is {values!r}; it must be a list of actions, such as [0, 1, 2].")
    return [whole(f"an entry of {name}", value, 0) for value in values]


class Replace(Effect):
    """The action is replaced by one drawn uniformly from ``actions``, the chosen one among them.

    :param actions: indices; None: all, but 0 to 9 in Bank Heist, as published
    """

    def __init__(self, game: str, fidelity: str = "exact", actions: Sequence[int] | None = None) -> None:
        super().__init__(game, fidelity)
        self._actions = None if actions is None else _indices("actions", actions)

    def check(self, now: Moment) -> None:
        for action in self._actions or []:
            whole("an entry of actions", action, 0, now.n_actions - 1)

    def act(self, action: int, open: bool, now: Moment) -> int:
        if not open:
            return action
        if self._actions is None:
            return int(now.random.integers(10 if self.game == "bank_heist" else now.n_actions))
        return self._actions[now.random.integers(len(self._actions))]


class Sticky(Effect):
    """The action executed in the previous step is repeated; in the first step of an episode that is no action (NOOP)."""

    def act(self, action: int, open: bool, now: Moment) -> int:
        return now.previous if open else action


class Delay(Effect):
    """The game gets the action that was chosen ``steps`` decision steps ago, or no action (NOOP) if the effect was not active
    then.

    :param steps: decision steps (frames, with a gate for each frame), at least 1
    """

    def __init__(self, game: str, fidelity: str = "exact", steps: int = 1) -> None:
        super().__init__(game, fidelity)
        self.steps = whole("steps", steps, 1)

    def reset(self, now: Moment) -> None:
        self._queue = deque([NOOP] * self.steps, maxlen=self.steps)

    def stop(self, now: Moment) -> None:
        self.reset(now)

    def act(self, action: int, open: bool, now: Moment) -> int:
        late = self._queue[0]
        self._queue.append(action)
        return late if open else action


class Dropout(Effect):
    """The action is lost: the game gets no action (NOOP)."""

    def act(self, action: int, open: bool, now: Moment) -> int:
        return NOOP if open else action


class Permute(Effect):
    """The actions are permuted.

    :param permutation: by index, the action that the game gets; None: drawn anew for each episode
    """

    def __init__(self, game: str, fidelity: str = "exact", permutation: Sequence[int] | None = None) -> None:
        super().__init__(game, fidelity)
        self._given = None if permutation is None else _indices("permutation", permutation)

    def check(self, now: Moment) -> None:
        if self._given is not None and sorted(self._given) != list(range(now.n_actions)):
            raise ValueError(f"permutation is {self._given}; it must hold each of 0 to {now.n_actions - 1} once.")

    def reset(self, now: Moment) -> None:
        drawn = now.random.permutation(now.n_actions).tolist() if self._given is None else self._given
        self._permutation: list[int] = drawn

    def act(self, action: int, open: bool, now: Moment) -> int:
        return self._permutation[action] if open else action


ACTION_EFFECTS: dict[str, type[Effect]] = {
    "replace": Replace,
    "sticky": Sticky,
    "delay": Delay,
    "dropout": Dropout,
    "permute": Permute,
}

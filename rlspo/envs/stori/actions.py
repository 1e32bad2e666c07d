"""Type 1: noise that enters through the action."""

from __future__ import annotations

from collections.abc import Sequence

from rlspo.envs.arguments import whole
from rlspo.envs.stori.effects import Effect, Moment


class Replace(Effect):
    """The action is replaced by one drawn uniformly from ``actions``, the chosen one among them.

    :param actions: indices; None: all, but 0 to 9 in Bank Heist, as published
    """

    def __init__(self, game: str, fidelity: str = "exact", actions: Sequence[int] | None = None) -> None:
        super().__init__(game, fidelity)
        self._actions = None if actions is None else [whole("an entry of actions", action, 0) for action in actions]

    def reset(self, now: Moment) -> None:
        if self._actions is not None and max(self._actions) >= now.n_actions:
            raise ValueError(f"actions are {self._actions}; the game has 0 to {now.n_actions - 1}.")

    def act(self, action: int, open: bool, now: Moment) -> int:
        if not open:
            return action
        if self._actions is None:
            return int(now.random.integers(10 if self.game == "bank_heist" else now.n_actions))
        return self._actions[now.random.integers(len(self._actions))]


ACTION_EFFECTS: dict[str, type[Effect]] = {"replace": Replace}

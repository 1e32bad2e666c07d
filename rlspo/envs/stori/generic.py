"""Types 2.1 and 2.2 for any game: noise that does not depend on the action, and drift of the game's difficulty."""

from __future__ import annotations

from rlspo.envs.stori.effects import Effect, Moment


class RewardDrop(Effect):
    """The rewards of the decision step are lost."""

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        if open and reward:
            now.perturbed = True
            return 0.0
        return reward


GENERIC_EFFECTS: dict[str, type[Effect]] = {"reward_drop": RewardDrop}
DRIFT_EFFECTS: dict[str, type[Effect]] = {}

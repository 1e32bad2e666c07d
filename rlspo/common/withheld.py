"""Placeholders in a loaded agent for code in its file that was not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import FloatSchedule

from rlspo.common.errors import UntrustedFileError

_building: ContextVar[bool] = ContextVar("building", default=False)
# For an optimiser that is built before its saved state, with its learning rate, is loaded.
_SMALL = 1e-9


class Withheld:
    """Placeholder for a schedule or another setting that is pickled code: it can be stored, but raises when used.

    :param key: the setting
    :param why: the code that the pickle would have run
    """

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        self.why = why

    def __call__(self, *args: Any) -> float:
        if _building.get():
            return _SMALL
        raise UntrustedFileError(refusal({self.key: self.why}))

    def __reduce__(self) -> tuple[type[Withheld], tuple[str, str]]:
        return Withheld, (self.key, self.why)


@contextmanager
def building() -> Iterator[None]:
    """Context for building an agent from its file, in which schedules are called for an initial value that is replaced
    later."""
    token = _building.set(True)
    try:
        yield
    finally:
        _building.reset(token)


#: Replacements of settings that only learning uses. All others become :class:`Withheld`.
INSTEAD: dict[str, Any] = {
    "action_noise": None,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": {},
    "train_freq": 1,
}


@dataclass
class Kept:
    """A setting that was left in the file.

    :param why: the code that its pickle would have run
    :param pickled: as in the file; None if it is lost
    """

    why: str
    pickled: str | None = None


def is_stand_in(key: str, value: Any) -> bool:
    """Whether a value is only a placeholder for one that was left in the file.

    :param key: the setting, known to have been left
    """
    if isinstance(value, FloatSchedule):
        value = getattr(value, "value_schedule", None)
    if key == "train_freq" and isinstance(value, TrainFreq):
        return value == TrainFreq(INSTEAD[key], TrainFrequencyUnit.STEP)
    if key in INSTEAD and isinstance(value, type(INSTEAD[key])):
        return bool(value == INSTEAD[key])
    return isinstance(value, Withheld)


def keep_withheld(model: Any, withheld: Mapping[str, Kept]) -> None:
    """Record in an agent, and in its next file, which settings were left; stored as plain data.

    :param model: any agent
    """
    vars(model)["_withheld"] = {key: kept.why for key, kept in withheld.items()}
    vars(model)["_pickled"] = {key: kept.pickled for key, kept in withheld.items()}


def withheld_in(settings: Mapping[str, Any]) -> dict[str, Kept]:
    """The settings recorded by :func:`keep_withheld`.

    :param settings: of a model file, or attributes of an agent
    """
    told, pickled = settings.get("_withheld"), settings.get("_pickled")
    if not isinstance(told, dict):
        return {}
    texts = pickled if isinstance(pickled, dict) else {}
    return {key: Kept(str(why), texts.get(key)) for key, why in told.items()}


def still_withheld(model: Any) -> dict[str, Kept]:
    """Settings left in the file that the agent still lacks; some may have been set since."""
    own = vars(model)
    lacks = {key: kept for key, kept in withheld_in(own).items() if is_stand_in(key, own.get(key))}
    if "learning_rate" not in lacks and is_stand_in("lr_schedule", own.get("lr_schedule")):  # SB3 reads only the schedule
        lacks |= {key: kept for key, kept in withheld_in(own).items() if key == "learning_rate"}
    return lacks


def refusal(withheld: Mapping[str, str]) -> str:
    """The reason why an agent does not learn, and the remedy."""
    names = ", ".join(withheld)
    keywords = ", ".join(f"{name}=..." for name in withheld)
    custom = ", ".join(f"{name!r}: ..." for name in withheld)
    reasons = "; ".join(f"{name}: {why}" for name, why in withheld.items())
    return (
        f"This agent acts but does not learn: its file holds {names} as pickled code, which was not run ({reasons}). "
        f"If you trust whoever wrote the file, load it with trust=True (on the command line: --trust), or give your own: "
        f"load(..., {keywords}), or load(..., custom_objects={{{custom}}})."
    )


def check_may_learn(model: Any) -> None:
    """Raise if settings for learning were left in the file.

    :param model: any agent
    :raises UntrustedFileError: naming each of them
    """
    lacks = still_withheld(model)
    if lacks:
        raise UntrustedFileError(refusal({key: kept.why for key, kept in lacks.items()}))

"""What stands in a loaded agent where its file holds code that was not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rlspo.common.errors import UntrustedFileError

_building: ContextVar[bool] = ContextVar("building", default=False)
# Of an optimiser that is built before its saved state, learning rate included, is put into it.
_SMALL = 1e-9


class Withheld:
    """In place of a schedule or another setting that is pickled code: it may lie there, and refuses to be used.

    :param key: the setting
    :param why: what the pickle would have run
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
    """While an agent is built from its file, which asks schedules for a first value that is then replaced."""
    token = _building.set(True)
    try:
        yield
    finally:
        _building.reset(token)


def refusal(withheld: Mapping[str, str]) -> str:
    """Why an agent does not learn, and what to do."""
    names = ", ".join(withheld)
    custom = ", ".join(f"{name!r}: ..." for name in withheld)
    reasons = "; ".join(f"{name}: {why}" for name, why in withheld.items())
    return (
        f"This agent acts but does not learn: its file holds {names} as pickled code, which was not run ({reasons}). "
        f"If you trust whoever wrote the file, load it with trust=True (on the command line: --trust), or give your own: "
        f"load(..., custom_objects={{{custom}}})."
    )


def check_may_learn(model: Any) -> None:
    """Refuse to learn without settings that were left in the file.

    :param model: any agent
    :raises UntrustedFileError: naming each of them
    """
    withheld = getattr(model, "_withheld", None)
    if withheld:
        raise UntrustedFileError(refusal(withheld))

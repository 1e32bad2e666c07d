"""Mistakes that the user can mend, and the words that help to mend them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave. Its text is all that is shown, without a traceback; the exit code is 2."""


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like the given one, ignoring case, or None where none is similar.

    >>> nearest("lerning_rate", ["learning_rate", "n_steps"])
    'learning_rate'
    """
    by_lower_case = {name.lower(): name for name in allowed}
    found = difflib.get_close_matches(given.lower(), by_lower_case, n=1)
    return by_lower_case[found[0]] if found else None


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A sentence that names the nearest allowed name, or else all of them.

    >>> did_you_mean("lerning_rate", ["learning_rate", "n_steps"])
    "Did you mean 'learning_rate'?"
    >>> did_you_mean("qqq", ["learning_rate", "n_steps"])
    'Allowed: learning_rate, n_steps.'
    """
    names = sorted(set(allowed))
    guess = nearest(given, names)
    if guess is not None:
        return f"Did you mean {guess!r}?"
    return f"Allowed: {', '.join(names)}." if names else "None is allowed here."

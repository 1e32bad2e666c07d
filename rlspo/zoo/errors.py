"""Mistakes that the user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave. Its text is all that is shown, without a traceback; the exit code is 2."""

"""Mistakes that the user can correct."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user. Only its text is shown, without a traceback; the exit code is 2."""

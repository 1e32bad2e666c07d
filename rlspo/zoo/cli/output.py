"""Standard output that holds one JSON document and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def only_json(wanted: bool = True) -> Iterator[TextIO]:
    """Context in which whatever is printed goes to standard error, by environments in processes of their own, too.

    :param wanted: False: nothing is changed
    :return: where the JSON goes
    """
    out = sys.stdout
    if not wanted:
        yield out
        return
    try:
        numbers = out.fileno(), sys.stderr.fileno()
    except (OSError, io.UnsupportedOperation):  # no files: what a program has put in their place
        with contextlib.redirect_stdout(sys.stderr):
            yield out
        return
    out.flush()
    kept = os.dup(numbers[0])
    os.dup2(numbers[1], numbers[0])
    try:
        with contextlib.redirect_stdout(sys.stderr), open(kept, "w", encoding=out.encoding, closefd=False) as channel:
            yield channel
    finally:
        os.dup2(kept, numbers[0])
        os.close(kept)

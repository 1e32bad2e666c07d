"""``rlspo train``, also ``python -m rlspo.zoo.train``: train an agent, and write everything about the run to one folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rlspo.zoo.train.training import run


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code, see :func:`rlspo.zoo.train.training.run`
    """
    return run(sys.argv[1:] if argv is None else argv)

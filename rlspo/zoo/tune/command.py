"""``rlspo tune``, also ``python -m rlspo.zoo.tune``: search, validate on fresh seeds, and write the winner down."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from rlspo.zoo.cli import exit_codes
from rlspo.zoo.runs.folder import command_line
from rlspo.zoo.tune.arguments import asks_for_queue, parse, parse_queue
from rlspo.zoo.tune.queue import run_queue
from rlspo.zoo.tune.run import tune
from rlspo.zoo.tune.task import make_task


def main(argv: Sequence[str] | None = None) -> int:
    """Tune as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 1 nothing could be chosen or --apply was not justified, 2 a mistake in what was given, 130
        after Ctrl-C, 143 after SIGTERM
    """
    # Every finished seed is stored already: a signal may end it at once.
    return exit_codes.run(_work, argv, after_stop="The same command goes on from here.")


def _work(arguments: list[str]) -> int:
    """One study, or those of a queue."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if asks_for_queue(arguments):
        return run_queue(parse_queue(arguments))
    return tune(make_task(parse(arguments)), command_line(arguments, "tune"))

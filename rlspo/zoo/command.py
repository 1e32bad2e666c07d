"""What every command of the zoo does around its work: exit codes that scripts can trust, and mistakes told in one message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rlspo.zoo import display
from rlspo.zoo.errors import UserError

DONE, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def run(work: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Run a command that has nothing to save when it is interrupted.

    :param work: from arguments to an exit code
    :param argv: the arguments; None for those of this process
    :return: what ``work`` returned, 2 after a mistake in what was given, 130 after Ctrl-C
    """
    try:
        return work(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        display.error(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        display.note("Stopped by Ctrl-C.")
        return INTERRUPTED

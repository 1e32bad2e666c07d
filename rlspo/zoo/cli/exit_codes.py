"""Running a command of the zoo: well-defined exit codes, and one message for a mistake of the user."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence

from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.patience import patient_streams
from rlspo.zoo.cli.signals import Stopped, StopSignal
from rlspo.zoo.errors import UserError

DONE, FAILED, USER_ERROR = 0, 1, 2
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def run(work: Callable[[list[str]], int], argv: Sequence[str] | None, after_stop: str = "") -> int:
    """Run a command that a signal may stop at once: :class:`~rlspo.zoo.cli.signals.Stopped` unwinds it, so that it cleans up.

    :param work: from arguments to an exit code
    :param argv: the arguments; None for those of this process
    :param after_stop: a sentence to print after the signal
    :return: what ``work`` returned, 2 after a mistake in the arguments, 129 after SIGHUP, 130 after Ctrl-C, 143 after SIGTERM
    """
    stop = StopSignal()
    stop.patient = False
    return guarded(lambda: work(list(sys.argv[1:] if argv is None else argv)), stop, after_stop)


def guarded(work: Callable[[], int], stop: StopSignal, after_stop: str = "") -> int:
    """Do the work of a command, and print in one line why it ended early.

    :param stop: catches signals while the work is done
    :param after_stop: see :func:`run`
    :return: exit code, see :func:`run`
    """
    with patient_streams(), stop:
        try:
            return work()
        except UserError as error:
            terminal.error(str(error))
            return USER_ERROR
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            terminal.error(f"the disk is full: {error}")
            return FAILED
        except Stopped:
            terminal.note(f"Stopped by {stop.name}. {after_stop}".rstrip())
            return stop.exit_code

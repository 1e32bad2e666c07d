"""Where the trials of a study are kept: a journal in its own folder, or what the user names; for one program at a time."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from sqlalchemy.exc import DBAPIError

from rlspo.zoo.cli import terminal
from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs import lock
from rlspo.zoo.runs.evaluation_log import DamagedFile
from rlspo.zoo.tune.settings import StudyFolder

_TAIL = 1_000_000  # bytes at the end of a journal that its last entry is looked for in
#: Seconds to wait before each further attempt, while another program makes the tables of the same new database.
_PAUSES = (0.5, 1.0, 2.0, 4.0)
_BUSY = ("already exists", "locked", "UNIQUE constraint failed", "duplicate key", "Duplicate entry")


def only_one(folder: StudyFolder) -> contextlib.AbstractContextManager[None]:
    """Keep a second program out of a study's folder.

    :raises rlspo.zoo.jobs.lock.AtWork: if somebody works on it
    """
    return lock.only_one(
        folder.path,
        f"{folder.path}: another rlspo tune is at work on this study. For more speed give it more --workers; "
        "for a second study, another --study-name.",
    )


def open_storage(where: str | None, folder: StudyFolder) -> BaseStorage:
    """The storage of trials.

    :param where: a URL such as ``sqlite:///study.db`` or ``postgresql://...``, or the path of a journal file; None for the
        folder's own journal
    :raises UserError: if it cannot be opened
    """
    if where is None:
        _cut_torn_line(folder.journal)
        return open_journal(folder.journal)
    try:
        if "://" in where:
            return _database(where)
        # Whole paths: Optuna's lock is a link to the file, and one that leads nowhere is waited for without an end.
        path = Path(where).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            with path.open("rb") as file:
                begins = file.read(1)
            if begins not in (b"", b"{"):
                raise UserError(f"--storage {where} is no journal of Optuna. For a database: --storage sqlite:///{where}")
        return open_journal(path, _SharedLock(str(path)))
    except UserError:
        raise
    except Exception as error:  # of many kinds: drivers, servers, paths
        text = str(error).strip().splitlines()
        raise UserError(f"--storage {where}: cannot be opened: {text[0] if text else type(error).__name__}") from error


def _database(url: str) -> RDBStorage:
    """A database, whose tables another program may be making at this moment."""
    for pause in _PAUSES:
        try:
            return RDBStorage(url)
        except (DBAPIError, StorageInternalError) as error:
            if not any(word in str(error) for word in _BUSY):
                raise
            time.sleep(pause)
    return RDBStorage(url)


def open_journal(journal: Path, lock: JournalFileSymlinkLock | None = None) -> JournalStorage:
    """A journal.

    :param lock: by which programs take turns; None for the journal of a study's own folder, which :func:`only_one` keeps
        other writers out of
    :raises UserError: if it cannot be opened, :class:`~rlspo.zoo.runs.evaluation_log.DamagedFile` if it is damaged
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return JournalStorage(JournalFileBackend(str(journal), lock or _NoLock(journal)))
    except OSError as error:
        raise UserError(f"{journal}: cannot be opened: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # what Optuna makes of lines that are none of its own
        raise DamagedFile(
            f"{journal}: is damaged, at a line that is not an entry: {error}. Restore it from a copy, such as a "
            "commit; its trials cannot be recomputed."
        ) from error


class _NoLock(JournalFileOpenLock):
    """For the journal of a folder that :func:`only_one` keeps others out of; a kill leaves no lock of a file behind.

    It is asked for before every entry, and lets none follow on half of another: a disk may be full for a moment.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__("")
        self.journal = journal

    def acquire(self) -> bool:
        """Drop a torn last line; no other process has the journal open."""
        _cut_torn_line(self.journal)
        return True

    def release(self) -> None:
        """Does nothing: nothing was locked."""


class _SharedLock(JournalFileSymlinkLock):
    """Optuna's lock for a journal of several programs; an entry that one of them did not write whole is dropped."""

    def acquire(self) -> bool:
        """Wait for the others, then drop a torn last line."""
        super().acquire()
        try:
            _cut_torn_line(Path(self._lock_target_file))
        except BaseException:
            self.release()
            raise
        return True


def _cut_torn_line(journal: Path) -> None:
    """A full disk or a loss of power can cut off the last line of a journal; what follows it would then be lost, too.

    :raises DamagedFile: where more than the last line is no entry; then nothing is changed
    """
    if not journal.is_file() or _ends_whole(journal):
        return
    content = journal.read_bytes()
    *before, last = content.splitlines(keepends=True)
    if not (_is_entry(before[-1]) if before else last.startswith(b"{")):
        raise DamagedFile(f"{journal}: is damaged, or no journal: its last lines are no entries. Restore it from a copy.")
    with journal.open("r+b") as file:
        if file.seek(0, os.SEEK_END) == len(content):  # else another program has gone on
            file.truncate(len(content) - len(last))
            terminal.note(f"{journal}: the last entry was cut off and is dropped.")


def _ends_whole(journal: Path) -> bool:
    """Whether the last line is an entry, or there is none."""
    with journal.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - _TAIL, 0))
        tail = file.read()
    if len(tail) == _TAIL and b"\n" not in tail[:-1]:  # an entry longer than that
        return tail.endswith(b"}\n")
    return end == 0 or (tail.endswith(b"\n") and _is_entry(tail.splitlines()[-1]))


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def check_name(storage: BaseStorage, name: str, folder: StudyFolder) -> None:
    """Refuse to begin a study in the journal of another one.

    :raises UserError: naming the study that is there
    """
    known = optuna.get_all_study_names(storage)
    if known and name not in known:
        raise UserError(
            f"{folder.journal} is of the study {known[0]!r}, not of {name!r}. A study keeps its name: give that one, or a "
            "folder of its own."
        )

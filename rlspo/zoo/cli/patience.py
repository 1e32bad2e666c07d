"""Output that may fail without ending a run: on a full disk, or where the reader of standard output has gone away."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from rlspo.zoo.cli import terminal

_MOST_WAITING = 100_000_000  # bytes that are buffered for a file that cannot be written to


class BestEffort:
    """A context for optional work. A failure is reported once, and again only after the work has succeeded in between.

    >>> writing = BestEffort("status.json")
    >>> for number in (0, 1):
    ...     with writing:
    ...         _ = 1 // number
    >>> writing.failing
    False

    :param what: name of the work, for the note
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.failing = False

    def __enter__(self) -> BestEffort:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False
        if error is not None and not self.failing:
            terminal.note(f"{self.what}: {type(error).__name__}: {error}. The run goes on, and tries it again.")
        if error is None and self.failing:
            terminal.note(f"{self.what}: works again.")
        self.failing = error is not None
        return True


class PatientFile:
    """A file for appending. What cannot be written now is buffered and written later, in order and without gaps.

    :param file: appended to where it exists
    """

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        self._file = file.open("ab", buffering=0)
        self._waiting = bytearray()
        self._effort = BestEffort(str(file))

    def write(self, data: str | bytes) -> int:
        """Append text or bytes, now or later."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting += data.encode() if isinstance(data, str) else data
        self.flush()
        return len(data)

    def flush(self) -> None:
        """Write the buffer."""
        if not self._waiting:
            return
        with self._effort:
            while self._waiting:
                del self._waiting[: self._file.write(self._waiting)]

    def close(self) -> None:
        """Try once more to write the buffer, and close the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()


class _PatientStream:
    """Standard output or error that never fails: without a reader, output is dropped; on a full disk, some lines are lost."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not self._stream.closed:
            try:
                self._stream.write(text)
            except OSError as error:
                self._drop_output(error)
        return len(text)

    def flush(self) -> None:
        if not self._stream.closed:
            try:
                self._stream.flush()
            except OSError as error:
                self._drop_output(error)

    def _drop_output(self, error: OSError) -> None:
        """Redirect the stream to the null device where its reader is gone, also for child processes."""
        if error.errno == errno.ENOSPC:
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def patient_streams() -> Iterator[None]:
    """Within this context, standard output and error do not raise; a daemon, which has none, gets the null device."""
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:
        patient: list[Any] = [
            _PatientStream(opened.enter_context(open(os.devnull, "w", encoding="utf-8")) if stream is None else stream)
            for stream in before
        ]
        sys.stdout, sys.stderr = patient
        try:
            yield
        finally:
            for stream in patient:
                stream.flush()
            sys.stdout, sys.stderr = before

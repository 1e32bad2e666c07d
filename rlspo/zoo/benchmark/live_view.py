"""What is seen while a grid runs: one table of all runs in a terminal, else a line for each change. On standard error."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlspo.common.errors import printable
from rlspo.zoo.benchmark.grid_runs import GridRun
from rlspo.zoo.benchmark.progress import Progress, Watcher, seconds_left
from rlspo.zoo.cli import terminal

_REFRESH = 0.5  # seconds
_SEED_WIDTH, _OTHER_WIDTH = 13, 46  # columns of a terminal
_OTHER_LINES = 6  # of the terminal: borders and header of the table, the line below it, the cursor
_STYLES = {"waiting": "dim", "training": "cyan", "evaluating": "magenta", "done": "green", "failed": "bold red"}


@contextlib.contextmanager
def watching(
    runs: Sequence[GridRun], missing: Sequence[GridRun], progress: Mapping[str, Progress], jobs: int
) -> Iterator[Watcher]:
    """Show a grid while it runs.

    :param runs: all of it
    :param missing: those that are to be done now
    :param progress: by key, kept up to date by others
    :param jobs: runs at a time
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield Lines(missing)
        return
    board = Board(runs, missing, progress, jobs)
    with Live(board.render(console), console=console, auto_refresh=False) as live:
        try:
            yield _Live(board, live)
        finally:
            live.update(board.render(console), refresh=True)


class Lines:
    """One line for each change.

    :param missing: runs that are to be done
    """

    def __init__(self, missing: Sequence[GridRun]) -> None:
        self.total, self.over = len(missing), 0

    def changed(self, run: GridRun, progress: Progress) -> None:
        """Print a line."""
        more = ""
        if progress.state in ("done", "failed"):
            self.over += 1
            results = ", ".join(f"{name} {value:,.1f}" for name, value in progress.means.items())
            more = (
                f": {progress.reason.splitlines()[0] if progress.reason else results} ({terminal.duration(progress.seconds)})"
            )
        terminal.err().print(printable(f"[{self.over}/{self.total}] {run.key} {progress.state}{more}"), markup=False)

    def look(self) -> None:
        """Does nothing: only changes are printed."""


class _Live:
    """Redraws the table at a change, and every so often."""

    def __init__(self, board: Board, live: Live) -> None:
        self.board, self.live = board, live
        self._drawn = 0.0

    def changed(self, run: GridRun, progress: Progress) -> None:
        """Redraw at the next look."""
        self._drawn = 0.0

    def look(self) -> None:
        """Redraw, if it is time."""
        if time.monotonic() - self._drawn > _REFRESH:
            self._drawn = time.monotonic()
            self.live.update(self.board.render(self.live.console), refresh=True)


class Board:
    """The table of all runs.

    :param runs: all of the grid
    :param missing: those that are to be done now
    :param progress: by key
    :param jobs: runs at a time
    """

    def __init__(
        self, runs: Sequence[GridRun], missing: Sequence[GridRun], progress: Mapping[str, Progress], jobs: int
    ) -> None:
        self.runs, self.missing, self.progress, self.jobs = runs, missing, progress, jobs
        self.seeds = list(dict.fromkeys(run.seed for run in runs))
        self.rows: dict[tuple[str, str], list[GridRun]] = {}
        for run in runs:
            self.rows.setdefault((run.env, run.agent), []).append(run)

    def render(self, console: Console) -> Group:
        """The table, no larger than the terminal, and a line about all runs."""
        by_seed = len(self.seeds) * _SEED_WIDTH + _OTHER_WIDTH <= console.width
        lines = max(console.height - _OTHER_LINES, 3)
        separated = len(self.rows) + len({env for env, _ in self.rows}) <= lines
        table = Table()
        table.add_column("environment")
        table.add_column("agent")
        for title in [f"seed {seed}" for seed in self.seeds] if by_seed else ["seeds"]:
            table.add_column(title, justify="right" if by_seed else "left", min_width=10)
        table.add_column("steps/s", justify="right")
        shown, hidden = self._fitting(lines)
        last = None
        for env, agent in shown:
            row = self.rows[env, agent]
            if separated and last is not None and env != last:
                table.add_section()
            name, last = "" if env == last else env, env
            texts = self._seeds(row) if by_seed else [self._counts(row)]
            table.add_row(name, agent, *texts, self._speed(row))
        parts: list[Table | Text] = [table]
        if hidden:
            runs = [run for key in hidden for run in self.rows[key]]
            parts.append(Text(f"and {len(hidden)} more rows: ") + self._counts(runs))
        return Group(*parts, self._caption())

    def _fitting(self, lines: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Rows to show and rows to sum up: where they do not all fit, those where something happens go first."""
        if len(self.rows) <= lines:
            return list(self.rows), []

        def rank(key: tuple[str, str]) -> int:
            states = {self.progress[run.key].state for run in self.rows[key]}
            return 0 if states & {"training", "evaluating", "failed"} else 1 if "waiting" in states else 2

        first = sorted(self.rows, key=rank)[: lines - 1]
        return [key for key in self.rows if key in first], [key for key in self.rows if key not in first]

    def _seeds(self, row: Sequence[GridRun]) -> list[Text]:
        """One text for each seed."""
        by_seed = {run.seed: run for run in row}
        return [self._run(by_seed[seed]) if seed in by_seed else Text("") for seed in self.seeds]

    def _run(self, run: GridRun) -> Text:
        """How far one run is."""
        progress = self.progress[run.key]
        text = progress.state
        if progress.state == "training":
            text = f"{progress.steps / run.n_timesteps:.0%}"
        elif progress.state == "evaluating":
            text = f"evaluated {progress.evaluated}/{len(run.evaluations)}"
        elif progress.state == "done" and progress.means:
            text = f"{next(iter(progress.means.values())):,.1f}"
        return Text(text, style=_STYLES[progress.state])

    def _counts(self, runs: Sequence[GridRun]) -> Text:
        """How many runs are in which state."""
        counts = Counter(self.progress[run.key].state for run in runs)
        parts = [Text(f"{counts[state]} {state}", style=style) for state, style in _STYLES.items() if counts[state]]
        return Text(", ").join(parts)

    def _speed(self, row: Sequence[GridRun]) -> str:
        """Steps per second of one training, over those known."""
        known = [self.progress[run.key].steps_per_second for run in row if self.progress[run.key].steps_per_second]
        return f"{sum(known) / len(known):,.0f}" if known else ""

    def _caption(self) -> Text:
        """All runs in a line."""
        states = Counter(self.progress[run.key].state for run in self.runs)
        running = states["training"] + states["evaluating"]
        text = f"{states['done']} of {len(self.runs)} done, {running} running"
        if states["failed"]:
            text += f", {states['failed']} failed"
        left = seconds_left(self.missing, self.progress, self.jobs)
        if left is not None:
            text += f", {terminal.duration(left)} left"
        first = next(iter(self.runs[0].evaluations), "")
        return Text(f"{text}; numbers: mean return, {first}" if states["done"] else text, no_wrap=True, overflow="ellipsis")

"""What the user sees while a study runs: bars where there is a terminal, a line for every trial where there is none."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bars:
    """A bar for all that is to be done, and one for each piece under way.

    :param title: of the bar for everything
    :param total: pieces in all
    :param done: pieces that were done before
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.total, self.before = total, done
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.shares: dict[str, float] = {}
        self.finished = 0
        self.tasks: dict[str, TaskID] = {}
        self.whole = self.progress.add_task(title, total=total - done, state=f"{done}/{total}")

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def update(self, name: str, share: float) -> None:
        """A piece has this share behind it."""
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(f"  {name}", total=1.0, state="")
        self.shares[name] = share
        self.progress.update(self.tasks[name], completed=share, state=f"{share:.0%}")
        self._show()

    def end(self, name: str, text: str, counts: bool = True) -> None:
        """A piece is over.

        :param text: how
        :param counts: False if it will be done again
        """
        task = self.tasks.pop(name, None)
        if task is not None:
            self.progress.remove_task(task)
        self.shares.pop(name, None)
        self.finished += counts
        self.console.print(f"{name}: {text}")
        self._show()

    def _show(self) -> None:
        done = self.finished + sum(self.shares.values())
        self.progress.update(self.whole, completed=done, state=f"{self.before + self.finished}/{self.total}")


class TrialBars:
    """The bars of a search; a :class:`~rlspo.zoo.tune.search.Watcher`.

    :param best: gives the best value so far in words
    """

    def __init__(self, bars: Bars, best: Callable[[], str]) -> None:
        self.bars, self.best = bars, best

    def began(self, number: int) -> None:
        """A trial has begun."""
        self.bars.update(f"trial {number}", 0.0)

    def progressed(self, number: int, share: float) -> None:
        """A trial goes on."""
        self.bars.update(f"trial {number}", share)

    def ended(self, number: int, text: str, counts: bool) -> None:
        """A trial is over."""
        best = self.best()
        self.bars.end(f"trial {number}", f"{text}   (best: {best})" if best else text, counts)

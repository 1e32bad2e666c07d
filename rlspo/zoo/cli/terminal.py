"""Output on the terminal: headings, warnings, errors and tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlspo.common.errors import printable

_LABEL = 16  # width of the labels on the left
_FILE_WIDTH = 140


def out() -> Console:
    """Standard output, as it is now."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error, as it is now."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def wide() -> Console:
    """Standard output for tables of many columns: as wide as the terminal, or wide enough for a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


def error(message: str) -> None:
    """One clear message on standard error."""
    console = err()
    console.print(Text("error: ", style="bold red"), Text(printable(message)), sep="")


def note(message: str) -> None:
    """One line on standard error that does not stop the command."""
    err().print(Text(printable(message), style="yellow"))


def warning(title: str, message: str) -> None:
    """A box on standard error that cannot be overlooked."""
    panel = Panel(
        Text(printable(message)), title=f"[bold]{escape(printable(title))}[/bold]", border_style="bold red", padding=(0, 1)
    )
    Console(stderr=True, highlight=False).print(panel)


def heading(text: str) -> None:
    """Print a line in bold, after an empty one."""
    out().print(Text(f"\n{printable(text)}", style="bold"))


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Labels and values, one to a line; only sentences are wrapped, so that paths and commands can be copied."""
    console = out()
    for label, value in pairs:
        indent = " " * (_LABEL + 2)
        if value.endswith("."):
            value = textwrap.fill(value, max(console.width, 60), initial_indent=indent, subsequent_indent=indent).lstrip()
        console.print(Text(f"  {label:<{_LABEL}}", style="cyan"), Text(printable(value)), sep="")


def returns(rows: Mapping[str, np.ndarray], caption: str) -> None:
    """A table of returns: mean and standard deviation over episodes, and the worst of the attacks."""
    table = Table()
    table.add_column("observations")
    for column in ("mean return", "std", "lowest", "of natural"):
        table.add_column(column, justify="right")
    attacks = {name: float(episodes.mean()) for name, episodes in rows.items() if name != "natural"}
    worst = min(attacks, key=attacks.__getitem__) if attacks else None
    natural = float(rows["natural"].mean())
    for name, episodes in rows.items():
        label = name if name == "natural" else f"{_ATTACKS.get(name, name)} attack"
        share = f"{episodes.mean() / natural:.0%}" if natural > 0 else "-"
        table.add_row(
            label + (" (worst)" if name == worst else ""),
            f"{episodes.mean():,.1f}",
            f"{episodes.std():,.1f}",
            f"{episodes.min():,.1f}",
            share,
            style="bold" if name in ("natural", worst) else "",
            end_section=name == "natural",
        )
    Console(highlight=False).print(table)
    out().print(Text(caption, style="dim"))


_ATTACKS = {"mad": "MAD"}


def number(value: float) -> str:
    """A number as text, with decimals that fit its size: returns may be thousands, or hundredths.

    >>> number(4321.5), number(-1.0), number(0.01234)
    ('4,321.5', '-1.00', '0.0123')
    """
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:#.3g}"


def duration(seconds: float) -> str:
    """A duration as text.

    >>> duration(0.42), duration(9.7), duration(306), duration(7384)
    ('0.4 s', '10 s', '5 min 06 s', '2 h 03 min')
    """
    whole = round(seconds)
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

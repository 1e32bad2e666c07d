"""``rlspo plot``: the command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE
from rlspo.zoo.cli.parser import Pairs, Parser, positive
from rlspo.zoo.config.atomic import check_place
from rlspo.zoo.errors import UserError
from rlspo.zoo.plot import bars, curves, improvement, profiles, style
from rlspo.zoo.plot.numbers import write_csv
from rlspo.zoo.plot.picture import Options, Picture
from rlspo.zoo.plot.runs import Run, env_label
from rlspo.zoo.plot.selection import choose, labelled, mixtures
from rlspo.zoo.plot.sources import Found, find

_DESCRIPTION = """\
Draw runs: learning curves, final scores, performance profiles, probabilities of improvement.

Runs of the same agent in the same environment are put together by the interquartile mean, with a 95 % bootstrap interval.
A PATH is a run folder, a folder of run folders, the folder of a grid of `rlspo benchmark`, or one of its tables, results.csv
or curves.csv. Run folders of rl-baselines3-zoo, and of SB3's EvalCallback and Monitor, are read as well."""

_EXAMPLES = """\
examples:
  learning curves of everything under logs: a panel for each environment, a line for each agent
      rlspo plot logs
  against wall time, as PNG and SVG, with the numbers
      rlspo plot logs/ppo logs/barpo -x time -o curves.png --svg --csv curves.csv
  training episodes instead of evaluations, a moving mean of 100 of them
      rlspo plot logs/ppo/CartPole-v1_1 --metric train --smooth 100
  lengths of training episodes, and success rates of evaluations up to a million steps
      rlspo plot logs --metric train -y length
      rlspo plot logs -y success -max 1e6
  two variants of one agent, by names of your own
      rlspo plot --labels narrow=logs/narrow wide=logs/wide
  final scores of a grid, with true observations and under attack
      rlspo plot zoo/results/robustness_hopper --kind bars
  performance profiles, and how likely one agent beats another
      rlspo plot logs/benchmark/quick_cartpole --kind profiles
      rlspo plot logs/benchmark/quick_cartpole --kind improvement --baseline sb3-ppo

Exit code: 0 done, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM."""

KINDS: dict[str, Callable[[Sequence[Run], Options], Picture]] = {
    "curves": curves.draw,
    "bars": bars.draw,
    "profiles": profiles.draw,
    "improvement": improvement.draw,
}
#: Flags that only some kinds use.
_ONLY = {
    "x": ("curves",),
    "y": ("curves",),
    "max_timesteps": ("curves",),
    "min_timesteps": ("curves",),
    "metric": ("curves",),
    "smooth": ("curves",),
    "returns": ("curves",),
    "evaluations": ("bars", "profiles", "improvement"),
    "normalize": ("profiles",),
    "baseline": ("improvement",),
}
_FORMATS = (".png", ".svg", ".pdf")


def build_parser() -> Parser:
    """All flags of ``rlspo plot``."""
    parser = Parser("plot", _DESCRIPTION, _EXAMPLES, "plot PATH [PATH ...] [--kind KIND] [-o FILE] [...]")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="run folders, folders of them, grids, tables")
    parser.add_argument("--kind", choices=KINDS, help="what to draw (default: curves, or bars where there are none)")
    group = parser.add_argument_group("which runs")
    group.add_argument(
        "--labels", nargs="+", default=[], metavar="NAME=PATH", help="more paths, with the name their agent is to have"
    )
    group.add_argument(
        "-f", "--exp-folders", "--exp-folder", nargs="+", default=[], type=Path, metavar="PATH", help="more paths"
    )
    group.add_argument("-e", "--env", nargs="+", default=[], metavar="ENV", help="only these environments, in this order")
    group.add_argument(
        "-a", "--agents", "--algos", "--algo", nargs="+", default=[], metavar="AGENT", help="only these agents, in this order"
    )
    group.add_argument("--by", choices=("agent", "run"), default="agent", help="one line for each (default: %(default)s)")
    group = parser.add_argument_group("learning curves")
    group.add_argument("-x", "--x-axis", dest="x", choices=("steps", "time", "episodes"), help="the x-axis (default: steps)")
    group.add_argument(
        "-y",
        "--y-axis",
        dest="y",
        choices=("return", "reward", "length", "success"),
        help="the y-axis: returns, also called reward; lengths of episodes; success rates, where the environment reports "
        "them (default: return)",
    )
    group.add_argument(
        "-max", "--max-timesteps", type=positive, metavar="STEPS", help="draw no more than so many steps (default: all)"
    )
    group.add_argument(
        "-min", "--min-timesteps", type=positive, metavar="STEPS", help="leave out runs that are shorter (default: none)"
    )
    group.add_argument(
        "--metric", choices=("eval", "train"), help="evaluations or training episodes (default: eval, where there are any)"
    )
    group.add_argument(
        "-w",
        "--smooth",
        "--episode-window",
        type=positive,
        metavar="N",
        help="moving mean of N evaluations (default: 1) or training episodes (20)",
    )
    group.add_argument(
        "--returns", nargs=2, type=float, metavar=("LOW", "HIGH"), help="the part of the y-axis that is shown (default: all)"
    )
    group = parser.add_argument_group("final scores")
    group.add_argument(
        "--evaluations", nargs="+", metavar="NAME", help="only these, such as natural and mad; worst is the worst attack"
    )
    group.add_argument(
        "--normalize",
        nargs="+",
        action=Pairs,
        default={},
        metavar="ENV:[LOW,HIGH]",
        help="returns that count as 0 and 1 (default: those of the grid, else the lowest and highest score)",
    )
    group.add_argument("--baseline", metavar="AGENT", help="compare with this one only (default: that of the grid, else all)")
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".png, .svg or .pdf (default: plots/KIND.png in the folder given)"
    )
    group.add_argument("--svg", action="store_true", help="an SVG file beside it")
    group.add_argument("--title", metavar="TEXT", help="above the picture")
    group.add_argument("--csv", type=Path, metavar="FILE", help="the numbers behind the picture")
    group.add_argument("--json", action="store_true", help="what was drawn and written, as JSON on standard output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM
    """
    return exit_codes.run(_work, argv)


def _work(arguments: list[str]) -> int:
    """Check the command line, read the runs, draw, and report the files."""
    args = build_parser().read(arguments)
    args.paths += args.exp_folders
    named = labelled(args.labels)
    if not args.paths and not named:
        raise UserError("give a folder of runs, such as: rlspo plot logs")
    _check_places(args)
    found = find(args.paths, named)
    runs = _readable(choose(found.runs, args.env, args.agents, args.by == "run"), found.notes)
    kind = args.kind or ("curves" if _have_curves(runs, args.metric) else "bars")
    _check_flags(args, kind)
    with style.drawing():
        picture = KINDS[kind](runs, _options(args, found))
        files = _files(args, kind)
        try:
            for file in files:
                style.save(picture.figure, file)
            if args.csv is not None:
                write_csv(picture.rows, args.csv)
        except OSError as error:
            place = error.filename or ", ".join(map(str, files))  # of a full disk there is no name
            raise UserError(f"cannot write {place}: {error.strerror}. Name another place: -o FILE, --csv FILE") from error
    notes = [*found.notes, *mixtures(runs), *picture.notes]
    for note in notes:
        terminal.note(note)
    if args.json:
        print(json.dumps(_summary(args, kind, runs, files, notes), indent=2))
    else:
        numbers = [] if args.csv is None else [("numbers", str(args.csv))]
        terminal.facts([*(("picture", str(file)) for file in files), *numbers])
    return DONE


def _check_places(args: argparse.Namespace) -> None:
    """Refuse files that cannot be written, before any time is spent."""
    if args.output is not None and args.output.suffix not in _FORMATS:
        raise UserError(f"--output {args.output}: the name must end in {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}.")
    check_place("--output", args.output)
    check_place("--csv", args.csv)


def _readable(runs: Sequence[Run], notes: list[str]) -> list[Run]:
    """Read the runs, with a progress bar, and leave out those that cannot be: one broken file must not stop the others.

    :param notes: what was left out is added here
    """
    console = Console(stderr=True)
    found, broken = [], []
    for run in track(runs, "reading runs", console=console, transient=True, disable=not console.is_terminal):
        try:
            _ = (run.evaluations, run.scores)  # both are cached
            found.append(run)
        except UserError as error:
            broken.append(f"Left out: {error}")
    if not found:
        raise UserError(" ".join(broken))
    notes += broken
    return found


def _have_curves(runs: Sequence[Run], metric: str | None) -> bool:
    """Whether there is a learning curve."""
    return any(run.evaluations is not None or (metric != "eval" and run.training is not None) for run in runs)


def _check_flags(args: argparse.Namespace, kind: str) -> None:
    """Refuse flags that this kind of picture would ignore."""
    for name, kinds in _ONLY.items():
        if getattr(args, name) and kind not in kinds:
            flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is for --kind {' and '.join(kinds)}; this picture is of the kind {kind}.")


def _options(args: argparse.Namespace, found: Found) -> Options:
    """Options of the picture: from the command line, else from the grid."""
    ranges = dict(found.normalize)
    for env, pair in args.normalize.items():
        low, high = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high):
            raise UserError(f"--normalize: {env}:{pair} is not of the form ENV:[LOW,HIGH], such as 'CartPole-v1:[0, 500]'.")
        ranges[env_label(env)] = (float(low), float(high))
    if args.returns is not None and not args.returns[0] < args.returns[1]:
        raise UserError(f"--returns: {args.returns[0]:g} and {args.returns[1]:g} must be a low and a higher return.")
    agents = {run.agent for run in found.runs}
    of_grid = found.baseline if found.baseline in agents and not args.agents and args.by == "agent" else None
    return Options(
        metric=args.metric,
        measure=args.y if args.y in ("length", "success") else "return",
        along=args.x or "steps",
        last=args.max_timesteps,
        least=args.min_timesteps,
        smooth=args.smooth,
        returns=None if args.returns is None else tuple(args.returns),
        evaluations=args.evaluations or (),
        normalize=ranges,
        baseline=args.baseline or of_grid,
        title=args.title,
    )


def _files(args: argparse.Namespace, kind: str) -> list[Path]:
    """The files of the picture. The default folder is made if needed."""
    if args.output is not None:
        first: Path = args.output
    else:
        single = args.paths[0] if len(args.paths) == 1 and not args.labels else Path()
        first = (single if single.is_dir() else single.parent) / "plots" / f"{kind}.png"
        try:
            first.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {first.parent}: {error.strerror}. Name a file: -o FILE.png") from error
    return list(dict.fromkeys([first, first.with_suffix(".svg")] if args.svg else [first]))


def _summary(
    args: argparse.Namespace, kind: str, runs: Sequence[Run], files: Sequence[Path], notes: list[str]
) -> dict[str, Any]:
    """What was drawn and written, as plain data."""
    return {
        "kind": kind,
        "files": [str(file) for file in files],
        "csv": None if args.csv is None else str(args.csv),
        "envs": list(dict.fromkeys(run.env for run in runs)),
        "agents": list(dict.fromkeys(run.agent for run in runs)),
        "runs": [{"agent": run.agent, "env": run.env, "name": run.name, "source": str(run.source)} for run in runs],
        "notes": notes,
    }

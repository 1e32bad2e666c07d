"""``rlspo experts``, also ``python -m rlspo.zoo.experts``: a map of which expert of a mixture acts where."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE
from rlspo.zoo.cli.parser import Parser, positive, seed
from rlspo.zoo.config.atomic import check_place, whole
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import SEED
from rlspo.zoo.experts.map import FEWEST, Array, Steps, act, draw, neighbours, principal
from rlspo.zoo.runs.agent_flags import add_agent_flags, agent_from

_DESCRIPTION = """\
Draw which expert of a mixture acts where.

The agent acts, and every step becomes a point: the input of the network, projected to a plane, in the colour of the expert
that acted. Beside it: how often each expert acts, and a histogram of every component of its actions."""

_EXAMPLES = """\
examples:
  the last agent of a run, in logs/sac/Hopper-v5_1/experts.png
      rlspo experts logs/sac/Hopper-v5_1
  a map that keeps neighbours together (t-SNE; pip install scikit-learn), sampled actions, the numbers as CSV
      rlspo experts logs/sac/Hopper-v5_1 --tsne --stochastic -o map.png --csv map.csv

Exit code: 0 done, 1 the environment failed, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM."""


def build_parser() -> Parser:
    """All flags of ``rlspo experts``."""
    parser = Parser("experts", _DESCRIPTION, _EXAMPLES, "experts PATH [--tsne] [-o FILE.png] [...]")
    add_agent_flags(parser)
    group = parser.add_argument_group("how it acts")
    group.add_argument("-n", "--steps", type=positive, default=2000, metavar="N", help="points (default: %(default)s)")
    group.add_argument("--stochastic", action="store_true", help="sample experts and actions, as in training")
    group.add_argument("--seed", type=seed, default=SEED, metavar="N", help="of everything random (default: %(default)s)")
    group = parser.add_argument_group("what is drawn")
    group.add_argument("--tsne", action="store_true", help="a t-SNE in place of a PCA: pip install scikit-learn")
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="PNG, SVG or PDF (default: experts.png, in the run)")
    group.add_argument("--csv", type=Path, metavar="FILE", help="the points: position, expert and action of every step")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 1 the environment failed, 2 a mistake in what was given, 130 and 143 after signals
    """
    return exit_codes.run(_work, argv)


def _work(arguments: list[str]) -> int:
    args = build_parser().read(arguments)
    agent = agent_from(args)
    file: Path = args.output or agent.output_folder / "experts.png"
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"-o {file}: a picture ends in .png, .svg or .pdf.")
    if args.steps < FEWEST:
        raise UserError(f"-n {args.steps}: a map needs at least {FEWEST} points.")
    check_place("-o", file)
    check_place("--csv", args.csv)
    steps = act(agent, args.steps, not args.stochastic, args.seed, "cpu" if args.device == "auto" else args.device)
    places, names = _places(steps, args)
    how = "sampled" if args.stochastic else "deterministic"
    draw(steps, places, names, f"{agent.title}\n{how} actions", file)
    if args.csv is not None:
        _write_numbers(args.csv, steps, places)
    shares = np.bincount(steps.experts, minlength=steps.n_experts) / len(steps.experts)
    terminal.heading(agent.title)
    terminal.facts([(f"expert {k}", f"{share:.1%} of {len(steps.experts):,} steps") for k, share in enumerate(shares)])
    terminal.facts([("picture", str(file)), *([("numbers", str(args.csv))] if args.csv is not None else [])])
    return DONE


def _places(steps: Steps, args: argparse.Namespace) -> tuple[Array, tuple[str, str]]:
    if args.tsne:
        return neighbours(steps.seen), ("t-SNE 1", "t-SNE 2")
    places, shares = principal(steps.seen)
    first, second = (f"principal component {i + 1}, {share:.0%} of the variance" for i, share in enumerate(shares))
    return places, (first, second)


def _write_numbers(file: Path, steps: Steps, places: Array) -> None:
    header = ["x", "y", "expert", *(f"a{i}" for i in range(steps.actions.shape[1]))]
    rows = np.concatenate([places, steps.experts[:, None], steps.actions], axis=1)
    with whole(file) as partial:
        np.savetxt(
            partial,
            rows,
            fmt=["%.6g", "%.6g", "%d", *["%.6g"] * steps.actions.shape[1]],
            delimiter=",",
            header=",".join(header),
            comments="",
        )

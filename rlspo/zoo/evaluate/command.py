"""``rlspo evaluate``, also ``python -m rlspo.zoo.evaluate``: evaluate a saved agent over many whole episodes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rlspo.adversary import SOLVERS
from rlspo.attacks import ATTACKS
from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE
from rlspo.zoo.cli.output import only_json
from rlspo.zoo.cli.parser import Parser, positive, radius, seed
from rlspo.zoo.cli.terminal import number
from rlspo.zoo.config.atomic import check_place
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import SEED, SIDE_BY_SIDE, EvaluationResult, Searched, evaluate, summary_of
from rlspo.zoo.evaluate.searching import add_search_flags, budget_from
from rlspo.zoo.runs.agent_flags import add_agent_flags, agent_from
from rlspo.zoo.runs.saved_agent import SavedAgent

__all__ = ["EvaluationResult", "evaluate", "main"]

_DESCRIPTION = """\
Evaluate a saved agent over many whole episodes.

The environment is built as in training: arguments, wrappers, and the statistics of its observations. Every copy of the
environment runs the same number of episodes from its own seed, so short episodes do not count more often than long ones."""

_EXAMPLES = """\
examples:
  the last agent of a run, 100 episodes
      rlspo evaluate logs/ppo/CartPole-v1_1
  the best one, and a checkpoint
      rlspo evaluate logs/ppo/CartPole-v1_1 --which best
      rlspo evaluate logs/ppo/CartPole-v1_1 --which 10000
  sampled actions, more episodes, another seed
      rlspo evaluate logs/ppo/CartPole-v1_1 --stochastic -n 500 --seed 7
  under attack
      rlspo evaluate logs/barpo/Hopper-v5_1 --attack mad --epsilon 0.075
  by search, beside the policy alone; a smaller and a greedier search
      rlspo evaluate logs/spo/rlspo-RubiksCube-v0_1 --search
      rlspo evaluate logs/ppo/CartPole-v1_1 --search --particles 16 --depth 4 --search-kl 1
  in a changed environment
      rlspo evaluate logs/barpo/Hopper-v5_1 --env-kwargs reset_noise_scale:0.1
  a file of stable-baselines3, with the statistics of its VecNormalize
      rlspo evaluate sac.zip --env Pendulum-v1 --vecnormalize vecnormalize.pkl
  for scripts: every episode and the summary as JSON on standard output; every episode as CSV
      rlspo evaluate logs/ppo/CartPole-v1_1 --json > evaluation.json
      rlspo evaluate logs/ppo/CartPole-v1_1 --csv episodes.csv

Agents of others are read as data; --trust runs the code in their files.
Exit code: 0 done, 1 the environment failed, 2 a mistake in what was given, 130 stopped by Ctrl-C,
143 by SIGTERM."""


def build_parser() -> Parser:
    """All flags of ``rlspo evaluate``."""
    parser = Parser("evaluate", _DESCRIPTION, _EXAMPLES, "evaluate PATH [--which WHICH] [-n EPISODES] [...]")
    add_agent_flags(parser)
    group = parser.add_argument_group("how it is evaluated")
    group.add_argument(
        "-n", "--n-episodes", type=positive, default=100, metavar="N", help="whole episodes (default: %(default)s)"
    )
    group.add_argument(
        "--n-envs", type=positive, metavar="N", help=f"environments side by side (default: {SIDE_BY_SIDE}, or one per episode)"
    )
    actions = group.add_mutually_exclusive_group()
    actions.add_argument("--deterministic", action="store_true", help="take the mode of the policy (this is the default)")
    actions.add_argument("--stochastic", action="store_true", help="sample actions, as in training")
    group.add_argument(
        "--seed",
        type=seed,
        default=SEED,
        metavar="N",
        help="of everything random (default: %(default)s, for all agents alike)",
    )
    group.add_argument("--attack", choices=ATTACKS, help="perturb every observation")
    group.add_argument(
        "--epsilon",
        type=radius,
        metavar="EPS",
        help="radius of the attack, in units of the network's input (default: that of training, else 0.075; images: 1/255)",
    )
    group.add_argument(
        "--solver",
        choices=SOLVERS,
        help="search of the critic or the mad attack; power is the strongest on robust agents (default: as published)",
    )
    add_search_flags(parser)
    group = parser.add_argument_group("what is written")
    group.add_argument("--csv", type=Path, metavar="FILE", help="one row for each episode")
    group.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="every episode and the summary; without FILE on standard output, and nothing else there",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM
    """
    return exit_codes.run(_work, argv)


def _work(arguments: list[str]) -> int:
    """Check the command line, evaluate, and write the results."""
    args = build_parser().read(arguments)
    _check(args)
    budget = budget_from(args)
    # What environments print must not get into the JSON.
    with only_json(args.json == "-"):
        agent = agent_from(args)
        with _progress(agent, args.n_episodes * (1 if budget is None else 2)) as on_episode:
            evaluation = evaluate(
                agent,
                args.n_episodes,
                args.n_envs,
                deterministic=not args.stochastic,
                seed=args.seed,
                attack=args.attack,
                epsilon=args.epsilon,
                device=args.device,
                on_episode=on_episode,
                search=budget,
                solver=args.solver,
            )
    # Shown first: a disk may be full, and the episodes are played.
    if args.json == "-":
        print(json.dumps(evaluation.as_dict(), indent=2), flush=True)
    else:
        show(evaluation)
    if args.csv is not None:
        evaluation.write_csv(args.csv)
    if args.json == "-":
        return DONE
    if args.json is not None:
        evaluation.write_json(Path(args.json))
    terminal.facts([("written", str(file)) for file in (args.csv, args.json) if file is not None])
    return DONE


def _check(args: argparse.Namespace) -> None:
    """Refuse contradictory flags and files that cannot be written, before any time is spent."""
    if args.epsilon is not None and args.attack is None:
        raise UserError(f"--epsilon is the radius of an attack. Name one too: --attack {', '.join(ATTACKS)}")
    if args.solver is not None and args.attack in (None, "random"):
        raise UserError("--solver is the search of an attack that searches. Name one too: --attack critic or --attack mad.")
    if args.path is None and args.json not in (None, "-") and args.algo is None:
        raise UserError(f"--json reads {args.json!r} as its file, so that no agent is given. Put the agent first.")
    check_place("--csv", args.csv)
    check_place("--json", None if args.json in (None, "-") else Path(args.json))


@contextmanager
def _progress(agent: SavedAgent, n_episodes: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error with the time left; nothing where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{agent.algo} on {agent.env}: episodes", total=n_episodes)
        yield lambda: progress.advance(task)


def show(evaluation: EvaluationResult) -> None:
    """Print how the agent was evaluated, and the statistics as a table."""
    agent, summary = evaluation.agent, evaluation.summary()
    facts = [
        ("model", f"{agent.model_file} ({agent.which})" if agent.which not in ("file", "export") else str(agent.model_file)),
        ("trained for", f"{agent.num_timesteps:,} steps"),
        ("episodes", f"{len(evaluation.returns):,}"),
        ("environments", f"{evaluation.n_envs}, seeds from {evaluation.seed}"),
        ("actions", "deterministic" if evaluation.deterministic else "sampled"),
    ]
    if agent.recipe.env_kwargs:
        facts.append(("env_kwargs", str(agent.recipe.env_kwargs)))
    if evaluation.attack is not None:
        by = "" if evaluation.solver is None else f" by {evaluation.solver}"
        facts.append(("attack", f"{evaluation.attack}{by}, epsilon {evaluation.epsilon:.4g} of the network's input"))
    terminal.heading(f"{agent.algo} on {agent.env}")
    if evaluation.searched is not None:
        facts += _cost(evaluation.searched)
        summaries = [summary, summary_of(evaluation.searched.episodes)]
    else:
        summaries = [summary]
    terminal.facts(facts)
    Console(highlight=False).print(_table(summaries))


def _cost(searched: Searched) -> list[tuple[str, str]]:
    """The settings and the cost of a search, as labels and values."""
    data = searched.as_dict()
    settings = data["settings"]
    how = [f"{settings['n_particles']} particles", f"depth {settings['depth']}"]
    greed = settings["temperature"]
    how.append(f"temperature {greed:.3g}" if greed is not None else f"search_kl {settings['search_kl']:g}")
    steps = f"{data['model_steps']:,}, {data['model_steps_per_real_step']:,.1f} for each step of the environment"
    return [("search", ", ".join(how)), ("model steps", f"{steps}, {data['model_steps_per_second']:,.0f} per second")]


def _table(summaries: list[dict[str, Any]]) -> Table:
    """The statistics: one column for the policy, and one for the search."""
    table = Table()
    table.add_column("return")
    for title in ("policy", "search") if len(summaries) > 1 else ("",):
        table.add_column(title, justify="right")

    def row(name: str, text: Callable[[dict[str, Any]], str], last: bool = False) -> None:
        table.add_row(name, *map(text, summaries), style="bold" if name == "IQM" else "", end_section=last)

    row("mean", lambda of: number(of["mean"]))
    row("standard deviation", lambda of: number(of["std"]))
    row("median", lambda of: number(of["median"]))
    row("IQM", lambda of: number(of["iqm"]))
    row(
        f"{summaries[0]['confidence']:.0%} interval of the IQM",
        lambda of: " to ".join(map(number, of["iqm_interval"] or ())) or "-",
    )
    row("lowest", lambda of: number(of["min"]))
    row("highest", lambda of: number(of["max"]), last=True)
    row("mean length of an episode", lambda of: number(of["mean_length"]))
    if summaries[0]["success_rate"] is not None:
        row("success rate", lambda of: f"{of['success_rate']:.1%}")
    return table

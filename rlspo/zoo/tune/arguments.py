"""The command line of ``rlspo tune``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlspo.attacks import ATTACKS
from rlspo.common.registry import agent_names
from rlspo.zoo.cli.parser import Pairs, Parser, add_trust, hours, positive, radius, seed
from rlspo.zoo.errors import UserError
from rlspo.zoo.tune.samplers import PRUNERS, SAMPLERS

_DESCRIPTION = """\
Search for hyperparameters, and show on fresh seeds that they are better.

Every trial trains several seeds. Its value is the mean of the seeds' scores, and a seed's score is the interquartile mean of
the returns of fresh episodes at the end of its training. Trials that fall behind are pruned. In the end the best trials and
the untuned settings are trained again on seeds that the search has never seen; the best is printed as a YAML block.

The same command goes on with a study that was interrupted. Everything lies in one folder: logs/tune/STUDY/."""

_OF_QUEUE = """\
Work off a file of studies in order.

What a study leaves lies beside the file, in a folder of its name: studies.yml has studies/NAME/. That folder can be committed
and is all that a study needs to go on elsewhere. Stop it at any time, call it again, and it goes on."""

_EXAMPLES = """\
examples:
  forty trials in two processes
      rlspo tune --algo ppo --env Pendulum-v1 --n-trials 40 --n-timesteps 5e4 --workers 2
  go on with it until there are eighty
      rlspo tune --algo ppo --env Pendulum-v1 --n-trials 80 --n-timesteps 5e4 --workers 2
  what counts is the return under attack
      rlspo tune --algo barpo --env Hopper-v5 --n-trials 20 --n-timesteps 2e5 --attack mad
  your own search space, settings and environment
      rlspo tune --algo ppo --env MyEnv-v0 --gym-packages my_package --conf-file my.yml --space my_space.yml
  trials in a database
      rlspo tune --algo ppo --env Hopper-v5 --storage postgresql://user@host/studies --study-name hopper
  put the best into the file of hyperparameters, if it is shown to be better
      rlspo tune --algo ppo --env Pendulum-v1 --n-trials 40 --n-timesteps 5e4 --apply
  a file of studies, eight hours at a time; then what is done and what is left
      rlspo tune --queue zoo/studies.yml --hours 8
      rlspo tune --queue zoo/studies.yml --dry-run

a search space looks like this (hyperparams/ALGO.space.yml):
  default:
    learning_rate: {low: 1e-5, high: 3e-3, log: true}
    gamma: {low: 0.001, high: 0.1, log: true, one_minus: true}
    n_steps: {choices: [512, 1024, 2048]}
    policy_kwargs:
      net_arch: {choices: {small: [64, 64], large: [256, 256]}}

Exit code: 0 done, 1 nothing could be chosen, or --apply was not justified, 2 a mistake in what was given,
130 stopped by Ctrl-C, 143 stopped by SIGTERM."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    :raises UserError: for flags that do not exist or have values of the wrong form
    """
    if not arguments:
        raise UserError("give an agent and an environment, such as: rlspo tune --algo ppo --env Pendulum-v1 --n-trials 40")
    parser = Parser("tune", _DESCRIPTION, _EXAMPLES, "tune --algo ALGO --env ENV [--n-trials N] [--workers N] [...]")
    _add_task(parser)
    _add_search(parser)
    _add_evaluation(parser)
    _add_output(parser)
    _add_queue(parser)
    args = parser.read(arguments)
    alone = [flag for flag, given in (("--hours", args.hours), ("--only", args.only), ("--dry-run", args.dry_run)) if given]
    if alone:
        parser.error(f"{', '.join(alone)}: goes with --queue only.")
    if args.attack_epsilon is not None and args.attack is None:
        parser.error("--attack-epsilon: goes with --attack only.")
    return args


def asks_for_queue(arguments: Sequence[str]) -> bool:
    """Whether a command line names a file of studies rather than one study."""
    return any(word.partition("=")[0] == "--queue" for word in arguments)


def parse_queue(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line with ``--queue``.

    :raises UserError: for flags that do not exist or belong to a study, and values of the wrong form
    """
    parser = Parser("tune --queue", _OF_QUEUE, "", "tune --queue STUDIES.yml [--hours H] [--workers N] [--only NAME] [...]")
    _add_queue(parser)
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    parser.add_argument(
        "--apply",
        action="store_true",
        help="put what each study found into the files of hyperparameters; where it found nothing, into their provenance",
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON")
    add_trust(parser)
    return parser.read(arguments)


def study_flags() -> list[str]:
    """What a file of studies may say of one: names of flags, as keys."""
    parser = Parser("tune", "", "", "")
    _add_task(parser)
    _add_search(parser)
    _add_evaluation(parser)
    return sorted(action.dest for action in parser._actions if action.dest != "help")


def _add_queue(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a queue of studies, in place of one study")
    group.add_argument("--queue", type=Path, metavar="YML", help="the studies, in order; goes on where it was stopped")
    group.add_argument("--hours", type=hours, metavar="H", help="stop after so long (default: when all is done)")
    group.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these studies, with * for anything")
    group.add_argument("--dry-run", action="store_true", help="show what is done and what is left, and start nothing")


def _add_task(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to tune")
    group.add_argument("--algo", required=True, metavar="ALGO", help=f"the agent: {', '.join(agent_names())}, or a class")
    group.add_argument("--env", required=True, metavar="ENV", help="environment id, such as Hopper-v5")
    group.add_argument(
        "-n", "--n-timesteps", type=positive, metavar="STEPS", help="steps of one training (default: the block's)"
    )
    pairs: dict[str, Any] = {"action": Pairs, "nargs": "+", "default": {}, "metavar": "K:V"}
    group.add_argument(
        "-params", "--hyperparams", help="change keys of the block; those of the search space are fixed, not searched", **pairs
    )
    group.add_argument("--env-kwargs", help="arguments of the environment, for training and evaluation", **pairs)
    group.add_argument("--eval-env-kwargs", help="further arguments of the evaluation environment only", **pairs)
    group.add_argument("-conf", "--conf-file", type=Path, metavar="YML", help="hyperparameters to begin from")
    group.add_argument(
        "--vec-env",
        choices=("auto", "dummy", "subproc", "native"),
        default="auto",
        help="how they are stepped (default: %(default)s)",
    )
    group.add_argument("--gym-packages", nargs="+", default=[], metavar="MODULE", help="modules that register environments")


def _add_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the search")
    group.add_argument(
        "--n-trials",
        type=positive,
        default=50,
        metavar="N",
        help="of the study, earlier calls included (default: %(default)s)",
    )
    group.add_argument(
        "--n-seeds", type=positive, default=3, metavar="N", help="trainings of every trial (default: %(default)s)"
    )
    group.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="proposes settings (default: %(default)s)")
    group.add_argument("--pruner", choices=PRUNERS, default="median", help="prunes trials (default: %(default)s)")
    group.add_argument(
        "--n-startup-trials",
        type=positive,
        default=10,
        metavar="N",
        help="trials before the sampler learns from them: known settings, then random ones; they are never pruned "
        "(default: %(default)s)",
    )
    group.add_argument("--space", type=Path, metavar="YML", help="the search space (default: the agent's own)")
    group.add_argument(
        "--references",
        nargs="?",
        type=Path,
        const=True,
        metavar="YML",
        help="known settings, which are the first trials and must be beaten, too (without a file: the agent's own)",
    )
    group.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the search and the first training (default: %(default)s)"
    )


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--n-evaluations", type=positive, default=10, metavar="N", help="in each training (default: %(default)s)"
    )
    group.add_argument(
        "--eval-episodes", type=positive, default=5, metavar="N", help="of each on the way (default: %(default)s)"
    )
    group.add_argument(
        "--final-episodes", type=positive, default=20, metavar="N", help="of the one at the end (default: %(default)s)"
    )
    group.add_argument("--attack", choices=ATTACKS, help="evaluate under this attack (default: none)")
    group.add_argument(
        "--attack-epsilon", type=radius, metavar="EPS", help="its radius (default: the agent's own, else 0.075)"
    )
    group.add_argument(
        "--top", type=positive, default=3, metavar="N", help="trials that are validated on fresh seeds (default: %(default)s)"
    )
    group.add_argument(
        "--validation-seeds", type=positive, default=5, metavar="N", help="fresh seeds for each (default: %(default)s)"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it runs, and what is written")
    group.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: %(default)s)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    group.add_argument(
        "--storage",
        metavar="URL|FILE",
        help="of the trials: sqlite:///FILE, postgresql://..., or a journal (default: a journal)",
    )
    group.add_argument("--study-name", metavar="NAME", help="(default: ALGO_ENV)")
    group.add_argument(
        "-f", "--log-folder", type=Path, default=Path("logs"), metavar="DIR", help="of all runs (default: %(default)s)"
    )
    add_trust(group)
    group.add_argument(
        "--apply", action="store_true", help="put the best into the file of hyperparameters, if it is shown to be better"
    )
    group.add_argument("--json", action="store_true", help="print the report as JSON instead of tables")

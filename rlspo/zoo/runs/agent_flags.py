"""The flags that name a saved agent, which several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from rlspo.zoo.cli.parser import Pairs, add_trust, threads, whole_number
from rlspo.zoo.config.allowed import Allowed, import_trusted
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.models import latest_run
from rlspo.zoo.runs.saved_agent import WRAPPING, SavedAgent, find_agent


def add_agent_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that name a saved agent; :func:`agent_from` reads them."""
    group = parser.add_argument_group("which agent")
    pairs: dict[str, Any] = {"action": Pairs, "nargs": "+", "default": {}, "metavar": "K:V"}
    group.add_argument(
        "path",
        nargs="?",
        type=Path,
        metavar="PATH",
        help="a run folder, a model file (.zip), or an exported agent: its folder, or AGENT/ENV",
    )
    group.add_argument(
        "--which",
        metavar="WHICH",
        help="of a run: last, best, checkpoint (the latest), or steps of one (default: last)",
    )
    for flag, chosen in (("--load-best", "best"), ("--load-last-checkpoint", "checkpoint")):
        help_text = f"the same as --which {chosen}"
        group.add_argument(flag, dest="which", action="store_const", const=chosen, help=help_text)
    group.add_argument("--load-checkpoint", dest="which", metavar="STEPS", help="the same as --which STEPS")
    group.add_argument(
        "--algo", metavar="ALGO", help="for a file alone that does not name its agent, such as stable_baselines3.DDPG"
    )
    group.add_argument("--env", metavar="ENV", help="for a file alone; for a run, another environment than its own")
    group.add_argument("--env-kwargs", help="arguments of the environment, on top of those of the run", **pairs)
    group.add_argument("-params", "--wrapping", help=f"other wrappers: {', '.join(WRAPPING)}", **pairs)
    group.add_argument(
        "--gym-packages", nargs="+", default=[], metavar="MODULE", help="modules to import: they register environments"
    )
    add_trust(group)
    group.add_argument(
        "--vecnormalize", metavar="FILE", help="statistics of an agent trained in VecNormalize (default: those of the run)"
    )
    group.add_argument(
        "-f",
        "--log-folder",
        "--folder",
        type=Path,
        default=Path("logs"),
        metavar="DIR",
        help="without PATH: of all runs (default: logs)",
    )
    group.add_argument(
        "--exp-id",
        type=whole_number,
        metavar="N",
        help="without PATH: run N of --algo and --env; 0: the latest; -1: a model in logs/ALGO itself (default: 0)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    group.add_argument("--num-threads", type=threads, metavar="N", help="threads of PyTorch (default: PyTorch's)")
    group.add_argument(
        "--custom-objects",
        action="store_true",
        help="as in rl-baselines3-zoo; not needed: old files load without",
    )


def agent_from(args: argparse.Namespace) -> SavedAgent:
    """The saved agent that a command line names.

    :param args: parsed, with the flags of :func:`add_agent_flags`
    :raises UserError: for what is missing, contradictory or not there
    """
    import_trusted(args)
    path = args.path
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    if path is None:
        if args.algo is None or args.env is None:
            raise UserError("Give a run folder or a model file, such as logs/ppo/CartPole-v1_1, or both --algo and --env.")
        path = latest_run(args.log_folder, args.algo, args.env, args.exp_id or 0)
        if path.is_file() and args.which not in (None, "last"):
            path = path.parent
    elif args.exp_id is not None:
        raise UserError(f"--exp-id finds a run without PATH; {path} names one already.")
    elif args.which is not None and not path.is_dir():
        raise UserError(f"--which chooses in a run folder; {path} is not one.")
    return find_agent(
        path,
        which=args.which or "last",
        # Where these two have found the run, the record of the run is more complete: it also names packages.
        algo=None if args.path is None else args.algo,
        env=None if args.path is None else args.env,
        env_kwargs=args.env_kwargs,
        gym_packages=args.gym_packages,
        vecnormalize=args.vecnormalize,
        wrapping=args.wrapping,
        allowed=Allowed.of(args),
    )

"""The command line of `rlspo train`: its flags and its help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlspo.common.registry import agent_names
from rlspo.zoo.cli.parser import Pairs, Parser, add_trust, drawn_seed, positive, radius, threads, whole_number
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.logbook import FORMATS

_DESCRIPTION = """\
Train an agent, evaluate it while it learns, and attack it when it is done.

The settings come from YAML, hyperparams/ALGO.yml, with one block for each environment; flags change single settings.
All files of a run are in one folder: logs/ALGO/ENV_N/."""

_EXAMPLES = """\
examples:
  the standard run, with a progress bar
      rlspo train --algo barpo --env Hopper-v5 -P
  shorter, with a seed, on another environment
      rlspo train --algo ppo --env CartPole-v1 -n 2e4 --seed 0
  other hyperparameters (values are YAML; quote what holds spaces)
      rlspo train --algo barpo --env Walker2d-v5 -params epsilon:0.1 learning_rate:lin_1e-4 \\
          'policy_kwargs:{net_arch: [256, 256], activation_fn: relu}'
  a changed environment, in training and in evaluation
      rlspo train --algo barpo --env Hopper-v5 --env-kwargs reset_noise_scale:0.1
  your own environment and your own file of hyperparameters
      rlspo train --algo barpo --env MyEnv-v0 --gym-packages my_package --conf-file my_settings.yml
  eight environments, each in a process of its own
      rlspo train --algo ppo --env ALE/Pong-v5 --vec-env subproc
  also a table of all numbers, a clip of the agent in TensorBoard, and a page at Weights & Biases
      rlspo train --algo ppo --env Pendulum-v1 --log-format tensorboard csv --tensorboard-video --track
  go on training a saved agent for another million steps
      rlspo train --algo barpo --env Hopper-v5 -i logs/barpo/Hopper-v5_1/last_model.zip -n 1e6

a file of hyperparameters looks like this (arguments of the agent and keys of the zoo, in any order):
  MyEnv-v0:
    n_timesteps: 1e6
    policy: MlpPolicy
    n_envs: 4
    learning_rate: lin_3e-4        # falls from 3e-4 to 0 in a straight line; lin_3e-4@0.6: over 60 % of training
    policy_kwargs:
      net_arch: [128, 128]
      activation_fn: relu

Ctrl-C, SIGTERM or SIGHUP stops after the current step and saves the agent. Exit code: 0 done, 1 training failed or the
agent had to be saved elsewhere, 2 a mistake in the arguments, 129 stopped by SIGHUP, 130 by Ctrl-C, 143 by SIGTERM."""


def build_parser() -> Parser:
    """All flags of ``rlspo train``."""
    parser = Parser("train", _DESCRIPTION, _EXAMPLES, "train --algo ALGO --env ENV [-n STEPS] [-P] [...]")
    _add_task(parser)
    _add_settings(parser)
    _add_evaluation(parser)
    _add_output(parser)
    _add_tracking(parser)
    _add_machine(parser)
    return parser


def _add_task(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to train")
    names = ", ".join(agent_names())
    group.add_argument(
        "--algo",
        required=True,
        metavar="ALGO",
        help=f"the agent: {names}, or a class, stable_baselines3.SAC",
    )
    group.add_argument("--env", required=True, metavar="ENV", help="environment id, such as Hopper-v5")
    group.add_argument(
        "-n", "--n-timesteps", type=positive, metavar="STEPS", help="steps to train, such as 1e6 (default: the block's)"
    )
    group.add_argument("--seed", type=drawn_seed, metavar="N", help="random seed of the run (default: drawn, and recorded)")
    group.add_argument(
        "-i",
        "--trained-agent",
        type=Path,
        metavar="ZIP",
        help="go on training this agent; it keeps its own settings, and its replay buffer where that is beside it",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings (key:value words, values are YAML)")
    pairs: dict[str, Any] = {"action": Pairs, "nargs": "+", "default": {}, "metavar": "K:V"}
    group.add_argument("-params", "--hyperparams", help="change keys of the block", **pairs)
    group.add_argument("--env-kwargs", help="arguments of the environment, for training and evaluation", **pairs)
    group.add_argument("--eval-env-kwargs", help="further arguments of the evaluation environment only", **pairs)
    group.add_argument(
        "-conf",
        "--conf-file",
        type=Path,
        metavar="YML",
        help="a file of hyperparameters to use instead of the agent's; ppo_lstm.yml and ppo_moe.yml come with rlspo",
    )
    group.add_argument(
        "--gym-packages", nargs="+", default=[], metavar="MODULE", help="modules to import: they register environments"
    )
    add_trust(group)


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--eval-freq",
        type=whole_number,
        metavar="STEPS",
        help="steps between evaluations; the best agent is kept; -1 for none (default: 25000; 5000 for agents that search)",
    )
    group.add_argument(
        "--eval-episodes", type=positive, default=5, metavar="N", help="episodes per evaluation (default: %(default)s)"
    )
    group.add_argument(
        "--n-eval-envs", type=positive, default=1, metavar="N", help="environments side by side (default: %(default)s)"
    )
    group.add_argument(
        "--attack-epsilon",
        type=radius,
        metavar="EPS",
        help="radius of the attacks after training, in units of the network's input, that is, of standard deviations "
        "where the agent normalises observations (default: the agent's own epsilon, else 0.075; images: 1/255)",
    )
    group.add_argument("--no-report", action="store_true", help="after training: no attacks and no video")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "-f", "--log-folder", type=Path, default=Path("logs"), metavar="DIR", help="of all runs (default: %(default)s)"
    )
    group.add_argument(
        "--run-folder", type=Path, metavar="DIR", help="of this run, new or empty (default: the next one in the log folder)"
    )
    group.add_argument(
        "-uuid", "--uuid", action="store_true", help="a unique name for the folder: logs/ALGO/ENV_N_UUID, for shared disks"
    )
    group.add_argument(
        "-tb",
        "--tensorboard-log",
        type=Path,
        metavar="DIR",
        help="for TensorBoard, of several runs: this one is DIR/ALGO/RUN_FOLDER (default: inside the run folder)",
    )
    group.add_argument(
        "--tensorboard-video", action="store_true", help="after training: a clip of the agent, in the tab of images"
    )
    group.add_argument(
        "--log-format",
        nargs="+",
        choices=FORMATS,
        default=["tensorboard"],
        metavar="FORMAT",
        help="of the log, any of tensorboard, csv (progress.csv), json (progress.json) and log (log.txt), in the run folder "
        "(default: tensorboard)",
    )
    group.add_argument(
        "--save-freq", type=whole_number, default=-1, metavar="STEPS", help="steps between checkpoints (default: none)"
    )
    group.add_argument(
        "--save-replay-buffer",
        action="store_true",
        help="after training: the replay buffer of an off-policy agent, as replay_buffer.pkl, for -i to go on with",
    )
    group.add_argument(
        "--log-interval",
        type=whole_number,
        default=-1,
        metavar="N",
        help="log every N rollouts, or every N episodes for off-policy agents (default: 1 and 4; -2: never)",
    )
    group.add_argument("-P", "--progress", action="store_true", help="show a progress bar")
    group.add_argument("--verbose", type=int, choices=(0, 1, 2), help="0: no tables while training (default: 1, or 0 with -P)")


def _add_tracking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Weights & Biases (pip install wandb)")
    group.add_argument("--track", action="store_true", help="send settings and numbers there; WANDB_MODE=offline is heeded")
    group.add_argument(
        "--wandb-project",
        "--wandb-project-name",
        metavar="NAME",
        help="the project (default: WANDB_PROJECT, else rlspo)",
    )
    group.add_argument("--wandb-entity", metavar="NAME", help="the user or team (default: who is logged in)")
    group.add_argument("--wandb-group", metavar="NAME", help="the group of runs that this one belongs to")
    group.add_argument("-tags", "--wandb-tags", nargs="+", metavar="TAG", help="labels of the run")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it runs")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    group.add_argument(
        "--vec-env",
        choices=("auto", "dummy", "subproc", "native"),
        default="auto",
        help="environments one by one in this process (dummy), one process each (subproc), or all stepped at once, where they "
        "can (native); auto: native for Atari games, else dummy (default: %(default)s)",
    )
    group.add_argument("--num-threads", type=threads, metavar="N", help="threads of PyTorch (default: PyTorch's)")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    :raises UserError: for flags that do not exist or have values of the wrong form
    :raises SystemExit: after ``--help``
    """
    if not arguments:
        raise UserError("give an agent and an environment, such as: rlspo train --algo barpo --env Hopper-v5 -P")
    args = build_parser().read(arguments)
    if args.verbose is None:
        args.verbose = 0 if args.progress else 1
    _check_together(args)
    return args


def _check_together(args: argparse.Namespace) -> None:
    """Refuse flags that need another flag which is missing, or contradict another flag."""
    if args.uuid and args.run_folder is not None:
        raise UserError("--uuid names the next folder in the log folder; --run-folder names it already. Give one of them.")
    if args.log_interval == 0:
        raise UserError("--log-interval: 0 is not an interval; give 1 or more, -1 for the default, or -2 for no logs.")
    if "tensorboard" not in args.log_format:
        for flag, given in (("--tensorboard-log", args.tensorboard_log), ("--tensorboard-video", args.tensorboard_video)):
            if given:
                raise UserError(
                    f"{flag}: --log-format leaves tensorboard out; give --log-format tensorboard ... to have both."
                )
    if not args.track:
        for flag in ("wandb_project", "wandb_entity", "wandb_group", "wandb_tags"):
            if getattr(args, flag) is not None:
                raise UserError(f"--{flag.replace('_', '-')} needs --track, which sends the run to Weights & Biases.")

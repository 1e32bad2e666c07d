"""The command ``rlspo``: the list of its commands, and calling one of them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

#: Command to the module whose ``main`` runs it, and what it does.
COMMANDS = {
    "train": ("rlspo.zoo.train.command", "train an agent, evaluate it while it learns, attack it when it is done"),
    "evaluate": ("rlspo.zoo.evaluate.command", "evaluate a saved agent over many episodes, with intervals"),
    "enjoy": ("rlspo.zoo.video.enjoy", "watch a saved agent in a window"),
    "record": ("rlspo.zoo.video.record", "record a video of a saved agent, or of its checkpoints side by side"),
    "experts": ("rlspo.zoo.experts.command", "map which expert of a mixture acts where"),
    "export": ("rlspo.zoo.export.command", "export a saved agent to a folder that runs no code, and to ONNX"),
    "tune": ("rlspo.zoo.tune.command", "search for hyperparameters that reproduce"),
    "benchmark": ("rlspo.zoo.benchmark.command", "train and evaluate a grid of agents, environments and seeds"),
    "plot": ("rlspo.zoo.plot.command", "draw learning curves, bars and profiles"),
}

_HELP = """\
usage: rlspo COMMAND [...]

Reinforcement learning for noisy, adversarial and plannable environments.

commands:
{commands}

start here:
  rlspo train --algo barpo --env Hopper-v5 -P          train, with a progress bar
  rlspo train --algo ppo --env CartPole-v1 -n 2e4      a first run, in seconds
  rlspo evaluate logs/ppo/CartPole-v1_1                evaluate the result; enjoy and record show it
  rlspo train --help                                   every flag, with examples; so for every command

  rlspo --version                                      the installed version"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of rlspo.

    :param argv: the arguments; None for those of this process
    :return: exit code; 2 for a command that does not exist
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        print(_HELP.format(commands="\n".join(f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items())))
        return 0
    if given[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"rlspo {version('rlspo')}")
        return 0
    if given[0] not in COMMANDS:
        from rlspo.common.errors import did_you_mean  # imports PyTorch, which help and version do without

        what = "flag" if given[0].startswith("-") else "command"
        hint = did_you_mean(given[0], COMMANDS) if what == "command" else f"Commands: {', '.join(COMMANDS)}."
        print(f"error: rlspo has no {what} {given[0]!r}. {hint} See: rlspo --help", file=sys.stderr)
        return 2
    _search_current_folder()
    try:
        # Imported only now, so that no command loads what only another needs.
        command: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[given[0]][0]).main
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; nothing was begun.", file=sys.stderr)
        return 130
    return command(given[1:])


def _search_current_folder() -> None:
    """Make modules in the current folder importable, as ``python -m rlspo.zoo.train`` does: ``--gym-packages`` may name one.

    It comes last in the path, so that no file there hides an installed package.
    """
    with contextlib.suppress(OSError):  # the folder may have been removed
        here = os.getcwd()
        if not sys.flags.safe_path and not {"", here} & {*sys.path}:
            sys.path.append(here)

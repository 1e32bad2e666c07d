"""``rlspo export``, also ``python -m rlspo.zoo.export``: a saved agent as a folder that runs no code, and as ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_normalize

from rlspo.common.errors import NotExportableError
from rlspo.common.exports.agents import Exportable, check_exportable
from rlspo.common.exports.folder import ONNX, check_place
from rlspo.common.exports.onnx import Acting, check_installed, export_onnx
from rlspo.common.files import whole_folder
from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE
from rlspo.zoo.cli.parser import Parser, positive
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import evaluate
from rlspo.zoo.export.entry import Evaluated, attacks_on, check_seeds, median_of, write_entry
from rlspo.zoo.export.provenance import environment_of, provenance_of
from rlspo.zoo.runs.agent_flags import add_agent_flags, agent_from
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.runs.saved_statistics import adopt_statistics

_DESCRIPTION = """\
Export a saved agent to a folder: agent.json and weights.safetensors, from which nothing is executed.

The folder says what the agent is, how its environment is made and which command trained it. evaluate, enjoy, record and
rlspo.load take it as they take a run."""

_EXAMPLES = """\
examples:
  the last agent of a run; the best one
      rlspo export logs/ppo/CartPole-v1_1 -o cartpole
      rlspo export logs/ppo/CartPole-v1_1 --which best -o cartpole
  with an ONNX file of the acting policy
      rlspo export logs/ppo/CartPole-v1_1 -o cartpole --onnx
  with its evaluation, learning curve and a recorded episode; of several seeds the median one
      rlspo export logs/ppo/CartPole-v1_1 -o cartpole --evaluate
      rlspo export logs/ppo/CartPole-v1_{1,2,3} -o zoo/agents/ppo/CartPole-v1 --evaluate
  then
      rlspo evaluate cartpole
      python -c "import rlspo; print(rlspo.load('cartpole').policy)"

Exit code: 0 done, 1 the environment failed, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM."""


def build_parser() -> Parser:
    """All flags of ``rlspo export``."""
    parser = Parser("export", _DESCRIPTION, _EXAMPLES, "export PATH [PATH ...] -o DIR [--onnx] [--evaluate] [...]")
    add_agent_flags(parser)
    group = parser.add_argument_group("what is written")
    group.add_argument("others", nargs="*", type=Path, metavar="PATH", help="runs of other seeds; the median one is exported")
    group.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the folder; an exported agent is replaced"
    )
    group.add_argument("--onnx", action="store_true", help="policy.onnx too: the acting policy for other programs")
    group.add_argument(
        "--evaluate",
        action="store_true",
        help="how good the agent is, too: its evaluation, attacks on it if it is a robust one, its learning curve, and a "
        "recorded episode",
    )
    group.add_argument(
        "-n", "--n-episodes", type=positive, default=100, metavar="N", help="of each evaluation (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM
    """
    return exit_codes.run(_work, argv)


def _work(arguments: list[str]) -> int:
    args = build_parser().read(arguments)
    try:
        check_place(args.output, args.evaluate)
        if args.onnx:
            check_installed()
    except (FileExistsError, ImportError) as error:
        raise UserError(str(error)) from error
    if args.others and not args.evaluate:
        raise UserError("Of several runs the one with the median return is exported, which needs --evaluate.")
    paths = [args.path, *args.others]
    agents = [agent_from(argparse.Namespace(**{**vars(args), "path": path})) for path in paths]
    check_seeds(agents)
    for agent in agents:
        _check(agent, args.onnx)
    evaluated, chosen = [], agents[0]
    outdated = (args.output / ONNX).is_file() and not args.onnx
    with _written(args.output, args.evaluate) as partial:
        if args.evaluate:
            n_attacks = len(attacks_on(chosen.load("cpu")))
            with _progress(args.n_episodes * (len(agents) + n_attacks)) as on_episode:
                evaluated = [_evaluated(agent, args.n_episodes, on_episode) for agent in agents]
                best = median_of(evaluated)
                chosen = best.agent
                export_saved(chosen, partial, args.onnx)
                write_entry(partial, best, evaluated, args.n_episodes, on_episode)
        else:
            export_saved(chosen, partial, args.onnx)
    _show(args.output, chosen, evaluated)
    if outdated:
        terminal.note(f"{ONNX}, of the agent that was there before, is removed. --onnx writes a new one.")
    return DONE


@contextmanager
def _written(output: Path, entry: bool) -> Iterator[Path]:
    """:func:`~rlspo.common.files.whole_folder`; what came there in the meantime is not overwritten either."""
    with ExitStack() as stack:
        try:
            partial = stack.enter_context(whole_folder(output))
        except OSError as error:
            raise UserError(f"-o: cannot write to {output}: {error.strerror}.") from error
        yield partial
        try:
            check_place(output, entry)
        except FileExistsError as error:
            raise UserError(str(error)) from error


def _check(agent: SavedAgent, onnx: bool) -> None:
    """Refuse what cannot be exported before time is spent on it.

    :raises UserError: saying why
    """
    model = agent.load("cpu")
    if not isinstance(model, Exportable):
        raise UserError(f"{agent.algo} is not an agent of rlspo; {type(model).__name__} has no export.")
    try:
        check_exportable(model)
        if onnx:
            Acting(model)
    except NotExportableError as error:
        raise UserError(str(error)) from error


def _evaluated(agent: SavedAgent, n_episodes: int, on_episode: Callable[[], None]) -> Evaluated:
    return Evaluated(agent, evaluate(agent, n_episodes, device="cpu", on_episode=on_episode))


def export_saved(agent: SavedAgent, folder: Path, onnx: bool = False) -> None:
    """Export a saved agent, with where it comes from.

    :param agent: of rlspo
    :param folder: may exist, empty
    :param onnx: write ``policy.onnx`` too
    :raises UserError: for what a file without code cannot hold
    """
    model = agent.load("cpu")
    assert isinstance(model, Exportable)
    with _normalizer(agent, model):
        try:
            model.export(folder, environment=environment_of(agent), provenance=provenance_of(agent))
            if onnx:
                export_onnx(model, folder / ONNX)
        except NotExportableError as error:
            raise UserError(str(error)) from error


@contextmanager
def _normalizer(agent: SavedAgent, model: BaseAlgorithm) -> Iterator[None]:
    """Lend the agent the ``VecNormalize`` of its run, as it was in training."""
    file = agent.statistics or agent.reward_statistics
    if file is None or not file.is_file():
        yield
        return
    env = agent.build_env(1, 0)
    if agent.statistics is None:  # of rewards alone
        env = VecNormalize(env, norm_obs=False)
    adopt_statistics(env, file, agent.trust, ("norm_reward", "clip_reward", "gamma"))
    normalize = unwrap_vec_normalize(env)
    assert isinstance(normalize, VecNormalize)
    normalize.norm_obs = agent.statistics is not None
    model._vec_normalize_env = normalize
    try:
        yield
    finally:
        env.close()


@contextmanager
def _progress(n_episodes: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error; nothing where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("episodes", total=n_episodes)
        yield lambda: progress.advance(task)


def _show(folder: Path, agent: SavedAgent, evaluated: Sequence[Evaluated]) -> None:
    """Print what was written."""
    terminal.heading(agent.title)
    facts: list[tuple[str, Any]] = [("from", str(agent.model_file))]
    if len(evaluated) > 1:
        means = ", ".join(f"{each.seed}: {terminal.number(each.mean)}" for each in sorted(evaluated, key=lambda one: one.mean))
        facts.append(("seeds", f"{means} (the median one is exported)"))
    elif evaluated:
        facts.append(("return", terminal.number(evaluated[0].mean)))
    sizes = ", ".join(f"{file.name} ({file.stat().st_size:,} bytes)" for file in sorted(folder.iterdir()))
    terminal.facts([*facts, ("written", str(folder)), ("files", sizes)])

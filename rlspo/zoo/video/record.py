"""``rlspo record``, also ``python -m rlspo.zoo.record``: record a saved agent, or its checkpoints side by side."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE, FAILED
from rlspo.zoo.cli.output import only_json
from rlspo.zoo.cli.parser import Parser, positive
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.searching import add_search_flags, budget_from
from rlspo.zoo.runs.agent_flags import add_agent_flags, agent_from
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.saved_agent import SavedAgent, checkpoints_of
from rlspo.zoo.video.render import RecordingFailed
from rlspo.zoo.video.spec import Video, VideoSpec
from rlspo.zoo.video.writing import add_acting_flags, default_file, write_video

_DESCRIPTION = """\
Record a saved agent, or its checkpoints side by side.

The environment is built as in training. The caption above the picture shows the agent, its training steps, its return so far
and the step. Videos run in real time: as fast as the environment's own clock."""

_EXAMPLES = """\
examples:
  the last agent of a run, in logs/ppo/Hopper-v5_1/videos/last_model.mp4
      rlspo record logs/ppo/Hopper-v5_1
  the best one, three episodes, in a file of your own
      rlspo record logs/ppo/Hopper-v5_1 --which best --episodes 3 -o hopper.mp4
  how it learned: checkpoints side by side (train with --save-freq), from the same start
      rlspo record logs/ppo/Hopper-v5_1 --checkpoints
  acting by search, eight steps ahead
      rlspo record logs/spo/rlspo-RubiksCube-v0_1 --search --particles 64 --depth 8
  a GIF of 200 steps, without captions
      rlspo record logs/ppo/CartPole-v1_1 --steps 200 --no-captions -o cartpole.gif
  a perturbed game beside what the agent sees of it, or without that
      rlspo record logs/ppo/STORI-Breakout-v0_1 --env-kwargs profile:breakout-3.2B
      rlspo record logs/ppo/STORI-Breakout-v0_1 --no-seen
  slower: ten steps per second
      rlspo record logs/ppo/CartPole-v1_1 --fps 10
  a file of stable-baselines3, with the statistics of its VecNormalize
      rlspo record sac.zip --env Pendulum-v1 --vecnormalize vecnormalize.pkl

Agents of others are read as data; --trust runs the code in their files.
Exit code: 0 done, 1 the environment failed, 2 a mistake in what was given or something is not installed,
130 stopped by Ctrl-C, 143 by SIGTERM. No unfinished video is left behind."""


def build_parser() -> Parser:
    """All flags of ``rlspo record``."""
    parser = Parser("record", _DESCRIPTION, _EXAMPLES, "record PATH [--checkpoints] [-o FILE] [...]")
    add_agent_flags(parser)
    group = parser.add_argument_group("what is recorded")
    group.add_argument("--checkpoints", action="store_true", help="checkpoints of the run, side by side")
    group.add_argument(
        "--max-agents",
        type=positive,
        metavar="N",
        help="with --checkpoints: at most N agents, spread evenly from first to last, and the best (default: 6)",
    )
    group.add_argument("--episodes", type=positive, metavar="N", help="whole episodes of each agent")
    group.add_argument(
        "-n",
        "--steps",
        "--n-timesteps",
        type=positive,
        metavar="N",
        help="steps of each agent; new episodes begin as needed (default: whole episodes until 8 seconds are full, at most "
        "1000 steps; with --checkpoints one episode)",
    )
    add_acting_flags(group)
    add_search_flags(parser)
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".mp4 or .gif (default: in the folder videos, beside the model)"
    )
    group.add_argument("--no-captions", action="store_true", help="no text above the pictures")
    group.add_argument(
        "--json", action="store_true", help="print what was written on standard output, as JSON and nothing else"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Record as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 1 the environment failed, 2 a mistake in what was given, 130 and 143 after signals
    """
    return exit_codes.run(_work, argv)


def _work(arguments: list[str]) -> int:
    """Check the command line, record, and print what was recorded."""
    args = build_parser().read(arguments)
    with only_json(args.json) as out:
        return _record(args, out)


def _record(args: argparse.Namespace, out: TextIO) -> int:
    """
    :param out: for the JSON
    """
    if args.max_agents is not None and not args.checkpoints:
        raise UserError("--max-agents needs --checkpoints.")
    budget = budget_from(args)
    if budget is not None and args.experts:
        raise UserError("--experts frames the expert that acts; with --search no single one does.")
    agents = _checkpoints(args, args.max_agents or 6) if args.checkpoints else (agent_from(args),)
    spec = VideoSpec(
        agents,
        file=args.output or default_file(agents),
        seed=args.seed,
        episodes=1 if args.checkpoints and args.episodes is None and args.steps is None else args.episodes,
        steps=args.steps,
        deterministic=not args.stochastic,
        experts=args.experts,
        seen=args.seen,
        captions=not args.no_captions,
        fps=args.fps,
        device="cpu" if args.device == "auto" else args.device,
        search=budget,
    )
    try:
        video = write_video(spec)
    except RecordingFailed as error:
        terminal.error(f"recording {agents[0].env} failed. {error}")
        return FAILED
    if args.json:
        print(json.dumps(as_data(spec, video), indent=2), file=out)
    else:
        _print_summary(spec, video)
    return DONE


def _checkpoints(args: argparse.Namespace, at_most: int) -> tuple[SavedAgent, ...]:
    """The checkpoints of a run, by steps, with its best and last agent.

    :raises UserError: for a model file alone, or a run without checkpoints
    """
    if args.which is not None:
        raise UserError("--which chooses one agent; --checkpoints records several.")
    last = agent_from(args)
    if last.folder is None:
        raise UserError(f"--checkpoints needs a run folder; {last.model_file} is not in one.")
    files = [file for _, file in checkpoints_of(last.folder)]
    if not files:
        raise UserError(f"{last.folder} has no checkpoints: they are kept by `rlspo train ... --save-freq STEPS`.")
    best = RunFolder.existing(last.folder).best_model
    # The run is found, so its record gives agent and environment, unless the user names others.
    found: dict[str, Any] = {"exp_id": None} if args.path else {"exp_id": None, "algo": None, "env": None}
    models = [
        agent_from(argparse.Namespace(**{**vars(args), **found, "path": file}))
        for file in [*files, *([best] if best.is_file() else [])]
    ]
    return chosen([*models, last], at_most)


def chosen(agents: Sequence[SavedAgent], at_most: int) -> tuple[SavedAgent, ...]:
    """Agents spread evenly over training from the first to the last, and the best one.

    :param agents: of one run, in any order; of several with the same steps, the best one is kept, else the first
    :param at_most: how many agents, at least 1
    """
    by_steps: dict[int, SavedAgent] = {}
    for agent in agents:
        if agent.num_timesteps not in by_steps or agent.which == "best":
            by_steps[agent.num_timesteps] = agent
    steps = np.array(sorted(by_steps))
    best = {number for number, agent in by_steps.items() if agent.which == "best"}
    kept = set(map(int, steps))
    spread = at_most
    while len(kept) > at_most:
        wanted = np.linspace(steps[-1], steps[0], spread)  # a single one is the last
        kept = best | {int(steps[np.abs(steps - number).argmin()]) for number in wanted}
        spread -= 1
    return tuple(by_steps[number] for number in sorted(kept))


def as_data(spec: VideoSpec, video: Video) -> dict[str, Any]:
    """What was recorded, as plain data."""
    return {
        "file": str(spec.file),
        "env": spec.agents[0].env,
        "seed": spec.seed,
        "deterministic": spec.deterministic,
        "search": None if spec.search is None else dataclasses.asdict(spec.search),
        "width": video.width,
        "height": video.height,
        "pictures": video.pictures,
        "fps": video.fps,
        "seconds": round(video.pictures / video.fps, 2),
        "agents": [
            {
                "model": recording.model,
                "num_timesteps": recording.num_timesteps,
                "steps": recording.steps,
                "episodes": [{"return": episode.total, "length": episode.length} for episode in recording.episodes],
            }
            for recording in video.recordings
        ],
    }


def _print_summary(spec: VideoSpec, video: Video) -> None:
    """Print what was recorded."""
    terminal.heading(f"{spec.agents[0].algo} on {spec.agents[0].env}")
    for recording in video.recordings:
        returns = [f"{episode.total:,.1f} ({episode.length:,} steps)" for episode in recording.episodes]
        shown = ", ".join(returns[:8]) + (f" and {len(returns) - 8} more" if len(returns) > 8 else "")
        outcome = f"return {shown}" if returns else f"no episode ended in {recording.steps:,} steps"
        terminal.facts([(f"{recording.num_timesteps:,} steps", outcome)])
    seconds = terminal.duration(video.pictures / video.fps)
    terminal.facts([("video", f"{spec.file} ({seconds}, {video.width} x {video.height} pixels)")])

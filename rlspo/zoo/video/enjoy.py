"""``rlspo enjoy``, also ``python -m rlspo.zoo.enjoy``: watch a saved agent in a window."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np
from gymnasium.wrappers import HumanRendering
from stable_baselines3.common.vec_env import VecEnv

from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE, FAILED
from rlspo.zoo.cli.output import only_json
from rlspo.zoo.cli.parser import Parser, positive
from rlspo.zoo.cli.signals import Stopped
from rlspo.zoo.envs.recipe import Layers
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.acting import Actor, own_randomness
from rlspo.zoo.evaluate.play import Episode, steps_of
from rlspo.zoo.evaluate.searching import Budget, SearchingActor, actor_for, add_search_flags, budget_from, in_this_process
from rlspo.zoo.experts.mixture import check_mixture
from rlspo.zoo.runs.agent_flags import add_agent_flags, agent_from
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.video.pace import Pace
from rlspo.zoo.video.recorded_agent import render_modes
from rlspo.zoo.video.render import RecordingFailed, bar
from rlspo.zoo.video.screen import no_screen
from rlspo.zoo.video.spec import VideoSpec
from rlspo.zoo.video.writing import add_acting_flags, default_file, write_video

_EPISODES = 3

_DESCRIPTION = """\
Watch a saved agent in a window, and read the return of each episode.

The environment is built as in training. Where no window can be opened, a video is made instead, as `rlspo record` does."""

_EXAMPLES = """\
examples:
  the last agent of a run, three episodes
      rlspo enjoy logs/ppo/CartPole-v1_1
  the best one, and a checkpoint
      rlspo enjoy logs/ppo/CartPole-v1_1 --which best
      rlspo enjoy logs/ppo/CartPole-v1_1 --which 10000
  longer; slower, five steps per second; sampled actions
      rlspo enjoy logs/ppo/CartPole-v1_1 --episodes 20
      rlspo enjoy logs/ppo/CartPole-v1_1 --fps 5
      rlspo enjoy logs/ppo/CartPole-v1_1 --stochastic --seed 7
  acting by search
      rlspo enjoy logs/spo/rlspo-RubiksCube-v0_1 --search --particles 64 --depth 8
  no window, only returns: 10000 steps, four environments side by side
      rlspo enjoy logs/ppo/CartPole-v1_1 --no-render -n 10000 --n-envs 4
  a mixture of experts: a video whose frame shows which expert acts
      rlspo enjoy logs/sac/Hopper-v5_1 --experts
  a file of stable-baselines3, with the statistics of its VecNormalize
      rlspo enjoy sac.zip --env Pendulum-v1 --vecnormalize vecnormalize.pkl

To measure an agent, use `rlspo evaluate`: it runs many episodes and gives intervals.
Agents of others are read as data; --trust runs the code in their files.
Exit code: 0 done, 1 the environment failed, 2 a mistake in what was given or something is not installed,
130 stopped by Ctrl-C, 143 by SIGTERM."""


def build_parser() -> Parser:
    """All flags of ``rlspo enjoy``."""
    parser = Parser("enjoy", _DESCRIPTION, _EXAMPLES, "enjoy PATH [--which WHICH] [--episodes N] [...]")
    add_agent_flags(parser)
    group = parser.add_argument_group("what is shown")
    length = group.add_mutually_exclusive_group()
    length.add_argument("--episodes", type=positive, metavar="N", help=f"whole episodes (default: {_EPISODES})")
    length.add_argument(
        "-n", "--n-timesteps", type=positive, metavar="STEPS", help="steps instead, over all environments together"
    )
    group.add_argument(
        "--n-envs", type=positive, default=1, metavar="N", help="environments side by side, each in a window of its own"
    )
    add_acting_flags(group)
    add_search_flags(parser)
    group.add_argument("--no-render", action="store_true", help="no window and no video, only returns")
    group.add_argument("--json", action="store_true", help="every episode on standard output, as JSON and nothing else")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Show an agent as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 1 the environment failed, 2 a mistake in what was given, 130 and 143 after signals
    """
    return exit_codes.run(_work, argv)


def _work(arguments: list[str]) -> int:
    """Check the command line, show the agent, and print its episodes."""
    args = build_parser().read(arguments)
    _check_flags(args)
    with only_json(args.json) as out:  # what environments print must not get into it
        return _show(args, out)


def _show(args: argparse.Namespace, out: TextIO) -> int:
    """Show the agent in a window, in a video, or by its returns alone.

    :param out: for the JSON
    """
    budget = budget_from(args)
    agent = agent_from(args)
    if not args.json:
        terminal.heading(agent.title)
    why_not = None if args.no_render else _why_no_window(agent, args.experts, bool(args.seen))
    if why_not is None:
        model = agent.load(args.device)
        try:
            env = _environments(agent, args)
        except UserError:
            raise
        except Exception as error:  # of a window system; where the environment raises it, recording will too
            if args.no_render:
                raise
            why_not = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if why_not is not None:
        if args.experts:
            check_mixture(agent.load("cpu"))
        advice = "" if args.experts else "; --no-render gives only the returns"
        terminal.note(f"No window here: {why_not}. Making a video instead{advice}.")
        return _record(agent, args, budget, out)
    episodes: list[Episode] = []
    try:
        with contextlib.closing(env), own_randomness(model, args.seed):
            agent.check_fit(model, env)
            actor = actor_for(agent, model, env, budget, not args.stochastic, args.seed)
            for episode in _play(actor, env, args):
                episodes.append(episode)
                if not args.json:
                    _print_return(f"episode {len(episodes)}", [episode], args.n_envs)
    except Stopped:
        _conclude(agent, args, episodes, out)
        raise
    _conclude(agent, args, episodes, out)
    return DONE


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that do not go together.

    :raises UserError: if there are any
    """
    if args.no_render and args.fps is not None:
        raise UserError("--fps is the speed of a window or video; with --no-render there is none.")
    if args.no_render and args.seen:
        raise UserError("--seen shows pictures; with --no-render there are none.")
    if args.no_render and args.experts:
        raise UserError("--experts frames a picture; with --no-render there is none.")
    if args.search and args.experts:
        raise UserError("--experts frames the expert that acts; with --search no single one does.")
    if args.search and args.n_envs > 1 and not args.no_render:
        raise UserError("--n-envs: several windows need a process each, and --search plans within one. Use --n-envs 1.")


def _why_no_window(agent: SavedAgent, framed: bool, seen: bool) -> str | None:
    """Why no window can be opened, as far as that is known beforehand; None if there is no such reason.

    :param framed: whether pictures get a frame, which an environment's own window cannot show
    :param seen: whether what the agent sees is shown
    """
    if framed:
        return "an environment's own window has no frame to colour"
    if seen:
        return "an environment's own window does not show what the agent sees"
    missing = no_screen()
    if missing is not None:
        return missing
    modes = render_modes(agent)
    # Where there are only pictures, gymnasium shows these in a window.
    drawable = modes is None or "human" in modes or "rgb_array" in modes
    return None if drawable else f"{agent.env} has no render mode 'human'"


def _environments(agent: SavedAgent, args: argparse.Namespace) -> VecEnv:
    """The environments that the agent acts in; each window needs a process of its own."""
    if args.no_render:
        return (in_this_process(agent) if args.search else agent).build_env(args.n_envs, args.seed)
    around: Layers = ((Pace, {"fps": args.fps}),)
    render_mode = "human"
    if args.search and "rgb_array" in (render_modes(agent) or ["rgb_array"]):
        # Copies that a search steps must not draw in the window; so it belongs to a wrapper, which they leave out.
        around, render_mode = (*around, (HumanRendering, {})), "rgb_array"
    where = "dummy" if args.search else "subproc"
    recipe = replace(agent.recipe, env_wrappers=(*agent.recipe.env_wrappers, *around), vec_env=where)
    env = replace(agent, recipe=recipe).build_env(args.n_envs, args.seed, render_mode=render_mode)
    try:
        env.reset()  # the window opens here
        env.seed(args.seed)
    except BaseException:
        with contextlib.suppress(Exception):
            env.close()
        raise
    return env


def _play(actor: Actor | SearchingActor, env: VecEnv, args: argparse.Namespace) -> Iterator[Episode]:
    """Let the agent act, and yield the episodes that end.

    Each environment gets its share of the episodes beforehand: the first ones to end would be the short ones.
    """
    n_episodes = None if args.n_timesteps else args.episodes or _EPISODES
    share = np.array([((n_episodes or 0) + index) // env.num_envs for index in range(env.num_envs)])
    seen = 0
    with bar("playing") if args.no_render else contextlib.nullcontext(_ignore) as progressed:
        for step, ended in enumerate(steps_of(actor, env, env.reset()), start=1):
            for episode in ended:
                share[episode.env] -= 1
                if n_episodes is None or share[episode.env] >= 0:
                    seen += 1
                    yield episode
            done = seen / n_episodes if n_episodes else step * env.num_envs / args.n_timesteps
            progressed(done)
            if done >= 1:
                return


def _ignore(share: float) -> None:
    """In place of a progress bar."""


def _record(agent: SavedAgent, args: argparse.Namespace, budget: Budget | None, out: TextIO) -> int:
    """Make a video in place of a window."""
    spec = VideoSpec(
        (agent,),
        file=default_file((agent,)),
        seed=args.seed,
        episodes=args.episodes,
        steps=args.n_timesteps,
        deterministic=not args.stochastic,
        experts=args.experts,
        seen=args.seen,
        fps=args.fps,
        device="cpu" if args.device == "auto" else args.device,
        search=budget,
    )
    try:
        video = write_video(spec)
    except RecordingFailed as error:
        terminal.error(f"recording {agent.env} failed. {error}")
        return FAILED
    episodes = video.recordings[0].episodes
    if not args.json:
        for number, episode in enumerate(episodes, start=1):
            _print_return(f"episode {number}", [episode])
    _conclude(agent, args, episodes, out, spec.file)
    return DONE


def _print_return(label: str, episodes: Sequence[Episode], n_envs: int = 1) -> None:
    """Print the mean return and length of some episodes."""
    total, length = (float(np.mean([getattr(episode, name) for episode in episodes])) for name in ("total", "length"))
    where = f"   environment {episodes[0].env + 1}" if n_envs > 1 else ""
    decimals = 0 if length.is_integer() else 1
    # Rich's own printing would not move a progress bar out of the way.
    print(f"  {label:<16}return {total:>10,.2f}   length {length:>7,.{decimals}f}{where}", flush=True)


def _conclude(
    agent: SavedAgent, args: argparse.Namespace, episodes: Sequence[Episode], out: TextIO, video: Path | None = None
) -> None:
    """Print the mean over all episodes, or everything as JSON."""
    if args.json:
        data = {
            "model": str(agent.model_file),
            "env": agent.env,
            "num_timesteps": agent.num_timesteps,
            "seed": args.seed,
            "deterministic": not args.stochastic,
            "search": args.search,
            "episodes": [{"env": episode.env, "return": episode.total, "length": episode.length} for episode in episodes],
            "video": None if video is None else str(video),
        }
        print(json.dumps(data, indent=2), file=out)
        return
    if len(episodes) > 1:
        _print_return(f"mean of {len(episodes)}", episodes)
    elif not episodes:
        terminal.facts([("episodes", "none has ended.")])
    if video is not None:
        terminal.facts([("video", str(video))])

"""``rlspo train``, also ``python -m rlspo.zoo.train``: train an agent, and leave a folder that explains itself."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

from rlspo.zoo import display, learning_curve, video
from rlspo.zoo.arguments import parse
from rlspo.zoo.callbacks import Evaluate, SaveBetweenRollouts, StopWhenAsked, save_model
from rlspo.zoo.errors import UserError
from rlspo.zoo.plan import Plan, evaluation_recipe, make_plan
from rlspo.zoo.report import judge, radius
from rlspo.zoo.run_folder import RunFolder, command_line
from rlspo.zoo.stopping import Stopped, StopSignal

DONE, FAILED, USER_ERROR = 0, 1, 2
_REPORT_ENVS = 10  # side by side: attacks are computed for all of them at once


@dataclass
class Run:
    """One run under way.

    :param model: the agent
    :param seconds: that training took
    """

    args: argparse.Namespace
    plan: Plan
    folder: RunFolder
    stop: StopSignal
    model: BaseAlgorithm
    seconds: float = 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 1 training failed, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by SIGTERM
    """
    given = list(sys.argv[1:] if argv is None else argv)
    stop = StopSignal()
    try:
        with stop:
            return train(parse(given), command_line(given), stop)
    except UserError as error:
        display.error(str(error))
        return USER_ERROR
    except Stopped:
        display.note(f"Stopped by {stop.name}.")
        return stop.exit_code


def train(args: argparse.Namespace, command: str, stop: StopSignal) -> int:
    """Check, train, save, judge.

    :param args: the parsed command line
    :param command: as typed, for the record
    :param stop: catches signals
    :return: exit code
    :raises UserError: for anything that could not be used; nothing is left on disk then
    """
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    stop.patient = False  # nothing to save yet
    plan = make_plan(args)
    for title, text in plan.warnings:
        display.warning(title, text)
    folder = RunFolder.create(args.log_folder, plan.config.algo, plan.config.env, args.tensorboard_log)
    try:
        model = _build(args, plan, folder)
        folder.record(plan.config, _plain_args(args), command)
    except BaseException:
        folder.discard()
        raise
    run = Run(args, plan, folder, stop, model)
    _announce(run)
    stop.patient = True
    failure = _learn(run)
    _save_last(run)
    if failure is not None:
        return _explain_failure(run, failure)
    if stop.received is not None:
        _draw(run)
        display.heading(f"Stopped by {stop.name} after {model.num_timesteps:,} steps; the agent is saved")
        display.facts(_places(run))
        return stop.exit_code
    stop.patient = False  # all is saved: a signal may end what follows at once
    _conclude(run)
    return DONE


def _build(args: argparse.Namespace, plan: Plan, folder: RunFolder) -> BaseAlgorithm:
    """The agent in its training environments.

    :raises UserError: for settings that the agent refuses, or a saved agent that cannot go on here
    """
    settings, seed = plan.settings, plan.config.seeds.seed
    env = plan.recipe.build(settings.n_envs, seed, training=True, monitor_folder=folder.path)
    common: dict[str, Any] = {
        "tensorboard_log": str(folder.tensorboard),
        "verbose": args.verbose,
        "device": args.device,
        "seed": seed,
    }
    source = plan.config.source
    try:
        if args.trained_agent is None:
            # Policies are named by alias or dotted path; the plan has checked the name.
            return plan.cls(settings.policy, env, **common, **plan.agent_arguments)
        model = plan.cls.load(args.trained_agent, env=env, **common)
        model.set_random_seed(seed)
        return model
    except (ValueError, TypeError, AssertionError) as error:
        env.close()
        if args.trained_agent is not None:
            raise UserError(f"--trained-agent {args.trained_agent}: {error}") from error
        raise UserError(f"{source.file}, block {source.block!r}: {plan.cls.__name__} says: {error}") from error


def _learn(run: Run) -> Exception | None:
    """Train until the steps are done, a signal comes or something fails.

    :return: what failed, or None
    """
    args, plan = run.args, run.plan
    callbacks: list[BaseCallback] = [StopWhenAsked(run.stop)]
    eval_env: VecEnv | None = None
    if args.eval_freq > 0:
        eval_env = evaluation_recipe(plan.config).build(args.n_eval_envs, plan.config.seeds.evaluation, training=False)
        callbacks.append(
            Evaluate(eval_env, args.eval_freq, args.eval_episodes, run.folder, run.stop, verbose=args.verbose)
        )
    if args.save_freq > 0:
        callbacks.append(SaveBetweenRollouts(args.save_freq, run.folder))
    callbacks += [cls(**given) for cls, given in plan.callbacks]
    bar = ProgressBarCallback() if args.progress else None
    started = time.monotonic()
    try:
        run.model.learn(
            plan.settings.n_timesteps,
            callback=[*callbacks, *([bar] if bar else [])],
            tb_log_name=plan.config.algo,
            reset_num_timesteps=args.trained_agent is None,
        )
    except Stopped:
        pass
    except Exception as error:
        if run.stop.received is None:  # else it is a consequence of the signal, such as a compiler that it ended
            return error
    finally:
        run.seconds = time.monotonic() - started
        if bar is not None and hasattr(bar, "pbar"):
            bar.pbar.close()
        for env in (run.model.get_env(), eval_env):
            _close(env)
    return None

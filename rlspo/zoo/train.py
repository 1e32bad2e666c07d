"""``rlspo train``, also ``python -m rlspo.zoo.train``: train an agent, and leave a folder that explains itself."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from rlspo.common.agent import load_model
from rlspo.common.withheld import check_may_learn
from rlspo.zoo import display, summary, tracking
from rlspo.zoo.allowed import Allowed
from rlspo.zoo.arguments import parse
from rlspo.zoo.callbacks import Evaluate, SaveBetweenRollouts, Status, StopWhenAsked, save_model
from rlspo.zoo.command import DONE, FAILED, USER_ERROR
from rlspo.zoo.errors import UserError
from rlspo.zoo.logbook import Logbook
from rlspo.zoo.plan import Plan, evaluation_recipe, make_plan, usual_eval_freq
from rlspo.zoo.run_folder import RunFolder, command_line
from rlspo.zoo.run_models import folder_of
from rlspo.zoo.saved import adopt_statistics
from rlspo.zoo.stopping import Stopped, StopSignal
from rlspo.zoo.summary import Run


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
    if args.track:
        tracking.check_installed()
    plan = make_plan(args)
    for title, text in plan.warnings:
        display.warning(title, text)
    if args.eval_freq is None:
        args.eval_freq = usual_eval_freq(plan.cls)
    folder = _folder(args, plan)
    try:
        model = _build(args, plan, folder)
        folder.record(plan.config, _plain_args(args), command)
        log = Logbook.open(args, plan.config, folder, model)
    except BaseException:
        folder.discard()
        raise
    run = Run(args, plan.config, folder, model, log, before=model.num_timesteps)
    code = FAILED
    try:
        code = _train_and_judge(run, plan, stop)
    except Stopped:
        code = stop.exit_code
        raise
    finally:
        _close(run, code)
    return code


def _train_and_judge(run: Run, plan: Plan, stop: StopSignal) -> int:
    """From the first step to the report.

    :return: exit code
    """
    model, folder = run.model, run.folder
    summary.announce(run)
    stop.patient = True
    status = Status(folder, model, total=model.num_timesteps + plan.config.settings.n_timesteps)
    failure = _learn(run, plan, stop, status)
    stop.deaf = True
    try:
        save_model(model, folder.last_model, folder)
        status.write("failed" if failure else "stopped" if stop.received is not None else "done")
    except OSError as error:
        display.error(f"cannot save {folder.last_model}: {error.strerror}")
        return FAILED
    stop.deaf, stop.patient = False, False  # all that matters is on disk: a signal may end what follows at once
    if failure is not None:
        summary.explain_failure(run, failure)
        return FAILED
    if stop.received is not None:
        summary.explain_stop(run, stop.name)
        return stop.exit_code
    summary.conclude(run)
    return DONE


def _close(run: Run, code: int) -> None:
    """End the log with what is known now; the agent is saved, so nothing here can spoil the run."""
    try:
        run.log.close(code, run.model.num_timesteps, summary.final_metrics(run))
    except Exception as error:  # of a disk that is full, a library, somebody's environment
        display.note(f"log cut short: {type(error).__name__}: {error}")


def _folder(args: argparse.Namespace, plan: Plan) -> RunFolder:
    """The folder of the run, as asked for or the next free one."""
    if args.run_folder is not None:
        return RunFolder.at(args.run_folder, args.tensorboard_log)
    return RunFolder.create(args.log_folder, plan.config.algo, plan.config.env, args.tensorboard_log)


def _build(args: argparse.Namespace, plan: Plan, folder: RunFolder) -> BaseAlgorithm:
    """The agent in its training environments.

    :raises UserError: for settings that the agent refuses, or a saved agent that cannot go on here
    """
    seed = plan.config.seeds.seed
    env = plan.recipe.build(plan.config.settings.n_envs, seed, training=True, monitor_folder=folder.path)
    common: dict[str, Any] = {
        "verbose": args.verbose,
        "device": args.device,
        "seed": seed,
    }
    try:
        if args.trained_agent is None:
            return plan.new_agent(env, **common)
        trust = Allowed.of(args).owns(args.trained_agent)
        _adopt_statistics(env, args.trained_agent, trust)
        model = load_model(plan.cls, args.trained_agent, trust, env=env, **common)
        check_may_learn(model)
        model.set_random_seed(seed)
        return model
    except (ValueError, TypeError, AssertionError) as error:
        env.close()
        if args.trained_agent is not None:
            raise UserError(f"--trained-agent {args.trained_agent}: {error}") from error
        raise UserError(f"{plan.cls.__name__} refuses its settings. {error}\nSettings: {plan.config.source}") from error


def _adopt_statistics(env: VecEnv, model_file: Path, trust: bool) -> None:
    """Where the environments are in ``VecNormalize``, go on with the statistics that the saved agent knows.

    :param trust: run whatever code is in them
    :raises UserError: if they are not beside the agent
    """
    if unwrap_vec_normalize(env) is None:
        return
    folder = folder_of(model_file) or model_file.parent
    file = RunFolder.existing(folder).statistics_of(model_file)
    if not file.is_file():
        env.close()
        raise UserError(
            f"--trained-agent {model_file}: the settings put VecNormalize around the environments, and its statistics {file} "
            "are not there. For an agent that was trained without: -params normalize:false"
        )
    adopt_statistics(env, file, trust)


def _learn(run: Run, plan: Plan, stop: StopSignal, status: Status) -> Exception | None:
    """Train until the steps are done, a signal comes or something fails.

    :return: what failed, or None
    """
    args = run.args
    stopwatch = run.phases.stopwatch
    callbacks: list[BaseCallback] = [StopWhenAsked(stop), status, run.phases]
    eval_env: VecEnv | None = None
    if args.eval_freq > 0:
        eval_env = evaluation_recipe(plan.config).build(args.n_eval_envs, plan.config.seeds.evaluation, training=False)
        evaluate = Evaluate(eval_env, args.eval_freq, args.eval_episodes, run.folder, stop, args.verbose, stopwatch)
        callbacks.append(evaluate)
    if args.save_freq > 0:
        callbacks.append(SaveBetweenRollouts(args.save_freq, run.folder))
    callbacks += plan.callbacks
    bar = ProgressBarCallback() if args.progress else None
    run.model.set_logger(run.log.logger)
    started = time.monotonic()
    try:
        run.model.learn(
            plan.config.settings.n_timesteps,
            callback=[*callbacks, *([bar] if bar else [])],
            reset_num_timesteps=args.trained_agent is None,
        )
    except Stopped:
        pass  # the second signal: whatever was under way is dropped, the weights are kept
    except Exception as error:
        if stop.received is None:  # else it is a consequence of the signal, such as a compiler that it ended
            return error
    finally:
        run.seconds = time.monotonic() - started
        stopwatch.start(None)
        if bar is not None and hasattr(bar, "pbar"):
            bar.pbar.close()
        for env in (run.model.get_env(), eval_env):
            if env is not None:
                with contextlib.suppress(OSError, EOFError):  # of workers that are gone already
                    env.close()
    return None


def _plain_args(args: argparse.Namespace) -> dict[str, Any]:
    """The parsed command line as plain data."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}


if __name__ == "__main__":
    sys.exit(main())

"""A training run from beginning to end: check, train, save, evaluate, and write everything to the run folder."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from rlspo.common.agent import load_model
from rlspo.common.withheld import check_may_learn
from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.exit_codes import DONE, FAILED, guarded
from rlspo.zoo.cli.signals import Stopped, StopSignal, TimeIsUp, time_limit
from rlspo.zoo.config import ownership
from rlspo.zoo.config.allowed import Allowed
from rlspo.zoo.envs.of_run import evaluation_recipe
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs import replay_buffer, rl_zoo3
from rlspo.zoo.runs.compatibility import fitted_spaces
from rlspo.zoo.runs.folder import RunFolder, command_line
from rlspo.zoo.runs.model_files import checked_statistics, saved_with_statistics, settings_of, was_normalised
from rlspo.zoo.runs.models import folder_of
from rlspo.zoo.runs.saved_statistics import adopt_statistics
from rlspo.zoo.train import summary, tracking
from rlspo.zoo.train.arguments import parse
from rlspo.zoo.train.callbacks import Evaluate, SaveBetweenRollouts, Status, StopWhenAsked, save_somewhere, somewhere
from rlspo.zoo.train.continued import as_loaded
from rlspo.zoo.train.logbook import Logbook
from rlspo.zoo.train.plan import Plan, make_plan, usual_eval_freq
from rlspo.zoo.train.summary import TrainingRun

#: Steps of a single episode that an evaluation during training waits for, on average over its episodes.
_LONGEST_EPISODE = 100_000
_CLOSING = 30.0  # seconds


def run(arguments: Sequence[str]) -> int:
    """Train as a command line says.

    :param arguments: see :func:`rlspo.zoo.train.arguments.parse`
    :return: exit code: 0 done, 1 training failed or not all was saved in the run folder, 2 a mistake in the arguments,
        129 stopped by SIGHUP, 130 by Ctrl-C, 143 by SIGTERM
    """
    given = list(arguments)
    stop = StopSignal()
    return guarded(lambda: train(parse(given), command_line(given), stop), stop)


def train(args: argparse.Namespace, command: str, stop: StopSignal) -> int:
    """Check, train, save, evaluate.

    :param args: the parsed command line
    :param command: as typed, for the record
    :param stop: catches signals
    :return: exit code
    :raises UserError: for a mistake in the arguments; then nothing is left on disk
    """
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    stop.patient = False  # nothing to save yet
    if args.track:
        tracking.check_installed()
    plan = make_plan(args)
    for title, text in plan.warnings:
        terminal.warning(title, text)
    if args.save_replay_buffer:
        replay_buffer.check_has_buffer(plan.cls)
    if args.eval_freq is None:
        args.eval_freq = usual_eval_freq(plan.cls)
    folder = _folder(args, plan)
    try:
        model = _build(args, plan, folder)
        plan = dataclasses.replace(plan, config=as_loaded(plan.config, model))
        _record(args, plan, folder, command)
        log = Logbook.open(args, plan.config, folder, model)
    except BaseException:
        folder.discard()
        raise
    run = TrainingRun(args, plan.config, folder, model, log, before=model.num_timesteps)
    code = FAILED
    try:
        code = _train_and_evaluate(run, plan, stop, command)
    except Stopped:
        code = stop.exit_code
        raise
    finally:
        _close(run, code)
    return code


def _train_and_evaluate(run: TrainingRun, plan: Plan, stop: StopSignal, command: str) -> int:
    """From the first step to the report.

    :param command: as typed
    :return: exit code
    """
    model, folder = run.model, run.folder
    summary.announce(run)
    stop.patient = True
    status = Status(folder, model, total=model.num_timesteps + plan.config.settings.n_timesteps)
    eval_env: list[VecEnv] = []
    failure = None
    try:
        failure = _learn(run, plan, stop, status, eval_env)
        stop.deaf = True
    except Stopped:
        pass  # the second signal: the current step is abandoned, the weights are saved
    unsaved, elsewhere = _save(run, plan, command)  # first of all: closing environments, for instance, may hang
    complete = unsaved is None and not elsewhere
    if failure is not None or unsaved is not None:
        status.finish("failed")
    elif stop.received is not None:
        status.finish("stopped")
    else:
        status.finish("done" if complete else "failed")
    stop.deaf, stop.patient = False, False  # the agent is on disk: from here on a signal may stop at once
    close_envs([env for env in (model.get_env(), *eval_env) if env is not None])
    for line in elsewhere:
        terminal.error(line)
    if failure is not None or unsaved is not None:
        summary.explain_failure(run, failure, unsaved)
        return FAILED
    if stop.received is not None:
        summary.explain_stop(run, stop.name)
        return stop.exit_code
    summary.conclude(run)
    return DONE if complete else FAILED


def _save(run: TrainingRun, plan: Plan, command: str) -> tuple[Exception | None, list[str]]:
    """Save the agent, its records where they are gone, and its replay buffer where that is asked for.

    :param command: as typed
    :return: what kept the agent from being saved, and in words what else does not lie in the run folder
    """
    model, folder, elsewhere = run.model, run.folder, []
    saved, unsaved = folder.last_model, None
    try:
        saved = save_somewhere(model, folder.last_model, folder)
        if saved != folder.last_model:
            elsewhere.append(f"{folder.last_model} could not be written. The agent is saved in {saved}; copy its folder.")
    except Exception as error:  # OSError, or any error of a user's policy while it is pickled
        unsaved = error
    if not folder.config.is_file() and (why := _record_again(run, plan, command)) is not None:
        elsewhere.append(f"the records of the run could not be written to {folder.path}: {why}")
    if run.args.save_replay_buffer:
        file = replay_buffer.buffer_file(saved)
        try:
            kept = somewhere(lambda place: replay_buffer.save(model, place), file)
            if kept != file:
                elsewhere.append(f"{file} could not be written. The buffer is saved in {kept}; put it beside the agent.")
        except Exception as error:  # OSError, or any error of a user's buffer while it is pickled
            elsewhere.append(f"the replay buffer could not be saved anywhere: {error}")
    return unsaved, elsewhere


def _record(args: argparse.Namespace, plan: Plan, folder: RunFolder, command: str) -> None:
    """Write the records of the run, and the token of its owner."""
    folder.record(plan.config, _plain_args(args), command)
    if not ownership.claim(folder.path):
        terminal.note("No place for a key of yours (XDG_STATE_HOME, ~/.local/state): code in this run will need --trust.")


def _record_again(run: TrainingRun, plan: Plan, command: str) -> OSError | None:
    """Write the records anew, where the run folder was removed or emptied during training.

    :return: the error where that fails, or None
    """
    folder = run.folder
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        _record(run.args, plan, folder, command)
    except OSError as error:
        return error
    terminal.note(
        f"{folder.path} was removed during training. The agent and the records are written again; its other files are lost."
    )
    return None


def _close(run: TrainingRun, code: int) -> None:
    """Close the log with the final metrics. The agent is saved, so errors here are only reported."""
    try:
        run.log.close(code, run.model.num_timesteps, summary.final_metrics(run))
    except Exception as error:  # from a full disk, a library, a user's environment
        terminal.note(f"log cut short: {type(error).__name__}: {error}")


def _folder(args: argparse.Namespace, plan: Plan) -> RunFolder:
    """The folder of the run, as asked for or the next free one."""
    if args.run_folder is not None:
        return RunFolder.at(args.run_folder, args.tensorboard_log)
    return RunFolder.create(args.log_folder, plan.config.algo, plan.config.env, args.tensorboard_log, args.uuid)


def _build(args: argparse.Namespace, plan: Plan, folder: RunFolder) -> BaseAlgorithm:
    """The agent in its training environments.

    :raises UserError: for settings that the agent refuses, or a saved agent that cannot be trained further here
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
        trust = Allowed.of(args).owns(folder_of(args.trained_agent))
        _adopt_statistics(env, args.trained_agent, trust, args.hyperparams.get("normalize"))
        fitted = fitted_spaces(args.trained_agent, env)
        model = load_model(plan.cls, args.trained_agent, trust, env=env, custom_objects=fitted, **common)
        check_may_learn(model)
        # Not the seed itself, which the first run drew from: the continued run needs new random numbers.
        model.set_random_seed(int(np.random.SeedSequence((seed, model.num_timesteps)).generate_state(1)[0]))
        replay_buffer.load_into(model, args.trained_agent, trust)
        return model
    except (ValueError, TypeError, AssertionError) as error:
        env.close()
        if args.trained_agent is not None:
            raise UserError(f"--trained-agent {args.trained_agent}: {error}") from error
        raise UserError(f"{plan.cls.__name__} refuses its settings. {error}\nSettings: {plan.config.source}") from error


def _adopt_statistics(env: VecEnv, model_file: Path, trust: bool, given: Any) -> None:
    """Where the environments are in ``VecNormalize``, continue with the statistics of the saved agent.

    :param trust: run whatever code is in them
    :param given: the user's ``normalize`` for this run, whose arguments replace the saved ones; None for none
    :raises UserError: if they are not beside the agent, or there is no ``VecNormalize`` now
    """
    if unwrap_vec_normalize(env) is None:
        if given is None and (was_normalised(settings_of(model_file)) or saved_with_statistics(model_file)):
            env.close()
            raise UserError(
                f"--trained-agent {model_file}: it was trained in a VecNormalize, and the settings put none around the "
                "environments. Add what it had: -params normalize:true"
            )
        return
    folder = folder_of(model_file) or model_file.parent
    file = rl_zoo3.statistics_of(model_file) or RunFolder.existing(folder).statistics_of(model_file)
    file = checked_statistics(model_file, file)
    if not file.is_file():
        env.close()
        raise UserError(
            f"--trained-agent {model_file}: the settings put VecNormalize around the environments, and its statistics {file} "
            "are not there. For an agent that was trained without: -params normalize:false"
        )
    own = given if isinstance(given, dict) else {}
    adopt_statistics(env, file, trust, {"gamma", "clip_reward", "norm_reward"} - own.keys(), own)


def _learn(run: TrainingRun, plan: Plan, stop: StopSignal, status: Status, eval_envs: list[VecEnv]) -> Exception | None:
    """Train until the steps are done, a signal comes or something fails.

    :param eval_envs: the environments of evaluations are added here, to be closed after the agent is saved
    :return: the error that ended training, or None
    :raises Stopped: after a second signal
    """
    args = run.args
    stopwatch = run.phases.stopwatch
    callbacks: list[BaseCallback] = [StopWhenAsked(stop), status, run.phases]
    if args.eval_freq > 0:
        config = plan.config
        eval_envs.append(evaluation_recipe(config).build(args.n_eval_envs, config.seeds.evaluation, training=False))
        about = {"algo": config.algo, "env": config.env, "seed": config.seeds.seed}
        most_steps = max(config.settings.n_timesteps, args.eval_episodes * _LONGEST_EPISODE)
        callbacks.append(
            Evaluate(
                eval_envs[0],
                args.eval_freq,
                args.eval_episodes,
                run.folder,
                stop,
                args.verbose,
                stopwatch,
                most_steps,
                about,
            )
        )
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
            **_log_interval(args.log_interval),
        )
    except Exception as error:
        if stop.received is None:  # else the signal caused it, for example by ending a compiler
            return error
    except (SystemExit, KeyboardInterrupt) as error:  # of an environment or a callback
        stop.end(f"{type(error).__name__} of the environment or a callback")
    finally:
        run.seconds = time.monotonic() - started
        stopwatch.start(None)
        if bar is not None and hasattr(bar, "pbar"):
            bar.pbar.close()
    return None


def close_envs(envs: Sequence[VecEnv]) -> None:
    """Close environments. Failures are reported, and one that hangs is left open."""
    for env in envs:
        try:
            with time_limit(_CLOSING):
                env.close()
        except TimeIsUp:
            terminal.note(f"closing the environments takes longer than {_CLOSING:.0f} s; they are left open.")
        except Exception as error:  # from a user's environment, or from workers that have ended
            terminal.note(f"closing the environments: {type(error).__name__}: {error}")


def _log_interval(given: int) -> dict[str, Any]:
    """SB3's ``log_interval``: its default for -1, no logs for smaller values."""
    return {} if given == -1 else {"log_interval": given if given > 0 else None}


def _plain_args(args: argparse.Namespace) -> dict[str, Any]:
    """The parsed command line as plain data."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}

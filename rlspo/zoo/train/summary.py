"""What is printed about a run: before training, and after it is done, stopped or failed."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import traceback
from dataclasses import dataclass, field

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.patience import BestEffort
from rlspo.zoo.cli.signals import TimeIsUp, time_limit
from rlspo.zoo.config.atomic import write_text
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.envs.of_run import evaluation_recipe
from rlspo.zoo.evaluate.attack_report import INNER_STEPS, Report, evaluate_attacked, radius
from rlspo.zoo.runs.evaluation_log import DamagedFile, read_evaluations
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.train import learning_curve
from rlspo.zoo.train.logbook import Logbook
from rlspo.zoo.train.phases import PhaseTimes, Stopwatch
from rlspo.zoo.video import render

_LONGEST_REPORT = 1800.0  # seconds; as long as the training, where that took longer
_SIDE_BY_SIDE = 10  # environments of the report, attacked in one batch


@dataclass
class TrainingRun:
    """A training run in progress or finished.

    :param model: the agent
    :param log: its log outputs
    :param before: steps that the agent had been trained for when the run began
    :param seconds: duration of the training
    :param phases: the same by phase
    :param report: returns after training, None before they are known
    """

    args: argparse.Namespace
    config: RunConfig
    folder: RunFolder
    model: BaseAlgorithm
    log: Logbook
    before: int = 0
    seconds: float = 0.0
    phases: PhaseTimes = field(default_factory=lambda: PhaseTimes(Stopwatch()))
    report: Report | None = None

    @property
    def title(self) -> str:
        """Agent and environment."""
        return f"{type(self.model).__name__} on {self.config.env}"

    @property
    def speed(self) -> float:
        """Environment steps per second, evaluations included; 0 before training."""
        return (self.model.num_timesteps - self.before) / self.seconds if self.seconds > 0 else 0.0


def announce(run: TrainingRun) -> None:
    """Print what is about to be trained, and with which settings."""
    config = run.config
    terminal.heading(run.title)
    terminal.facts(
        [
            ("steps", f"{config.settings.n_timesteps:,}"),
            ("environments", f"{config.settings.n_envs} ({config.vec_env})"),
            ("seed", str(config.seeds.seed)),
            ("device", str(run.model.device)),
            ("settings", str(config.source)),
            ("provenance", config.settings.provenance or "not stated"),
            ("run folder", str(run.folder.path)),
            *_log_viewers(run),
        ]
    )
    terminal.out().print()


def explain_failure(run: TrainingRun, failure: Exception | None, unsaved: Exception | None) -> None:
    """Print what is saved, and why not more.

    :param failure: what ended the training; None where it was not cut short
    :param unsaved: what kept the agent from being saved; None where it is
    """
    error = failure or unsaved
    trace = "".join(traceback.format_exception(error))
    try:
        write_text(run.folder.traceback, trace)
    except OSError as error:
        terminal.note(f"{run.folder.traceback} cannot be written ({error}). It would hold:\n{trace}")
    _draw(run)
    after = f"training failed after {run.model.num_timesteps:,} steps"
    for what, each in ((after, failure), ("the agent could not be saved anywhere", unsaved)):
        if each is not None:
            terminal.error(f"{what}: {type(each).__name__}: {each}")
    terminal.facts(_files(run))


def explain_stop(run: TrainingRun, by: str) -> None:
    """Print what is saved after a signal."""
    _draw(run)
    terminal.heading(f"{run.title}: stopped by {by} after {run.model.num_timesteps:,} steps, the agent is saved")
    terminal.facts([*_files(run), ("go on with", f"-i {shlex.quote(str(run.folder.last_model))}")])


def conclude(run: TrainingRun) -> None:
    """Evaluate the agent, draw the learning curve, record a video, and print where all files are.

    The agent is already saved: whatever fails here is reported in one line.
    """
    steps = run.model.num_timesteps - run.before
    terminal.heading(f"{run.title}: {steps:,} steps in {terminal.duration(run.seconds)} ({run.speed:,.0f} steps/s)")
    _draw(run)
    if not run.args.no_report and not isinstance(run.model.policy, ActorCriticPolicy):
        name = type(run.model.policy).__name__
        terminal.note(f"no returns under attack: the attacks need an actor-critic policy, and this one is a {name}.")
    elif not run.args.no_report:
        limit = max(run.seconds, _LONGEST_REPORT)
        try:
            with time_limit(limit):
                _write_report(run)
        except TimeIsUp:
            terminal.note(
                f"report skipped: it has not ended after {terminal.duration(limit)}. Do the episodes of this task end? A time "
                "limit ends them: gymnasium.wrappers.TimeLimit, or max_episode_steps."
            )
        except Exception as error:  # from a user's environment or policy, which attacks call in unusual ways
            terminal.note(f"report skipped: {type(error).__name__}: {error}")
    if run.args.tensorboard_video or not run.args.no_report:
        with BestEffort("video"):
            _record_video(run)
    terminal.facts(_files(run))


def _write_report(run: TrainingRun) -> None:
    """Print and save the returns, natural and under attack."""
    episodes = 2 * run.args.eval_episodes
    recipe = dataclasses.replace(evaluation_recipe(run.config), vec_env="dummy")
    env = recipe.build(min(episodes, _SIDE_BY_SIDE), run.config.seeds.report, training=False)
    try:
        report = evaluate_attacked(
            run.model, env, episodes, radius(run.model, run.args.attack_epsilon), run.config.seeds.report
        )
    finally:
        env.close()
    run.report = report
    report.write(
        run.folder.report,
        about={
            "algo": run.config.algo,
            "env": run.config.env,
            "model": run.folder.last_model.name,
            "num_timesteps": run.model.num_timesteps,
            "deterministic": True,
            "episodes": episodes,
            "seed": run.config.seeds.report,
        },
    )
    caption = f"last model, deterministic, {episodes} episodes each"
    if len(report.returns) > 1:
        caption += f"; attacks: epsilon {report.epsilon:.4g} {report.units}, {INNER_STEPS} inner steps"
    terminal.returns(report.returns, caption)
    if report.skipped:
        terminal.note(f"attacks skipped: {report.skipped}")


def _record_video(run: TrainingRun) -> None:
    """Record a video of the agent, and show it in TensorBoard where asked for."""
    reason = render.record_run(run.folder)
    if reason is not None:
        terminal.note(f"video skipped: {reason}")
    elif run.args.tensorboard_video:
        try:
            run.log.show_clip(run.folder.video, run.model.num_timesteps)
        except Exception as error:  # any error of the video decoder
            terminal.note(f"clip skipped: {type(error).__name__}: {error}")


def final_metrics(run: TrainingRun) -> dict[str, float]:
    """The final metrics of a run, by tag.

    TensorBoard's table shows the first five metrics in the order of their tags; capitals sort first.
    """
    metrics = {"steps_per_second": run.speed}
    if run.model.ep_info_buffer:
        metrics["train_return"] = float(np.mean([episode["r"] for episode in run.model.ep_info_buffer]))
    evaluated = _evaluations(run.folder)
    if evaluated is not None:
        metrics |= {"eval_return": float(evaluated[1][-1]), "best_eval_return": float(evaluated[1].max())}
    if run.report is not None:
        returns = {name: float(episodes.mean()) for name, episodes in run.report.returns.items()}
        metrics["natural_return"] = returns.pop("natural")
        metrics |= {f"under_{name}_attack": value for name, value in returns.items()}
        if returns:
            metrics["attacked_return"] = min(returns.values())
    return {**run.phases.totals(), **{f"Result/{name}": value for name, value in metrics.items()}}


def _log_viewers(run: TrainingRun) -> list[tuple[str, str]]:
    """Where the log can be viewed."""
    shown = (
        [("TensorBoard", f"tensorboard --logdir {shlex.quote(str(run.folder.tensorboard))}")]
        if "tensorboard" in run.args.log_format
        else []
    )
    return [*shown, *([("W&B", run.log.tracker.where)] if run.log.tracker is not None else [])]


def _evaluations(folder: RunFolder) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps and mean returns of the evaluations during training; None where there are none that can be read."""
    try:
        steps, returns = read_evaluations(folder.evaluations)
    except DamagedFile:
        return None
    means = returns.mean(axis=1)
    finite = np.isfinite(means)  # the best model is the best of these
    return (steps[finite], means[finite]) if finite.any() else None


def _draw(run: TrainingRun) -> None:
    """Draw the learning curve, if there is anything to draw."""
    try:
        learning_curve.draw(run.folder.path, f"{run.title}, seed {run.config.seeds.seed}", run.folder.learning_curve)
    except Exception as error:  # of a disk, a damaged file, a library
        terminal.note(f"learning curve skipped: {type(error).__name__}: {error}")


def _files(run: TrainingRun) -> list[tuple[str, str]]:
    """The files of the run."""
    folder = run.folder
    best = ""
    evaluated = _evaluations(folder)
    if evaluated is not None:
        steps, means = evaluated
        best = f"  (mean return {means.max():,.1f} at step {steps[means.argmax()]:,})"
    files = [
        ("last model", folder.last_model, ""),
        ("best model", folder.best_model, best),
        ("checkpoints", folder.checkpoints, ""),
        ("learning curve", folder.learning_curve, ""),
        ("video", folder.video, ""),
        ("traceback", folder.traceback, ""),
    ]
    return [
        ("run folder", str(folder.path)),
        *((label, f"{path}{more}") for label, path, more in files if path.exists()),
        *_log_viewers(run),
    ]

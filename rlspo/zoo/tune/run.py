"""A study from its first trial to its report."""

from __future__ import annotations

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.exit_codes import FAILED
from rlspo.zoo.errors import UserError
from rlspo.zoo.tune import pictures, report
from rlspo.zoo.tune.conclusion import conclude, nothing_trained
from rlspo.zoo.tune.search import Search
from rlspo.zoo.tune.space import SearchSpace
from rlspo.zoo.tune.study import Study
from rlspo.zoo.tune.task import Task
from rlspo.zoo.tune.validation import Candidate, Validation, candidates, validate
from rlspo.zoo.tune.watch import Bars, TrialBars


def tune(task: Task, typed: str) -> int:
    """Search, validate, report.

    :param typed: the command, for the record
    :return: exit code
    :raises UserError: for anything that could not be used
    """
    args = task.args
    with task.opened() as study:
        if not args.json:
            _announce(task, study)
        try:
            whole = _search(task, study)
        except UpdateFinishedTrialError as error:
            raise UserError(
                f"Another program has ended a trial that was under way here, so two work on this study as one. A copy of "
                f"{study.folder.path} counts as that folder: in one of them remove identity.txt, then call both again."
            ) from error
        report.write_trials(study)
        if not whole:
            return FAILED
        drawn = pictures.save_pictures(study.optuna, study.folder.path, study.trials)
        if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
            return nothing_trained(task, study, typed)
        return conclude(task, study, _validate(task, study, candidates(study, args.top)), typed, drawn)


def _announce(task: Task, study: Study) -> None:
    args, plan = task.args, task.plan
    for title, text in (*plan.warnings, *task.warnings):
        terminal.warning(title, text)
    settings = study.settings
    done = len(study.trials)
    terminal.heading(f"Tuning {plan.cls.__name__} on {plan.config.env}")
    known = ", ".join(task.references)
    terminal.facts(
        [
            ("trials", f"{args.n_trials}" + (f", {done} of them done or under way" if done else "")),
            ("each", f"{settings.n_seeds} seeds of {settings.n_timesteps:,} steps"),
            (
                "search",
                f"{settings.sampler} sampler, {settings.pruner} pruner, {args.workers} process" + "es" * (args.workers > 1),
            ),
            ("space", f"{task.space_file}: {', '.join(study.space.parameters)}"),
            *([("fixed", f"{_pins(study.space)}, by -params: not searched")] if study.space.pins else []),
            ("begins from", str(plan.config.source)),
            *([("known settings", known)] if known else []),
            ("folder", str(study.folder.path)),
            ("watch it", f"optuna-dashboard {args.storage or study.folder.journal}"),
        ]
    )
    terminal.err().print()


def _pins(space: SearchSpace) -> str:
    """Settings that the user gave, which the space has too."""
    return ", ".join(f"{'.'.join(path)} {space.fixed[path]}" for path in space.pins)


def _search(task: Task, study: Study) -> bool:
    """Run the trials that are missing; False while some are under way elsewhere, one of which may be the best."""

    def best() -> str:
        complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        if not complete:
            return ""
        top = max(complete, key=lambda trial: trial.value or 0.0)
        return f"{top.value:,.1f}, trial {top.number}"

    n_trials = task.args.n_trials
    done = sum(trial.state.is_finished() for trial in study.trials)
    if done >= n_trials:
        return True
    with Bars("trials", n_trials, done) as bars:
        Search(study, task.base, n_trials, TrialBars(bars, best)).run(task.args.workers)
    under_way = sum(trial.state == TrialState.RUNNING for trial in study.trials)
    if under_way:
        terminal.warning(
            "nothing is chosen yet",
            f"{under_way} of {n_trials} trials are under way elsewhere in {task.args.storage}, or were left by a program in "
            "another folder. Give the command again when they have ended; where that program is gone, in its folder. "
            f"--n-trials {n_trials - under_way} is content with those that have ended.",
        )
    return not under_way


def _validate(task: Task, study: Study, chosen: list[Candidate]) -> list[Validation]:
    seeds = study.settings.validation_seeds(task.args.validation_seeds)
    with Bars("fresh seeds", len(chosen) * len(seeds)) as bars:

        def progressed(candidate: Candidate, seed: int, share: float) -> None:
            name = f"{candidate.name}, seed {seed}"
            bars.update(name, share)
            if share >= 1.0:
                bars.end(name, "done")

        return validate(study, task.base, chosen, seeds, task.args.workers, progressed)

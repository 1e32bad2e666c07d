"""``rlspo tune``, also ``python -m rlspo.zoo.tune``: search, validate on fresh seeds, and write the winner down."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from rlspo.zoo import blocks, command, display, yaml_io
from rlspo.zoo.command import DONE, FAILED
from rlspo.zoo.envs import find_spec, is_atari
from rlspo.zoo.errors import UserError
from rlspo.zoo.files import write_text
from rlspo.zoo.hyperparams import choose_block, find_file
from rlspo.zoo.plan import Plan, make_plan
from rlspo.zoo.run_folder import command_line
from rlspo.zoo.tune import pictures, report
from rlspo.zoo.tune.arguments import parse
from rlspo.zoo.tune.search import Search
from rlspo.zoo.tune.settings import StudyFolder, StudySettings
from rlspo.zoo.tune.space import SearchSpace, find_space
from rlspo.zoo.tune.study import Study, only_one, open_storage
from rlspo.zoo.tune.training import Judging
from rlspo.zoo.tune.validation import DEFAULT, Candidate, Judgement, candidates, validate
from rlspo.zoo.tune.watch import Bars, TrialBars
from rlspo.zoo.values import merged


def main(argv: Sequence[str] | None = None) -> int:
    """Tune as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 done, 1 nothing could be chosen or --apply was not justified, 2 a mistake in what was given, 130
        after Ctrl-C, 143 after SIGTERM
    """
    # Every finished seed is stored already: a signal may end it at once.
    return command.run(_work, argv, after_stop="The same command goes on from here.")


def _work(arguments: list[str]) -> int:
    """Check, search, validate, report."""
    return tune(parse(arguments), command_line(arguments, "tune"))


def tune(args: argparse.Namespace, typed: str) -> int:
    """Search, validate, report.

    :param args: the parsed command line
    :param typed: the command, for the record
    :return: exit code
    :raises UserError: for anything that could not be used
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    base = _base(args)
    plan = make_plan(argparse.Namespace(**base))
    space_file, space = _space(args, plan)
    name = args.study_name or f"{plan.config.algo}_{plan.config.env.rpartition(':')[2].replace('/', '-')}"
    folder = StudyFolder(args.log_folder / "tune" / name)
    folder.path.mkdir(parents=True, exist_ok=True)
    with only_one(folder):
        stored = _stored_block(plan, args)
        if folder.base.is_file():
            stored = yaml_io.read_mapping(folder.base)[_env_id(args)]
        else:
            yaml_io.write(folder.base, {_env_id(args): stored}, "The settings that the study began from; they do not change.")
        base["conf_file"] = folder.base
        plan = make_plan(argparse.Namespace(**base))
        study = Study(name, open_storage(args.storage, folder), folder, _settings(args, plan, space), space)
        if not args.json:
            _announce(args, plan, study, space_file)
        _search(study, base, args)
        report.write_trials(study)
        drawn = pictures.save_pictures(study.optuna, folder.path, study.trials)
        chosen = candidates(study, args.top)
        if len(chosen) == 1:
            return _nothing_trained(study, args, typed)
        judgements = _validate(study, base, chosen, args)
        return _conclude(study, judgements, stored, plan, args, typed, space_file, drawn)


def _base(args: argparse.Namespace) -> dict[str, Any]:
    """What ``rlspo train`` would have parsed."""
    names = (
        "algo",
        "env",
        "n_timesteps",
        "hyperparams",
        "env_kwargs",
        "eval_env_kwargs",
        "conf_file",
        "gym_packages",
        "device",
    )
    base = {name: getattr(args, name) for name in names}
    return {**base, "seed": args.seed, "trained_agent": None, "vec_env": "dummy"}


def _space(args: argparse.Namespace, plan: Plan) -> tuple[Path, SearchSpace]:
    """The search space, checked against the agent."""
    spec = find_spec(args.env, args.gym_packages)
    file = find_space(plan.config.algo, plan.cls, args.space)
    block = choose_block(file, yaml_io.read_mapping(file), spec.id, is_atari(spec))
    space = SearchSpace.read(file, block)
    space.check(plan.cls, plan.config.settings.policy)
    return file, space


def _settings(args: argparse.Namespace, plan: Plan, space: SearchSpace) -> StudySettings:
    config = plan.config
    block = {"settings": config.settings.model_dump(mode="json"), "agent": config.agent, "eval": config.eval_env_kwargs}
    del block["settings"]["provenance"]
    return StudySettings(
        algo=config.algo,
        env=config.env,
        n_timesteps=config.settings.n_timesteps,
        seed=args.seed,
        n_seeds=args.n_seeds,
        sampler=args.sampler,
        pruner=args.pruner,
        n_startup_trials=args.n_startup_trials,
        space=space.fingerprint(),
        block=block,
        judging=Judging(args.n_evaluations, args.eval_episodes, args.final_episodes, args.attack, args.attack_epsilon),
    )


def _announce(args: argparse.Namespace, plan: Plan, study: Study, space_file: Path) -> None:
    for title, text in plan.warnings:
        display.warning(title, text)
    settings = study.settings
    done = len(study.trials)
    display.heading(f"Tuning {plan.cls.__name__} on {plan.config.env}")
    display.facts(
        [
            ("trials", f"{args.n_trials}" + (f", {done} of them done or under way" if done else "")),
            ("each", f"{settings.n_seeds} seeds of {settings.n_timesteps:,} steps"),
            (
                "search",
                f"{settings.sampler} sampler, {settings.pruner} pruner, {args.workers} process" + "es" * (args.workers > 1),
            ),
            ("space", f"{space_file}: {', '.join(study.space.parameters)}"),
            ("begins from", str(plan.config.source)),
            ("folder", str(study.folder.path)),
            ("watch it", f"optuna-dashboard {args.storage or study.folder.journal}"),
        ]
    )
    display.err().print()


def _search(study: Study, base: dict[str, Any], args: argparse.Namespace) -> None:
    def best() -> str:
        complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        if not complete:
            return ""
        top = max(complete, key=lambda trial: trial.value or 0.0)
        return f"{top.value:,.1f}, trial {top.number}"

    done = sum(trial.state.is_finished() for trial in study.trials)
    if done >= args.n_trials:
        return
    with Bars("trials", args.n_trials, done) as bars:
        Search(study, base, args.n_trials, TrialBars(bars, best)).run(args.workers)


def _validate(study: Study, base: dict[str, Any], chosen: list[Candidate], args: argparse.Namespace) -> list[Judgement]:
    seeds = study.settings.validation_seeds(args.validation_seeds)
    with Bars("fresh seeds", len(chosen) * len(seeds)) as bars:

        def progressed(candidate: Candidate, seed: int, share: float) -> None:
            name = f"{candidate.name}, seed {seed}"
            bars.update(name, share)
            if share >= 1.0:
                bars.end(name, "done")

        return validate(study, base, chosen, seeds, args.workers, progressed)


def _nothing_trained(study: Study, args: argparse.Namespace, typed: str) -> int:
    """No trial reached its end: say why, and leave a report all the same."""
    data = report.as_data(study, [], typed, None)
    report.write(study, data)
    if args.json:
        print(json.dumps(data, indent=2))
    ended = ", ".join(f"{number} {name}" for name, number in report.counts(study).items())
    report.show_failures(study)
    display.error(
        f"no trial was trained to its end ({ended}); there is nothing to choose from.\n"
        f"See {study.folder.trials}; give more trials, more steps, another space, or --pruner none."
    )
    return FAILED


def _conclude(
    study: Study,
    judgements: list[Judgement],
    stored: dict[str, Any],
    plan: Plan,
    args: argparse.Namespace,
    typed: str,
    space_file: Path,
    drawn: list[Path],
) -> int:
    incomplete = any(each.missing for each in judgements)
    best = None if incomplete else report.best_of(judgements)
    text, block = "", None
    if best is not None and best.candidate.name != DEFAULT:
        block = _block(stored, args, best.candidate)
        text = blocks.render_block(_env_id(args), block, report.provenance(study, best, judgements, space_file))
        write_text(study.folder.best, text)
    else:
        study.folder.best.unlink(missing_ok=True)
    data = report.as_data(study, judgements, typed, block)
    report.write(study, data)
    if args.json:
        print(json.dumps(data, indent=2))
    else:
        ended = ", ".join(f"{number} {name}" for name, number in report.counts(study).items())
        display.heading(f"{study.name}: {len(study.trials)} trials ({ended})")
        report.show_failures(study)
        report.show(study, judgements)
        if text:
            display.heading(f"The best, {best.candidate.name if best else ''}, as a block for a file of hyperparameters")
            print(text, end="")
        display.facts(_places(study, bool(text), drawn))
    if incomplete:
        display.error("trainings on fresh seeds are missing: nothing is chosen. The same command trains them.")
        return FAILED
    if best is None:
        display.error("no candidate could be trained on all fresh seeds: there is nothing to choose from.")
        return FAILED
    return _decide(best, plan, args, text)


def _decide(best: Judgement, plan: Plan, args: argparse.Namespace, text: str) -> int:
    """Say how far to trust the best, and apply it where that was asked for and is justified."""
    if best.candidate.name == DEFAULT:
        display.note("No trial beats the settings that the search began from on fresh seeds: nothing to apply.")
        return DONE
    if not report.shown_better(best):
        display.note(
            "It is not shown to be better than what the search began from: the interval of its gain reaches 0. "
            "More --validation-seeds tell." + (" Not applied." if args.apply else "")
        )
        return FAILED if args.apply else DONE
    if args.apply:
        _apply(plan, args, text)
    return DONE


def _stored_block(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """The block of the agent's file, as it stands there."""
    file = find_file(plan.config.algo, plan.cls, args.conf_file)
    return {} if file is None else dict(yaml_io.read_mapping(file)[plan.config.source.block])


def _block(stored: dict[str, Any], args: argparse.Namespace, candidate: Candidate) -> dict[str, Any]:
    """The settings of a candidate as they would stand in a file: those not searched included.

    The number of steps stays what it was there: studies are often shorter than the trainings that they are for, and the
    provenance says how long they were.
    """
    given = dict(args.hyperparams)
    if args.env_kwargs:
        given["env_kwargs"] = merged(given.get("env_kwargs") or {}, args.env_kwargs)
    block = merged(merged(stored, given), candidate.overrides)
    block.setdefault("n_timesteps", args.n_timesteps)
    block.pop("provenance", None)
    return block


def _apply(plan: Plan, args: argparse.Namespace, text: str) -> None:
    file = find_file(plan.config.algo, plan.cls, args.conf_file)
    if file is None:
        raise UserError(f"--apply: {plan.config.algo} has no file of hyperparameters; give one with --conf-file.")
    blocks.apply_block(file, _env_id(args), text)
    display.note(f"Written into {file}, block {_env_id(args)!r}.")


def _env_id(args: argparse.Namespace) -> str:
    return find_spec(args.env, args.gym_packages).id


def _places(study: Study, has_best: bool, drawn: list[Path]) -> list[tuple[str, str]]:
    folder = study.folder
    return [
        ("folder", str(folder.path)),
        ("trials", str(folder.trials)),
        ("report", str(folder.report)),
        *([("best", str(folder.best))] if has_best else []),
        *[("picture", str(file)) for file in drawn],
    ]

"""What is chosen at the end of a study: shown, written down, and put into the file of hyperparameters where asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.exit_codes import DONE, FAILED
from rlspo.zoo.config import yaml_edit, yaml_io
from rlspo.zoo.config.atomic import read_whole, write_text
from rlspo.zoo.config.convert import merged
from rlspo.zoo.config.hyperparams import choose_block, find_file, plain_block
from rlspo.zoo.errors import UserError
from rlspo.zoo.tune import provenance, report
from rlspo.zoo.tune.references import DEFAULT
from rlspo.zoo.tune.study import Study
from rlspo.zoo.tune.task import Task
from rlspo.zoo.tune.validation import Candidate, Validation


def nothing_trained(task: Task, study: Study, typed: str) -> int:
    """No trial reached its end: say why, and leave a report all the same."""
    data = report.as_data(study, [], typed, task.args.top)
    report.write(study, data)
    if task.args.json:
        print(json.dumps(data, indent=2))
    report.show_failures(study)
    terminal.error(
        f"no trial was trained to its end ({report.counted(study)}); there is nothing to choose from.\n"
        f"See {study.folder.trials}; give more trials, more steps, another space, or --pruner none."
    )
    return FAILED


def conclude(task: Task, study: Study, validations: list[Validation], typed: str, drawn: Sequence[Path]) -> int:
    """Choose, write the report, show it, and apply the best where that was asked for and is justified.

    :param typed: the command, for the record
    :param drawn: pictures
    :return: exit code
    """
    incomplete = any(each.missing for each in validations)
    best = None if incomplete else report.best_of(validations)
    text, block, source = "", None, ""
    if best is not None:
        source = provenance.of_winner(study, best, validations, task.space_name)
        if best.candidate.name != DEFAULT:
            block = _block(task, best.candidate)
            text = yaml_edit.render_block(task.env_id, block, source)
        if not report.shown_better(best):
            source = provenance.of_what_stays(study, validations, task.space_name)
    if text:
        write_text(study.folder.best, text)
    else:
        study.folder.best.unlink(missing_ok=True)
    data = report.as_data(study, validations, typed, task.args.top, block, source)
    report.write(study, data)
    if task.args.json:
        print(json.dumps(data, indent=2))
    else:
        terminal.heading(f"{study.name}: {len(study.trials)} trials ({report.counted(study)})")
        report.show_failures(study)
        report.show(study, validations)
        if text:
            terminal.heading(f"The best, {best.candidate.name if best else ''}, as a block for a file of hyperparameters")
            print(text, end="")
        terminal.facts(_places(study, bool(text), drawn))
    if incomplete:
        terminal.error("trainings on fresh seeds are missing: nothing is chosen. The same command trains them.")
        return FAILED
    if best is None:
        terminal.error("no candidate could be trained on all fresh seeds: there is nothing to choose from.")
        return FAILED
    if not report.shown_better(best):
        _tell_doubt(best)
    return apply(task) if task.args.apply else DONE


def _tell_doubt(best: Validation) -> None:
    """Say that nothing is shown to be better."""
    if best.candidate.name == DEFAULT:
        terminal.note("Nothing beats the settings that the search began from on fresh seeds.")
        return
    if any(math.isnan(gain.low) for gain in best.gains.values()):
        terminal.note(
            f"{best.candidate.name} was trained with one fresh seed, which shows nothing; give more --validation-seeds."
        )
        return
    names = {name: "what the search began from" if name == DEFAULT else name for name in best.gains}
    reached = " and ".join(names[name] for name, gain in best.gains.items() if not gain.low > 0)
    terminal.note(
        f"{best.candidate.name} is not shown to be better than {reached}: the interval of its gain reaches 0. "
        "More --validation-seeds tell."
    )


def apply(task: Task) -> int:
    """Put what a finished study found into the file of hyperparameters, from its report.

    The best settings where they are shown to be better. Otherwise the settings stay; for a study of a queue, which is made for
    that file, their provenance tells of it.

    :return: exit code
    :raises UserError: if there is no file, or its settings are no longer those that the study began from
    """
    found = read_whole(task.folder.report)
    if found is None:
        raise UserError(f"--apply: {task.folder.report} is missing or damaged. Without --apply it is made again.")
    file = find_file(task.plan.config.algo, task.plan.cls, task.args.conf_file)
    if file is None:
        raise UserError(f"--apply: {task.plan.config.algo} has no file of hyperparameters; give one with --conf-file.")
    if task.queued and task.args.env_kwargs:
        return _mention(task, file, found)
    if found["shown_better"]:
        _check_unchanged(task, file, found["block"])
        yaml_edit.apply_block(file, task.env_id, yaml_edit.render_block(task.env_id, found["block"], found["finding"]))
        terminal.note(f"Written into {file}, block {task.env_id!r}.")
        return DONE
    if not task.queued:
        terminal.note("Not applied.")
        return DONE if found["best"] == DEFAULT else FAILED
    _check_unchanged(task, file, task.stored)
    source = provenance.followed_by(task.stored.get("provenance", ""), found["finding"])
    yaml_edit.apply_provenance(file, task.env_id, task.stored, source)
    terminal.note(f"The provenance of {file}, block {task.env_id!r}, describes the study.")
    return DONE


def _mention(task: Task, file: Path, found: dict[str, Any]) -> int:
    """Tell in a block's provenance of a study of one variant of an environment: the block itself serves all variants."""
    known = yaml_io.read_mapping(file)
    block = known[choose_block(file, known, task.env_id, task.families)]
    before = block.get("provenance", "")
    if f"study {task.name} of " not in before:
        variant = ", ".join(f"{key} {value}" for key, value in task.args.env_kwargs.items())
        kept = " Its settings are not these; they stand in its best.yml." if found["shown_better"] else ""
        source = provenance.followed_by(before, f"For {variant}: {found['finding']}{kept}")
        yaml_edit.apply_provenance(file, task.env_id, block, source)
    terminal.note(f"{task.name}: the block {task.env_id!r} of {file} serves all variants; its provenance describes the study.")
    return DONE


def _block(task: Task, candidate: Candidate) -> dict[str, Any]:
    """The settings of a candidate as they would stand in a file: those not searched included.

    They are for as many steps as the study trained: nothing is known of longer trainings.
    """
    args = task.args
    given = dict(args.hyperparams)
    if args.env_kwargs:
        given["env_kwargs"] = merged(given.get("env_kwargs") or {}, args.env_kwargs)
    block = dict(candidate.block or merged(merged(plain_block(task.plan.cls, task.stored), given), candidate.overrides))
    block.pop("provenance", None)
    # First in a new block, in its place in an old one.
    return {"n_timesteps": 0, **block} | {"n_timesteps": task.plan.config.settings.n_timesteps}


def _check_unchanged(task: Task, file: Path, new: dict[str, Any]) -> None:
    """Refuse to replace settings that the study never compared with."""
    known = yaml_io.read_mapping(file)
    now = known.get(task.env_id) or known[choose_block(file, known, task.env_id, task.families)]
    settings = [{key: value for key, value in each.items() if key != "provenance"} for each in (now, task.stored, new)]
    if settings[0] not in settings[1:]:
        raise UserError(
            f"--apply: the settings for {task.env_id} in {file} are no longer those that the study began from "
            f"({task.folder.base}), so its gain is not one over them. Nothing was written; put {task.folder.best} in by hand."
        )


def _places(study: Study, has_best: bool, drawn: Sequence[Path]) -> list[tuple[str, str]]:
    folder = study.folder
    return [
        ("folder", str(folder.path)),
        ("trials", str(folder.trials)),
        ("report", str(folder.report)),
        *([("best", str(folder.best))] if has_best else []),
        *[("picture", str(file)) for file in drawn],
    ]

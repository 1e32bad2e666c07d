"""The models in a run folder, and choosing one of them."""

from __future__ import annotations

import math
from pathlib import Path

from rlspo.common.files import is_partial
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder, number_of, read_status
from rlspo.zoo.runs.model_files import steps_in_name

#: A checkpoint this close to the steps asked for is used: training saves between rollouts, not at round numbers.
_CLOSE = 0.1


def latest_run(log_folder: Path, algo: str, env_id: str, number: int) -> Path:
    """A run by agent and environment, as ``logs/ALGO/ENV_N``.

    :param number: N; 0 for the highest there is; -1 for a model that lies in ``logs/ALGO`` itself
    :return: its folder; for -1 the model file
    :raises UserError: if it is not there, with the runs that are
    """
    parent = log_folder / (algo if "." in algo else algo.lower())
    name = env_id.rpartition(":")[2].replace("/", "-")
    if number == -1:
        return existing_file(parent / name)
    numbered_runs = [(n, run) for run in parent.glob(f"{name}_*") if run.is_dir() and (n := number_of(run, name)) is not None]
    found = sorted(numbered_runs, key=lambda each: (each[0], each[1].stat().st_mtime))
    chosen = [run for n, run in found if number in (0, n)]
    if chosen:
        return chosen[-1]
    there = (
        f"There are: {', '.join(run.name for _, run in found)}." if found else "There is none of this agent and environment."
    )
    raise UserError(f"There is no run {parent / f'{name}_{number or 1}'}. {there}")


def checkpoints_of(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints of a run and the steps each was trained for, fewest first; empty where there are none."""
    folder = Path(folder)
    return numbered(RunFolder.existing(folder).checkpoints) or numbered(folder)  # the latter as rl-zoo3 has it


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Model files with steps in their names, fewest first."""
    files = [file for file in folder.glob("*_steps.zip") if not is_partial(file)]
    return sorted((steps, file) for file in files if (steps := steps_in_name(file)) is not None)


def choose_model(folder: Path, which: str) -> tuple[str, Path]:
    """A model of a run folder.

    :param which: ``"last"``, ``"best"`` or steps; of checkpoints the nearest one, if within a tenth of these steps
    :return: its kind and its file
    :raises UserError: if it does not exist, with the list of those that do
    """
    run = RunFolder.existing(folder)
    try:
        return choose(folder, {"last": run.last_model, "best": run.best_model}, checkpoints_of(folder), which)
    except UserError as error:
        status = read_status(run) or {}
        if status.get("state") not in ("running", "killed"):
            raise
        how = "is still running" if status["state"] == "running" else "was killed, or its machine went down"
        raise UserError(f"{error} The run {how}, after {status.get('num_timesteps')} steps.") from error


def choose(folder: Path, named: dict[str, Path], checkpoints: list[tuple[int, Path]], which: str) -> tuple[str, Path]:
    """One of the models of a run, as :func:`choose_model`.

    :param named: paths of the last and the best model, which may not exist
    :param checkpoints: steps and files
    """
    there = [name for name, file in named.items() if file.is_file()] + [str(steps) for steps, _ in checkpoints]
    has = f"{folder} has: --which {', '.join(there)}" if there else f"{folder} has no models yet."
    if which in named:
        if not named[which].is_file():
            raise UserError(f"--which {which}: there is no {named[which].name}. {has}")
        return which, named[which]
    if which == "checkpoint" and checkpoints:
        return which, checkpoints[-1][1]
    try:
        asked = float(which)
        if not math.isfinite(asked):
            raise ValueError
    except ValueError:
        raise UserError(f"--which {which}: give 'last', 'best', 'checkpoint' or a number of steps. {has}") from None
    near = min(checkpoints, key=lambda checkpoint: abs(checkpoint[0] - asked), default=None)
    if near is None or abs(near[0] - asked) > _CLOSE * asked:
        raise UserError(f"--which {which}: there is no checkpoint near {asked:,.0f} steps. {has}")
    return "checkpoint", near[1]


def existing_file(path: Path) -> Path:
    """The model file; ``.zip`` may be left out, as with ``model.save``.

    :raises UserError: if it is not there
    """
    for file in (path, path.with_name(f"{path.name}.zip")):
        if file.is_file():
            check_whole(file)
            return file
    raise UserError(f"There is no run folder and no model file {path}.")


def check_whole(model_file: Path) -> None:
    """Refuse the file of a save that was killed, which may be incomplete.

    :raises UserError: for such a file
    """
    if is_partial(model_file):
        raise UserError(f"{model_file} was left by a save that was killed, and is not a model. Choose another one of the run.")


def folder_of(model_file: Path) -> Path | None:
    """The run folder of a model file, None for a file outside of run folders."""
    for folder in (model_file.parent, model_file.parent.parent):
        inside = folder == model_file.parent or RunFolder.existing(folder).checkpoints == model_file.parent
        if inside and RunFolder.existing(folder).config.is_file():
            return folder
    return None


def kind_of(model_file: Path) -> str:
    """``"last"``, ``"best"`` or ``"checkpoint"``, by the name that training gives; else ``"file"``."""
    names = {"last_model.zip": "last", "best_model.zip": "best"}
    return names.get(model_file.name, "file" if steps_in_name(model_file) is None else "checkpoint")

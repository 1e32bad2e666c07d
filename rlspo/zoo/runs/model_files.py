"""Facts in a model file, read without unpickling anything."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from rlspo.common.checkpoints import read_settings
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.files import partials_of, whole
from rlspo.common.registry import agent_names
from rlspo.zoo.errors import UserError

# Files of SB3 and sb3-contrib do not name their agent. Each line: the module of the policy, a setting that the agent has,
# and the agent. The first line that fits counts. Agents that share a policy and all settings act alike.
_SIGNS = (
    ("stable_baselines3.dqn.", "", "stable_baselines3.DQN"),
    ("stable_baselines3.sac.", "", "stable_baselines3.SAC"),
    ("stable_baselines3.td3.", "", "stable_baselines3.TD3"),
    ("stable_baselines3.", "clip_range", "stable_baselines3.PPO"),
    ("stable_baselines3.", "cg_max_steps", "sb3_contrib.TRPO"),
    ("stable_baselines3.", "gae_lambda", "stable_baselines3.A2C"),
    ("sb3_contrib.common.maskable.", "", "sb3_contrib.MaskablePPO"),
    ("sb3_contrib.common.recurrent.", "", "sb3_contrib.RecurrentPPO"),
    ("sb3_contrib.qrdqn.", "", "sb3_contrib.QRDQN"),
    ("sb3_contrib.tqc.", "", "sb3_contrib.TQC"),
    ("sb3_contrib.crossq.", "", "sb3_contrib.CrossQ"),
    ("sb3_contrib.ars.", "", "sb3_contrib.ARS"),
)
#: Member of a model file that holds the check sum of the statistics that were saved with it.
_STATISTICS = "vecnormalize.sha256"
_CHECKPOINT = re.compile(r"_(\d+)_steps\.zip$")


def settings_of(file: Path) -> dict[str, Any]:
    """The settings in a model file; pickled values stay text.

    :raises UserError: for a file that is not a model
    """
    try:
        return read_settings(file)
    except (IncompatibleModelError, OSError) as error:
        raise UserError(str(error)) from error


def algo_of(settings: dict[str, Any]) -> str | None:
    """The agent that wrote these settings: a name of the registry or a dotted path; None if it cannot be found out.

    >>> algo_of({"_agent": "BARPO"})
    'barpo'
    >>> algo_of({"policy_class": {"__module__": "stable_baselines3.sac.policies"}})
    'stable_baselines3.SAC'
    """
    own = str(settings.get("_agent", "")).lower()
    if own in agent_names():
        return own
    policy = settings.get("policy_class")
    module = str(policy.get("__module__", "")) if isinstance(policy, dict) else ""
    for start, setting, agent in _SIGNS:
        if module.startswith(start) and (not setting or setting in settings):
            return agent
    return None


def name_statistics(file: Path, statistics: Path) -> None:
    """Write into a model file which statistics of ``VecNormalize`` it was saved with."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(_STATISTICS, _sum_of(statistics))


def checked_statistics(file: Path, statistics: Path) -> Path:
    """The file with the statistics of ``VecNormalize`` that were saved with a model; models of SB3 do not record which.

    After a kill between the two writes they still have their temporary name: then they are copied to the right one.

    :param statistics: where they should be; the file may not exist
    :return: ``statistics``, or their temporary name in a folder that cannot be written to
    :raises UserError: where the file holds statistics of another moment
    """
    expected = _sum_of_statistics(file)
    if expected is None or (statistics.is_file() and _sum_of(statistics) == expected):
        return statistics
    partials = partials_of(statistics)
    for partial in partials:
        if _sum_of(partial) == expected:
            try:
                with whole(statistics) as copy:  # a copy: a process that is saving right now renames its own file
                    shutil.copyfile(partial, copy)
                return statistics
            except OSError:
                return partial
    if not statistics.is_file() and not partials:
        return statistics
    there = "holds other statistics than" if statistics.is_file() else "is not there, and nothing else holds those that"
    left = f" Nor are they in what an interrupted save left: {', '.join(map(str, partials))}." if partials else ""
    raise UserError(
        f"{statistics} {there} {file} was saved with; with those of another moment or another run the agent would see "
        f"wrong observations.{left} Choose another model of the run, or put the right file there; to use others all the same: "
        f"--vecnormalize {statistics}"
    )


def _sum_of(statistics: Path) -> str:
    return hashlib.sha256(statistics.read_bytes()).hexdigest()


def _sum_of_statistics(file: Path) -> str | None:
    """Of those that a model was saved with."""
    with zipfile.ZipFile(file) as archive:
        return archive.read(_STATISTICS).decode() if _STATISTICS in archive.namelist() else None


def saved_with_statistics(file: Path) -> bool:
    """Whether a model file of rlspo names the statistics of a ``VecNormalize`` that it was saved with."""
    return file.is_file() and zipfile.is_zipfile(file) and _sum_of_statistics(file) is not None


def was_normalised(settings: dict[str, Any]) -> bool:
    """Whether it is certain that the agent was trained in a ``VecNormalize``.

    On-policy agents keep an original observation only there; off-policy agents always do, so of these nothing is known.
    """
    return "learning_starts" not in settings and settings.get("_last_original_obs") is not None


def steps_of(settings: dict[str, Any]) -> int:
    """Environment steps that the agent was trained for; 0 where its file has no valid number.

    >>> steps_of({"num_timesteps": 2048}), steps_of({"num_timesteps": None})
    (2048, 0)
    """
    steps = settings.get("num_timesteps")
    return steps if isinstance(steps, int) and 0 <= steps < 2**63 else 0


def steps_in_name(file: Path) -> int | None:
    """Steps of a checkpoint, by its name.

    >>> steps_in_name(Path("checkpoints/rl_model_4096_steps.zip"))
    4096
    """
    found = _CHECKPOINT.search(file.name)
    return int(found[1]) if found else None

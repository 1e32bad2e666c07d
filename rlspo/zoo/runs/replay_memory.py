"""The replay memory of off-policy agents on disk: kept after training, and taken up by a run that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlspo.common.files import whole
from rlspo.common.off_policy import OffPolicyAgent
from rlspo.zoo.cli import terminal
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.compatibility import misfit
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.models import folder_of


def check_asked(cls: type[BaseAlgorithm]) -> None:
    """Refuse to keep a memory of an agent that has none.

    :raises UserError: if so
    """
    if not issubclass(cls, OffPolicyAlgorithm):
        raise UserError(f"--save-replay-buffer: {cls.__name__} learns from each rollout once and has no replay memory.")


def keep(model: BaseAlgorithm, folder: RunFolder) -> bool:
    """Write the memory beside the last model, whole or not at all.

    :return: False if it could not be written, which is said
    """
    assert isinstance(model, OffPolicyAlgorithm)
    try:
        with whole(folder.replay_buffer) as partial:
            model.save_replay_buffer(str(partial))
    except OSError as error:
        terminal.error(f"cannot save {folder.replay_buffer}: {error.strerror}")
        return False
    return True


def memory_of(model_file: Path) -> Path:
    """Where the memory of a saved agent lies, if it was kept; rl-baselines3-zoo puts it there, too."""
    return RunFolder.existing(folder_of(model_file) or model_file.parent).replay_buffer


def take_up(model: BaseAlgorithm, model_file: Path, trust: bool) -> None:
    """Give an agent that goes on the memory that was kept with it; say so where there is none.

    :param trust: run whatever code is in the memory
    :raises UserError: for a memory that does not fit
    """
    if not isinstance(model, OffPolicyAlgorithm):
        return
    file = memory_of(model_file)
    if not file.is_file():
        terminal.warning(
            "EMPTY REPLAY MEMORY",
            f"There is no {file}, so {type(model).__name__} goes on with an empty memory: its first updates draw again and "
            "again from the few newest transitions, and may undo what it has learned. Next time, keep the memory: "
            "--save-replay-buffer",
        )
        return
    try:
        of_any_class: Any = model  # rlspo's way to read a memory does for SB3's agents, too
        OffPolicyAgent.load_replay_buffer(of_any_class, str(file), trust=trust)
        buffer = model.replay_buffer
        assert buffer is not None
        why = misfit(buffer.observation_space, model.observation_space, acted=False)
        why = why or misfit(buffer.action_space, model.action_space, acted=True)
        if buffer.n_envs != model.n_envs:
            why = f"It is of {buffer.n_envs} environments side by side, not of {model.n_envs}"
        if why is not None:
            raise ValueError(why)
    except Exception as error:  # anything may come out of a pickle
        raise UserError(
            f"--trained-agent: {file} cannot be gone on with. {type(error).__name__}: {error}\n"
            "To go on without it, rename it or copy the model elsewhere."
        ) from error
    terminal.note(f"Goes on with the replay memory of {file}, {buffer.size() * buffer.n_envs:,} transitions.")

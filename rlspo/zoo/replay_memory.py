"""The replay memory of off-policy agents on disk: kept after training, and taken up by a run that goes on."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlspo.common.files import whole
from rlspo.zoo import display
from rlspo.zoo.errors import UserError
from rlspo.zoo.run_folder import RunFolder
from rlspo.zoo.run_models import folder_of


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
        display.error(f"cannot save {folder.replay_buffer}: {error.strerror}")
        return False
    return True


def memory_of(model_file: Path) -> Path:
    """Where the memory of a saved agent lies, if it was kept; rl-baselines3-zoo puts it there, too."""
    return RunFolder.existing(folder_of(model_file) or model_file.parent).replay_buffer


def take_up(model: BaseAlgorithm, model_file: Path) -> None:
    """Give an agent that goes on the memory that was kept with it; say so where there is none.

    :raises UserError: for a memory that does not fit
    """
    if not isinstance(model, OffPolicyAlgorithm):
        return
    file = memory_of(model_file)
    if not file.is_file():
        display.warning(
            "EMPTY REPLAY MEMORY",
            f"There is no {file}, so {type(model).__name__} goes on with an empty memory: its first updates draw again and "
            "again from the few newest transitions, and may undo what it has learned. Next time, keep the memory: "
            "--save-replay-buffer",
        )
        return
    try:
        model.load_replay_buffer(str(file))
        buffer = model.replay_buffer
        assert buffer is not None
        wanted = (model.observation_space, model.action_space, model.n_envs)
        found = (buffer.observation_space, buffer.action_space, buffer.n_envs)
        if wanted != found:
            raise ValueError(f"it is of {found[2]} environments with {found[0]} and {found[1]}, not of {wanted}")
    except Exception as error:  # anything may come out of a pickle
        raise UserError(
            f"--trained-agent: {file} cannot be gone on with. {type(error).__name__}: {error}\n"
            "To go on without it, rename it or copy the model elsewhere."
        ) from error
    display.note(f"Goes on with the replay memory of {file}, {buffer.size() * buffer.n_envs:,} transitions.")

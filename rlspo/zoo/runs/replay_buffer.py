"""The replay buffer of off-policy agents on disk: saved after training, and loaded by a run that continues."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlspo.common.files import partials_of, whole
from rlspo.common.off_policy import OffPolicyAgent
from rlspo.zoo.cli import terminal
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.compatibility import misfit
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.models import folder_of


def check_has_buffer(cls: type[BaseAlgorithm]) -> None:
    """Refuse to save the replay buffer of an agent that has none.

    :raises UserError: for an agent that is not off-policy
    """
    if not issubclass(cls, OffPolicyAlgorithm):
        raise UserError(f"--save-replay-buffer: {cls.__name__} learns from each rollout once and has no replay buffer.")


def save(model: BaseAlgorithm, file: Path) -> None:
    """Write the buffer, whole or not at all.

    :raises OSError: if it cannot be written
    """
    assert isinstance(model, OffPolicyAlgorithm)
    own = isinstance(model, OffPolicyAgent)  # writes it whole by itself
    with nullcontext(file) if own else whole(file) as place:
        model.save_replay_buffer(str(place))


def buffer_file(model_file: Path) -> Path:
    """The file for the buffer of a saved agent, where rl-baselines3-zoo has it too; it may not exist."""
    return RunFolder.existing(folder_of(model_file) or model_file.parent).replay_buffer


def load_into(model: BaseAlgorithm, model_file: Path, trust: bool) -> None:
    """Load the saved buffer into an agent that continues; warn where there is none.

    :param trust: run whatever code is in the buffer
    :raises UserError: for a buffer that does not fit
    """
    if not isinstance(model, OffPolicyAlgorithm):
        return
    file = buffer_file(model_file)
    if not file.is_file():
        torn = [str(each) for each in partials_of(file)]
        terminal.warning(
            "EMPTY REPLAY BUFFER",
            f"There is no {file}, so {type(model).__name__} continues with an empty buffer: its first updates sample the few "
            "newest transitions again and again, and may undo what it has learned. "
            + (
                f"There is an unfinished one, {', '.join(torn)}: remove it, if no run is writing it now."
                if torn
                else "Next time, keep the buffer: --save-replay-buffer"
            ),
        )
        return
    try:
        of_any_class: Any = model  # rlspo's loader works for SB3's agents too
        OffPolicyAgent.load_replay_buffer(of_any_class, str(file), trust=trust)
        buffer = model.replay_buffer
        assert buffer is not None
        why = misfit(buffer.observation_space, model.observation_space, actions=False)
        why = why or misfit(buffer.action_space, model.action_space, actions=True)
        if why is not None:
            raise ValueError(why)
    except Exception as error:  # anything may come out of a pickle
        raise UserError(
            f"--trained-agent: {file} cannot be used. {type(error).__name__}: {error}\n"
            "To continue without it, rename it or copy the model elsewhere."
        ) from error
    terminal.note(f"Continues with the replay buffer of {file}, {buffer.size() * buffer.n_envs:,} transitions.")

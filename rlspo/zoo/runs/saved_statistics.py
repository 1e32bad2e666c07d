"""Statistics of ``VecNormalize`` that belong to a saved agent: finding their file, and loading them into environments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from rlspo.common.errors import UntrustedFileError
from rlspo.common.normalizers import bound
from rlspo.common.trust import read_pickle
from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.model_files import checked_statistics

# Attributes of VecNormalize that determine normalised observations and rewards.
_STATISTICS = ("obs_rms", "ret_rms", "norm_obs", "norm_obs_keys", "clip_obs", "epsilon")
# Those that say which observations are normalised.
_WHICH = ("norm_obs", "norm_obs_keys")


def statistics_for(model_file: Path, recipe: EnvRecipe, given: str | Path | None, certain: bool) -> Path | None:
    """The file with the statistics that this model was trained with; None where observations were not normalised.

    :param certain: whether the model file itself shows that there were some
    :raises UserError: if there must be some and the file is missing: with wrong ones the agent would see wrong observations
    """
    if str(given) == "none":
        return None
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"--vecnormalize: there is no file {given}.")
        return Path(given)
    of_observations = certain if recipe.normalize is None else recipe.normalize.get("norm_obs", True)
    if not of_observations:
        return None
    beside = checked_statistics(model_file, RunFolder.existing(model_file.parent).statistics_of(model_file))
    if not beside.is_file():
        raise UserError(
            f"{model_file} was trained in a VecNormalize, and there are no statistics of it in {beside}. Name their file: "
            "--vecnormalize FILE, or --vecnormalize none if only rewards were normalised."
        )
    return beside


def reward_statistics_for(model_file: Path, recipe: EnvRecipe, certain: bool) -> Path | None:
    """The file for statistics of rewards, of a model whose observations were not normalised; None for none."""
    of_rewards = certain if recipe.normalize is None else recipe.normalize.get("norm_reward", True)
    return RunFolder.existing(model_file.parent).statistics_of(model_file) if of_rewards else None


def adopt_statistics(
    env: VecEnv, file: Path, trust: bool = False, more: Collection[str] = (), given: Mapping[str, Any] | None = None
) -> None:
    """Load the statistics of a file into the ``VecNormalize`` around environments.

    :param trust: run whatever code is in the file
    :param more: attributes of the saved one to take over, too
    :param given: settings that a user gave in place of the saved ones
    :raises UserError: if the file holds none for these environments, which are closed then
    """
    try:
        normalize = unwrap_vec_normalize(env)
        assert normalize is not None
        saved = read_pickle(file, trust)
        if not isinstance(saved, VecNormalize):
            raise TypeError(f"it holds a {type(saved).__name__}")
        if "norm_obs_keys" not in vars(saved):  # written before there were any: all keys were normalised
            saved.norm_obs_keys = list(saved.obs_rms) if isinstance(saved.obs_rms, dict) else None
        saved.set_venv(normalize.venv)
        for name in given or {}:
            if name in _WHICH and getattr(normalize, name) != getattr(saved, name):
                now, then = getattr(normalize, name), getattr(saved, name)
                raise ValueError(
                    f"{name} is {now}, and the agent was trained with {then}: it would see other observations. Leave it out"
                )
        for name in (*_STATISTICS, *more):
            if name in (given or {}):
                continue
            if name != "obs_rms" or saved.norm_obs:  # without, there is none
                setattr(normalize, name, getattr(saved, name))
        bound(normalize)
    except UntrustedFileError as error:
        env.close()
        raise UserError(str(error)) from error
    except Exception as error:  # anything may come out of a pickle
        env.close()
        raise UserError(f"{file} holds no statistics for these environments. {type(error).__name__}: {error}") from error

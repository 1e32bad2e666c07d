"""How the environments of a run are built, for training and for evaluating its agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.envs.env_kwargs import overlaid
from rlspo.zoo.envs.recipe import EnvRecipe


def evaluation_recipe(config: RunConfig) -> EnvRecipe:
    """How the environments that evaluate a run's agent are built: as for training, with ``eval_env_kwargs`` on top.

    Each is a single environment with its own seed, so that agents see the same episodes, however they were trained.
    """
    env_kwargs = overlaid(config.env, config.gym_packages, config.settings.env_kwargs, config.eval_env_kwargs)
    recipe = recipe_of(config, env_kwargs, lambda _: "config")
    return replace(recipe, vec_env="dummy") if recipe.vec_env == "native" else recipe


def recipe_of(config: RunConfig, env_kwargs: Mapping[str, Any], where: Callable[[str], str]) -> EnvRecipe:
    """How the environments of a run are built, with ``env_kwargs`` in place of its own.

    :param where: from a key of the settings to its source, for messages
    """
    return EnvRecipe.from_settings(
        config.settings,
        config.env,
        where,
        env_kwargs=dict(env_kwargs),
        gym_packages=tuple(config.gym_packages),
        vec_env=config.vec_env,
    )

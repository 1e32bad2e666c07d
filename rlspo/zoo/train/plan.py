"""Everything that can be checked before a run begins: from a command line to a plan, with nothing on disk yet."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.registry import agent_class
from rlspo.spo import SPO
from rlspo.zoo.cli.parser import draw_seed
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.action_noise import action_noise
from rlspo.zoo.config.allowed import Allowed, check_settings, import_trusted
from rlspo.zoo.config.convert import merged, plain
from rlspo.zoo.config.device import check_device
from rlspo.zoo.config.hyperparams import COMMAND_LINE, agent_defaults, find_file, other_versions, resolve
from rlspo.zoo.config.schema import RunConfig, Seeds, Settings, Source
from rlspo.zoo.envs.of_run import evaluation_recipe, recipe_of
from rlspo.zoo.envs.recipe import EnvRecipe, check_env_kwargs, families, find_spec, layers
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.model_files import settings_of
from rlspo.zoo.runs.models import check_whole
from rlspo.zoo.runs.rl_zoo3 import called_here
from rlspo.zoo.train.continued import other_environment


@dataclass(frozen=True)
class Plan:
    """A run, checked and ready.

    :param config: every setting, as the run folder will record it
    :param cls: the agent
    :param policy: its policy, by short name or as a class
    :param agent_arguments: of the agent's constructor, from the block and the command line
    :param recipe: of the training environments
    :param callbacks: of the block
    :param warnings: what the user must know before the run: title and text
    """

    config: RunConfig
    cls: type[BaseAlgorithm]
    policy: str | type[BasePolicy]
    agent_arguments: dict[str, Any]
    recipe: EnvRecipe
    callbacks: tuple[BaseCallback, ...]
    warnings: tuple[tuple[str, str], ...]

    def new_agent(self, env: VecEnv, **others: Any) -> BaseAlgorithm:
        """The agent, untrained.

        :param env: training environments
        :param others: further arguments of the agent, such as ``seed``
        :raises UserError: for noise on actions that are not numbers
        """
        noise = action_noise(self.config.settings, env.action_space)
        if noise is not None:
            others["action_noise"] = noise
        return self.cls(self.policy, env, **others, **self.agent_arguments)


def usual_eval_freq(cls: type[BaseAlgorithm]) -> int:
    """Steps between evaluations where none are asked for: agents that search take fewer steps per minute."""
    return 5_000 if issubclass(cls, SPO) else 25_000


def make_plan(args: argparse.Namespace) -> Plan:
    """Read, choose and check everything a run needs.

    :param args: the parsed command line; with a mapping ``block``, its settings stand in place of those of a file
    :raises UserError: for anything that does not exist, does not fit or is not installed
    """
    import_trusted(args)
    allowed = Allowed.of(args)
    cls = _agent(args.algo)
    algo = args.algo if "." in args.algo else args.algo.lower()
    if issubclass(cls, SPO) and args.vec_env == "subproc":
        raise UserError(
            f"--vec-env subproc: {cls.__name__} plans in copies of its environments, and cannot access other processes. "
            "Use dummy, or native where the environment has a vectorised form: a search steps all its copies at once."
        )
    spec = find_spec(args.env, args.gym_packages)
    check_env_kwargs(spec, args.env_kwargs, "--env-kwargs")
    check_env_kwargs(spec, args.eval_env_kwargs, "--eval-env-kwargs")
    check_device(args.device)
    block = getattr(args, "block", None)
    check_settings(block or {}, "known settings", allowed)
    file = find_file(algo, cls, args.conf_file) if block is None else None
    changes = {**{key: (value, COMMAND_LINE) for key, value in (block or {}).items()}, **_overrides(args)}
    found = resolve(cls, file, spec.id, families(spec), changes, args.trained_agent is None, allowed)
    check_env_kwargs(spec, found.settings.env_kwargs, f"{found.where('env_kwargs')}: env_kwargs")
    _check_trained_agent(args)
    config = RunConfig(
        algo=algo,
        env=args.env,
        seeds=Seeds.from_one(draw_seed() if args.seed is None else args.seed),
        source=Source(
            file=COMMAND_LINE if found.file is None else str(found.file),
            block=found.block,
            overridden=sorted(_overrides(args)),
        ),
        settings=found.settings,
        agent={} if args.trained_agent else plain({**agent_defaults(cls), **found.agent}),
        eval_env_kwargs=args.eval_env_kwargs,
        gym_packages=args.gym_packages,
        trained_agent=None if args.trained_agent is None else str(args.trained_agent),
        steps_before=0 if args.trained_agent is None else int(settings_of(args.trained_agent).get("num_timesteps", 0)),
        vec_env="dummy" if args.vec_env == "auto" and issubclass(cls, SPO) else args.vec_env,  # a search copies games
        device=args.device,
    )
    recipe = recipe_of(config, found.settings.env_kwargs, found.where).decided(found.settings.n_envs)
    recipe.probe()
    config = config.model_copy(update={"vec_env": recipe.vec_env})
    if args.eval_env_kwargs:
        evaluation_recipe(config).probe()
    return Plan(
        config=config,
        cls=cls,
        policy=found.policy,
        agent_arguments=found.agent_arguments,
        recipe=recipe,
        callbacks=_callbacks(found.settings, found.where("callback")),
        warnings=(*_warnings(file, found.block, spec), *other_environment(config)),
    )


def _callbacks(settings: Settings, where: str) -> tuple[BaseCallback, ...]:
    """The callbacks that the block asks for.

    :raises UserError: for one that does not exist, is not a callback, or refuses its arguments
    """
    built = []
    for cls, given in layers(settings.callback, "callback", "", where):
        try:
            callback = cls(**given)
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"{where}: callback: {cls.__name__} refuses its arguments: {error}") from error
        if not isinstance(callback, BaseCallback):
            raise UserError(f"{where}: callback: {cls.__name__} is not a subclass of stable-baselines3's BaseCallback.")
        built.append(callback)
    return tuple(built)


def _agent(name: str) -> type[BaseAlgorithm]:
    try:
        return agent_class(name)
    except (ValueError, ImportError) as error:
        raise UserError(f"--algo: {error}{called_here(name)}") from error


#: Keys of a block that a saved agent brings itself.
_OF_AGENTS = ("policy", "noise_type", "noise_std")


def _overrides(args: argparse.Namespace) -> dict[str, tuple[Any, str]]:
    """Keys that the command line changes, and the flag that does."""
    changes = {key: (value, "-params") for key, value in args.hyperparams.items()}
    of_params = args.hyperparams.get("env_kwargs") or {}
    if args.env_kwargs and not isinstance(of_params, dict):
        raise UserError(f"-params: env_kwargs is {of_params!r}; it must be a mapping.")
    if args.env_kwargs:
        changes["env_kwargs"] = (merged(of_params, args.env_kwargs), "--env-kwargs")
    if args.n_timesteps is not None:
        changes["n_timesteps"] = (args.n_timesteps, "-n")
    return changes


def _check_trained_agent(args: argparse.Namespace) -> None:
    """Refuse a model that is not there, and arguments that a saved agent brings itself."""
    if args.trained_agent is None:
        return
    if not args.trained_agent.is_file():
        raise UserError(f"--trained-agent: there is no file {args.trained_agent}.")
    check_whole(args.trained_agent)
    own = [key for key in args.hyperparams if key in _OF_AGENTS or key not in Settings.model_fields]
    if own:
        raise UserError(
            f"-params: {', '.join(own)} cannot change with --trained-agent: the saved agent keeps its own settings."
        )


def _warnings(file: Path | None, block: str, spec: gym.envs.registration.EnvSpec) -> tuple[tuple[str, str], ...]:
    """Warn about an environment that has no block of its own."""
    if file is None or block != "default":
        return ()
    others = other_versions(yaml_io.read_mapping(file), spec.id)
    hint = f"There is one for {', '.join(others)}, another version: its returns do not compare.\n" if others else ""
    text = (
        f"{file} has no block for {spec.id}: training with the block 'default', which is not tuned for it.\n{hint}"
        f"To tune it, copy that block to a file of yours, name it {spec.id}, and give --conf-file {_example(spec.id)}"
    )
    return ((f"NO SETTINGS FOR {spec.id}", text),)


def _example(env_id: str) -> str:
    """A file name for an environment."""
    return env_id.replace("/", "-").lower().replace(os.sep, "-") + ".yml"

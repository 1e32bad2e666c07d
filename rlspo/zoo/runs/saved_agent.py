"""Agents that were saved: finding them, loading them, and building their environments exactly as in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.agent import load_model
from rlspo.common.errors import UntrustedFileError
from rlspo.common.normalizers import scaled_rewards
from rlspo.common.randomness import generators_kept
from rlspo.common.registry import agent_class
from rlspo.common.trust import read_pickle
from rlspo.zoo.config.allowed import Allowed, check_agent, check_env, check_packages, check_settings
from rlspo.zoo.config.convert import merged
from rlspo.zoo.config.device import check_device
from rlspo.zoo.config.ownership import NOT_OWN
from rlspo.zoo.config.schema import RunConfig, Settings
from rlspo.zoo.envs.env_kwargs import overlaid
from rlspo.zoo.envs.of_run import evaluation_recipe
from rlspo.zoo.envs.recipe import EnvRecipe, check_env_kwargs, find_spec
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs import rl_zoo3
from rlspo.zoo.runs.compatibility import misfit
from rlspo.zoo.runs.exported import Export, hint_at_names
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.model_files import algo_of, saved_with_statistics, settings_of, steps_of, was_normalised
from rlspo.zoo.runs.models import checkpoints_of, choose_model, existing_file, folder_of, kind_of
from rlspo.zoo.runs.rl_zoo3 import called_here
from rlspo.zoo.runs.saved_statistics import adopt_statistics, reward_statistics_for, statistics_for

__all__ = ["WRAPPING", "SavedAgent", "checkpoints_of", "find_agent"]

#: Keys of a block that say how an environment is wrapped; with a model file alone, the user gives them.
WRAPPING = ("env_wrapper", "vec_env_wrapper", "frame_stack", "normalize", "monitor_kwargs")


@dataclass(frozen=True)
class SavedAgent:
    """An agent on disk, and the recipe of the environments that it is evaluated in.

    :param model_file: the zip file; of an exported agent the folder
    :param algo: name of the registry, or a dotted path such as ``stable_baselines3.SAC``
    :param env: the environment's id
    :param recipe: as in training, with ``eval_env_kwargs`` and what the user changed on top
    :param folder: of its run, None for a file alone
    :param config: of its run, None for a file alone
    :param which: ``"last"``, ``"best"``, ``"checkpoint"``, ``"file"`` for a file alone, or ``"export"``
    :param num_timesteps: environment steps that the agent was trained for
    :param statistics: of ``VecNormalize``, None where there is none or where it leaves observations alone
    :param reward_statistics: of ``VecNormalize``, None where there is none; it may leave rewards alone
    :param trust: whether code that is pickled in these files is run; by default they are read as data
    :param export: of an agent that was exported, its file; None for others
    :param wrapping: the wrappers of its environments, keys as in :data:`WRAPPING`
    """

    model_file: Path
    algo: str
    env: str
    recipe: EnvRecipe
    folder: Path | None = None
    config: RunConfig | None = None
    which: str = "file"
    num_timesteps: int = 0
    statistics: Path | None = None
    reward_statistics: Path | None = None
    trust: bool = False
    export: Export | None = None
    wrapping: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Which agent this is, in a line."""
        name = {"file": self.model_file.name, "export": "exported"}.get(self.which, f"{self.which} model")
        return f"{self.algo} on {self.env}, {name}, trained for {self.num_timesteps:,} steps"

    @property
    def output_folder(self) -> Path:
        """Where commands write by default: in the run folder, beside a file alone, and for exported agents, which may lie in
        an installed package, in the current folder."""
        return Path() if self.export is not None else self.folder or self.model_file.parent

    def load(self, device: str = "auto") -> BaseAlgorithm:
        """The agent, to act with. Off-policy agents are loaded with a minimal replay buffer.

        :param device: of the networks
        :raises UserError: for a file of another agent, one that cannot be read here, or a device that does not exist
        """
        check_device(device)
        if self.export is not None:
            return self.export.load(device)
        cls = agent_class(self.algo)
        smaller: dict[str, Any] = {}
        if issubclass(cls, OffPolicyAlgorithm):
            # Some kinds of replay buffer also need an environment at once.
            smaller = {
                "buffer_size": 1,
                "optimize_memory_usage": False,
                "replay_buffer_class": None,
                "replay_buffer_kwargs": {},
            }
        try:
            with generators_kept():  # SB3 seeds them with the seed of the training
                return load_model(cls, self.model_file, self.trust, device=device, **smaller)
        except UntrustedFileError as error:
            raise UserError(str(error)) from error
        except Exception as error:  # anything may come out of a pickle
            raise UserError(
                f"{self.model_file} cannot be loaded as an agent of {self.algo}. {type(error).__name__}: {error}\n"
                + (
                    "Install that module, or start where it lies."
                    if isinstance(error, ModuleNotFoundError)
                    else "If another agent wrote it, name that one: --algo NAME, or --algo stable_baselines3.SAC"
                )
            ) from error

    def build_env(self, n_envs: int, seed: int | None, **env_kwargs: Any) -> VecEnv:
        """The environments, with the statistics of this very model, frozen, and rewards as they are.

        :param n_envs: how many side by side
        :param seed: of the first one; the others count up from it
        :param env_kwargs: further arguments of the environment, such as ``render_mode``
        :raises UserError: for an environment that cannot be made, and statistics that cannot be read or are of another one
        """
        try:
            env = self.recipe.build(n_envs, seed, training=False, **env_kwargs)
        except Exception:
            self.recipe.probe()  # which reports in one message what is missing
            raise
        if self.export is not None:
            return self.export.normalized(env)
        if self.statistics is None:
            return env
        adopt_statistics(env, self.statistics, self.trust)
        return env

    def reward_scaling(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """From rewards of the environment to those that ``VecNormalize`` showed the agent in training; None if the same.

        :raises UserError: if the statistics are not there, or cannot be read
        """
        if self.export is not None:
            return self.export.reward_scaling()
        file = self.reward_statistics
        if file is None:
            return None
        if not file.is_file():
            raise UserError(
                f"{self.model_file} was trained in a VecNormalize, so its values are in units of scaled rewards, and there "
                f"are no statistics in {file}. Name their file: --vecnormalize FILE"
            )
        try:
            saved = read_pickle(file, self.trust)
            if not saved.norm_reward:
                return None
            numbers = float(saved.ret_rms.var), float(saved.epsilon), float(saved.clip_reward)
        except UntrustedFileError as error:
            raise UserError(str(error)) from error
        except Exception as error:  # anything may come out of a pickle
            raise UserError(f"{file} holds no statistics of rewards. {type(error).__name__}: {error}") from error
        return lambda rewards: scaled_rewards(rewards, *numbers)

    def check_fit(self, model: BaseAlgorithm, env: VecEnv) -> None:
        """Refuse an environment with other spaces than the agent knows.

        :raises UserError: with both spaces
        """
        why = misfit(model.observation_space, env.observation_space, actions=False)
        why = why or misfit(model.action_space, env.action_space, actions=True)
        if why is not None:
            raise UserError(
                f"{self.model_file} does not fit {self.env}. {why}\n"
                "If it was trained in wrappers, name them: -params frame_stack:4 env_wrapper:package.module.Wrapper"
            )


def find_agent(
    path: str | Path,
    which: str = "last",
    algo: str | None = None,
    env: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    gym_packages: Sequence[str] = (),
    vecnormalize: str | Path | None = None,
    wrapping: Mapping[str, Any] | None = None,
    allowed: Allowed | None = None,
) -> SavedAgent:
    """Find a saved agent; everything is checked, nothing is unpickled yet.

    :param path: a run folder (of rl-baselines3-zoo too), a folder that holds a single one, or a model file, in a run folder
        or alone; ``.zip`` may be left out; or an exported agent, by its folder or its name, such as ``barpo/Hopper-v5``
    :param which: for folders: ``"last"``, ``"best"``, or steps of a checkpoint
    :param algo: for a file alone that does not name its agent; otherwise it overrides the run's
    :param env: for a file alone; otherwise it overrides the run's
    :param env_kwargs: of the environment, on top of the run's
    :param gym_packages: modules that register environments, besides those of the run
    :param vecnormalize: file of statistics, for an agent trained in a ``VecNormalize``; ``"none"``: observations were not
        normalised. By default the file that the run wrote beside the model
    :param wrapping: changes to the wrappers of a block, keys as in :data:`WRAPPING`
    :param allowed: what the records of the run may name, unless this user has made the run; None for ``gym_packages``
    :raises UserError: for files that do not exist, names that are not allowed, or too little to build the environments of
        training
    """
    allowed = allowed or Allowed(tuple(gym_packages))
    export = Export.at(Path(path), allowed)
    if export is not None:
        no_flags = {"--which": which != "last", "--algo": algo, "--vecnormalize": vecnormalize}
        return _exported(export, no_flags, {"env": env, "env_kwargs": env_kwargs, "wrapping": wrapping}, gym_packages)
    folder, kind, model_file = _find(Path(path), which)
    trust = allowed.owns(folder)
    config = None
    given: dict[str, Any] = {
        "algo": algo,
        "env": env,
        "env_kwargs": env_kwargs,
        "vecnormalize": vecnormalize,
        "wrapping": wrapping,
    }
    of_run: dict[str, Any] = {"env_kwargs": {}, "wrapping": {}, "gym_packages": []}
    if folder is not None and rl_zoo3.record_in(folder) is not None:
        of_run = rl_zoo3.description_of(folder, WRAPPING, model_file)
    elif folder is not None:
        config = RunConfig.read(RunFolder.existing(folder).config)
        of_run |= {"algo": config.algo, "env": config.env, "gym_packages": config.gym_packages}
    if folder is not None and not trust:
        _check_records(folder, of_run if config is None else config.model_dump(), allowed)
    given_or_run = merged(of_run, {key: value for key, value in given.items() if value})
    saved = settings_of(model_file)
    algo = given_or_run.get("algo") or algo_of(saved)
    if algo is None:
        raise UserError(f"{model_file} does not name the agent that wrote it. Name it: --algo NAME, or --algo package.Class")
    if "env" not in given_or_run:
        raise UserError(f"{model_file} has no config.yml beside it. Name the environment: --env ENV")
    _check_agent(algo)
    packages = [*of_run["gym_packages"], *gym_packages]
    recipe = _recipe(config, given_or_run["env"], given_or_run["env_kwargs"], packages, given_or_run["wrapping"])
    settings = _settings(config, given_or_run["wrapping"])
    certain = was_normalised(saved) or saved_with_statistics(model_file)
    statistics = statistics_for(model_file, recipe, given_or_run.get("vecnormalize"), certain)
    normalize = None if statistics is None else recipe.normalize or {}
    return SavedAgent(
        model_file=model_file,
        algo=algo,
        env=given_or_run["env"],
        recipe=dataclasses.replace(recipe, normalize=normalize),
        folder=folder,
        config=config,
        which=kind,
        num_timesteps=steps_of(saved),
        statistics=statistics,
        reward_statistics=statistics or reward_statistics_for(model_file, recipe, certain),
        trust=trust,
        wrapping={key: getattr(settings, key) for key in WRAPPING},
    )


def _exported(
    export: Export, no_flags: Mapping[str, Any], given: Mapping[str, Any], gym_packages: Sequence[str]
) -> SavedAgent:
    """As :func:`find_agent`.

    :param no_flags: flags by name that an exported agent takes no value for, and their values
    :param given: changes to its environment
    """
    for flag, value in no_flags.items():
        if value:
            raise UserError(
                f"{flag} is for runs and model files; {export.folder} is one exported agent, which says all of it."
            )
    said = merged(export.description, {key: value for key, value in given.items() if value})
    if "env" not in said:
        raise UserError(f"{export.folder} was exported without its environment. Name it: --env ENV")
    packages = [*said["gym_packages"], *gym_packages]
    return SavedAgent(
        model_file=export.folder,
        algo=said["algo"],
        env=said["env"],
        recipe=_recipe(None, said["env"], said["env_kwargs"], packages, said["wrapping"]),
        which="export",
        num_timesteps=export.data["num_timesteps"],
        export=export,
    )


def _check_records(folder: Path, records: Mapping[str, Any], allowed: Allowed) -> None:
    """Refuse what the records of a run may not name, with a :class:`UserError` that names the code."""
    where = f"the records in {folder}"
    try:
        check_agent(str(records["algo"]), f"{where}: algo", allowed)
        check_env(str(records["env"]), f"{where}: env", allowed)
        check_packages(list(map(str, records["gym_packages"])), f"{where}: gym_packages", allowed)
        check_settings({key: records.get(key, {}) for key in ("eval_env_kwargs", "env_kwargs")}, where, allowed)
        kept = {*WRAPPING, "env_kwargs"}  # evaluation needs nothing else of a block
        for part in ("settings", "wrapping"):
            check_settings({key: value for key, value in records.get(part, {}).items() if key in kept}, where, allowed)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}. {NOT_OWN}") from error


def _find(path: Path, which: str) -> tuple[Path | None, str, Path]:
    """The run folder, where there is one; the kind of the model; and its file."""
    if path.is_dir():
        run = run_in(path)
        choose = choose_model if rl_zoo3.record_in(run) is None else rl_zoo3.choose_model
        return run, *choose(run, which)
    try:
        model_file = existing_file(path)
    except UserError as error:
        raise UserError(f"{error}{hint_at_names()}") from error
    folder = model_file.parent if rl_zoo3.record_in(model_file.parent) is not None else folder_of(model_file)
    return folder, "file" if folder is None else kind_of(model_file), model_file


def run_in(path: Path) -> Path:
    """The run folder at a path: the folder itself, or the single run folder below it.

    :raises UserError: if there is none, or several
    """
    if RunFolder.existing(path).config.is_file() or rl_zoo3.record_in(path) is not None:
        return path
    found = {config.parent for pattern in ("*", "*/*", "*/*/*") for config in path.glob(f"{pattern}/config.yml")}
    runs = {run.parent if rl_zoo3.record_in(run.parent) == run else run for run in found}
    if len(runs) == 1:
        return runs.pop()
    if not runs:
        raise UserError(f"{path} is not a run folder: it holds no config.yml. Give a run folder, or a model file with --env.")
    newest = sorted(runs, key=lambda run: (run.stat().st_mtime, run), reverse=True)
    shown = [f"  {run}" for run in newest[:10]]
    more = f"\n  and {len(runs) - 10} more" if len(runs) > 10 else ""
    raise UserError(f"{path} holds {len(runs)} runs. Give one of them; newest first:\n" + "\n".join(shown) + more)


def _check_agent(algo: str) -> None:
    try:
        agent_class(algo)
    except (ValueError, ImportError) as error:
        raise UserError(f"--algo: {error}{called_here(algo)}") from error


def _recipe(
    config: RunConfig | None,
    env: str,
    env_kwargs: Mapping[str, Any],
    gym_packages: Sequence[str],
    wrapping: Mapping[str, Any],
) -> EnvRecipe:
    """The environments of evaluation during training, with the user's changes on top."""
    unknown = sorted(set(wrapping) - set(WRAPPING))
    if unknown:
        raise UserError(f"-params: {', '.join(unknown)} cannot change for a saved agent. Allowed: {', '.join(WRAPPING)}.")
    check_env_kwargs(find_spec(env, gym_packages), dict(env_kwargs), "--env-kwargs")
    settings = _settings(config, wrapping)
    if config is None:
        return EnvRecipe.from_settings(
            settings, env, lambda _: "-params", env_kwargs=dict(env_kwargs), gym_packages=tuple(gym_packages)
        )
    return evaluation_recipe(
        config.model_copy(
            update={
                "env": env,
                "settings": settings,
                "gym_packages": list(gym_packages),
                "eval_env_kwargs": overlaid(env, gym_packages, config.eval_env_kwargs, env_kwargs),
            }
        )
    )


def _settings(config: RunConfig | None, changes: Mapping[str, Any]) -> Settings:
    """The settings of a run with changes, checked."""
    settings = config.settings if config else Settings(n_timesteps=1, policy="")
    try:
        return Settings.model_validate({**settings.model_dump(), **changes})
    except ValueError as error:
        raise UserError(f"-params: {error}") from error

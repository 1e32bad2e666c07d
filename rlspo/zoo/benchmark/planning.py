"""From a grid file to runs: every training planned and checked as ``rlspo train`` would, before any of them begins."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlspo.zoo.benchmark.grid import Grid, folder_name, settings_file
from rlspo.zoo.benchmark.grid_runs import GridRun, GridRunFolder
from rlspo.zoo.config.allowed import Allowed, check_agent, check_env, check_packages, check_settings, check_words
from rlspo.zoo.config.convert import merged, plain
from rlspo.zoo.config.hyperparams import agent_defaults
from rlspo.zoo.config.schema import Settings
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.arguments import parse
from rlspo.zoo.train.plan import Plan, make_plan

#: What of a run's record does not change its result: where values come from, the machine, and how environments are stepped,
#: but for native ones that draw numbers of their own: see :func:`_settings`.
_NOT_FINGERPRINTED = {"source", "vec_env", "device", "trained_agent", "steps_before"}


@dataclass(frozen=True)
class Planned:
    """A grid, checked.

    :param runs: all seeds of the first kind before any of the second, so that an unfinished grid compares fairly
    :param warnings: what the user must know before it runs: title and text
    """

    runs: tuple[GridRun, ...]
    warnings: tuple[tuple[str, str], ...]


def plan_runs(grid: Grid, file: Path, folder: Path, device: str = "auto", allowed: Allowed | None = None) -> Planned:
    """Plan every run.

    :param grid: read from ``file``
    :param folder: where the runs lie
    :param device: to train on
    :param allowed: what the grid may name; None for nothing but what is registered
    :raises UserError: for names that it may not, and for whatever ``rlspo train`` would refuse, naming agent and environment
    """
    allowed = allowed or Allowed()
    _check_names(grid, file, allowed)
    runs: list[GridRun] = []
    warnings: dict[tuple[str, str], None] = {}
    for env in grid.envs:
        for agent in grid.agents:
            where = f"{file}: {agent} on {env}"
            try:
                command = _command(grid, agent, env, file.parent, device) + [f"--trust={module}" for module in allowed.modules]
                plan = make_plan(parse([*command, "--seed", "0"]))
                evaluations = grid.evaluations_of(agent, env)
                for evaluation in evaluations.values():
                    evaluation.check(plan)
            except UserError as error:
                raise UserError(f"{where}: {error}") from error
            warnings |= dict.fromkeys(plan.warnings)
            defaults = {"agent": plain(agent_defaults(plan.cls)), "settings": _setting_defaults()}
            common = {"model": grid.model, "episodes": grid.episodes, "deterministic": True}
            asked = {name: each.model_dump(exclude_defaults=True) for name, each in evaluations.items()}
            for seed in grid.seeds:
                runs.append(
                    GridRun(
                        agent=agent,
                        env=env,
                        seed=seed,
                        folder=GridRunFolder(folder / agent / folder_name(env) / f"seed_{seed}"),
                        command=(*command, "--seed", str(seed)),
                        settings=_settings(plan, seed, grid),
                        evaluations={name: {**common, **settings} for name, settings in asked.items()},
                        n_timesteps=plan.config.settings.n_timesteps,
                        defaults=defaults,
                    )
                )
    runs.sort(key=lambda run: grid.seeds.index(run.seed))  # stable: environments and agents stay in order
    return Planned(tuple(runs), tuple(warnings))


def _check_names(grid: Grid, file: Path, allowed: Allowed) -> None:
    """Refuse what a grid may not name, before anything of it is imported.

    :raises UserError: saying what would have been run
    """
    for name, spec in grid.agents.items():
        where = f"{file}: agents: {name}"
        check_words([name, spec.algo or "", spec.conf_file or "", *spec.params], where)
        check_agent(spec.algo or name, f"{where}: algo", allowed)
        check_settings(spec.params, f"{where}: params", allowed)
    for name, env_spec in grid.envs.items():
        where = f"{file}: envs: {name}"
        check_words([name, env_spec.id or "", *env_spec.gym_packages, *env_spec.params, *env_spec.env_kwargs], where)
        check_packages(env_spec.gym_packages, f"{where}: gym_packages", allowed)
        check_env(env_spec.id or name, f"{where}: id", allowed)
        check_settings({**env_spec.params, "env_kwargs": env_spec.env_kwargs}, f"{where}: params", allowed)
        for each in env_spec.evaluations.values():
            check_settings(each, f"{where}: evaluations", allowed)
    for each in grid.evaluations.values():
        check_settings(each, f"{file}: evaluations", allowed)


def _command(grid: Grid, agent: str, env: str, beside: Path, device: str) -> list[str]:
    """Arguments of ``rlspo train``, without the seed and the folder."""
    spec, env_spec = grid.agents[agent], grid.envs[env]
    params = merged(env_spec.params, spec.params)
    steps = params.pop("n_timesteps", grid.n_timesteps)
    words = ["--algo", spec.algo or agent, "--env", env_spec.id or env]
    if steps is not None:
        words += ["-n", str(steps)]
    if spec.conf_file is not None:
        words += ["--conf-file", os.path.relpath(settings_file(spec, agent, beside))]
    if env_spec.gym_packages:
        words += ["--gym-packages", *env_spec.gym_packages]
    if env_spec.env_kwargs:
        words += ["--env-kwargs", *_pairs(env_spec.env_kwargs)]
    if params:
        words += ["-params", *_pairs(params)]
    vec_env = spec.vec_env or env_spec.vec_env
    if vec_env != "auto":
        words += ["--vec-env", vec_env]
    words += ["--eval-freq", str(grid.eval_freq), "--eval-episodes", str(grid.eval_episodes)]
    return [*words, *(["--device", device] if device != "auto" else []), "--no-report", "--verbose", "0"]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    """Words such as ``gamma:0.9``, which the command line reads as these very values."""
    return [f"{key}:{flow(value)}" for key, value in values.items()]


def flow(value: Any) -> str:
    """Plain data as YAML in one line.

    >>> flow({"net_arch": [64, 64], "act": "relu", "text": "1e6", "limit": float("inf")})
    '{net_arch: [64, 64], act: relu, text: "1e6", limit: .inf}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)


#: Text that YAML reads as text without quotes: it begins with two letters, so that it is not a number, and is none of _WORDS.
_PLAIN = re.compile(r"[A-Za-z]{2}[\w./-]*")
_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "none"}


def _settings(plan: Plan, seed: int, grid: Grid) -> dict[str, Any]:
    """Everything that decides what a training gives."""
    settings = plan.config.model_dump(mode="json", exclude=_NOT_FINGERPRINTED)
    settings["settings"].pop("provenance")
    settings["seeds"] = {"seed": seed}  # the others follow from it
    settings["native"] = plan.recipe.has_its_own_episodes(plan.config.settings.n_envs)
    return {**settings, "eval_freq": grid.eval_freq, "eval_episodes": grid.eval_episodes}


def _setting_defaults() -> dict[str, Any]:
    """Defaults of the keys that the zoo reads, as :func:`_settings` writes them."""
    data = Settings(n_timesteps=1, policy="").model_dump(mode="json", exclude={"provenance", "n_timesteps", "policy"})
    return data

"""The grid file: which agents, environments, seeds and evaluations; read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlspo.common.errors import did_you_mean
from rlspo.common.registry import agent_class
from rlspo.zoo.benchmark.evaluations import KINDS, Evaluation, Natural, kind_of
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.atomic import whole, write_text
from rlspo.zoo.config.convert import merged
from rlspo.zoo.config.hyperparams import find_file
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.worst import WORST

#: The file in a folder of results that holds the grid.
GRID = "grid.yml"
#: Others beside the folders of agents, while it runs.
_FILES = {GRID, "lock", "lock.pid"}
#: Names become folders.
_NAME = re.compile(r"\w[\w.+-]*")
#: The return during training: a measure that every grid may have beside its evaluations, as the worst of the attacks.
AREA = "area_under_curve"
RESERVED = {WORST, AREA}

VecEnvKind = Literal["auto", "dummy", "subproc", "native"]


class AgentSpec(BaseModel):
    """One agent of a grid.

    :param algo: name of the agent, or dotted path of a class, such as ``stable_baselines3.PPO``; None for the name it has
        in the grid
    :param params: changes to its block of hyperparameters; for a class without a file, all of them
    :param conf_file: a file of hyperparameters to use instead of the agent's, relative to the grid file, or one that comes
        with the agent, such as ``ppo_lstm.yml``
    :param evaluations: names of the grid's evaluations that this agent gets; None for all
    :param vec_env: how its environments are stepped in training, see :class:`EnvSpec`; None for what the environment says
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    algo: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    conf_file: str | None = None
    evaluations: list[str] | None = None
    vec_env: VecEnvKind | None = None


class EnvSpec(BaseModel):
    """One environment of a grid.

    :param id: of the environment; None for the name it has in the grid
    :param env_kwargs: arguments of the environment, in training and in evaluation
    :param params: hyperparameters for all agents on this environment; those of the agent go first
    :param gym_packages: modules to import, because they register environments
    :param evaluations: changes to the grid's evaluations, such as ``{mad: {epsilon: 0.05}}``
    :param vec_env: how it is stepped in training, as after ``rlspo train --vec-env``
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str | None = None
    env_kwargs: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    gym_packages: list[str] = Field(default_factory=list)
    evaluations: dict[str, dict[str, Any]] = Field(default_factory=dict)
    vec_env: VecEnvKind = "auto"


class Grid(BaseModel):
    """A grid: every agent on every environment with every seed.

    :param name: of the folder with the results
    :param agents: by name
    :param envs: by name
    :param seeds: a list, or how many, counted from 0
    :param n_timesteps: to train each agent for; None for what the agent's block says
    :param eval_freq: steps between the evaluations during training, which make the learning curves; -1 for none
    :param eval_episodes: of each of these
    :param model: the agent that is evaluated: as training left it, or the best of the evaluations during training
    :param episodes: of each evaluation after training
    :param evaluations: by name
    :param normalize: for each environment the returns that count as 0 and as 1, for scores over all environments together
    :param target: normalised score that an optimality gap is measured from
    :param baseline: agent that the others are compared with; None to compare all with all
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    agents: dict[str, AgentSpec]
    envs: dict[str, EnvSpec]
    seeds: list[Annotated[int, Ge(0), Lt(2**31)]] = [0, 1, 2]
    n_timesteps: Annotated[int, Gt(0)] | None = None
    eval_freq: int = 25_000
    eval_episodes: Annotated[int, Gt(0)] = 5
    model: Literal["last", "best"] = "last"
    episodes: Annotated[int, Gt(0)] = 50
    evaluations: dict[str, dict[str, Any]] = {"natural": {}}
    normalize: dict[str, tuple[float, float]] = Field(default_factory=dict)
    target: float = 1.0
    baseline: str | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, seeds: Any) -> Any:
        """Read how many as which."""
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds < 1:
                raise ValueError(f"{seeds} seeds; at least 1 is needed")
            return list(range(seeds))
        return seeds

    @field_validator("agents", "evaluations", mode="before")
    @classmethod
    def _empty(cls, entries: Any) -> Any:
        """An entry with nothing after it has no settings of its own."""
        return (
            {key: {} if value is None else value for key, value in entries.items()} if isinstance(entries, dict) else entries
        )

    @field_validator("envs", mode="before")
    @classmethod
    def _listed(cls, envs: Any) -> Any:
        """A list of ids is a mapping without settings."""
        if isinstance(envs, list) and all(isinstance(env, str) for env in envs):
            repeated = [env for env in envs if envs.count(env) > 1]
            if repeated:
                raise ValueError(f"{repeated[0]} stands twice")
            return {env: {} for env in envs}
        return cls._empty(envs)

    @field_validator("normalize", mode="before")
    @classmethod
    def _pair(cls, ranges: Any) -> Any:
        """YAML has lists only."""
        if not isinstance(ranges, dict):
            return ranges
        return {env: tuple(pair) if isinstance(pair, list) else pair for env, pair in ranges.items()}

    def evaluations_of(self, agent: str, env: str) -> dict[str, Evaluation]:
        """How this agent is evaluated on this environment, by name.

        :raises UserError: for settings that no kind of evaluation has
        """
        changes = self.envs[env].evaluations
        wanted = self.agents[agent].evaluations
        return {
            name: _evaluation(merged(settings, changes.get(name, {})), f"evaluations: {name}")
            for name, settings in self.evaluations.items()
            if wanted is None or name in wanted
        }

    @property
    def attacks(self) -> list[str]:
        """Names of the evaluations that are attacks, or anything else but natural."""
        return [name for name, settings in self.evaluations.items() if kind_of(settings) is not Natural]


def folder_name(name: str) -> str:
    """The folder of an environment.

    >>> folder_name("ALE/Pong-v5")
    'ALE-Pong-v5'
    """
    return name.rpartition(":")[2].replace("/", "-")


def read_grid(file: Path, seeds: Any = None) -> Grid:
    """Read a grid file.

    :param file: YAML
    :param seeds: instead of those in the file
    :raises UserError: for a key that does not exist, a value of the wrong type, or names that do not fit together
    """
    data = {"name": file.stem, **yaml_io.read_mapping(file)}
    if seeds is not None:
        data["seeds"] = seeds
    try:
        grid = Grid.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{file}: {_first(error)}") from error
    for problem in _problems(grid):
        raise UserError(f"{file}: {problem}")
    return grid


def settings_file(spec: AgentSpec, name: str, beside: Path) -> Path:
    """The file of hyperparameters that an agent names: beside the grid file, or one that comes with the agent.

    :param name: of the agent in the grid
    :param beside: the folder of the grid file
    :raises UserError: if there is none
    """
    file = Path(spec.conf_file or "")
    if (beside / file).is_file():
        return beside / file
    algo = spec.algo or name
    return cast(Path, find_file(algo, agent_class(algo), file))


def write_grid(grid: Grid, file: Path, folder: Path) -> None:
    """Write the grid as it was run, seeds of the command line included, to :data:`GRID`.

    Files of hyperparameters are copied beside it, so that it can be run from there.

    :param file: the grid was read from
    :param folder: exists
    """
    data = {"name": grid.name, **yaml_io.read_mapping(file), "seeds": grid.seeds}
    data["agents"] = dict(data["agents"])
    for name, spec in grid.agents.items():
        if spec.conf_file is not None:
            copied = f"hyperparams_{name}.yml"
            write_text(folder / copied, settings_file(spec, name, file.parent).read_text(encoding="utf-8"))
            data["agents"][name] = {**data["agents"][name], "conf_file": copied}
    with whole(folder / GRID) as partial:
        yaml_io.write(partial, data, "The grid as it was run, seeds of the command line included.")


def _problems(grid: Grid) -> Iterator[str]:
    """What types alone do not tell."""
    yield from _problems_of_names(grid)
    if len(set(grid.seeds)) < len(grid.seeds):
        yield f"seeds: {grid.seeds} names one twice."
    if grid.eval_freq == 0 or grid.eval_freq < -1:
        yield f"eval_freq is {grid.eval_freq}; it is a number of steps, or -1 for no evaluations during training."
    if grid.model == "best" and grid.eval_freq == -1:
        yield "model: best needs evaluations during training; eval_freq is -1."
    if grid.baseline is not None and grid.baseline not in grid.agents:
        yield f"baseline: there is no agent {grid.baseline!r} in this grid. {did_you_mean(grid.baseline, grid.agents)}"
    for env, (low, high) in grid.normalize.items():
        if env not in grid.envs:
            yield f"normalize: there is no environment {env!r} in this grid. {did_you_mean(env, grid.envs)}"
        if not low < high:
            yield f"normalize: {env}: [{low}, {high}] must be a low and a higher return."
    if grid.normalize and len(grid.normalize) < len(grid.envs):
        yield f"normalize lacks {', '.join(env for env in grid.envs if env not in grid.normalize)}."
    used = {f"agents: {name}": spec.evaluations or [] for name, spec in grid.agents.items()}
    used |= {f"envs: {name}": list(spec.evaluations) for name, spec in grid.envs.items()}
    for where, names in used.items():
        for name in set(names) - {*grid.evaluations}:
            yield f"{where}: evaluations: {name!r} is none of the grid's. {did_you_mean(name, grid.evaluations)}"


def _problems_of_names(grid: Grid) -> Iterator[str]:
    """Names become folders, and must not get into each other's way."""
    for kind in ("agents", "envs", "evaluations", "seeds"):
        if not getattr(grid, kind):
            yield f"{kind} is empty; name at least one."
    for name in (grid.name, *grid.agents, *map(folder_name, grid.envs), *grid.evaluations):
        if not _NAME.fullmatch(name):
            yield f"{name!r} cannot name a folder; use letters, digits, and . _ + - inside."
    for name in _FILES & {*grid.agents}:
        yield f"agents: {name!r} is a file in the folder of a grid; choose another name."
    for name in RESERVED & {*grid.evaluations}:
        yield f"evaluations: {name!r} is the name of a measure of its own; choose another."
    folders = [folder_name(env) for env in grid.envs]
    for folder in {each for each in folders if folders.count(each) > 1}:
        yield f"envs: two of them would share the folder {folder}."


def _evaluation(settings: dict[str, Any], where: str) -> Evaluation:
    """The evaluation that a mapping describes."""
    try:
        return kind_of(settings).model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            keys = [field for each in KINDS.values() for field in each.model_fields]
            raise UserError(f"{where}: there is no key {key!r}. {did_you_mean(key, keys)}") from error
        if first["type"] == "missing":
            raise UserError(f"{where}: the key {key!r} is missing.") from error
        raise UserError(f"{where}: {key} is {first['input']!r}: {first['msg']}.") from error


_LEVELS: dict[str, type[BaseModel]] = {"agents": AgentSpec, "envs": EnvSpec}


def _first(error: ValidationError) -> str:
    """The first mistake, in words."""
    # A key that does not exist is often why another one is missing.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        model = _LEVELS.get(place[0], Grid) if len(place) > 1 else Grid
        above = f"{': '.join(place[:-1])}: " if len(place) > 1 else ""
        return f"{above}there is no key {place[-1]!r}. {did_you_mean(place[-1], model.model_fields)}"
    if first["type"] == "missing":
        return f"the key {place[-1]!r} is missing."
    message = first["msg"].removeprefix("Value error, ").replace("dictionary", "mapping")
    given = "" if first["type"] == "value_error" else f" is {first['input']!r}"
    return f"{': '.join(place)}{given}: {message}."

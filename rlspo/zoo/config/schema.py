"""The shape of a block of hyperparameters and of the record that a run keeps."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError

#: A dotted path, a mapping from one dotted path to its arguments, or a list of these.
Pieces = str | dict[str, dict[str, Any] | None] | list[str | dict[str, dict[str, Any] | None]]


class Settings(BaseModel):
    """The keys of a block that the zoo itself reads; all others are arguments of the agent. Names are rl-zoo's.

    :param n_timesteps: environment steps to train for, over all environments together
    :param policy: a short name of the agent's, such as ``MlpPolicy``, or the dotted path of a policy class
    :param n_envs: environments that step in parallel
    :param normalize: SB3's ``VecNormalize`` around the environments: true, or its arguments. The agents of rlspo have
        ``normalize_observations`` and ``normalize_rewards`` instead, which are saved inside the model
    :param frame_stack: observations stacked into one (``VecFrameStack``); null for one, unstacked
    :param env_wrapper: wrappers around each environment, innermost first
    :param vec_env_wrapper: wrappers around the vectorised environment, innermost first
    :param callback: SB3 callbacks to run beside the zoo's own
    :param env_kwargs: arguments of the environment, for training and evaluation alike
    :param monitor_kwargs: arguments of SB3's ``Monitor``
    :param noise_type: of the noise that off-policy agents add to their actions, null for none
    :param noise_std: its standard deviation, in units of the scaled actions, which are from -1 to 1
    :param provenance: where the values come from
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, ser_json_inf_nan="constants")

    n_timesteps: Annotated[int, Gt(0)]
    policy: str
    n_envs: Annotated[int, Gt(0)] = 1
    normalize: bool | dict[str, Any] = False
    frame_stack: Annotated[int, Gt(0)] | None = None
    env_wrapper: Pieces | None = None
    vec_env_wrapper: Pieces | None = None
    callback: Pieces | None = None
    env_kwargs: dict[str, Any] = Field(default_factory=dict)
    monitor_kwargs: dict[str, Any] = Field(default_factory=dict)
    noise_type: Literal["normal", "ornstein-uhlenbeck"] | None = None
    noise_std: Annotated[float, Ge(0)] | None = None
    provenance: str = ""

    @classmethod
    def annotations(cls) -> dict[str, Any]:
        """Key to type, limits included."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {name: hints[name] for name in cls.model_fields}


class Source(BaseModel):
    """The source of hyperparameters.

    :param file: the YAML file
    :param block: the block in it
    :param overridden: keys that the command line changed
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    file: str
    block: str
    overridden: list[str] = Field(default_factory=list)

    def __str__(self) -> str:
        changes = f", changed by flags: {', '.join(self.overridden)}" if self.overridden else ""
        return f"{self.file}, block {self.block!r}{changes}"


class Seeds(BaseModel):
    """One seed, and the seeds derived from it.

    :param seed: of the agent and of the first training environment; the others count up from it
    :param evaluation: of the environments of the evaluations during training
    :param report: of the environments and attacks of the report after training
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    seed: Annotated[int, Ge(0)]
    evaluation: Annotated[int, Ge(0)]
    report: Annotated[int, Ge(0)]

    @classmethod
    def from_one(cls, seed: int) -> Seeds:
        """The others are drawn from the seed. Copies of an environment count up from theirs, so with seeds that lie side by
        side the evaluations of neighbouring runs would share most of their episodes."""
        evaluation, report = (int(draw) >> 2 for draw in np.random.SeedSequence(seed).generate_state(2))
        return cls(seed=seed, evaluation=evaluation, report=report)


class RunConfig(BaseModel):
    """Everything needed to repeat a run, as ``config.yml`` in the run folder holds it.

    :param algo: the agent's name
    :param env: the environment's id
    :param gym_packages: modules imported to register environments
    :param eval_env_kwargs: arguments of the evaluation environment on top of ``env_kwargs``
    :param trained_agent: model file that the run continues
    :param steps_before: environment steps that this agent had been trained for; the run's own count on from there
    :param device: as given on the command line
    :param settings: the block's keys that the zoo reads
    :param agent: all arguments of the agent, those left at their defaults included; with ``trained_agent`` those of its own
        run, empty where this is not known
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    algo: str
    env: str
    seeds: Seeds
    source: Source
    settings: Settings
    agent: dict[str, Any]
    eval_env_kwargs: dict[str, Any] = Field(default_factory=dict)
    gym_packages: list[str] = Field(default_factory=list)
    trained_agent: str | None = None
    steps_before: Annotated[int, Ge(0)] = 0
    vec_env: str = "dummy"
    device: str = "auto"

    def write(self, file: Path) -> None:
        """Write as YAML."""
        yaml_io.write(file, self.model_dump(mode="json"), comment="Every setting of this run, defaults included.")

    @classmethod
    def read(cls, file: Path) -> RunConfig:
        """Read what :meth:`write` wrote.

        :raises UserError: if the file is missing or not of this shape
        """
        data = yaml_io.read_mapping(file)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(f"{file} is not the record of a run: {error}") from error

"""What is searched: one YAML file per agent, next to its hyperparameters, with a block for an environment as there.

::

    default:
      learning_rate: {low: 1e-5, high: 3e-3, log: true, schedule: lin}    # becomes lin_<x>; [constant, lin] searches that, too
      n_epochs: {low: 3, high: 20, int: true}
      gamma: {low: 0.001, high: 0.1, log: true, one_minus: true}          # 1 - x: 0.9 to 0.999
      batch_size: {choices: [64, 128, 256]}
      ent_coef: 0.0                                                       # fixed
      policy_kwargs:
        net_arch: {choices: {small: [64, 64], large: [256, 256]}}         # what is not a scalar has a name
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from optuna.trial import BaseTrial
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.common.errors import did_you_mean
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.convert import merged
from rlspo.zoo.config.hyperparams import find_file, resolve
from rlspo.zoo.config.yaml_edit import number_text
from rlspo.zoo.errors import UserError

_DIGITS = 3  # significant digits of a sampled number: more tell nothing, and are hard to read in a file
_NOT_SEARCHED = ("n_timesteps", "policy", "env_kwargs", "monitor_kwargs", "callback", "provenance")
_SCALARS = (bool, int, float, str, type(None))

Keys = tuple[str, ...]  # of keys, from the outside in
_Kind = TypeVar("_Kind", bound=BaseModel)


class Range(BaseModel):
    """Numbers from ``low`` to ``high``, both included.

    :param low: smallest
    :param high: largest
    :param log: equally likely in every decade, rather than everywhere
    :param whole: whole numbers only; ``int`` in the file
    :param step: only ``low``, ``low + step``, ...
    :param one_minus: the setting is 1 minus the number: with ``log``, for settings near 1
    :param schedule: ``lin``: the setting falls from the number to 0 over training; ``[constant, lin]``: that is searched, too
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    whole: bool = Field(default=False, alias="int")
    step: FiniteFloat | None = None
    one_minus: bool = False
    schedule: Literal["lin"] | list[Literal["constant", "lin"]] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse what contradicts itself."""
        wrong = {
            f"low is {self.low:g}, high is {self.high:g}; low must be below high": self.low >= self.high,
            f"low is {self.low:g}; with log: true it must be above 0": self.log and self.low <= 0,
            "log and step exclude each other": self.log and self.step is not None,
            f"step is {self.step}; it must be above 0": self.step is not None and self.step <= 0,
            f"from {self.low:g}, steps of {self.step} do not reach {self.high:g}": not self._reached(),
            "int: true needs a low, a high and a step that are whole numbers": self.whole
            and not all(number.is_integer() for number in (self.low, self.high, self.step or 1.0)),
            "int: true and one_minus or schedule exclude each other": self.whole and (self.one_minus or self.schedule),
            f"schedule is {self.schedule}; it must be lin or [constant, lin]": isinstance(self.schedule, list)
            and sorted(self.schedule) != ["constant", "lin"],
        }
        for text, applies in wrong.items():
            if applies:
                raise ValueError(text)
        return self

    def name(self, path: Keys) -> str:
        """The name of its parameter in Optuna."""
        return ("1-" if self.one_minus else "") + ".".join(path)

    def names(self, path: Keys) -> list[str]:
        """All parameters of it in Optuna."""
        name = self.name(path)
        return [name, _schedule(name)] if isinstance(self.schedule, list) else [name]

    def suggest(self, trial: BaseTrial, name: str) -> dict[str, Any]:
        """Parameters from the sampler."""
        number: float
        if self.whole:
            number = trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        else:
            number = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        if not isinstance(self.schedule, list):
            return {name: number}
        return {name: number, _schedule(name): trial.suggest_categorical(_schedule(name), self.schedule)}

    def nearest(self, setting: Any, name: str) -> dict[str, Any]:
        """The parameters that come nearest to a setting.

        :raises ValueError: for what is neither a number nor a schedule
        """
        falls = isinstance(setting, str) and setting.startswith("lin_")
        number = float(setting.removeprefix("lin_").partition("@")[0] if falls else setting)
        number = min(max(1.0 - number if self.one_minus else number, self.low), self.high)
        if self.step or self.whole:
            step = self.step or 1.0
            number = self.low + round((number - self.low) / step) * step
        found = {name: int(number) if self.whole else number}
        return {**found, _schedule(name): "lin" if falls else "constant"} if isinstance(self.schedule, list) else found

    def setting(self, parameters: Mapping[str, Any], name: str) -> int | float | str:
        """What the agent is given for the sampler's parameters."""
        falls = self.schedule == "lin" or parameters.get(_schedule(name)) == "lin"
        return self._setting(parameters[name], falls)

    def settings(self) -> list[Any]:
        """Both ends, in every form."""
        between = [] if self.whole else [self.low + 0.4321 * (self.high - self.low)]  # no whole number by chance
        forms = (False, True) if isinstance(self.schedule, list) else (self.schedule == "lin",)
        return [self._setting(each, falls) for falls in forms for each in (self.low, *between, self.high)]

    def _setting(self, number: float, falls: bool) -> int | float | str:
        if self.whole:
            return int(number)
        value = self._rounded(number)
        if self.one_minus:
            value = round(1.0 - value, 12)
        return f"lin_{number_text(value)}" if falls else value

    def _reached(self) -> bool:
        """Whether ``high`` is one of the steps."""
        if not self.step:
            return True
        steps = (self.high - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def _rounded(self, number: float) -> float:
        """To a few digits, of the number or of the width of the range, whichever is finer; never beyond an end."""
        scales = [size for size in (abs(number), self.high - self.low) if size > 0]
        digits = 12 if self.step is not None else _DIGITS
        decimals = digits - 1 - math.floor(math.log10(min(scales)))
        return min(max(round(number, decimals), self.low), self.high)


class Choices(BaseModel):
    """One of several.

    :param choices: a list of scalars, or a mapping from names to anything
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    choices: Any

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse what Optuna could not store, or not tell apart."""
        if not isinstance(self.choices, list | dict) or len(self.choices) < 2:
            raise ValueError(
                f"choices is {self.choices!r}, but must be a list of at least two values, or a mapping from names"
            )
        if not all(isinstance(choice, _SCALARS) for choice in self.choices if isinstance(self.choices, list)):
            raise ValueError("lists and mappings among the choices need names: choices: {small: [64, 64], large: [256, 256]}")
        if isinstance(self.choices, dict) and not all(isinstance(name, str) for name in self.choices):
            raise ValueError(
                f"the names of choices must be text, not {', '.join(map(repr, self.choices))}; put them in quotes"
            )
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"a choice stands twice in {self.choices!r}")
        return self

    def name(self, path: Keys) -> str:
        """The name of its parameter in Optuna."""
        return ".".join(path)

    def names(self, path: Keys) -> list[str]:
        """All parameters of it in Optuna."""
        return [self.name(path)]

    def suggest(self, trial: BaseTrial, name: str) -> dict[str, Any]:
        """A choice, or the name of one, from the sampler."""
        return {name: trial.suggest_categorical(name, list(self.choices))}

    def nearest(self, setting: Any, name: str) -> dict[str, Any]:
        """The choice that is a setting, or the nearest among numbers.

        :raises ValueError: if there is none
        """
        for choice in self.choices:
            if self.setting({name: choice}, name) == setting:
                return {name: choice}
        if all(type(choice) in (int, float) for choice in (setting, *self.choices)):
            return {name: min(self.choices, key=lambda choice: abs(choice - setting))}
        raise ValueError(f"{setting!r} is none of the choices")

    def setting(self, parameters: Mapping[str, Any], name: str) -> Any:
        """What the agent is given for it."""
        choice = parameters[name]
        return self.choices[choice] if isinstance(self.choices, dict) else choice

    def settings(self) -> list[Any]:
        """What the agent is given, for every choice."""
        return [self.setting({"": choice}, "") for choice in self.choices]


def _schedule(name: str) -> str:
    """The parameter that says whether another one falls over training."""
    return f"{name}.schedule"


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, and what is fixed.

    :param where: file and block, for messages
    :param block: the block's name
    :param searched: from the path of a setting to the values it may take
    :param fixed: from the path of a setting to its value
    :param pins: paths of the fixed settings that the user gave in place of those of the file
    """

    where: str
    block: str
    searched: Mapping[Keys, Range | Choices]
    fixed: Mapping[Keys, Any]
    pins: tuple[Keys, ...] = ()

    @classmethod
    def read(cls, file: Path, block: str) -> SearchSpace:
        """Read a block.

        :raises UserError: if it is not of the right shape, naming file, block and key
        """
        where = f"{file}, block {block!r}"
        searched: dict[Keys, Range | Choices] = {}
        fixed: dict[Keys, Any] = {}
        _collect(yaml_io.read_mapping(file)[block], (), where, searched, fixed)
        if not searched:
            raise UserError(f"{where}: nothing to search; add a setting, such as `gamma: {{choices: [0.9, 0.99]}}`.")
        return cls(where, block, searched, fixed)

    def pinned(self, given: Mapping[str, Any]) -> SearchSpace:
        """The space without the settings that the user gave: these are fixed, whatever the file says of them.

        :param given: settings by key, as ``-params`` takes them
        :raises UserError: if nothing is left to search
        """
        pinned = {path: value for path in (*self.searched, *self.fixed) for value in _at(path, given)}
        searched = {path: values for path, values in self.searched.items() if path not in pinned}
        if not searched:
            raise UserError(f"-params: {self.where} searches only what is fixed here, so nothing is left to search.")
        return replace(self, searched=searched, fixed={**self.fixed, **pinned}, pins=tuple(pinned))

    @property
    def parameters(self) -> list[str]:
        """What is searched, by the names it has in Optuna."""
        return [name for path, values in self.searched.items() for name in values.names(path)]

    def sample(self, trial: BaseTrial) -> dict[str, Any]:
        """Settings for a trial, to be merged into a block key by key (:func:`~rlspo.zoo.config.convert.merged`)."""
        # In one order whatever the file's, so that the same space gives the same trials.
        named = sorted((values.name(path), values) for path, values in self.searched.items())
        return self.apply({key: value for name, each in named for key, value in each.suggest(trial, name).items()})

    def apply(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial, from the parameters that Optuna has stored of it."""
        found = {path: values.setting(parameters, values.name(path)) for path, values in self.searched.items()}
        return _nested({**self.fixed, **found})

    def nearest(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The point of the space that comes nearest to settings: parameters as Optuna stores them.

        :param settings: whole, defaults included
        :raises ValueError: for a setting that cannot be placed, naming it
        """
        found: dict[str, Any] = {}
        for path, values in self.searched.items():
            try:
                found |= values.nearest(next(iter(_at(path, settings)), None), values.name(path))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{'.'.join(path)}: {error}") from error
        return found

    def check(self, agent: type[BaseAlgorithm], policy: str) -> None:
        """Hold the space against an agent, exactly as a training would: the ends of every range, and every choice.

        :param policy: the short name or dotted path of the agent's policy
        :raises UserError: for a setting that does not exist, or a value of the wrong type
        """
        outer = {path[0] for path in (*self.searched, *self.fixed)}
        for key in outer & set(_NOT_SEARCHED):
            raise UserError(
                f"{self.where}: {key!r} cannot be searched: trials would not compare. Set it in the agent's file of "
                "hyperparameters, or by a flag."
            )
        examples = {path: values.settings() for path, values in self.searched.items()}
        for number in range(max(len(values) for values in examples.values())):
            chosen = {path: values[number % len(values)] for path, values in examples.items()}
            settings = {**_nested({**self.fixed, **chosen}), "n_timesteps": 1, "policy": policy}
            try:
                resolve(agent, None, "default", (), {key: (value, self.where) for key, value in settings.items()})
            except UserError as error:
                hint = " A range of these has int: true." if "must be a whole number" in str(error) else ""
                raise UserError(f"{error}{hint}") from error

    def fingerprint(self) -> str:
        """The same for the same space, however it is written."""
        data = {values.name(path): values.model_dump(exclude_defaults=True) for path, values in self.searched.items()}
        for values in data.values():
            if isinstance(values.get("choices"), dict):
                values["choices"] = list(values["choices"].items())  # Optuna tells their order apart
        fixed = {".".join(path): value for path, value in self.fixed.items()}
        text = json.dumps([data, fixed], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def find_space(algo: str, agent: type[BaseAlgorithm], given: Path | None = None) -> Path:
    """The file of an agent's search space: the user's, or else the one that the agent's own package brings.

    :param given: the user's
    :raises UserError: if there is none
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"--space: there is no file {given}.")
        return given
    name = f"{algo}.space"
    found = find_file(name, agent)  # None if there is none, since the name has a dot
    if found is None:
        raise UserError(f"Agent {algo!r} has no search space of its own (hyperparams/{name}.yml). Give --space my.space.yml")
    return found


def _collect(
    block: Mapping[str, Any], above: Keys, where: str, searched: dict[Keys, Range | Choices], fixed: dict[Keys, Any]
) -> None:
    """Sort what stands in a mapping into what is searched and what is fixed."""
    for key, value in block.items():
        path = (*above, str(key))
        if not isinstance(value, dict):
            fixed[path] = value
        elif "choices" in value:
            searched[path] = _validated(Choices, value, path, where)
        elif "low" in value or "high" in value:
            searched[path] = _validated(Range, value, path, where)
        else:
            _collect(value, path, where, searched, fixed)


def _validated(kind: type[_Kind], value: dict[str, Any], path: Keys, where: str) -> _Kind:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(path)}: {_explained(each, kind)}" for each in error.errors()]
        raise UserError("\n".join(lines)) from error


def _explained(error: Any, kind: type[BaseModel]) -> str:
    """One of pydantic's errors in a sentence."""
    option = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        options = [field.alias or name for name, field in kind.model_fields.items()]
        return f"there is no option {option!r}. {did_you_mean(option, options)}"
    if error["type"] == "missing":
        return f"{option} is missing."
    if error["type"] == "value_error":
        return f"{error['ctx']['error']}."
    return f"{option} is {error['input']!r}. {error['msg']}."


def _at(path: Keys, settings: Any) -> list[Any]:
    """What lies at a path, in a list; an empty one where nothing does."""
    for key in path:
        if not isinstance(settings, Mapping) or key not in settings:
            return []
        settings = settings[key]
    return [settings]


def _nested(flat: Mapping[Keys, Any]) -> dict[str, Any]:
    """Mappings inside mappings, from paths.

    >>> _nested({("gamma",): 0.9, ("policy_kwargs", "net_arch"): [64], ("policy_kwargs", "ortho_init"): False})
    {'gamma': 0.9, 'policy_kwargs': {'net_arch': [64], 'ortho_init': False}}
    """
    result: dict[str, Any] = {}
    for path, value in flat.items():
        for key in reversed(path):
            value = {key: value}
        result = merged(result, value)
    return result

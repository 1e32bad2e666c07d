"""Profiles of stochastic environments: the perturbations, their probability and timing, as data (taxonomy of arXiv
2509.01793).

A profile is a mapping, usually a short YAML file::

    type: "2.2"             # 0, 1, 2.1, 2.2, 3.1 or 3.2
    schedule: sudden        # 2.2: when the concept holds, see rlspo.envs.schedules
    period: 300             # decision steps
    concept: {type: "3.2", effect: blackout, mode: 10, probability: 1}

All other types have ``effect``, ``probability`` per decision step and the settings of the effect at the top level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlspo.common import plain_yaml
from rlspo.common.data import data_folders
from rlspo.common.errors import did_you_mean, nearest
from rlspo.envs.arguments import number
from rlspo.envs.schedules import KINDS as SCHEDULES
from rlspo.envs.schedules import Schedule

TYPES = {
    "0": "deterministic, labelled memory as the observation",
    "1": "noise that depends on the action",
    "2.1": "noise that does not depend on the action",
    "2.2": "concept drift",
    "3.1": "the default observation, unperturbed",
    "3.2": "parts of the state hidden",
}
GATES = ("step", "frame")
FIDELITIES = ("exact", "original")
#: Keys of a profile that are not settings of its effect.
KEYS = ("name", "env", "description", "type", "schedule", "period", "concept", "base", "gate", "fidelity")


@dataclass(frozen=True)
class Concept:
    """One source of noise.

    :param type: of :data:`TYPES`
    :param effect: its name; ``"none"`` for types 0 and 3.1
    :param probability: that it acts in a decision step (or a frame), in [0, 1]
    :param settings: of the effect
    """

    type: str
    effect: str = "none"
    probability: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", type_name(self.type))
        object.__setattr__(self, "probability", number("probability", self.probability, 0, 1))

    @classmethod
    def from_mapping(cls, data: Any, where: str) -> Concept:
        """Read one source of noise from a profile.

        :raises ValueError: naming what is wrong and the nearest valid value
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{where} is {data!r}; it must be a mapping such as {{type: '3.2', effect: crop, mode: left}}.")
        data = {str(key): value for key, value in data.items()}
        if "type" not in data:
            raise ValueError(f"{where} has no type; it must be one of {_listed()}.")
        kind = type_name(data["type"], where)
        settings = {key: value for key, value in data.items() if key not in ("type", "effect", "probability")}
        if kind in ("0", "3.1"):
            others = sorted({*settings, *(set(data) & {"effect", "probability"})} - {"effect"} | _named(data))
            if others:
                raise ValueError(f"{where}: type {kind} perturbs nothing and takes no {', '.join(others)}.")
            return cls(kind)
        if "effect" not in data:
            hint = " Or noise of another type stands in concept: {type: ..., effect: ...}." if kind == "2.2" else ""
            raise ValueError(f"{where} has no effect; type {kind} needs one.{hint}")
        chance = number(f"{where}: probability", data.get("probability", 1.0), 0, 1)
        return cls(kind, str(data["effect"]), chance, settings)


def _named(data: Mapping[str, Any]) -> set[str]:
    return {"effect"} if data.get("effect", "none") != "none" else set()


@dataclass(frozen=True)
class Profile:
    """The perturbations of an environment.

    :param concept: the noise; for a drift, the noise after the drift
    :param base: active while the concept is not
    :param schedule: when the concept is active; ``"always"`` except for type 2.2
    :param gate: how often it is drawn whether a source acts: once per decision ``"step"`` or per ``"frame"``
    :param fidelity: ``"exact"``; or ``"original"``: like the published code for Atari games, including its faults
    :param env: the environment that it belongs to; None: any
    :param name: for titles and messages
    """

    type: str
    concept: Concept
    base: Concept = field(default_factory=lambda: Concept("3.1"))
    schedule: Schedule = field(default_factory=Schedule)
    gate: str = "step"
    fidelity: str = "exact"
    env: str | None = None
    name: str = "profile"

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", type_name(self.type, self.name))
        _one_of("gate", self.gate, GATES, self.name)
        _one_of("fidelity", self.fidelity, FIDELITIES, self.name)
        if self.type == "2.2" and "0" in (self.base.type, self.concept.type):
            raise ValueError(f"{self.name}: type 0 is another observation, and cannot come and go; take it as the type.")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], name: str = "profile") -> Profile:
        """Read a file's content.

        :raises ValueError: naming what is wrong and the nearest valid value
        """
        data = {str(key): value for key, value in data.items()}
        name = str(data.get("name", name))
        if "type" not in data:
            raise ValueError(f"{name} has no type; it must be one of {_listed()}.")
        kind = type_name(data["type"], name)
        # Only keys that all families share are checked here; the rest are settings, which the effect checks.
        own = {key: value for key, value in data.items() if key not in KEYS}
        drifting = kind == "2.2"
        drift_keys = sorted(set(data) & {"schedule", "period", "concept", "base"})
        if not drifting and drift_keys:
            raise ValueError(f"{name}: {', '.join(drift_keys)} belong to concept drift; type {kind} takes none (type: '2.2').")
        if drifting and "schedule" not in data:
            raise ValueError(f"{name} has no schedule; type 2.2 needs one: {', '.join(SCHEDULES)}.")
        if drifting and data["schedule"] != "always" and "period" not in data:
            raise ValueError(f"{name} has no period; the schedule {data['schedule']!r} needs one, in decision steps.")
        if "concept" in data:
            if own:
                raise ValueError(f"{name}: {', '.join(sorted(own))} must stand inside concept: {{...}}.")
            concept = Concept.from_mapping(data["concept"], f"{name}: concept")
        else:
            concept = Concept.from_mapping({**own, "type": kind}, name)
        return cls(
            type=kind,
            concept=concept,
            base=Concept.from_mapping(data["base"], f"{name}: base") if "base" in data else Concept("3.1"),
            schedule=_schedule(data, name) if drifting else Schedule(),
            gate=data.get("gate", "step"),
            fidelity=data.get("fidelity", "exact"),
            env=None if data.get("env") is None else str(data["env"]),
            name=name,
        )

    @property
    def concepts(self) -> tuple[Concept, Concept]:
        """The concepts before and after the drift."""
        return self.base, self.concept


def _schedule(data: Mapping[str, Any], where: str) -> Schedule:
    try:
        return Schedule(str(data["schedule"]), data.get("period", 1))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def type_name(given: Any, where: str = "type") -> str:
    """The name of a type, which may be given as a number.

    :raises ValueError: if it is none

    >>> type_name(2.1)
    '2.1'
    """
    text = _as_text(given)
    if text not in TYPES:
        raise ValueError(f"{where}: type is {given!r}; it must be one of {_listed()}.")
    return text


def _as_text(type: Any) -> str:
    """As text: YAML and command lines give numbers for unquoted names, also 1.0 for 1."""
    whole_float = isinstance(type, float) and type.is_integer()
    return str(int(type)) if whole_float else str(type)


def _listed() -> str:
    return "; ".join(f"{name!r}: {meaning}" for name, meaning in TYPES.items())


def _one_of(key: str, given: Any, allowed: tuple[str, ...], where: str) -> None:
    if given not in allowed:
        raise ValueError(f"{where}: {key} is {given!r}; it must be {' or '.join(map(repr, allowed))}.")


def profile_names() -> list[str]:
    """The profiles that come with the package.

    >>> "breakout-3.2A" in profile_names()
    True
    """
    return sorted({file.name.removesuffix(".yml") for folder in data_folders("envs/stori") for file in folder.glob("*.yml")})


def read_profile(profile: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The content of a profile.

    :param profile: a name of :func:`profile_names`, the path of a YAML file, or its content; your own file takes precedence
        over a name
    :raises ValueError: for a name or a file that does not exist, and for a file that is not a mapping
    """
    if isinstance(profile, Mapping):
        return dict(profile)
    if not isinstance(profile, str | Path):
        raise ValueError(
            f"profile is {profile!r}; it must be a name ({', '.join(profile_names()[:3])}, ...), a YAML file or a mapping."
        )
    file = Path(profile).expanduser()
    if not _is_file(file):
        packed = [folder / f"{profile}.yml" for folder in data_folders("envs/stori")]
        file = next((one for one in packed if _is_file(one)), file)
    if not _is_file(file):
        raise ValueError(
            f"profile is {str(profile)!r}, which is neither a file nor a profile that comes with the package. "
            f"{did_you_mean(str(profile), profile_names())}"
        )
    try:
        data = plain_yaml.parse(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} is no profile: it must be a mapping.")
    return {"name": file.name.removesuffix(".yml"), **data}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # Too long for a path, for example the text of a file.
        return False


def load_profile(
    profile: str | Path | Mapping[str, Any] | Profile | None,
    env: str,
    fallback: str,
    type: Any = None,
    **changes: Any,
) -> Profile:
    """The profile of an environment: a given one, or that of a type; keywords override its keys.

    :param profile: see :func:`read_profile`; None: that of ``type``
    :param env: the environment, such as ``"breakout"``, whose own profiles are named ``breakout-<type>``
    :param fallback: family whose profile, ``<fallback>-<type>``, is used for an environment without its own
    :param type: of :data:`TYPES`, or with the letter of a variant (``"3.2B"``); None where ``profile`` is given, else
        ``"3.1"``
    :param changes: keys that override those of the profile; for a drift, keys of the noise go into its ``concept``
    :raises ValueError: naming what is wrong and the nearest valid value
    """
    if isinstance(profile, Profile):
        if type is not None or changes:
            given = ", ".join([*(["type"] if type is not None else []), *changes])
            raise ValueError(f"{given} cannot change a Profile that is made already; give its name, file or mapping.")
        return _for(profile, env)
    by_type = profile is None
    if profile is None:
        profile = _name_for("3.1" if type is None else type, env, fallback)
        type = None
    data = read_profile(profile)
    if type is not None and _as_text(type) != _as_text(data.get("type")):
        raise ValueError(f"type is {type!r} and the profile {data.get('name', 'given')!r} has {data.get('type')!r}; give one.")
    return _for(Profile.from_mapping(_changed(data, changes, by_type)), env)


def _for(profile: Profile, env: str) -> Profile:
    if profile.env is not None and _plain(profile.env) != _plain(env):
        raise ValueError(f"The profile {profile.name!r} is for {profile.env!r}, and this is {env!r}.")
    return profile


def _plain(env: str) -> str:
    """A normalised name: the same for ``BankHeist``, ``bank_heist`` and ``STORI/BankHeist-v0``."""
    return "".join(filter(str.isalnum, env.rpartition("/")[2].partition("-v")[0])).lower()


def _name_for(type: Any, env: str, fallback: str) -> str:
    text, known = _as_text(type), profile_names()
    for name in (f"{env}-{text}", f"{env}-{text}A", f"{fallback}-{text}"):
        if name in known:
            return name
    own = sorted({name.partition("-")[2] for name in known if name.partition("-")[0] in (env, fallback)})
    guess = nearest(text, own)
    hint = f"Did you mean {guess!r}? " if guess else ""
    raise ValueError(f"type is {type!r}. {hint}There are {', '.join(own)} for {env!r} ({_listed()}).")


def _changed(data: dict[str, Any], changes: Mapping[str, Any], by_type: bool) -> dict[str, Any]:
    """``data`` with changes; a changed effect also drops the old effect's settings.

    :param by_type: whether nobody named the profile: how often its effect acts then says nothing of another one
    """
    outer = {key: value for key, value in changes.items() if key in KEYS}
    inner = {key: value for key, value in changes.items() if key not in KEYS}
    changed = {**data, **outer}
    if "concept" in changes:
        changed = {key: value for key, value in changed.items() if key in KEYS}
    nested = "concept" in changed
    if nested and not isinstance(changed["concept"], Mapping):
        return changed
    noise = dict(changed["concept"]) if nested else {key: value for key, value in changed.items() if key not in KEYS}
    if "effect" in inner and inner["effect"] != noise.get("effect"):
        noise = {key: noise[key] for key in (("type",) if by_type else ("type", "probability")) if key in noise}
        if by_type and "gate" not in changes:
            changed.pop("gate", None)
    noise |= inner
    if nested:
        return {**changed, "concept": noise}
    return {**{key: value for key, value in changed.items() if key in KEYS}, **noise}

"""Run folders of rl-baselines3-zoo, read as data.

Such a folder is ``logs/ALGO/ENV_N/`` with ``ENV.zip`` (the last agent), ``best_model.zip``, ``rl_model_<steps>_steps.zip`` and
``ENV/{config.yml, args.yml, vecnormalize.pkl}``. Its YAML names Python objects. Objects that only hold data are read as data,
all others as None: no code of such a file is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rlspo.common.plain_yaml import LimitedLoader
from rlspo.zoo.config.convert import literal
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.models import choose, numbered

_STABLE = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")
_CONTRIB = ("ARS", "CrossQ", "QRDQN", "TQC", "TRPO")
#: Names of agents in rl-baselines3-zoo, and their classes.
ALGOS = {
    **{name.lower(): f"stable_baselines3.{name}" for name in _STABLE},
    **{name.lower(): f"sb3_contrib.{name}" for name in _CONTRIB},
    "ppo_lstm": "sb3_contrib.RecurrentPPO",
}


_TIME_FEATURE = "sb3_contrib.common.wrappers.TimeFeatureWrapper"
_MOVED = {f"{module}.wrappers.TimeFeatureWrapper": _TIME_FEATURE for module in ("utils", "rl_zoo3")}


class _Loader(LimitedLoader):
    """PyYAML's safe loader, for what rl-baselines3-zoo writes."""

    def construct_ordered(self, node: yaml.SequenceNode) -> dict[Any, Any]:
        """An ``OrderedDict``: a sequence of one sequence of pairs."""
        pairs = self.construct_sequence(node, deep=True)
        return dict(pairs[0]) if pairs else {}

    def construct_tuple(self, node: yaml.SequenceNode) -> list[Any]:
        """A tuple, as a list."""
        return self.construct_sequence(node, deep=True)

    def construct_nothing(self, suffix: str, node: yaml.Node) -> None:
        """Any other Python object, as None."""


_PYTHON = "tag:yaml.org,2002:python/"
_Loader.add_constructor(f"{_PYTHON}object/apply:collections.OrderedDict", _Loader.construct_ordered)
_Loader.add_constructor(f"{_PYTHON}tuple", _Loader.construct_tuple)
_Loader.add_multi_constructor(_PYTHON, _Loader.construct_nothing)


def called_here(algo: str) -> str:
    """A hint for an agent's name of rl-baselines3-zoo, empty for other names.

    >>> called_here("td3")
    ' That of rl-baselines3-zoo is --algo stable_baselines3.TD3.'
    """
    return f" That of rl-baselines3-zoo is --algo {ALGOS[algo.lower()]}." if algo.lower() in ALGOS else ""


def record_in(folder: Path, env: str = "") -> Path | None:
    """The folder with the records of the run, ``ENV`` or, downloaded, the same; None if there is none.

    :param env: which environment, where a folder has agents for several
    """
    if (folder / "config.yml").is_file():
        return folder if _published_model(folder) is not None else None
    if not any(folder.glob("*.zip")):
        return None
    records = sorted(args.parent for args in folder.glob("*/args.yml") if (args.parent / "config.yml").is_file())
    return next((record for record in records if record.name == env), next(iter(records), None))


def _published_model(folder: Path) -> Path | None:
    """The model ``ALGO-ENV.zip`` beside its own records, as agents are published; None in any other folder."""
    if not (folder / "args.yml").is_file() or not any(folder.glob("*-*.zip")):
        return None
    args = _read(folder / "args.yml")
    model = folder / f"{args.get('algo')}-{args.get('env')}.zip"
    return model if model.is_file() else None


def choose_model(folder: Path, which: str) -> tuple[str, Path]:
    """A model of a run: its kind and its file.

    :param which: ``"last"``, ``"best"`` or steps
    :raises UserError: if it is not there, with what is
    """
    record = record_in(folder)
    assert record is not None
    last = _published_model(folder) or folder / f"{record.name}.zip"
    named = {"last": last, "best": folder / "best_model.zip"}
    return choose(folder, named, numbered(folder), which)


def description_of(folder: Path, wrapping: Sequence[str], model_file: Path) -> dict[str, Any]:
    """The arguments of :func:`~rlspo.zoo.runs.saved_agent.find_agent` that the records of this run give.

    The statistics are those that the run wrote last: it saves no others, neither for the best agent nor for checkpoints.

    :param wrapping: keys of the hyperparameters that say how environments are wrapped
    :param model_file: in the folder
    :raises UserError: for records that cannot be read
    """
    record = record_in(folder, env=model_file.stem)
    assert record is not None
    args, config = (_read(record / name) for name in ("args.yml", "config.yml"))
    algo = str(args.get("algo") or folder.parent.name)
    statistics = statistics_of(model_file)
    wrappers = {key: _renamed(_literal(config[key], record, key)) for key in wrapping if config.get(key)}
    in_file = _literal(config.get("env_kwargs") or {}, record, "env_kwargs")
    return {
        "algo": ALGOS.get(algo, algo),
        "env": str(args.get("env") or record.name),
        "env_kwargs": {**in_file, **(args.get("env_kwargs") or {})},
        "gym_packages": list(args.get("gym_packages") or []),
        "vecnormalize": statistics if wrappers.get("normalize") and statistics and statistics.is_file() else None,
        "wrapping": wrappers,
    }


def statistics_of(model_file: Path) -> Path | None:
    """The file for the last statistics of ``VecNormalize`` of a run; None for a model outside of such runs."""
    folder = model_file.parent
    record = record_in(folder, env=model_file.stem)
    if record is None:
        return None
    return record / ("vec_normalize.pkl" if record == folder else "vecnormalize.pkl")


def _renamed(value: Any) -> Any:
    """Wrappers by their current names, where they have moved to another package."""
    if isinstance(value, str):
        return _MOVED.get(value, value)
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if isinstance(value, dict):
        return {_renamed(key): each for key, each in value.items()}
    return value


def _read(file: Path) -> dict[str, Any]:
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # a subclass of SafeLoader, with limits
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    return data if isinstance(data, dict) else {}


def _literal(value: Any, record: Path, key: str) -> Any:
    """A value; of text that is Python only literals, such as ``"{'norm_obs': True}"`` or ``"dict(norm_obs=True)"``."""
    return literal(key, value, Any, str(record / "config.yml"))

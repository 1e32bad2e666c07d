"""Reading pickles of others: data comes back, code does not run unless the reader trusts it."""

from __future__ import annotations

import base64
import binascii
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.save_util import open_path

from rlspo.common import safe_pickle
from rlspo.common.errors import IncompatibleModelError, UntrustedFileError
from rlspo.common.expansion import Counter, ExpansionError
from rlspo.common.withheld import Withheld

#: Without these there is no agent.
_NEEDED = {"observation_space", "action_space", "policy_class", "policy_kwargs"}
#: These begin anew: ``learn`` or the construction of the agent makes them.
_MADE_ANEW = {
    "env",
    "ep_info_buffer",
    "ep_success_buffer",
    "exploration_schedule",
    "lr_schedule",
    "_episode_storage",
    "_last_episode_starts",
    "_last_obs",
    "_last_original_obs",
    "_logger",
    "_vec_normalize_env",
}
#: These are only for learning, and an agent can be built with the following in their place. All others become
#: :class:`~rlspo.common.withheld.Withheld`.
_INSTEAD: dict[str, Any] = {
    "action_noise": None,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": {},
    "train_freq": 1,
}
_PICKLED = ":serialized:"
#: Things in the arguments of a policy, nearly all of them layers: networks of more are built for minutes.
_MOST_ARGUMENTS = 2_000


def safe_objects(
    settings: Mapping[str, Any], path: Any, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> tuple[dict[str, Any], dict[str, str]]:
    """What stands pickled in a model file, read as data, for ``load(..., custom_objects=...)`` of stable-baselines3.

    With these, ``load`` unpickles nothing. What cannot be read as data is left out where the agent can act without it.

    :param settings: of the file, from :func:`rlspo.common.checkpoints.read_settings`
    :param path: of the file, for messages
    :param custom_objects: the user's own, which go first
    :param trust: run what cannot be read as data. All else is read as data here, too: old files name modules that are not
        installed any more, and need none of them
    :return: the objects by name; and the names that are needed for learning and were left out, with what they would have run
    :raises UntrustedFileError: where something that the agent needs in order to act is code
    :raises IncompatibleModelError: where it cannot be read although the file is trusted
    """
    given = dict(custom_objects or {})
    objects: dict[str, Any] = {"env": None} if "env" in settings else {}  # a name in it would be imported
    before = settings.get("_withheld")
    withheld = {key: str(why) for key, why in before.items() if key not in given} if isinstance(before, dict) else {}
    for key, value in settings.items():
        if key in given or key == "env" or not (isinstance(value, dict) and _PICKLED in value):
            continue
        try:
            objects[key] = _read(value[_PICKLED])
        except pickle.UnpicklingError as error:
            why = str(error)
            if trust:
                try:
                    objects[key] = pickle.loads(base64.b64decode(value[_PICKLED]))
                    continue
                except Exception as failure:  # anything may come out of a pickle
                    why = f"{type(failure).__name__}: {failure}"
                    if key in _NEEDED:
                        raise IncompatibleModelError(f"{path} was not loaded: its {key} cannot be read, {why}") from failure
            if key in _NEEDED:
                raise UntrustedFileError(_needed(path, key, error)) from error
            objects[key] = None if key in _MADE_ANEW else _INSTEAD.get(key, Withheld(key, why))
            if key not in _MADE_ANEW:
                withheld[key] = why
    if not trust and "policy_kwargs" not in given:
        _check_arguments(objects.get("policy_kwargs", settings.get("policy_kwargs")), path)
    if "_withheld" in settings:
        objects["_withheld"] = withheld
    return {**objects, **given}, withheld


def _check_arguments(policy_kwargs: Any, path: Any) -> None:
    """Refuse a policy that is more work to build than any real one.

    :raises UntrustedFileError: if so
    """
    try:
        Counter(_MOST_ARGUMENTS, _MOST_ARGUMENTS)(policy_kwargs)
    except ExpansionError:
        raise UntrustedFileError(
            f"{path} was not loaded: its policy_kwargs hold more than {_MOST_ARGUMENTS:,} things, such as layers. If it is "
            "yours, load it with trust=True (on the command line: --trust)."
        ) from None


def _read(text: Any) -> Any:
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise pickle.UnpicklingError(f"it is damaged: {error}") from error
    return safe_pickle.loads(data)


def _needed(path: Any, key: str, error: pickle.UnpicklingError) -> str:
    """Why a file is not loaded, and what to do."""
    unsafe = isinstance(error, safe_pickle.UnsafePickleError)
    start = f"{path} was not loaded: its {key} " + ("is more than data" if unsafe else "cannot be read") + f", {error}. "
    classes = error.missing if isinstance(error, safe_pickle.UnsafePickleError) else []
    first = f"If it is a class of yours, import {' and '.join(classes)} first. " if classes else ""
    return (
        f"{start}{first}If you trust whoever wrote the file, load it with trust=True (on the command line: --trust), or give "
        f"your own: load(..., custom_objects={{{key!r}: ...}})."
    )


def read_pickle(path: str | pathlib.Path | Any, trust: bool = False) -> Any:
    """What a pickle file holds: statistics of ``VecNormalize``, or a replay buffer. It is read as data wherever it is data.

    :param path: of the file, ``.pkl`` may be left out; or an open file
    :param trust: True: where it is more, read it as ``pickle`` does, which runs whatever is in it
    :raises UntrustedFileError: where it holds more than data
    :raises IncompatibleModelError: where it is damaged; with ``trust`` anything may be raised
    """
    file: Any = open_path(path, "r", suffix="pkl")
    place = file.tell()
    try:
        return safe_pickle.load(file)
    except safe_pickle.UnsafePickleError as error:
        if trust:
            file.seek(place)
            return pickle.load(file)
        raise UntrustedFileError(
            f"{path} was not read: {error}. If you trust whoever wrote it, say trust=True (on the command line: --trust)."
        ) from error
    except pickle.UnpicklingError as error:
        raise IncompatibleModelError(f"{path} cannot be read, {error}.") from error
    finally:
        if isinstance(path, str | pathlib.Path):
            file.close()

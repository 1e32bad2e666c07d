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
from rlspo.common.withheld import INSTEAD, Kept, Withheld, is_stand_in, withheld_in

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
_PICKLED = ":serialized:"
#: Things in the arguments of a policy, nearly all of them layers: networks of more are built for minutes.
_MOST_ARGUMENTS = 2_000


def safe_objects(
    settings: Mapping[str, Any], path: Any, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> tuple[dict[str, Any], dict[str, Kept]]:
    """What stands pickled in a model file, read as data, for ``load(..., custom_objects=...)`` of stable-baselines3.

    With these, ``load`` unpickles nothing. What cannot be read as data is left out where the agent can act without it.

    :param settings: of the file, from :func:`rlspo.common.checkpoints.read_settings`
    :param path: of the file, for messages
    :param custom_objects: the user's own, which go first
    :param trust: run what cannot be read as data. All else is read as data here, too: old files name modules that are not
        installed any more, and need none of them
    :return: the objects by name; and what is needed for learning and was left out, by name
    :raises UntrustedFileError: where something that the agent needs in order to act is code
    :raises IncompatibleModelError: where it cannot be read although the file is trusted
    """
    given = dict(custom_objects or {})
    objects: dict[str, Any] = {"env": None} if "env" in settings else {}  # a name in it would be imported
    withheld: dict[str, Kept] = {}
    before = withheld_in(settings)
    for key, value in settings.items():
        if key in given or key == "env":
            continue
        text = value[_PICKLED] if isinstance(value, dict) and _PICKLED in value else None
        try:
            found = value if text is None else _read(text)
            if key not in before or not is_stand_in(key, found):
                if text is not None:
                    objects[key] = found
                continue
            # An agent that was saved without it: what it lacked was kept beside it.
            why, text = before[key].why, before[key].pickled
        except pickle.UnpicklingError as error:
            why = str(error)
            if key in _NEEDED and not trust:
                raise UntrustedFileError(_needed(path, key, error)) from error
        if trust and text is not None:
            try:
                objects[key] = pickle.loads(base64.b64decode(text))
                continue
            except Exception as failure:  # anything may come out of a pickle
                why = f"{type(failure).__name__}: {failure}"
                if key in _NEEDED:
                    raise IncompatibleModelError(f"{path} was not loaded: its {key} cannot be read, {why}") from failure
        objects[key] = None if key in _MADE_ANEW else INSTEAD.get(key, Withheld(key, why))
        if key not in _MADE_ANEW:
            withheld[key] = Kept(why, text)
    if not trust and "policy_kwargs" not in given:
        _check_arguments(objects.get("policy_kwargs", settings.get("policy_kwargs")), path)
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

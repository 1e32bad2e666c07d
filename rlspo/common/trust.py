"""Reading pickles of other people: data is restored, code does not run unless the user trusts it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.save_util import is_json_serializable, open_path

from rlspo.common import safe_pickle
from rlspo.common.errors import IncompatibleModelError, UntrustedFileError
from rlspo.common.expansion import Counter, ExpansionError
from rlspo.common.withheld import INSTEAD, Kept, Withheld, is_stand_in, withheld_in

#: Settings that an agent cannot do without.
_NEEDED = {"observation_space", "action_space", "policy_class", "policy_kwargs"}
#: Settings that ``learn`` or the constructor creates anew.
_MADE_ANEW = {
    "env",
    "ep_info_buffer",
    "ep_success_buffer",
    "exploration_schedule",
    "lr_schedule",
    "_episode_storage",
    "_last_episode_starts",
    "_last_memory",
    "_last_obs",
    "_last_original_obs",
    "_logger",
    "_vec_normalize_env",
}
_PICKLED = ":serialized:"
#: Digests of the settings in files that this process has written.
_own: set[bytes] = set()
#: Limit on objects in the arguments of a policy, mostly layers: larger networks would take minutes to build.
_MOST_ARGUMENTS = 2_000


def note_own(settings: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Remember that this process has written a file with these settings; see :func:`is_own`.

    To be called for an agent of which nothing came from a file that is not trusted.

    :param settings: as they stand in the file
    :param attributes: of the agent, which they were written from
    """
    pickled = [key for key, value in settings.items() if isinstance(value, dict) and _PICKLED in value]
    if all(_is_pickled(attributes.get(key)) for key in pickled):
        _own.add(_digest(settings))


def is_own(settings: Mapping[str, Any]) -> bool:
    """Whether this process has written a file with these settings, so that reading it back runs no code but its own."""
    return _digest(settings) in _own


def _is_pickled(value: Any) -> bool:
    """Whether SB3 pickles a value itself: plain dictionaries, and names inside of any value, are written as they are, and
    could pass for a pickle."""
    names = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return _PICKLED not in names and not is_json_serializable(value)


def _digest(settings: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()


def safe_objects(
    settings: Mapping[str, Any], path: Any, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> tuple[dict[str, Any], dict[str, Kept]]:
    """The pickled values of a model file, read as data, for ``load(..., custom_objects=...)`` of stable-baselines3.

    With these, ``load`` unpickles nothing. Values that cannot be read as data are left out if the agent can act without them.

    :param settings: of the file, from :func:`rlspo.common.checkpoints.read_settings`
    :param path: of the file, for messages
    :param custom_objects: the user's own, which take precedence
    :param trust: run values that cannot be read as data. Everything else is still read as data: old files name modules that
        are not installed any more and are not needed
    :return: the objects by name; and the left-out values that learning needs, by name
    :raises UntrustedFileError: if a value that the agent needs in order to act is code
    :raises IncompatibleModelError: if a value cannot be read although the file is trusted
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
            # The agent was saved without this value: the value's pickle was saved separately.
            why, text = before[key].why, before[key].pickled
        except pickle.UnpicklingError as error:
            why = str(error)
            if key in _NEEDED and not trust:
                raise UntrustedFileError(_needed(path, key, error)) from error
        if trust and text is not None:
            try:
                objects[key] = pickle.loads(base64.b64decode(text))
                continue
            except Exception as failure:  # a pickle may raise anything
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
    """Check that a policy does not take more work to build than any real one.

    :raises UntrustedFileError: if it does
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
    """The reason why a file is not loaded, and the remedy."""
    unsafe = isinstance(error, safe_pickle.UnsafePickleError)
    start = f"{path} was not loaded: its {key} " + ("is more than data" if unsafe else "cannot be read") + f", {error}. "
    classes = error.missing if isinstance(error, safe_pickle.UnsafePickleError) else []
    first = f"If it is a class of yours, import {' and '.join(classes)} first. " if classes else ""
    return (
        f"{start}{first}If you trust whoever wrote the file, load it with trust=True (on the command line: --trust), or give "
        f"your own: load(..., custom_objects={{{key!r}: ...}})."
    )


def read_pickle(path: str | pathlib.Path | Any, trust: bool = False) -> Any:
    """The contents of a pickle file: statistics of ``VecNormalize``, or a replay buffer. Read as data if possible.

    :param path: of the file, ``.pkl`` may be left out; or an open file
    :param trust: True: if it is more than data, read it as ``pickle`` does, which runs any code in it
    :raises UntrustedFileError: if it contains more than data
    :raises IncompatibleModelError: if it is damaged; with ``trust`` anything may be raised
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

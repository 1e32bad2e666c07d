"""Settings that are given to ``load`` in addition to a file: checked as in the constructor, and against the saved weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rlspo.common.errors import IncompatibleModelError, constructor_arguments, did_you_mean
from rlspo.common.settings import of_class, weights_belong

#: Constructor arguments that are not settings.
_NO_SETTINGS = {"policy", "env", "device", "_init_setup_model"}
#: What to say of arguments of SB3's ``load``.
_ELSEWHERE = {"deserialization_mode": "Files are read as data, like SB3's 'safe'; trust=True is its 'legacy'."}


def check_given(
    cls: type, given: Mapping[str, Any], replaced: Mapping[str, Any], stored: Mapping[str, Any], device: Any
) -> dict[str, Any]:
    """The agent's attributes for settings that replace those of its file.

    :param cls: class of the agent
    :param given: keywords of ``load``: the constructor's, or any other attribute that is in the file
    :param replaced: the ``custom_objects`` of ``load``, of which only settings are checked
    :param stored: settings in the file
    :param device: of the agent
    :return: attributes by name, for ``given``
    :raises TypeError: for a name that is neither, or a value that the constructor rejects
    :raises ValueError: for a value that the constructor rejects
    :raises IncompatibleModelError: for one that the weights in the file do not fit
    """
    names = (constructor_arguments(cls) or set()) - _NO_SETTINGS
    unknown = sorted(given.keys() - names - stored.keys())
    if unknown:
        hints = " ".join(_ELSEWHERE.get(name) or did_you_mean(name, names) for name in unknown)
        raise TypeError(
            f"{cls.__name__}.load has {' and '.join(map(repr, unknown))}, which is neither a setting of {cls.__name__} nor in "
            f"the file. {hints}"
        )
    changed = {name: value for name, value in {**replaced, **given}.items() if name in names or of_class(cls, name)}
    if not changed:
        return dict(given)
    kept = {name: stored[name] for name in names & stored.keys()}
    if isinstance(kept.get("policy_kwargs"), dict):  # SB3 adds one that is the agent's
        kept["policy_kwargs"] = {name: value for name, value in kept["policy_kwargs"].items() if name != "use_sde"}
    policy = stored.get("policy_class", "MlpPolicy")
    build: Any = functools.partial(cls, policy, None, device=device, _init_setup_model=False)
    # Values that the constructor rejects, alone or together with the file's settings, are rejected here too.
    own = vars(build(**{**kept, **{name: value for name, value in changed.items() if name in names}}))
    for name, value in changed.items():
        setting = of_class(cls, name)
        if setting is None:
            continue
        if setting.check is not None:
            setting.check(name, value)
        if not setting.in_weights:
            continue
        before = stored[name] if name in stored else vars(build())[name]
        # The constructor adds to a dictionary what else the policy is given.
        if (own[name] if isinstance(value, dict | None) else value) != before:
            raise IncompatibleModelError(
                f"{name} is {before!r} in the file, and cannot be loaded as {value!r}. "
                + weights_belong(cls.__name__, name, value)
            )
    attributes = {name: name if name in own or f"_{name}" not in own else f"_{name}" for name in given}
    return {attribute: own[attribute] if name in names else given[name] for name, attribute in attributes.items()}


def apply_given(agent: Any, given: Mapping[str, Any]) -> None:
    """Apply settings to the parts of a loaded agent that its file has overwritten.

    :param given: settings given in addition to the file; words such as ``"auto"`` are resolved by the constructor
    """
    for name, value in given.items():
        setting = of_class(type(agent), name)
        if setting is not None and setting.then is not None and not isinstance(value, str):
            getattr(agent, setting.then)()
